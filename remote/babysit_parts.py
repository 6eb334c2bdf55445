"""What a babysitter is put together from, and how each part looks from there. The backup and the failover are others'
work: here stand only the few words that are exchanged with them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..engine.alerts.alert import Alert
from ..engine.alerts.evidence import Budget, RunBackup
from ..engine.backup.copies import HERE, read_copies
from ..engine.backup.money import lineage_cost
from ..engine.backup.policy import read_policy
from ..engine.errors import ExitCode
from ..engine.format import ago, clock
from ..engine.hosts import HostView
from ..engine.run_view import RunView
from ..engine.rundir import Home, RunDir
from .alerts.outbox import SinkStatus

if TYPE_CHECKING:
    from .backup.worker import WorkerHandle

LOOKED_AFTER_S = 7 * 86400.0
"""For so long after its end the copies of a run are a matter of alerts."""

Views = tuple[RunView, ...]
HostViews = tuple[HostView, ...]


class Worker(Protocol):
    """The backup's own process."""

    def alive(self) -> bool:
        """Whether it lives."""

    def gave_way(self) -> bool:
        """Whether it ended because another process (a deck's) backs up, or did: nothing is wrong then."""

    def close(self) -> None:
        """End it, killing it when it takes too long. The next one goes on with what it was copying."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that is to be moved now; or, with `refused`, one that should be and is not moved by itself."""

    run: str
    to: str
    reason: str
    """Why, as a sentence."""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """A run that was moved."""

    child: str
    text: str
    """From which step it goes on and what was lost, as sentences."""


@dataclass(frozen=True, slots=True)
class Halted:
    """A run that was stopped at its budget."""

    safe: bool
    """It has ended, and all that it saved is here."""
    text: str
    """Sentences; the first one says what happened."""


class Failover(Protocol):
    """Decides which runs are moved, and moves them."""

    def look(self, runs: Views, hosts: HostViews) -> Iterable[Wanted]:
        """What is to be moved now. Called in a thread, at every look; it may read files."""

    async def move(self, wanted: Wanted) -> Arrived:
        """Move it. Called in the fleet's loop, once at a time for a run. Raises WavedeckError."""

    async def back(self, host: str) -> list[str]:
        """A host answers (again): fence there what was moved away. Sentences about what was. Raises WavedeckError."""


def backup_evidence(home: Home, runs: Views, hosts: HostViews) -> Sequence[RunBackup]:
    """What is known of the copies of other hosts' runs, from `backup.jsonl` and the backup's own state."""
    from .backup.state import read_state

    state = read_state(home)
    doing = state.runs if state is not None and state.fresh else {}
    skews = {host.name: host.skew_s or 0.0 for host in hosts}
    found = []
    for view in runs:
        recent = view.state.active or time.time() - (view.ended or 0.0) < LOOKED_AFTER_S
        if not view.is_copy or not recent or not read_policy(home, RunDir(view.dir)).enabled:
            continue
        copies = read_copies(RunDir(view.dir))
        newest = view.checkpoints[-1] if view.checkpoints else None
        held = [line for line in view.checkpoints if copies.holds(line) is not None]
        now = doing.get(view.id)
        found.append(
            RunBackup(
                view.id,
                newest_step=None if newest is None else newest.step,
                newest_t=None if newest is None else newest.t - skews.get(view.host, 0.0),
                verified_step=held[-1].step if held else None,
                verified=newest is not None and copies.holds(newest) is not None,
                bytes_outstanding=0 if now is None else now.bytes_outstanding,
                bad=tuple(name for name in copies.bad(HERE) if any(line.name == name for line in view.checkpoints)),
                problem=None if now is None else now.error,
            )
        )
    return found


def policy_budgets(home: Home, runs: Views) -> Sequence[Budget]:
    """The budgets of the active runs, from their policies."""
    found = []
    for view in runs:
        if view.state.active and view.cost is not None:
            policy = read_policy(home, RunDir(view.dir))
            if policy.budget is not None:
                spent = lineage_cost(runs, view)
                found.append(Budget(view.id, policy.budget, spent, stops=policy.stop_at_budget))
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything beside mirror, alerts and lock. A part that is None is left out."""

    start_backup: Callable[[], Worker] | None = None
    """Starts the backup's process; may block, raises WavedeckError."""
    backups: Callable[[Home, Views, HostViews], Sequence[RunBackup]] | None = backup_evidence
    budgets: Callable[[Home, Views], Sequence[Budget]] | None = policy_budgets
    failover: Failover | None = None
    stop: Callable[[RunView], Awaitable[Halted | None]] | None = None
    """Ends a run whose budget is used up and whose policy says so, and says whether its checkpoint is safe."""


class BabysitStatus(msgspec.Struct, frozen=True):
    """What a babysitter does, at one moment: for lines on a terminal and for `--json`."""

    pid: int
    since: float
    looked: float | None
    """The last look; None before the first."""
    watching: tuple[str, ...]
    """Ids of the active runs."""
    hosts: tuple[tuple[str, str], ...]
    """Name and state of the link of each host."""
    problems: tuple[str, ...]
    """Titles of the problems that are open."""
    told: int
    """Alerts sent since it began."""
    last_alert: Alert | None
    backup: str
    """`running`, `off`, or why not."""
    sinks: tuple[SinkStatus, ...]
    troubles: tuple[str, ...]
    """What of the babysitter itself does not work, as sentences."""

    def to_json(self) -> dict[str, Any]:
        """The stable keys of a `--json` line."""
        return {
            "pid": self.pid,
            "since": self.since,
            "looked": self.looked,
            "watching": list(self.watching),
            "hosts": [{"name": name, "link": link} for name, link in self.hosts],
            "problems": list(self.problems),
            "told": self.told,
            "last_alert": None if self.last_alert is None else self.last_alert.to_json(),
            "backup": self.backup,
            "sinks": [
                {"name": one.name, "delivered": one.delivered, "waiting": one.waiting, "dropped": one.dropped,
                 "problem": one.problem}
                for one in self.sinks
            ],
            "troubles": list(self.troubles),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The same for people."""
        hosts = ", ".join(f"{name} {link}" for name, link in self.hosts) or "none"
        last = "none yet" if self.last_alert is None else f"{self.last_alert.title} ({ago(self.last_alert.t)})"
        found = [
            f"watching {len(self.watching)} active {'run' if len(self.watching) == 1 else 'runs'}; hosts: {hosts}",
            f"backup {self.backup}; last look {clock(self.looked)}; alerts sent: {self.told}; last: {last}",
        ]
        found += [f"open: {title}" for title in self.problems]
        found += [f"{one.name}: {one.problem}" for one in self.sinks if one.problem]
        return found + [f"trouble: {sentence}" for sentence in self.troubles]


class OwnBackup:
    """The backup's process, or the one of another process that backs up this home already."""

    def __init__(self, home: Home, handle: WorkerHandle) -> None:
        self._home = home
        self._handle = handle

    def alive(self) -> bool:
        """Whether somebody backs up."""
        from .backup.worker import holder

        return self._handle.alive or holder(self._home) is not None

    def gave_way(self) -> bool:
        """Whether it found the lock taken."""
        return self._handle.status == ExitCode.USAGE

    def close(self) -> None:
        """End our own."""
        self._handle.stop()


def start_own_backup(home: Home, secrets: Mapping[str, Mapping[str, str]] | None = None) -> Worker:
    """The backup's process by `remote.backup.worker.start_worker`; for `Parts.start_backup`, with `partial`.

    Raises
    ------
    OSError: it cannot be started.
    """
    from .backup.worker import start_worker

    return OwnBackup(home, start_worker(home, secrets))
