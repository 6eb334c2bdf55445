"""Environments on a host: made once, found again, made anew when unfinished, and failures in one sentence."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.hosts import HostFacts
from wavedeck.remote.payload import prepare_env
from wavedeck.remote.provision import environment as module
from wavedeck.remote.provision.environment import (
    EnvironmentSpec,
    named_environment,
    prepare,
    project_environment,
    recipe_environment,
)
from wavedeck.remote.provision.requirements import read_requirements

from .conftest import There, Told, without_uv


def tiny_wheel(folder: Path, name: str = "tiny", version: str = "1.0") -> Path:
    """A package with one module and no needs."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


async def until(condition: Callable[[], object]) -> None:
    """Wait for it, with a deadline that fails."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def spec(folder: Path, *more: str) -> EnvironmentSpec:
    lines = [str(tiny_wheel(folder)), *more]
    return EnvironmentSpec("a test", requirements="\n".join(lines).encode())


def imported(python: str, code: str) -> str:
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def test_made_once_and_found_again(there: There, told: Told, tmp_path: Path) -> None:
    first = await prepare(there, spec(tmp_path), told)
    assert not first.reused and first.python.startswith(f"{there.home}/envs/")
    assert imported(first.python, "import tiny; print(tiny.VERSION)") == "1.0"
    again = await prepare(there, spec(tmp_path), told)
    assert again.reused and again.python == first.python
    assert "is ready" in told.text and "was there already" in told.text
    about = json.loads((Path(str(first.root)) / "environment.json").read_text())
    assert about["label"] == "a test" and about["python"].count(".") == 2
    other = await prepare(there, spec(tmp_path, "# another list"), told)
    assert other.python != first.python


async def test_without_uv_it_is_venv_and_pip(there: There, told: Told, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    ready = await prepare(there, spec(tmp_path), told)
    assert imported(ready.python, "import tiny; print(tiny.VERSION)") == "1.0"
    assert "with venv" in told.text


async def test_two_at_once_make_one(there: There, gate: Path, tmp_path: Path) -> None:
    one, two = Told(), Told()
    wanted = spec(tmp_path)
    both = asyncio.gather(prepare(there, wanted, one), prepare(there, wanted, two))
    await until(lambda: "another launch is preparing it: making an environment with uv" in one.text + two.text)
    (gate / "open").touch()
    results = await both
    assert sorted(result.reused for result in results) == [False, True]
    assert results[0].python == results[1].python
    waiting = one if results[0].reused else two
    assert "another launch is preparing it" in waiting.text


async def test_an_unfinished_one_is_made_anew(there: There, told: Told, tmp_path: Path) -> None:
    first = await prepare(there, spec(tmp_path), told)
    root = Path(str(first.root))
    (root / ".ready").unlink()
    (root / "half").touch()
    again = await prepare(there, spec(tmp_path), told)
    assert not again.reused and again.root == first.root
    assert not (root / "half").exists() and (root / ".ready").exists()
    (root / "bin" / "python").unlink()  # the container was made anew, its volume was not
    assert not (await prepare(there, spec(tmp_path), told)).reused
    assert not list(root.parent.glob("*.old.*"))


async def test_a_cut_preparation_does_not_block_the_next(there: There, told: Told, gate: Path, tmp_path: Path) -> None:
    wanted = spec(tmp_path)
    task = asyncio.create_task(prepare(there, wanted, told))
    await until((gate / "began").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (gate / "open").touch()
    assert not (await prepare(there, wanted, told)).reused


async def test_looking_makes_nothing(there: There, told: Told, tmp_path: Path) -> None:
    found = await prepare(there, spec(tmp_path), told, look_only=True)
    assert found.missing and not Path(there.home).exists()


async def test_what_cannot_be_installed_is_a_sentence(there: There, told: Told, tmp_path: Path) -> None:
    with pytest.raises(WavedeckError, match=r"installing on gpu1 failed: .*absent") as caught:
        await prepare(there, EnvironmentSpec("x", requirements=b"/nowhere/absent-1.0-py3-none-any.whl\n"), told)
    assert "\n" not in str(caught.value)
    lines = ["Collecting absent", "ERROR: No matching distribution found for absent", "", "[notice] a new pip"]
    said = prepare_env.reason("gpu1", "/home/envs/x", "installing", 1, lines)
    assert said == (
        "installing on gpu1 failed: ERROR: No matching distribution found for absent. "
        "It is made anew with the next launch."
    )
    assert "exit status 7" in prepare_env.reason("gpu1", "/home/envs/x", "installing", 7, [])


async def test_a_python_that_does_not_fit_is_a_sentence(there: There, told: Told, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    with pytest.raises(WavedeckError, match=r"python3 on gpu1 is 3\.\d+ and this needs 3\.97 to 3\.99: .*hosts\.toml"):
        await prepare(there, EnvironmentSpec("x", pythons=("3.98", "3.99", "3.97")), told)
    there.facts = HostFacts(python="3.6.9")
    with pytest.raises(WavedeckError, match=r"python3 on gpu1 is 3\.6\.9: .* 3\.8"):
        await prepare(there, spec(tmp_path), told)
    there.facts = HostFacts()
    with pytest.raises(WavedeckError, match="no python3 on gpu1"):
        await prepare(there, spec(tmp_path), told)


async def test_no_ensurepip_names_the_package(there: There, told: Told, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    (tmp_path / "bin" / "python3").unlink()
    script = tmp_path / "bin" / "python3"  # Debian's python3 without python3-venv
    script.write_text(f'#!/bin/sh\ncase "$*" in *"import ensurepip"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    helper = (Path(module.__file__).parent.parent / "payload" / "prepare_env.py").read_text()
    start = f"import sys; sys.executable = {str(script)!r}; exec(compile({helper!r}, 'helper', 'exec'))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start],
        input=json.dumps({"digest": "x", "home": str(tmp_path / "h"), "host": "gpu1", "files": []}).encode() + b"\n",
        capture_output=True,
        env=there.env,
    )
    assert "apt-get install -y python3-venv" in json.loads(done.stdout.splitlines()[-1])["failed"], done.stderr


async def test_a_full_disk_is_a_sentence(there: There, told: Told, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    uv = tmp_path / "bin" / "uv"
    uv.write_text("#!/bin/sh\necho 'error: failed to write: No space left on device (os error 28)'\nexit 2\n")
    uv.chmod(0o755)
    with pytest.raises(WavedeckError, match=r"the disk of .*envs on gpu1 is full: .*home= in hosts.toml"):
        await prepare(there, spec(tmp_path), told)


async def test_hostile_answers_are_refused(there: There, told: Told, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    fake = tmp_path / "bin" / "python3"
    for answer in ("relative", "/a\x1b[2J/python", 5, None):
        fake.unlink()
        line = json.dumps({"answer": {"python": answer, "bin": answer, "path": answer}})
        (tmp_path / "line").write_text(line)
        fake.write_text(f"#!/bin/sh\n/bin/cat > /dev/null\n/bin/cat '{tmp_path}/line'\n")
        fake.chmod(0o755)
        with pytest.raises(WavedeckError, match="answered with something that is no path"):
            await prepare(there, spec(tmp_path), told)
    (tmp_path / "line").write_text("[[[[\n{}\nnull\n")
    with pytest.raises(WavedeckError, match="gave no answer"):
        await prepare(there, spec(tmp_path), told)


async def test_torch_is_asked_once(there: There, told: Told, tmp_path: Path) -> None:
    wanted = EnvironmentSpec("x", requirements=spec(tmp_path).requirements, check_torch=True)
    ready = await prepare(there, wanted, told)
    assert ready.notices == ("torch does not load on gpu1: ModuleNotFoundError: No module named 'torch'.",)
    assert (await prepare(there, wanted, told)).notices == ready.notices


def test_torch_news() -> None:
    assert module._torch_notices("g", {"torch": {"torch": "2", "cuda": "13.0", "available": True}}) == ()
    (notice,) = module._torch_notices("g", {"torch": {"cuda": "13.0", "available": False, "warning": "driver \x1b[1m"}})
    assert "built for CUDA 13.0" in notice and "\x1b" not in notice
    assert module._torch_notices("g", "nonsense") == ()


def test_the_recipes_environment(tmp_path: Path) -> None:
    one, two = recipe_environment(tmp_path), recipe_environment(tmp_path)
    assert one.digest == two.digest and one.wheel is not None and one.check_torch
    text = one.requirements.decode()
    assert "://" not in text and "--index" not in text and "pytest" not in text and "ruff==" not in text
    for name in ("torch==", "lightning==", "soundfile==", "msgspec==", "hydra-core=="):
        assert f"\n{name}" in text
    everything = (module.TRAIN_LOCK.parent.parent / "requirements.lock").read_text().splitlines()
    pins = {line.split(" ;")[0].strip() for line in everything}
    assert {line.split(" ;")[0].strip() for line in text.splitlines()} <= pins, "`make lock` makes both"


def test_what_a_named_interpreter_becomes(there: There) -> None:
    assert named_environment(there, "/venv/main/bin/python").bin == "/venv/main/bin"
    assert named_environment(there, "/venv/main/").python == "/venv/main/bin/python"
    assert named_environment(there, "/usr/bin/python3.11").python == "/usr/bin/python3.11"
    with pytest.raises(WavedeckError, match="no absolute path"):
        named_environment(there, "venv/bin/python")


def test_requirements_are_flattened(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "# what it needs\n-r more/base.txt\n-c limits.txt\n-e .\n.\n./vendored\n.[dev]\n--extra-index-url https://x/simple\n"
        "numpy==2.0 \\\n    --hash=sha256:abc  # why\nname @ https://example.com/a.whl\nvendored/a-1.whl\ncap.py>=1\n"
    )
    (tmp_path / "more" / "base.txt").write_text("rich\n-r ../requirements.txt\n")
    (tmp_path / "limits.txt").write_text("rich<15\n")
    found = read_requirements(tmp_path)
    assert found is not None
    assert found.lines == [
        "rich", "--extra-index-url https://x/simple", "numpy==2.0     --hash=sha256:abc",
        "name @ https://example.com/a.whl", "cap.py>=1",
    ]  # fmt: skip
    assert found.constraint_text == b"rich<15\n"
    assert len(found.notices) == 5 and "-e ." in found.notices[0]


def test_a_lock_comes_before_a_list(tmp_path: Path) -> None:
    assert project_environment(tmp_path) is None
    (tmp_path / "requirements.txt").write_text("rich\n")
    (tmp_path / "requirements.lock").write_text("rich==14.0\n")
    made = project_environment(tmp_path)
    assert made is not None and made.requirements == b"rich==14.0\n"
    (tmp_path / "requirements.lock").write_text("-r absent.txt\n")
    with pytest.raises(WavedeckError, match=r"absent.txt cannot be read"):
        project_environment(tmp_path)


def test_uv_lock_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\n')
    (tmp_path / "uv.lock").write_text(
        'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n[[package]]\nname = "mine"\nversion = "0"\n'
        'source = { virtual = "." }\n'
    )
    found = read_requirements(tmp_path)
    assert found is not None and found.source == "uv.lock" and found.lines == []
    (tmp_path / "uv.lock").write_text("nonsense")
    with pytest.raises(WavedeckError, match=r"uv cannot read uv.lock"):
        read_requirements(tmp_path)
