"""What the rules look at: runs, hosts, backup, moves and budgets at one moment, as plain values.

Whoever watches fills them in. What is not known is left out or None, and no rule takes silence for good news.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ..hosts import HostView
from ..run_view import RunView


@dataclass(frozen=True, slots=True)
class RunBackup:
    """What the backup knows of one run's checkpoints. Times by this machine's clock."""

    run: str
    newest_step: int | None = None
    newest_t: float | None = None
    """When the newest checkpoint that is to be kept was written."""
    verified_step: int | None = None
    verified: bool = False
    """Whether that newest one is verified here."""
    interval_s: float | None = None
    """Usual time between two checkpoints; None has it taken from the run's own list."""
    bytes_outstanding: int = 0
    bad: tuple[str, ...] = ()
    """Checkpoints whose copy did not fit their hash and that have no good copy since."""
    problem: str | None = None
    """Why nothing is copied at the moment, as a sentence."""


class MovePhase(StrEnum):
    """How far a failover is."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """It is not moved by itself: its user has to look. Holds as long as it is in the evidence."""


@dataclass(frozen=True, slots=True)
class MoveNews:
    """One step of a run's move to another host."""

    run: str
    phase: MovePhase
    to: str
    t: float
    text: str = ""
    """Sentences: from which step it went on and what was lost, or why it failed."""
    child: str | None = None
    """The run that goes on there."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a run may cost."""

    run: str
    limit: float
    spent: float | None = None
    """Of the whole lineage, where that is known; None is the run's own cost."""
    stops: bool = False
    """Whether it is stopped once the budget is used up."""


@dataclass(frozen=True, slots=True)
class StopNews:
    """What came of stopping a run whose budget was used up."""

    run: str
    attempt: int | None
    limit: float
    safe: bool
    """It has ended, and all that it saved is here."""
    text: str
    """Sentences: the first one alone says what happened."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the rules may know, at `now`."""

    now: float
    runs: tuple[RunView, ...] = ()
    hosts: tuple[HostView, ...] = ()
    """All hosts that are watched, this machine among them (its disk is where the copies go)."""
    backups: tuple[RunBackup, ...] = ()
    backup_problem: str | None = None
    """Why the backup as a whole does not work, as a sentence."""
    moves: tuple[MoveNews, ...] = ()
    fenced: tuple[tuple[str, str], ...] = ()
    """Host and sentence: a host came back, and what was moved away from it may not write there any more."""
    fences: tuple[tuple[str, str | None], ...] = ()
    """Hosts that were heard since they came: why what was moved away from one could not be stopped there, as a
    sentence; None where all of it is."""
    budgets: tuple[Budget, ...] = ()
    stops: tuple[StopNews, ...] = ()

    def active_on(self, host: str) -> Iterator[RunView]:
        """The runs of a host that have, or may have, a process."""
        return (view for view in self.runs if view.host == host and view.state.active)

    def host(self, name: str) -> HostView | None:
        """A host by name; None when it is not watched."""
        return next((view for view in self.hosts if view.name == name), None)

    def run(self, run_id: str) -> RunView | None:
        """A run by id."""
        return next((view for view in self.runs if view.id == run_id), None)
