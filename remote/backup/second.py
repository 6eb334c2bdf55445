"""The second place: what is verified here goes on to a directory (a mounted NAS, say) or to another host.

There it lies as in a home, `runs/<id>/…`, so that the place can be used as one. Records and journals go as well, but
never `attempts/` (command lines as they were typed may hold secrets) and no `.env`. Each file is staged, hashed over
there, made durable and renamed; the same rules let go of old checkpoints there as here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine.backup.copies import BAD, HERE, REMOVED, SECOND, VERIFIED, CopyLine, copy_line, read_copies
from ...engine.backup.plan import plan_pulls, plan_removals
from ...engine.backup.policy import BackupPolicy
from ...engine.checkpoints import CheckpointLine, is_safe_name, sha256_of
from ...engine.errors import WavedeckError
from ...engine.manifest import Headline
from ...engine.rundir import Home, RunDir
from ...engine.samples.ids import is_set_name
from ..host import Host
from ..ssh_host import SshHost
from . import staging
from .disk import Disk
from .places import DirectoryPlace, HostPlace, Item, SecondPlace
from .pull import Report, now, record
from .samples import ATTACHMENTS
from .trusted import distrusted

RECORDS = ("manifest.json", "policy.json", "supervisor.json", "exit.json", "lease.json", "moved.json", "backup.jsonl")
JOURNALS = ("events.jsonl", "console.jsonl", "console.log", "machine.jsonl", "checkpoints/manifest.jsonl")
EVERY_S = 60.0
"""Records and journals of a run go there at most this often."""
LARGE = 64 << 20
"""A journal of this size goes there once its run has ended, and not each minute anew."""


@dataclass(slots=True)
class Sent:
    """When the records of a run last went to its second place, and how they were then."""

    at: float = -1e9
    stamp: object = None


async def send_checkpoint(
    place: SecondPlace,
    run: RunDir,
    lines: Sequence[CheckpointLine],
    policy: BackupPolicy,
    headline: Headline | None,
    report: Report,
    disk: Disk,
    *,
    mirrored: bool,
) -> tuple[CopyLine | None, int]:
    """Bring the most wanted checkpoint to the second place; what was recorded, and how many were outstanding before.

    Raises
    ------
    LinkDown, DiskFull, WavedeckError, OSError: it cannot be brought there now.
    """
    planned = outstanding(run, lines, policy, headline, mirrored=mirrored)
    if not planned:
        return None, 0
    line = planned[0]
    item = Item(f"checkpoints/{line.name}", line.sha256, line.bytes)
    placed = await place.put(run, run.path, [item], report, policy.limit_kib_s)
    if item.inner in placed:
        told = copy_line(line, SECOND, VERIFIED, now(), policy.second or "")
    elif await asyncio.to_thread(_hash, run.checkpoints / line.name) != line.sha256:
        where = HERE if read_copies(run).holds(line) is not None else SECOND
        told = copy_line(line, where, BAD, now(), "here it does not match its sha256 any more")
    else:
        told = copy_line(line, SECOND, BAD, now(), f"arrived wrong at {place.label}")
    record(disk, run, [told])
    return told, len(planned)


def outstanding(
    run: RunDir, lines: Sequence[CheckpointLine], policy: BackupPolicy, headline: Headline | None, *, mirrored: bool
) -> list[CheckpointLine]:
    """What the policy wants at the second place, is whole here, and is not there."""
    copies = read_copies(run).at_second(policy.second)
    whole = {line.name for line in lines if copies.holds(line) is not None}
    if not mirrored:  # the trainer's own files are here without anybody's bringing them
        whole |= {line.name for line in lines if line.path is None and _has_size(run.checkpoints / line.name, line)}
    return plan_pulls([line for line in lines if line.name in whole], whole, copies, policy, headline, SECOND)


async def let_go(
    place: SecondPlace,
    run: RunDir,
    lines: Sequence[CheckpointLine],
    policy: BackupPolicy,
    headline: Headline | None,
    disk: Disk,
) -> int:
    """Remove there what retention lets go; how many that were."""
    copies = read_copies(run).at_second(policy.second)
    surplus = plan_removals(lines, copies, policy, headline, mirrored=True, place=SECOND)
    if surplus:
        await asyncio.to_thread(record, disk, run, [copy_line(line, SECOND, REMOVED, now()) for line in surplus])
        await place.remove(run, [f"checkpoints/{line.name}" for line in surplus])
    return len(surplus)


async def send_records(place: SecondPlace, run: RunDir, policy: BackupPolicy, report: Report, sent: Sent) -> int:
    """Bring the records, journals and samples there that are other than those there; how many that were.

    Raises
    ------
    As `send_checkpoint`.
    """
    if time.monotonic() - sent.at < EVERY_S:
        return 0
    sent.at = time.monotonic()
    names = [name for name in (*RECORDS, *JOURNALS) if _may_go(run, name)] + _samples(run)
    stamp = (policy.second, [(name, _facts(run.path / name)) for name in names])
    if stamp == sent.stamp:
        return 0
    there = await place.facts(run, names)
    stale = [name for name in names if there.get(name) != _facts(run.path / name)]
    if not stale:
        sent.stamp = stamp
        return 0
    async with staging.locked(run.checkpoints):
        folder = staging.incoming(run.checkpoints) / "second"
        try:
            items = await asyncio.to_thread(_snapshot, run, stale, folder)
            return len(await place.put(run, folder, items, report, policy.limit_kib_s))
        finally:
            staging.begin_anew(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _may_go(run: RunDir, name: str) -> bool:
    facts = _facts(run.path / name)
    return facts is not None and (facts[0] <= LARGE or run.exit.exists() or name not in JOURNALS)


def _samples(run: RunDir) -> list[str]:
    """The index, the sound and the attachments of every set."""
    found = []
    with contextlib.suppress(OSError):
        for folder in sorted(run.samples.iterdir()):
            if is_set_name(folder.name) and folder.is_dir() and not folder.is_symlink():
                names = [path.name for path in sorted(folder.iterdir())]
                found += [
                    f"samples/{folder.name}/{name}"
                    for name in names
                    if name == "index.jsonl" or (is_safe_name(name) and name.endswith(".h5"))
                ]
                beside = folder / ATTACHMENTS
                if beside.is_dir() and not beside.is_symlink():
                    names = [path.name for path in sorted(beside.iterdir()) if is_safe_name(path.name)]
                    found += [f"samples/{folder.name}/{ATTACHMENTS}/{name}" for name in names]
    return found


def _snapshot(run: RunDir, names: Sequence[str], folder: Path) -> list[Item]:
    """What the files hold now: they grow while they travel, and then no hash would fit. Times come along."""
    staging.begin_anew(folder)
    items = []
    total = sum(facts[0] for name in names if (facts := _facts(run.path / name)) is not None)
    staging.check_room(run.checkpoints, total)
    for name in names:
        source, target = run.path / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            now_there = source.lstat()
            with open(source, "rb") as data, open(target, "wb") as out:
                left = now_there.st_size
                while left and (block := data.read(min(left, 1 << 20))):
                    out.write(block)
                    left -= len(block)
        except FileNotFoundError:
            continue
        os.utime(target, ns=(now_there.st_mtime_ns, now_there.st_mtime_ns))
        items.append(Item(name, sha256_of(target), target.stat().st_size))
    return items


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if path.is_file() and not path.is_symlink() else None


def _has_size(path: Path, line: CheckpointLine) -> bool:
    facts = _facts(path)
    return facts is not None and facts[0] == line.bytes


def _hash(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


async def check(place: SecondPlace, run: RunDir, policy: BackupPolicy, disk: Disk) -> list[CopyLine]:
    """Hash every copy there that is vouched for; the lines about those that are not right.

    Raises
    ------
    LinkDown, WavedeckError: it cannot be asked now.
    """
    held = list(read_copies(run).at_second(policy.second).verified(SECOND).values())
    names = [f"checkpoints/{copy.name}" for copy in held]
    found = await place.hashes(run, names, sum(copy.bytes for copy in held))
    wrong = [
        CopyLine(now(), copy.name, copy.sha256, copy.bytes, copy.step, SECOND, BAD, f"wrong at {place.label}")
        for copy, name in zip(held, names, strict=True)
        if found.get(name) != copy.sha256
    ]
    if wrong:
        record(disk, run, wrong)
    return wrong


def place_for(home: Home, run: RunDir, policy: BackupPolicy, hosts: Callable[[str], Host]) -> SecondPlace:
    """The second place of a run's policy.

    Raises
    ------
    WavedeckError: nobody named it on this machine. UsageError: there is no such host.
    """
    why = distrusted(home, run, policy)
    if why is not None:
        raise WavedeckError(why)
    if policy.second_host is None:
        return DirectoryPlace(Path(policy.second_directory or ""))
    host = hosts(policy.second_host)
    assert isinstance(host, SshHost)
    return HostPlace(host, policy.second_directory)


def refused(policy: BackupPolicy, host: str) -> str | None:
    """Why the second place of a policy is none for a run of `host`; None when it is one."""
    if policy.second_host is not None and policy.second_host == host:
        return f"the second place of this run is its own host {host}, which is no second place: choose another."
    return None
