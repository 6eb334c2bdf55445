"""One checkpoint from its host to this machine: staged, hashed, made durable, named, and only then recorded.

    stream or rsync into staging → sha256 as its line says → fsync → rename → fsync of the folder → `backup.jsonl`

At every point between these, what a crash leaves is either not vouched for or right. A file that does not hash right is
fetched again, and after that its host is asked what it holds there now: an overwritten `latest.pt` is no fault of the
line, and no reason to try for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...engine.backup import copies
from ...engine.backup.copies import BAD, HERE, NOTE, REMOVED, VERIFIED, CopyLine, read_copies
from ...engine.backup.policy import BackupPolicy
from ...engine.checkpoints import CheckpointLine, sha256_of
from ...engine.errors import WavedeckError
from ...engine.rundir import RunDir
from ..provision.there import RemoteHost
from ..rsync import RsyncProgress
from . import staging
from .arrival import Arrival
from .disk import Disk, append_durably
from .stream import NoStream, fits, stream
from .there import WORDS, Facts, Hashed, Place, Refused, hash_one, look, look_at, place_of
from .transfer import How, SourceGone, fetch

TRIES = 3
FEW, SYNCS = 8, 8
SMALL = 1 << 20
"""Files up to this size travel together."""


@dataclass(frozen=True, slots=True)
class Moving:
    """A file that is under way. `rate` is in bytes per second."""

    name: str
    bytes: int
    total: int
    rate: float | None = None


Report = Callable[[Moving], None]


async def pull(
    host: RemoteHost, run: RunDir, line: CheckpointLine, policy: BackupPolicy, report: Report, disk: Disk
) -> CopyLine:
    """Fetch one checkpoint of a copy; the line that was recorded about it: `verified`, `bad`, or a `note` (it is gone).

    Raises
    ------
    Cut: the connection broke; what has arrived is gone on from at the next try. DiskFull: there is no room here.
    WavedeckError: rsync or the host cannot do it.
    """
    async with staging.locked(run.checkpoints) as lock:
        return await _Pull(host, run, policy, report, disk, lock).one(line)


async def pull_many(
    host: RemoteHost, run: RunDir, lines: Sequence[CheckpointLine], policy: BackupPolicy, report: Report, disk: Disk
) -> list[CopyLine]:
    """Fetch small checkpoints together; each one that does not come right is fetched alone.

    Raises
    ------
    As `pull`; what was recorded until then stays.
    """
    async with staging.locked(run.checkpoints) as lock:
        work = _Pull(host, run, policy, report, disk, lock)
        done = await work.together(lines)
        right = {told.name for told in done}
        for line in lines:
            if line.name not in right:
                done.append(await work.one(line))
        return done


class _Pull:
    """One pull under its lock."""

    def __init__(
        self, host: RemoteHost, run: RunDir, policy: BackupPolicy, report: Report, disk: Disk, lock: int
    ) -> None:
        self._host = host
        self._run = run
        self._policy = policy
        self._report = report
        self._disk = disk
        self._lock = lock

    # --- one

    async def one(self, line: CheckpointLine) -> CopyLine:
        try:
            place = place_of(self._run, line, _run_dir(self._host, self._run))
        except Refused as error:
            return self._told(line, BAD, str(error))
        found = await look_at(self._host, place)
        if isinstance(found, str):
            return self._told(line, NOTE if found == "missing" else BAD, f"{line.name} {WORDS[found]}")
        if found.size != line.bytes:
            return self._told(line, BAD, _other_there(line, f"has {found.size} of {line.bytes} bytes"))
        folder = staging.staging_of(self._run.checkpoints, line.sha256)
        why = "arrived wrong"
        for _ in range(TRIES):
            try:
                right = await self._arrived(line, place, found, folder)
            except SourceGone as error:
                there_now = await look_at(self._host, place)
                if isinstance(there_now, str):
                    return self._told(line, NOTE if there_now == "missing" else BAD, f"{line.name} {WORDS[there_now]}")
                if there_now.size != line.bytes:
                    return self._told(line, BAD, _other_there(line, f"has {there_now.size} of {line.bytes} bytes"))
                why = f"could not be read there: {error}"
                found = there_now
                continue
            if right:
                return await self._commit(line, folder / place.file, folder)
            staging.begin_anew(folder)
            there = await hash_one(self._host, place, line.bytes)
            if not (isinstance(there, Hashed) and there.sha256 == line.sha256):
                what = WORDS[there] if isinstance(there, str) else "does not match its sha256"
                if there == "missing":
                    return self._told(line, NOTE, f"{line.name} {what}")
                return self._told(line, BAD, _other_there(line, what))
            why = f"arrived wrong {TRIES} times, though it is right there: is a disk or memory here failing?"
        return self._told(line, BAD, f"{line.name} {why}")

    async def _arrived(self, line: CheckpointLine, place: Place, found: Facts, folder: Path) -> bool:
        """Bring the file into its staging folder; whether it is the one its line speaks of."""
        part = staging.prepare(folder, place.file)
        staged = folder / place.file
        if not (staged.is_file() and staged.stat().st_size == line.bytes):  # else only the check was missing
            need = found.allocated if found.sparse else found.size
            staging.check_room(self._run.checkpoints, need - staging.used(folder))
            if fits(self._host, place.file, found):
                arrival = Arrival(folder, place.file, self._lock, self._policy.limit_kib_s)
                with contextlib.suppress(NoStream):
                    return await stream(self._host, place, found, arrival, self._tell_of(line)) == line.sha256
                part = staging.prepare(folder, place.file)
            how = How(delta=part, sparse=found.sparse, limit_kib_s=self._policy.limit_kib_s, hold=self._lock)
            await fetch(self._host, place.base, [place.name], folder, line.bytes, how, self._tell(line.name))
        return await asyncio.to_thread(_is_right, staged, line)

    async def _commit(self, line: CheckpointLine, staged: Path, folder: Path) -> CopyLine:
        told = await asyncio.to_thread(commit, self._disk, self._run, [(line, staged)])
        staging.begin_anew(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
        self._report(Moving(line.name, line.bytes, line.bytes))
        return told[0]

    # --- many

    async def together(self, lines: Sequence[CheckpointLine]) -> list[CopyLine]:
        """Those of `lines` that came right."""
        folder = staging.incoming(self._run.checkpoints) / staging.MANY
        folder.mkdir(parents=True, exist_ok=True)
        done: list[CopyLine] = []
        for base, some in self._by_base(lines).items():
            done += await self._portion(folder, base, some)
        staging.begin_anew(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
        return done

    def _by_base(self, lines: Sequence[CheckpointLine]) -> dict[str, dict[str, CheckpointLine]]:
        """The lines by where they lie; of two that lie in the same file only one comes along."""
        found: dict[str, dict[str, CheckpointLine]] = {}
        for line in lines:
            with contextlib.suppress(Refused):
                place = place_of(self._run, line, _run_dir(self._host, self._run))
                found.setdefault(place.base, {}).setdefault(place.name, line)
        return found

    async def _portion(self, folder: Path, base: str, wanted: dict[str, CheckpointLine]) -> list[CopyLine]:
        facts = dict(zip(wanted, await look(self._host, base, list(wanted)), strict=True))
        good = {
            name: line
            for name, line in wanted.items()
            if isinstance(found := facts[name], Facts) and found.size == line.bytes
        }
        missing = [name for name, line in good.items() if not _has_size(folder / name, line.bytes)]
        total = sum(good[name].bytes for name in missing)
        staging.check_room(self._run.checkpoints, total)
        if missing:
            how = How(relative=True, limit_kib_s=self._policy.limit_kib_s, hold=self._lock)
            label = f"{len(good)} files"
            with contextlib.suppress(SourceGone):
                await fetch(self._host, base, missing, folder, total, how, self._tell(label))
        return await asyncio.to_thread(self._take_right, folder, good)

    def _take_right(self, folder: Path, wanted: dict[str, CheckpointLine]) -> list[CopyLine]:
        right = [(line, folder / name) for name, line in wanted.items() if _is_right(folder / name, line)]
        return commit(self._disk, self._run, right) if right else []

    # --- words

    def _told(self, line: CheckpointLine, event: str, text: str) -> CopyLine:
        told = copy_line(line, event, text)
        record(self._disk, self._run, [told])
        return told

    def _tell_of(self, line: CheckpointLine) -> Callable[[int, float], None]:
        def tell(done: int, rate: float) -> None:
            self._report(Moving(line.name, done, line.bytes, rate))

        return tell

    def _tell(self, name: str) -> Callable[[RsyncProgress], None]:
        def tell(said: RsyncProgress) -> None:
            self._report(Moving(name, said.total * said.percent // 100, said.total, said.rate))

        return tell


def commit(disk: Disk, run: RunDir, staged: Sequence[tuple[CheckpointLine, Path]]) -> list[CopyLine]:
    """Make verified files durable, give them their names, and record them.

    A name that is vouched for with other content is withdrawn first: no line ever speaks for bytes it did not mean.

    Raises
    ------
    OSError: this disk is full or failing; whatever has its name by then is whole and not yet vouched for.
    """
    vouched = read_copies(run).verified(HERE)
    sync_all(disk, [path for _, path in staged])
    stale = [
        copy_line(line, REMOVED, "replaced by another file of that name")
        for line, _ in staged
        if line.name in vouched and vouched[line.name].sha256 != line.sha256
    ]
    if stale:
        record(disk, run, stale)
    for line, path in staged:
        disk.rename(path, run.checkpoints / line.name)
    disk.sync_folder(run.checkpoints)
    told = [copy_line(line, VERIFIED) for line, _ in staged]
    record(disk, run, told)
    return told


def sync_all(disk: Disk, paths: Sequence[Path]) -> None:
    """Make the content of files durable; many of them at the same time, since each waits for the same disk."""
    if len(paths) < FEW:
        for path in paths:
            disk.sync_file(path)
        return
    with ThreadPoolExecutor(SYNCS, "sync") as pool:
        for _ in pool.map(disk.sync_file, paths):
            pass


def record(disk: Disk, run: RunDir, lines: Sequence[CopyLine]) -> None:
    """Append durable lines to the run's record of copies."""
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    append_durably(disk, run.backup, data)


def copy_line(line: CheckpointLine, event: str, text: str = "", place: str = HERE) -> CopyLine:
    """What is to be said of a checkpoint, now."""
    return copies.copy_line(line, place, event, now(), text)


def now() -> float:
    """Seconds since the epoch, as they stand in records."""
    return round(time.time(), 3)


def _run_dir(host: RemoteHost, run: RunDir) -> str:
    return f"{host.home}/runs/{run.id}"


def _other_there(line: CheckpointLine, what: str) -> str:
    if line.path is not None:
        return f"{line.name} was overwritten there meanwhile"
    return f"{line.name} is damaged there: it {what}"


def _is_right(path: Path, line: CheckpointLine) -> bool:
    try:
        return _has_size(path, line.bytes) and sha256_of(path) == line.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WavedeckError(f"{path.name} cannot be read here ({error.strerror}).") from error


def _has_size(path: Path, count: int) -> bool:
    return not path.is_symlink() and path.is_file() and path.stat().st_size == count
