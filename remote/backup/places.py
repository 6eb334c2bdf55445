"""The two kinds of second place: a directory of this machine, and another host. Both stage, hash, sync and rename."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...engine.checkpoints import sha256_of
from ...engine.errors import WavedeckError
from ...engine.files import sync_directory
from ...engine.format import size as size_text
from ...engine.rundir import RunDir
from .. import copy_bytes
from ..copy_bytes import free_bytes
from ..provision.there import RemoteHost, ask, path_of
from ..rsync import RsyncProgress
from .pull import Moving, Report
from .staging import INCOMING
from .there import ANSWER_S, HASH_RATE, SCRIPT, Facts, Hashed, hash_there, look
from .transfer import DiskFull, How, send

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """A file to bring somewhere: its path inside the run's directory, and what it holds."""

    inner: str
    sha256: str
    bytes: int


class SecondPlace(Protocol):
    """Where verified files go on to."""

    @property
    def label(self) -> str:
        """What users call it."""
        ...

    async def put(
        self, run: RunDir, base: Path, items: Sequence[Item], report: Report, limit_kib_s: int | None
    ) -> set[str]:
        """Bring files from below `base` there; the inner names of those that are right there now.

        Raises
        ------
        LinkDown, DiskFull, WavedeckError, OSError.
        """
        ...

    async def facts(self, run: RunDir, names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Size and time in ns of those that are there."""
        ...

    async def hashes(self, run: RunDir, names: Sequence[str], size: int) -> Mapping[str, str]:
        """What files there hash to, for those that can be read."""
        ...

    async def remove(self, run: RunDir, names: Sequence[str]) -> None:
        """Delete files there; those that are not there are fine."""
        ...


class _Pace:
    """Keeps a copy to a bandwidth: a directory may be a share on somebody's only line."""

    def __init__(self, limit_kib_s: int | None) -> None:
        self._rate = None if limit_kib_s is None else limit_kib_s * 1024
        self.block = BLOCK if self._rate is None else min(BLOCK, max(1, self._rate // 4))
        """How much to copy at once."""
        self._began = time.monotonic()
        self._done = 0

    def wait(self, count: int) -> None:
        """Before `count` bytes more: until those before them have had their time."""
        if self._rate is not None:
            time.sleep(max(0.0, self._began + self._done / self._rate - time.monotonic()))
            self._done += count


class DirectoryPlace:
    """A directory of this machine. It must exist: an empty mount point must not be filled in its stead."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def label(self) -> str:
        return str(self._root)

    def _base(self, run: RunDir) -> Path:
        if not self._root.is_dir():
            raise WavedeckError(f"the second place {self._root} is not there: mount it, or make the directory.")
        return self._root / "runs" / run.id

    async def put(
        self, run: RunDir, base: Path, items: Sequence[Item], report: Report, limit_kib_s: int | None
    ) -> set[str]:
        pace = _Pace(limit_kib_s)
        return await asyncio.to_thread(self._put, run, base, items, report, pace)

    def _put(self, run: RunDir, base: Path, items: Sequence[Item], report: Report, pace: _Pace) -> set[str]:
        there = self._base(run)
        total = sum(item.bytes for item in items)
        free = free_bytes(self._root)
        if free < total + copy_bytes.FREE_FLOOR:
            raise _full(self.label, free, total)
        incoming = there / INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        placed = set()
        for item in items:
            if self._one(base, there, incoming, item, report, pace):
                placed.add(item.inner)
        shutil.rmtree(incoming, ignore_errors=True)
        return placed

    def _one(self, base: Path, there: Path, incoming: Path, item: Item, report: Report, pace: _Pace) -> bool:
        staged, target = incoming / item.inner, there / item.inner
        staged.parent.mkdir(parents=True, exist_ok=True)
        source = base / item.inner
        digest, done = hashlib.sha256(), 0
        with open(source, "rb") as data, open(staged, "wb") as out:
            while block := data.read(pace.block):
                pace.wait(len(block))
                digest.update(block)
                out.write(block)
                done += len(block)
                report(Moving(Path(item.inner).name, done, item.bytes))
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != item.sha256 or sha256_of(staged) != item.sha256:
            staged.unlink()
            return False
        times = source.stat()
        os.utime(staged, ns=(times.st_atime_ns, times.st_mtime_ns))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, target)
        folder = target.parent
        while True:
            sync_directory(folder)
            if folder == self._root:
                return True
            folder = folder.parent

    async def facts(self, run: RunDir, names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        def read() -> dict[str, tuple[int, int]]:
            base, found = self._base(run), {}
            for name in names:
                try:
                    facts = (base / name).lstat()
                except OSError:
                    continue
                found[name] = (facts.st_size, facts.st_mtime_ns)
            return found

        return await asyncio.to_thread(read)

    async def hashes(self, run: RunDir, names: Sequence[str], size: int) -> Mapping[str, str]:
        def read() -> dict[str, str]:
            base, found = self._base(run), {}
            for name in names:
                try:
                    found[name] = sha256_of(base / name)
                except OSError:
                    continue
            return found

        return await asyncio.to_thread(read)

    async def remove(self, run: RunDir, names: Sequence[str]) -> None:
        base = self._base(run)
        for name in names:
            (base / name).unlink(missing_ok=True)


class HostPlace:
    """Another host: rsync into staging there, hashed and renamed by a helper there.

    Parameters
    ----------
    directory: where on it; None is `backup/` in Wavedeck's home there, apart from the host's own runs.
    """

    def __init__(self, host: RemoteHost, directory: str | None) -> None:
        self._host = host
        self._directory = directory

    @property
    def label(self) -> str:
        return f"{self._host.name}:{self._directory}" if self._directory else self._host.name

    def _base(self, run: RunDir) -> str:
        return f"{self._directory or f'{self._host.home}/backup'}/runs/{run.id}"

    async def put(
        self, run: RunDir, base: Path, items: Sequence[Item], report: Report, limit_kib_s: int | None
    ) -> set[str]:
        begun = await ask(self._host, SCRIPT, {"op": "begin", "base": self._base(run)}, timeout_s=ANSWER_S)
        staged, total = path_of(self._host, begun, "staging"), sum(item.bytes for item in items)
        free = begun.get("free")
        if not isinstance(free, int) or free < total + copy_bytes.FREE_FLOOR:
            raise _full(self.label, free if isinstance(free, int) else 0, total)
        label = Path(items[0].inner).name if len(items) == 1 else f"{len(items)} files"

        def tell(said: RsyncProgress) -> None:
            report(Moving(label, said.total * said.percent // 100, said.total, said.rate))

        how = How(relative=True, delta=len(items) == 1, limit_kib_s=limit_kib_s)
        await send(self._host, base, [item.inner for item in items], staged, total, how, tell)
        placed: set[str] = set()
        for start in range(0, len(items), 1000):
            placed |= await self._commit(run, items[start : start + 1000])
        return placed

    async def _commit(self, run: RunDir, items: Sequence[Item]) -> set[str]:
        rows = [[item.inner, item.sha256, item.bytes] for item in items]
        wait = ANSWER_S + sum(item.bytes for item in items) / HASH_RATE
        request = {"op": "commit", "base": self._base(run), "rows": rows}
        answer = await ask(self._host, SCRIPT, request, timeout_s=wait)
        told = answer.get("files")
        if not isinstance(told, list) or len(told) != len(items):
            raise WavedeckError(f"the answer of {self._host.name} about its copies makes no sense.")
        return {item.inner for item, word in zip(items, told, strict=True) if word == "placed"}

    async def facts(self, run: RunDir, names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        found = await look(self._host, self._base(run), names)
        return {
            name: (facts.size, facts.mtime_ns)
            for name, facts in zip(names, found, strict=True)
            if isinstance(facts, Facts)
        }

    async def hashes(self, run: RunDir, names: Sequence[str], size: int) -> Mapping[str, str]:
        found = await hash_there(self._host, self._base(run), names, size)
        return {name: told.sha256 for name, told in zip(names, found, strict=True) if isinstance(told, Hashed)}

    async def remove(self, run: RunDir, names: Sequence[str]) -> None:
        request = {"op": "remove", "base": self._base(run), "names": list(names)}
        await ask(self._host, SCRIPT, request, timeout_s=ANSWER_S)


def _full(label: str, free: int, need: int) -> DiskFull:
    return DiskFull(f"{label} has {size_text(free)} free for {size_text(need)}: free some space at the second place.")
