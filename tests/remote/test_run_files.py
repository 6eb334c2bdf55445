"""Questions about the files of a run, answered by this machine and through SSH alike."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.hosts import LOCAL
from wavedeck.engine.manifest import Attempt, Manifest, encode
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import Host
from wavedeck.remote.link import Rhythm
from wavedeck.remote.local import LocalHost
from wavedeck.remote.run_files import RunFiles

RUN_ID = "20261120-1759-drums-brisk-heron"
MIB = 1 << 20


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, home: Path, tmux_socket: str) -> AsyncIterator[Host]:
    """This machine, and one behind a real sshd."""
    place = Home(home)
    if request.param == "local":
        yield LocalHost(home=place)
        return
    request.getfixturevalue("sshd")
    fleet = Fleet(place, rhythm=Rhythm(ping_s=0.2, lock_s=0.05))
    yield fleet.host("gpu1")
    await fleet.close()


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
async def run(host: Host, home: Path, cwd: Path) -> RunDir:
    """A foreign command's run on its host, begun just now."""
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    attempt = Attempt(attempt=1, requested=time.time(), argv=["x"], cwd=str(cwd))
    await host.create_run(RUN_ID, {"manifest.json": encode(manifest), "attempts/0001.json": encode(attempt)})
    await asyncio.sleep(0.02)
    root = home if host.name == LOCAL else Path(host.home)  # type: ignore[attr-defined]
    return RunDir(root / "runs" / RUN_ID)


async def test_facts_and_digests(host: Host, run: RunDir, cwd: Path) -> None:
    own, other, path = os.urandom(100_000), os.urandom(2 * MIB), " ü'\n-.pt"
    (run.checkpoints / "step-1.ckpt").write_bytes(own)
    (cwd / path).write_bytes(other)
    facts, there = await host.file_facts(RUN_ID, "step-1.ckpt"), (run.checkpoints / "step-1.ckpt").stat()
    assert (facts.size, facts.mtime_ns, facts.inode, facts.blocks, facts.kind) == (
        len(own), there.st_mtime_ns, there.st_ino, there.st_blocks, "file",
    )  # fmt: skip
    found = await host.sha256_of(RUN_ID, path=path)
    assert (found.sha256, found.size, found.changed) == (hashlib.sha256(other).hexdigest(), len(other), False)
    assert (await host.sha256_of(RUN_ID, "step-1.ckpt")).sha256 == hashlib.sha256(own).hexdigest()


async def test_files_that_are_not_there_and_paths_that_lead_elsewhere(host: Host, run: RunDir, cwd: Path) -> None:
    (cwd / "link.pt").symlink_to("/etc/passwd")
    for name, path in (("none.ckpt", None), (None, "none/x.pt")):
        with pytest.raises(FileNotFoundError):
            await host.file_facts(RUN_ID, name, path=path)
        with pytest.raises(FileNotFoundError):
            await host.sha256_of(RUN_ID, name, path=path)
    with pytest.raises(FileNotFoundError):
        await host.uncovered(RUN_ID[:-1] + "s")
    for name, path in ((None, "link.pt"), (None, "../x"), (None, "/etc/passwd"), ("../manifest.json", None)):
        with pytest.raises(WavedeckError, match=f"cannot be looked at on {host.name}: ") as caught:
            await host.sha256_of(RUN_ID, name, path=path)
        assert "\n" not in str(caught.value)
    for run_id in ("", "..", "../" + RUN_ID, RUN_ID + "\n"):
        with pytest.raises(UsageError):
            await host.uncovered(run_id)


async def test_what_no_backup_would_have(host: Host, run: RunDir, cwd: Path) -> None:
    assert (await host.uncovered(RUN_ID)).count == 0
    (cwd / "\x1b[31mfeatures\n.h5").write_bytes(b"x" * 3 * MIB)
    (cwd / "new.pt").write_bytes(b"x" * 2 * MIB)
    found = await host.uncovered(RUN_ID)
    assert (found.count, found.bytes, found.cut) == (1, 3 * MIB, "")
    assert found.pending == [("new.pt", 2 * MIB)] and found.pending_count == 1
    ((name, size),) = found.files
    assert size == 3 * MIB and "features" in name and "\x1b" not in name and "\n" not in name
    for number in range(120):
        with open(cwd / f"{'long' * 50}-{number}.bin", "wb") as handle:
            handle.truncate(2 * MIB)
    found = await host.uncovered(RUN_ID)
    assert found.count == 121 and len(found.files) == 50


async def test_an_answer_that_makes_no_sense_is_not_believed() -> None:
    class Liar(RunFiles):
        answer: object = None

        @property
        def name(self) -> str:
            return "gpu1"

        async def _ask_of_files(self, *_: object) -> object:
            return self.answer

    liar = Liar()
    for liar.answer in (None, [], {"sha256": "x", "size": 1, "mtime_ns": 1, "changed": False}, {"size": "many"}):
        with pytest.raises(WavedeckError, match="makes no sense"):
            await liar.sha256_of(RUN_ID, "a")
        with pytest.raises(WavedeckError, match="makes no sense"):
            await liar.file_facts(RUN_ID, "a")
        with pytest.raises(WavedeckError, match="makes no sense"):
            await liar.uncovered(RUN_ID)
