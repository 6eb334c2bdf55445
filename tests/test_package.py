"""What ships: a wheel with every module and asset, a deck that needs no torch, contracts that bite."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("app", "engine", "remote", "widgets", "recipes", "assets")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the files of the checkout as git knows them, in a copy: the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=170)
    return next(out.glob("*.whl"))


def shipped_files() -> set[str]:
    """Everything under the rooms that a user of the package needs."""
    found = {"wavedeck/__init__.py", "wavedeck/__main__.py", "wavedeck/py.typed"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                found.add(f"wavedeck/{path.relative_to(ROOT)}")
    return found


def test_the_wheel_holds_every_module_and_asset_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert names - {"wavedeck/README.md", "wavedeck/setup.py"} == shipped_files()


def test_an_installed_wheel_works_from_a_hostile_directory(wheel: Path, tmp_path: Path) -> None:
    """Folders called `engine` and `app` in the user's project must not shadow ours."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    hostile = tmp_path / "project"
    for name in ("engine", "app", "remote"):
        (hostile / name).mkdir(parents=True)
        (hostile / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import wavedeck
assert wavedeck.__file__.startswith({str(site)!r}), wavedeck.__file__
from wavedeck.app.cli.main import app
from wavedeck.app.cockpit import Wavedeck
assert Wavedeck.CSS
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=hostile, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "fine", done.stderr


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchaudio", "lightning", "torchmetrics", "wandb", "soundfile"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_the_deck_paints_without_torch_anywhere() -> None:
    code = (
        WITHOUT_TORCH
        + """
import asyncio
from pathlib import Path
from wavedeck.app.cockpit import Wavedeck
from wavedeck.engine.rundir import Home

async def main():
    app = Wavedeck(Home.default())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("n")
        await pilot.pause()

asyncio.run(main())
heavy = {"torch", "lightning", "wandb", "transformers", "scipy", "pandas", "matplotlib"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert "HEAVY []" in done.stdout, done.stderr[-2000:]


def test_the_first_paint_imports_nothing_heavy() -> None:
    code = """
import sys
from wavedeck.app.cockpit import Wavedeck
heavy = {"torch", "lightning", "wandb", "transformers", "scipy", "hydra", "omegaconf", "h5py", "asyncssh", "pydantic"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in done.stdout, done.stderr


def test_requirements_are_pinned_without_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--index" not in lock
    assert "torch==2.14.1" in lock and "torchaudio==2.11.0" in lock
