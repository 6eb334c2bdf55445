"""A host that is a real sshd, a run there, and the copy of it here; the backup between them is the real one."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wavedeck.engine.backup.copies import HERE, VERIFIED, CopyLine, read_copies
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.checkpoints import CheckpointLine, foreign_name
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.manifest import Headline, Manifest, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote.backup import pull as pulling
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Rhythm
from wavedeck.remote.ssh_host import SshHost
from wavedeck.tests.remote.conftest import reaper  # noqa: F401  fixture
from wavedeck.tests.servers.fixtures import jump, network, proxy, sshd  # noqa: F401  fixtures
from wavedeck.tests.servers.sshd import Sshd

RUN_ID = "20261121-1200-drums-brisk-heron"
QUICK = Rhythm(ping_s=0.2, slow_s=1.0, lost_s=5.0, first_retry_s=0.1, longest_retry_s=0.5, lock_s=0.05)
POLICY = BackupPolicy()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.02)


@dataclass
class Lab:
    """A run on `gpu1` and its copy here, without anybody who mirrors: `save` writes both sides."""

    home: Home
    fleet: Fleet
    sshd: Sshd
    said: list[pulling.Moving] = field(default_factory=list)
    run_id: str = RUN_ID

    def __post_init__(self) -> None:
        self.there = RunDir(self.sshd.remote_home / "runs" / self.run_id)
        self.run = RunDir(self.home.runs / self.run_id)
        self.cwd = self.sshd.root / "work dir [1]"
        self.cwd.mkdir(exist_ok=True)
        for run in (self.there, self.run):
            run.checkpoints.mkdir(parents=True)
            manifest = Manifest(self.run_id, "drums", 0.0, cwd=str(self.cwd), headline=Headline("loss"))
            write_record(run.manifest, manifest)
        write_mirror(self.run.path, MirrorRecord(host="gpu1"))

    @property
    def host(self) -> SshHost:
        host = self.fleet.host("gpu1")
        assert isinstance(host, SshHost)
        return host

    def line(self, line: CheckpointLine) -> CheckpointLine:
        """Put a line into both lists."""
        for run in (self.there, self.run):
            with open(run.checkpoint_manifest, "ab") as handle:
                handle.write(msgspec.json.encode(line) + b"\n")
        return line

    def save(self, name: str, data: bytes, step: int = 1, **fields: Any) -> CheckpointLine:
        """A checkpoint of a recipe."""
        (self.there.checkpoints / name).write_bytes(data)
        return self.line(CheckpointLine(name, step, len(data), sha(data), time.time(), **fields))

    def foreign(self, path: str, data: bytes, step: int = 1) -> CheckpointLine:
        """A file of a trainer that is not ours."""
        (self.cwd / path).parent.mkdir(parents=True, exist_ok=True)
        (self.cwd / path).write_bytes(data)
        name = foreign_name(path, sha(data))
        return self.line(CheckpointLine(name, step, len(data), sha(data), time.time(), kind="foreign", path=path))

    async def pull(self, line: CheckpointLine, policy: BackupPolicy = POLICY) -> CopyLine:
        return await pulling.pull(self.host, self.run, line, policy, self.said.append, RealDisk())

    def accepted(self) -> set[str]:
        """Names that are vouched for, after every one of them was hashed."""
        return accepted(self.run)


def accepted(run: RunDir) -> set[str]:
    """The final check of every test: each file that is vouched for is there and hashes right."""
    found = read_copies(run).verified(HERE)
    for name, copy in found.items():
        data = (run.checkpoints / name).read_bytes()
        assert (len(data), sha(data)) == (copy.bytes, copy.sha256), name
        assert copy.event == VERIFIED
    return set(found)


def noise(count: int, seed: int = 0) -> bytes:
    """Bytes that compress to nothing smaller."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(count)


@pytest.fixture
async def lab(home: Path, sshd: Sshd) -> AsyncIterator[Lab]:  # noqa: F811
    fleet = Fleet(Home(home), rhythm=QUICK, mirrors=False)
    await fleet.watch("gpu1").ready(20)
    one = Lab(Home(home), fleet, sshd)
    yield one
    await fleet.close()


def leftovers(run: RunDir) -> list[str]:
    """What lies in staging besides the lock."""
    place = run.checkpoints / ".incoming"
    return sorted(path.name for path in place.iterdir() if path.name != "lock") if place.exists() else []
