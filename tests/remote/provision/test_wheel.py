"""The wheel that travels to hosts: what the build packs, always the same, and it installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from wavedeck.engine.errors import WavedeckError
from wavedeck.remote.provision import wheel as module
from wavedeck.remote.provision.wheel import build_wheel, wheel_digest

ROOT = Path(module.__file__).resolve().parent.parent.parent
UV = shutil.which("uv") or str(Path(sys.executable).parent / "uv")


def test_it_holds_what_the_build_packs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=170)
    built = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    ours = zipfile.ZipFile(build_wheel(tmp_path / "ours"))
    assert modules(ours).keys() == modules(built).keys() - {"wavedeck/README.md", "wavedeck/setup.py"}
    changed = [name for name, data in modules(ours).items() if built.read(name) != data]
    assert not changed, "somebody edits the checkout meanwhile, or the wheel packs something else"
    points = "wavedeck-0.1.0.dist-info/entry_points.txt"
    assert ours.read(points) == built.read(points)
    assert "wavedeck/assets/train.lock" in ours.namelist()


def modules(archive: zipfile.ZipFile) -> dict[str, bytes]:
    return {name: archive.read(name) for name in archive.namelist() if name.startswith("wavedeck/")}


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = build_wheel(tmp_path / "one"), build_wheel(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert wheel_digest(one) == wheel_digest(two)
    assert len(one.read_bytes()) < 4 << 20, "it is sent as the input of one command"


def test_it_installs_and_its_record_is_right(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    site = tmp_path / "env"
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, str(site)], check=True, timeout=60)
    python = site / "bin" / "python"
    subprocess.run(
        [UV, "pip", "install", "-q", "--no-deps", "--python", str(python), str(wheel)], check=True, timeout=60
    )
    code = (
        "import wavedeck, wavedeck.remote.payload.supervisor\n"
        "from importlib.metadata import version, files, entry_points\n"
        "assert version('wavedeck') == wavedeck.__version__\n"
        "import hashlib, base64\n"
        "for file in files('wavedeck'):\n"
        "    if file.hash:\n"
        "        digest = hashlib.sha256(file.read_binary()).digest()\n"
        "        assert base64.urlsafe_b64encode(digest).rstrip(b'=').decode() == file.hash.value, file\n"
        "assert [point.name for point in entry_points(group='wavedeck.recipes')] == ['sousa']\n"
        "print(wavedeck.__file__)"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.startswith(str(site)), done.stderr
    assert (site / "bin" / "wavedeck").exists()


def test_it_can_be_imported_from_as_it_is(tmp_path: Path) -> None:
    """`from wavedeck import log` in a script on a host, with nothing but PYTHONPATH."""
    wheel = build_wheel(tmp_path)
    code = "from wavedeck import log; log({'loss': 1}, step=1); import wavedeck; print(wavedeck.__file__)"
    env = {"PYTHONPATH": str(wheel), "WAVEDECK_RUN_DIR": str(tmp_path)}
    done = subprocess.run(["/usr/bin/env", "python3", "-S", "-c", code], capture_output=True, text=True, env=env)
    assert str(wheel) in done.stdout, done.stderr
    assert '"loss"' in (tmp_path / "events.jsonl").read_text()


def test_not_installed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "wavedeck-that-is-not-there")
    with pytest.raises(WavedeckError, match="not installed here"):
        build_wheel(tmp_path)
