"""One run's backup, one step at a time: what is most wanted now, then retention, then the second place.

A turn moves one large file or one batch of small ones and then plans anew, so that a checkpoint written meanwhile is
never behind older ones. What a turn cannot do it says, and the next run has its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...engine.backup.copies import HERE, NOTE, VERIFIED, Copies, CopyLine, read_copies
from ...engine.backup.plan import newest_held, plan_pulls
from ...engine.backup.policy import BackupPolicy, host_of, read_policy
from ...engine.checkpoints import CheckpointLine, read_checkpoints
from ...engine.errors import RunDirError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.manifest import Headline, read_manifest
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..ssh_host import SshHost
from . import retention, samples, second, staging
from .disk import Disk
from .here import copy_here, looks_like
from .pull import SMALL, Moving, copy_line, pull, pull_many, record
from .state import Board
from .there import WORDS, Facts, Refused, look, place_of

BATCH = 1000
BATCH_BYTES = 64 << 20
QUIET_S = 20.0
"""How long a run with nothing to do is left alone while no file of it changes."""
FIRST_AGAIN_S, LONGEST_AGAIN_S = 60.0, 3600.0
"""After a file was found wrong there; four times as long each time."""

HostOf = Callable[[str], Host]
Said = Callable[[str, Moving], None]


@dataclass(slots=True)
class Before:
    """What is remembered of a run from one turn to the next."""

    stamp: tuple[object, ...] = ()
    quiet_until: float = 0.0
    project_tried: float = -1e9
    sampled: tuple[object, ...] = ()
    """How the indexes of the sample sets were when all their sound was here."""
    gone: set[tuple[str, str]] = field(default_factory=set)
    resting: samples.Resting = field(default_factory=samples.Resting)
    sent: second.Sent = field(default_factory=second.Sent)


class RunTurns:
    """The backup of one run.

    Parameters
    ----------
    hosts: gives a host by its name; only asked when something is to be done there. said: is told what moves.
    """

    def __init__(self, home: Home, run: RunDir, hosts: HostOf, disk: Disk, board: Board, said: Said) -> None:
        self.run = run
        self.before = Before()
        self._home = home
        self._hosts = hosts
        self._disk = disk
        self._board = board
        self._said = said
        self._began = 0.0

    @property
    def host(self) -> str:
        """The host whose run it is."""
        return host_of(self.run)

    @property
    def active(self) -> bool:
        """Whether it has not ended, as far as its records tell."""
        return not self.run.exit.exists()

    @property
    def waiting(self) -> bool:
        """Whether something will be to do as soon as it rests."""
        return self.before.resting.waiting > 0

    def due(self) -> bool:
        """Whether a look is worth its while: a file has changed, or it has been left alone for long enough."""
        return time.monotonic() >= self.before.quiet_until or self._stamp() != self.before.stamp

    async def turn(self) -> bool:
        """Do the next thing; whether anything was done. Nothing to do means that it is left alone for a while.

        Raises
        ------
        LinkDown: its host does not answer. DiskFull, WavedeckError, OSError: it does not go on, and why.
        """
        stamp = self._stamp()
        policy = read_policy(self._home, self.run)
        moved = policy.enabled and await self._work(policy)
        self._note(doing=None, bytes=0, total=0, rate=None, eta_s=None)
        if not moved:
            self.before.stamp = stamp
            self.before.quiet_until = time.monotonic() + (samples.REST_S / 2 if self.waiting else QUIET_S)
        return moved

    async def _work(self, policy: BackupPolicy) -> bool:
        lines, headline = read_checkpoints(self.run.checkpoint_manifest), self._headline()
        mirrored = self.host != LOCAL
        await asyncio.to_thread(retention.reconcile, self.run, self._disk)
        planned, wanted = await self._planned(lines, policy, headline, mirrored)
        self._outstanding(lines, wanted, mirrored)
        if planned:
            await (self._bring(planned, policy) if mirrored else self._copy(planned[0]))
            self._outstanding(lines, wanted, mirrored)
            return True
        self._note(error=None, disk_full=False)
        if not wanted:
            await asyncio.to_thread(staging.sweep, self.run.checkpoints)
        if mirrored and await self._others(policy):
            return True
        gone = await asyncio.to_thread(
            retention.let_go, self.run, lines, policy, headline, self._disk, mirrored=mirrored
        )
        return await self._second(lines, policy, headline, mirrored) or bool(gone)

    # --- what to bring

    async def _planned(
        self, lines: Sequence[CheckpointLine], policy: BackupPolicy, headline: Headline | None, mirrored: bool
    ) -> tuple[list[CheckpointLine], list[CheckpointLine]]:
        """What to bring now, and what the policy wants here altogether."""
        if not mirrored:  # a recipe's own checkpoints are here; a foreign trainer overwrites its files
            lines = [line for line in lines if line.path is not None]
        copies = read_copies(self.run)
        there = {line.name for line in lines if (line.name, line.sha256) not in self.before.gone}
        wanted = plan_pulls(lines, there, copies, policy, headline)
        there -= {line.name for line in lines if _waits(line, copies)}
        asked: set[int] = set()
        while True:
            planned = plan_pulls(lines, there, copies, policy, headline)
            unknown = [line for line in planned[:BATCH] if id(line) not in asked]
            if not unknown:
                break
            asked |= {id(line) for line in unknown}
            self._outstanding(lines, wanted, mirrored)  # known even when its host does not answer
            lost = await self._not_there(unknown, mirrored)
            there -= {line.name for line in lost}
        return planned, [line for line in wanted if (line.name, line.sha256) not in self.before.gone]

    async def _not_there(self, lines: Sequence[CheckpointLine], mirrored: bool) -> list[CheckpointLine]:
        """Those that are gone, or whose file holds something newer."""
        if not mirrored:
            return [line for line in lines if not await asyncio.to_thread(looks_like, self.run, line)]
        host = await self._far()
        by_base: dict[str, list[tuple[str, CheckpointLine]]] = {}
        for line in lines:
            try:
                place = place_of(self.run, line, f"{host.home}/runs/{self.run.id}")
            except Refused:
                continue  # the pull says why
            by_base.setdefault(place.base, []).append((place.name, line))
        lost, gone = [], []
        for base, pairs in by_base.items():
            found = await look(host, base, [name for name, _ in pairs])
            for (_, line), facts in zip(pairs, found, strict=True):
                overwritten = isinstance(facts, Facts) and facts.size != line.bytes and line.path is not None
                if facts in ("missing", "nowhere"):
                    self.before.gone.add((line.name, line.sha256))
                if facts == "missing" or (facts == "nowhere" and line.path is None):
                    gone.append(line)
                if facts in ("missing", "nowhere") or overwritten:
                    lost.append(line)
        await asyncio.to_thread(self._write_gone, gone)
        return lost

    def _write_gone(self, lines: Sequence[CheckpointLine]) -> None:
        """Say of files that their trainer let them go: else they would count as outstanding for ever.

        Not of a foreign one whose whole directory is missing, which may be a disk that is not mounted.
        """
        copies = read_copies(self.run)
        told = [copy_line(line, NOTE, f"{line.name} {WORDS['missing']}") for line in lines if not copies.is_gone(line)]
        if told:
            record(self._disk, self.run, told)

    async def _bring(self, planned: list[CheckpointLine], policy: BackupPolicy) -> None:
        first = planned[0]
        told: list[CopyLine]
        if first.bytes > SMALL or len(planned) == 1:
            told = [await pull(await self._far(), self.run, first, policy, self._moving, self._disk)]
        else:
            told = await pull_many(await self._far(), self.run, _batch(planned), policy, self._moving, self._disk)
        self._learn(told)

    async def _copy(self, line: CheckpointLine) -> None:
        self._learn([await copy_here(self.run, line, self._moving, self._disk)])

    def _learn(self, told: Sequence[CopyLine]) -> None:
        for line in told:
            if line.event != VERIFIED:
                self._note(error=line.text + ": the next one is taken.")
            if line.event == "note":
                self.before.gone.add((line.name, line.sha256))

    async def _others(self, policy: BackupPolicy) -> bool:
        """Samples that rest, and once the code."""
        moved = False
        indexes = self._indexes()
        if indexes and (self.waiting or indexes != self.before.sampled):
            moved = (
                await samples.pull_samples(
                    await self._far(), self.run, policy, self._moving, self._disk, self.before.resting
                )
                > 0
            )
            if not moved and not self.waiting:
                self.before.sampled = indexes
        if not self.run.project.exists() and time.monotonic() - self.before.project_tried > 600:
            self.before.project_tried = time.monotonic()
            if samples.may_have_code(self.run):
                moved = (
                    await samples.keep_project(await self._far(), self.run, policy, self._moving, self._disk) or moved
                )
            if not self.run.supervisor.exists():
                self.before.project_tried = -1e9
        return moved

    # --- the second place

    async def _second(
        self, lines: Sequence[CheckpointLine], policy: BackupPolicy, headline: Headline | None, mirrored: bool
    ) -> bool:
        if policy.second is None:
            self._note(second_outstanding=0, second_error=None)
            return False
        try:
            refused = second.refused(policy, self.host)
            if refused is not None:
                raise WavedeckError(refused)
            place = second.place_for(self._home, self.run, policy, self._hosts)
            if policy.second_host is not None and isinstance(host := self._hosts(policy.second_host), SshHost):
                await host.ready()
            told, left = await second.send_checkpoint(
                place, self.run, lines, policy, headline, self._moving, self._disk, mirrored=mirrored
            )
            count = await second.send_records(place, self.run, policy, self._moving, self.before.sent)
            if told is None:
                count += await second.let_go(place, self.run, lines, policy, headline, self._disk)
        except (WavedeckError, OSError) as error:  # this machine has its copy: the second place stops nothing here
            left = len(second.outstanding(self.run, lines, policy, headline, mirrored=mirrored))
            self._note(second_outstanding=left, second_error=sentence(error))
            return False
        good = told is not None and told.event == VERIFIED
        self._note(second_outstanding=left - good, second_error=None if told is None or good else told.text)
        return good or count > 0

    # --- small things

    async def _far(self) -> SshHost:
        host = self._hosts(self.host)
        if not isinstance(host, SshHost):
            raise WavedeckError(f"{self.run.id} is no run of another host.")
        await host.ready()
        return host

    def _headline(self) -> Headline | None:
        try:
            return read_manifest(self.run.manifest).headline
        except RunDirError:
            return None

    def _moving(self, now: Moving) -> None:
        left = now.total - now.bytes
        eta = left / now.rate if now.rate else None
        self._note(doing=now.name, bytes=now.bytes, total=now.total, rate=now.rate, eta_s=eta)
        self._said(self.run.id, now)

    def _outstanding(self, lines: Sequence[CheckpointLine], wanted: Sequence[CheckpointLine], mirrored: bool) -> None:
        copies = read_copies(self.run)
        left = [line for line in wanted if copies.holds(line) is None]
        newest = newest_held(lines, copies, (HERE,))
        if not mirrored and lines and lines[-1].path is None:
            newest = lines[-1]
        since = self._board.run(self.run.id).behind_since
        self._note(
            verified_step=None if newest is None else newest.step,
            outstanding=len(left),
            bytes_outstanding=sum(line.bytes for line in left),
            behind_since=(since or time.time()) if left else None,
        )

    def _note(self, **changes: object) -> None:
        self._board.note(self.run.id, **changes)

    def _stamp(self) -> tuple[object, ...]:
        """What would be different if there were something new to do."""
        run = self.run
        names = (run.checkpoint_manifest, run.policy, run.backup, run.exit, run.supervisor, self._home.backup_settings)
        return (*(_of(path) for path in names), self._indexes())

    def _indexes(self) -> tuple[object, ...]:
        found = sorted(self.run.samples.glob("*/index.jsonl")) if self.run.samples.is_dir() else []
        return tuple((path.parent.name, _of(path)) for path in found)


def sentence(error: Exception) -> str:
    """What a failure says to its user."""
    if isinstance(error, OSError):
        return f"this machine's disk: {error.strerror or error}."
    return str(error)


def _batch(planned: Sequence[CheckpointLine]) -> list[CheckpointLine]:
    """Small files that go together, the most wanted first."""
    batch: list[CheckpointLine] = []
    left = BATCH_BYTES
    names: set[str] = set()
    for line in planned:
        if line.bytes <= min(SMALL, left) and line.name not in names and len(batch) < BATCH:
            batch.append(line)
            names.add(line.name)
            left -= line.bytes
    return batch


def _waits(line: CheckpointLine, copies: Copies) -> bool:
    """Whether a checkpoint was found wrong there too recently to be tried again."""
    bad = copies.bad().get(line.name)
    if bad is None or bad.sha256 != line.sha256 or bad.text.startswith(retention.AT_REST):
        return False
    wait = min(FIRST_AGAIN_S * 4 ** max(0, copies.tries(line) - 1), LONGEST_AGAIN_S)
    return abs(time.time() - bad.t) < wait


def _of(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
