"""Hash again what is vouched for, here and at the second place: a disk may lose what was right when it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ...engine.backup.copies import BAD, HERE, SECOND, VERIFIED, CopyLine, read_copies
from ...engine.backup.policy import read_policy
from ...engine.checkpoints import CheckpointLine, fault, read_checkpoints
from ...engine.errors import WavedeckError
from ...engine.rundir import Home, RunDir
from ..fleet import Fleet
from ..host import Host
from . import second
from .disk import Disk, RealDisk
from .pull import Moving, Report, copy_line, record
from .retention import bad_here
from .second import place_for
from .turn import sentence


@dataclass(slots=True)
class Verified:
    """What a check came to."""

    right: list[CopyLine] = field(default_factory=list)
    bad: list[CopyLine] = field(default_factory=list)
    """Recorded as such: the next turn of the backup fetches them again."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, as sentences."""


async def verify(
    home: Home,
    run: RunDir,
    report: Report | None = None,
    *,
    hosts: Callable[[str], Host] | None = None,
    disk: Disk | None = None,
) -> Verified:
    """Hash every copy of a run.

    Parameters
    ----------
    hosts: gives a host by its name, for a second place that is one; without it such a place is not asked.

    Raises
    ------
    OSError: `backup.jsonl` cannot be read or written.
    """
    told, disk = Verified(), disk or RealDisk()
    tell = report or (lambda moving: None)
    held = list(read_copies(run).verified(HERE).values())
    total, done = sum(copy.bytes for copy in held), 0
    lines = {line.name: line for line in read_checkpoints(run.checkpoint_manifest)}
    for copy in held:
        tell(Moving(copy.name, done, total))
        wrong = await asyncio.to_thread(_fault, run, copy)
        done += copy.bytes
        (told.right if wrong is None else told.bad).append(copy if wrong is None else bad_here(copy, wrong))
        tell(Moving(copy.name, done, total))
    if told.bad:
        record(disk, run, told.bad)
        told.notes += [f"{copy.name} has no line any more" for copy in told.bad if copy.name not in lines]
    await _second(home, run, told, hosts, disk)
    return told


async def verify_own(run: RunDir, told: Verified, report: Report | None = None) -> None:
    """Hash the checkpoints that a run of this machine wrote itself, and that no backup brought."""
    known = {copy.name for copy in (*told.right, *told.bad) if copy.place == HERE}
    for line in read_checkpoints(run.checkpoint_manifest):
        if line.path is not None or line.name in known or not (run.checkpoints / line.name).exists():
            continue
        (report or (lambda moving: None))(Moving(line.name, 0, line.bytes))
        wrong = await asyncio.to_thread(fault, run.checkpoints, line)
        if wrong is None:
            told.right.append(copy_line(line, VERIFIED))
        else:
            told.bad.append(copy_line(line, BAD, wrong))


def _fault(run: RunDir, copy: CopyLine) -> str | None:
    return fault(run.checkpoints, CheckpointLine(copy.name, copy.step, copy.bytes, copy.sha256, copy.t))


async def _second(home: Home, run: RunDir, told: Verified, hosts: Callable[[str], Host] | None, disk: Disk) -> None:
    if not read_copies(run).verified(SECOND):
        return
    held: list[CopyLine] = []
    try:
        policy = read_policy(home, run)
        held = list(read_copies(run).at_second(policy.second).verified(SECOND).values())
        if policy.second is None or (policy.second_host is not None and hosts is None):
            told.notes.append("the copies at the second place were not checked.")
            return
        if not held:
            told.notes.append("the copies at a place that was the second one before were not checked.")
            return
        place = place_for(home, run, policy, hosts or _nobody)
        wrong = await second.check(place, run, policy, disk)
    except (WavedeckError, OSError) as error:
        told.notes.append(f"the copies at the second place could not be checked: {sentence(error)}")
        return
    names = {copy.name for copy in wrong}
    told.bad += wrong
    told.right += [copy for copy in held if copy.name not in names]


def _nobody(name: str) -> Host:
    raise WavedeckError(f"{name} is not connected.")


async def verify_connected(home: Home, run: RunDir, report: Report | None = None) -> Verified:
    """`verify` with links of its own, for a verb."""
    fleet = Fleet(home, mirrors=False)
    try:
        policy = read_policy(home, run)
        if policy.second_host is not None:
            await fleet.watch(policy.second_host).ready(20.0)
    except WavedeckError:
        pass  # what is here is checked all the same; the check of the rest says why not
    try:
        return await verify(home, run, report, hosts=fleet.host)
    finally:
        await fleet.close()
