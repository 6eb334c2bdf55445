"""What else of a run is brought here: the sound and attachments of its samples, and the code pushed for it.

A sample file has no line that says what it must hash to, so it is taken once it rests (size and time stay as they are
for a while), and only if what it hashes to there before it moved is what it hashes to here afterwards. Its time comes
along: a file here with the size and time of the one there is that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...engine.backup.policy import BackupPolicy
from ...engine.checkpoints import is_safe_name, is_safe_path, sha256_of
from ...engine.errors import RunDirError, WavedeckError
from ...engine.manifest import SupervisorRecord, read_manifest, read_record
from ...engine.rundir import RunDir
from ...engine.samples.ids import is_set_name
from ..provision.there import RemoteHost, ask
from ..rsync import RsyncProgress
from . import staging
from .disk import Disk
from .pull import Moving, Report, sync_all
from .there import ANSWER_S, SCRIPT, Hashed, hash_there, look
from .transfer import How, SourceGone, fetch

REST_S = 3.0
"""A file that has not changed for so long is taken for finished."""
MOST_BYTES = 1 << 40
SAMPLES, PROJECT = "samples", "project"
ATTACHMENTS = "attachments"
"""Beside the sound of a set: what its writer attached to items."""
PROJECT_BYTES = 1 << 30
"""A project that is larger is not kept here: it was pushed with a question, too."""


@dataclass(slots=True)
class Resting:
    """Since when each sample file of a run has been as it is. Kept from one turn to the next."""

    seen: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    waiting: int = 0
    """Files that were not yet at rest when somebody last looked."""

    def rested(self, name: str, size: int, mtime_ns: int, now: float) -> bool:
        """Whether a file has been like this for long enough."""
        before = self.seen.get(name)
        if before is None or before[:2] != (size, mtime_ns):
            self.seen[name] = (size, mtime_ns, now)
            return False
        return now - before[2] >= REST_S


async def pull_samples(
    host: RemoteHost, run: RunDir, policy: BackupPolicy, report: Report, disk: Disk, resting: Resting
) -> int:
    """Fetch the sample files that rest there and are not here; how many are here now that were not before.

    Raises
    ------
    Cut, DiskFull, WavedeckError.
    """
    base = f"{host.home}/runs/{run.id}/samples"
    answer = await ask(host, SCRIPT, {"op": "samples", "base": base}, timeout_s=ANSWER_S)
    missing = [row for row in _listed(answer) if not _is_here(run.samples / row[0], row)]
    now = time.monotonic()
    ready = [row for row in missing if resting.rested(*row, now)]
    resting.waiting = len(missing) - len(ready)
    if not ready:
        return 0
    async with staging.locked(run.checkpoints) as lock:
        return await _fetch_samples(host, run, policy, report, disk, base, ready, lock)


async def samples_behind(host: RemoteHost, run: RunDir) -> int:
    """Bytes of sample files that are there and not here, those that do not rest yet included.

    Raises
    ------
    LinkDown, WavedeckError.
    """
    answer = await ask(
        host, SCRIPT, {"op": "samples", "base": f"{host.home}/runs/{run.id}/samples"}, timeout_s=ANSWER_S
    )
    return sum(row[1] for row in _listed(answer) if not _is_here(run.samples / row[0], row))


async def _fetch_samples(
    host: RemoteHost,
    run: RunDir,
    policy: BackupPolicy,
    report: Report,
    disk: Disk,
    base: str,
    ready: list[tuple[str, int, int]],
    lock: int,
) -> int:
    names = [row[0] for row in ready]
    total = sum(row[1] for row in ready)
    folder = staging.incoming(run.checkpoints) / SAMPLES
    staging.check_room(run.checkpoints, total - staging.used(folder))
    before = dict(zip(names, await hash_there(host, base, names, total), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    how = How(relative=True, limit_kib_s=policy.limit_kib_s, hold=lock)
    with contextlib.suppress(SourceGone):
        await fetch(host, base, names, folder, total, how, _teller(report, f"{len(names)} sample files"))
    after = dict(zip(names, await look(host, base, names), strict=True))

    def place() -> int:
        right = []
        for name, size, mtime_ns in ready:
            told, facts = before[name], after[name]
            same = not isinstance(facts, str) and (facts.size, facts.mtime_ns) == (size, mtime_ns)
            if same and isinstance(told, Hashed) and _hash(folder / name) == told.sha256:
                right.append(name)
        _place(run, folder, right, disk)
        shutil.rmtree(folder, ignore_errors=True)
        return len(right)

    return await asyncio.to_thread(place)


def _place(run: RunDir, folder: Path, names: list[str], disk: Disk) -> None:
    folders: set[Path] = set()
    sync_all(disk, [folder / name for name in names])
    for name in names:
        target = run.samples / name
        above = [path for path in target.parents if path.is_relative_to(run.samples)]
        if any(path.is_symlink() for path in above):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.rename(folder / name, target)
        folders.update(path for path in above if path != run.samples)
    for parent in sorted(folders):
        disk.sync_folder(parent)
    if folders:
        disk.sync_folder(run.samples)


def _listed(answer: dict[str, Any]) -> list[tuple[str, int, int]]:
    """(inner name, size, time in ns) of each file whose name is one."""
    rows = answer.get("files")
    found = []
    for row in rows if isinstance(rows, list) else ():
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str)):
            continue
        name, size, mtime_ns = row
        folder, _, file = name.partition("/")
        inner, slash, attached = file.partition("/")
        if not (is_set_name(folder) and ".." not in folder):
            continue
        if not (
            inner == ATTACHMENTS and is_safe_name(attached) if slash else file.endswith(".h5") and is_safe_name(file)
        ):
            continue
        if type(size) is int and type(mtime_ns) is int and 0 <= size < MOST_BYTES:
            found.append((name, size, mtime_ns))
    return found


def _is_here(path: Path, row: tuple[str, int, int]) -> bool:
    try:
        facts = path.lstat()
    except OSError:
        return False
    return (facts.st_size, facts.st_mtime_ns) == row[1:]


def _hash(path: Path) -> str | None:
    try:
        return None if path.is_symlink() else sha256_of(path)
    except OSError:
        return None


def _teller(report: Report, label: str) -> Any:
    def tell(now: RsyncProgress) -> None:
        report(Moving(label, now.total * now.percent // 100, now.total, now.rate))

    return tell


# --- the project


async def keep_project(host: RemoteHost, run: RunDir, policy: BackupPolicy, report: Report, disk: Disk) -> bool:
    """Keep the code that was pushed for a run, once, so that another host can go on with it; whether it is new here.

    Raises
    ------
    Cut, DiskFull, WavedeckError: it is larger than is kept, or does not arrive right.
    """
    base = f"{host.home}/code/{run.id}"
    if run.project.exists() or not may_have_code(run) or not _was_pushed(run, base):
        return False
    before = _started(run)
    if before is None:
        return False
    request = {"op": "tree", "base": base, "before": before, "most": PROJECT_BYTES}
    answer = await ask(host, SCRIPT, request, timeout_s=ANSWER_S)
    if answer.get("missing"):
        return False
    if answer.get("large"):
        raise WavedeckError(f"the code of {run.id} is larger than is kept here: keep it in git, or where it came from.")
    names = [name for name in answer.get("files") or [] if isinstance(name, str) and is_safe_path(name)]
    total = answer["size"] if type(answer.get("size")) is int else 0
    async with staging.locked(run.checkpoints) as lock:
        folder = staging.incoming(run.checkpoints) / PROJECT
        staging.begin_anew(folder)
        staging.check_room(run.checkpoints, total)
        hashes = await hash_there(host, base, names, total)
        how = How(relative=True, modes=True, limit_kib_s=policy.limit_kib_s, hold=lock)
        with contextlib.suppress(SourceGone):
            await fetch(host, base, names, folder, total, how, _teller(report, "the project"))
        wanted = {name: told.sha256 for name, told in zip(names, hashes, strict=True) if isinstance(told, Hashed)}
        links = answer.get("links") if isinstance(answer.get("links"), list) else []
        await asyncio.to_thread(_place_project, run, folder, wanted, links or [], disk)
    return True


def _place_project(run: RunDir, folder: Path, wanted: dict[str, str], links: list[Any], disk: Disk) -> None:
    for name, digest in wanted.items():
        if _hash(folder / name) != digest:
            raise WavedeckError(f"the code of {run.id} did not arrive as it is there: it is tried again.")
    for row in links:
        if isinstance(row, list) and len(row) == 2 and all(isinstance(word, str) for word in row):
            _link(folder, row[0], row[1])
    parents = {folder}
    sync_all(disk, [folder / name for name in wanted])
    for name in wanted:
        parents.add((folder / name).parent)
    for parent in sorted(parents):
        disk.sync_folder(parent)
    disk.rename(folder, run.project)
    disk.sync_folder(run.path)


def _link(folder: Path, name: str, target: str) -> None:
    """Make a link of the project again, if it stays inside it."""
    inner = os.path.normpath(f"{name}/../{target}")
    path = folder / name
    if is_safe_path(name) and is_safe_path(inner) and not target.startswith("/") and path.parent.is_dir():
        with contextlib.suppress(OSError):
            path.symlink_to(target)


def _was_pushed(run: RunDir, base: str) -> bool:
    try:
        manifest = read_manifest(run.manifest)
    except (RunDirError, OSError):
        return False
    return f"{manifest.cwd}/".startswith(f"{base}/")


def may_have_code(run: RunDir) -> bool:
    """Whether a run is a foreign command that works in a directory of ours: only its host knows for certain."""
    try:
        manifest = read_manifest(run.manifest)
    except (RunDirError, OSError):
        return False
    return manifest.recipe is None and f"/code/{run.id}" in (manifest.cwd or "")


def _started(run: RunDir) -> float | None:
    """When its supervisor started, by the clock of its host."""
    try:
        record = read_record(run.supervisor, SupervisorRecord)
    except RunDirError:
        return None
    return None if record is None else record.started
