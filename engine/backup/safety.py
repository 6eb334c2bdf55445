"""What would be lost if a machine were destroyed now: pure functions over what is known here.

Silence is no good news. What is not known counts as not safe, a run that is active is never safe, and a run that ended
is safe once its newest checkpoint and all that retention wants are verified somewhere else, its samples and logs are
here, and none of its files is left that no policy covers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checkpoints import CheckpointLine
from ..format import plain, size
from ..hosts import LOCAL
from ..run_view import RunView
from ..state import RunState
from .copies import Copies
from .places import Located, newest_elsewhere, safe_places, still_to_come
from .plan import RESUMABLE
from .policy import BackupPolicy

_TOLD = frozenset({RunState.FINISHED, RunState.FAILED, RunState.STOPPED, RunState.KILLED})
"""States with an exit record, which arrives after the logs that it ends."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A file of a run that no policy covers: `path` relative to its working directory."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What is known of one run. None is unknown; the bytes behind are those that are there and not here.

    `uncovered` is unknown while nobody looked into the working directory; only a foreign trainer's matters. `unseen`
    are words about what was not looked into there. `newer_there` says that its host has more of it than was read here.
    `ever_saved` is whether it has a checkpoint in its list at all, whatever became of it. `link_up` says whether its
    host answers, `heard` when it last did.
    """

    view: RunView
    located: tuple[Located, ...] = ()
    copies: Copies = field(default_factory=Copies)
    policy: BackupPolicy = field(default_factory=BackupPolicy)
    skew_s: float = 0.0
    samples_behind: int | None = 0
    journal_behind: int | None = 0
    uncovered: tuple[Uncovered, ...] | None = None
    unseen: tuple[str, ...] = ()
    newer_there: bool = False
    ever_saved: bool = True
    link_up: bool = True
    heard: float | None = None


@dataclass(frozen=True, slots=True)
class RunSafety:
    """What would be lost of one run.

    `age_s` is the age of the newest verified checkpoint that a training can go on from, None without one; `minutes`
    the training that would have to be done again. `reasons` are sentences about the run, without its name.
    """

    id: str
    newest_step: int | None
    verified_step: int | None
    age_s: float | None
    bytes_outstanding: int
    minutes: float
    reasons: tuple[str, ...]
    safe: bool
    uncovered: tuple[Uncovered, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The stable keys of a run in `safe HOST --json`, and more."""
        return {
            "id": self.id,
            "safe": self.safe,
            "newest_step": self.newest_step,
            "verified_step": self.verified_step,
            "age_s": None if self.age_s is None else round(self.age_s, 1),
            "bytes_outstanding": self.bytes_outstanding,
            "minutes": round(self.minutes, 1),
            "reasons": list(self.reasons),
            "uncovered": [{"path": file.path, "bytes": file.bytes} for file in self.uncovered],
        }


@dataclass(frozen=True, slots=True)
class HostSafety:
    """What would be lost with one host, and what it costs meanwhile."""

    host: str
    safe: bool
    runs: tuple[RunSafety, ...]
    price_per_hour: float | None = None
    spent: float | None = None
    """On its runs that are known here; idle hours are in no run."""
    idle_gpu_minutes: float | None = None
    """How long none of its GPUs has computed; None while that is not known."""
    notes: tuple[str, ...] = ()
    """Sentences about the machine, the `reasons` first."""
    reasons: tuple[str, ...] = ()
    """What makes it not safe besides its runs: above all what nobody here can know."""

    @property
    def uncovered(self) -> tuple[tuple[str, Uncovered], ...]:
        """(run, file) that no policy covers."""
        return tuple((run.id, file) for run in self.runs for file in run.uncovered)

    @property
    def bytes_outstanding(self) -> int:
        """Of all runs."""
        return sum(run.bytes_outstanding for run in self.runs)

    @property
    def minutes(self) -> float:
        """Of training, of all runs."""
        return sum(run.minutes for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `safe HOST --json`, and more."""
        return {
            "host": self.host,
            "safe": self.safe,
            "runs": [run.to_json() for run in self.runs],
            "bytes_outstanding": self.bytes_outstanding,
            "minutes": round(self.minutes, 1),
            "price_per_hour": self.price_per_hour,
            "spent": None if self.spent is None else round(self.spent, 4),
            "idle_gpu_minutes": None if self.idle_gpu_minutes is None else round(self.idle_gpu_minutes, 1),
            "uncovered": [{"run": run, "path": file.path, "bytes": file.bytes} for run, file in self.uncovered],
            "reasons": list(self.reasons),
            "notes": list(self.notes),
        }


def host_safety(
    host: str,
    runs: Sequence[RunEvidence],
    now: float,
    *,
    link_up: bool = True,
    price_per_hour: float | None = None,
    idle_gpu_minutes: float | None = None,
    reasons: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> HostSafety:
    """What would be lost with a host.

    Parameters
    ----------
    runs: all that are known to be on it. link_up: whether it answers; one that does not is never safe.
    reasons: sentences about what is unknown of it; each makes it not safe. notes: others, which do not.
    """
    judged = tuple(run_safety(run, now) for run in runs)
    costs = [run.view.cost for run in runs if run.view.cost is not None]
    unknown = list(reasons)
    if not link_up and host != LOCAL:
        unknown.append("its link is down: what else is on it, nobody here can know.")
    return HostSafety(
        host=host,
        safe=not unknown and all(run.safe for run in judged),
        runs=judged,
        price_per_hour=price_per_hour,
        spent=sum(costs) if costs else None,
        idle_gpu_minutes=idle_gpu_minutes,
        notes=(*unknown, *notes),
        reasons=tuple(unknown),
    )


def run_safety(run: RunEvidence, now: float) -> RunSafety:
    """What would be lost of a run if its host were destroyed at `now` (this machine's clock)."""
    view = run.view
    if view.state is RunState.UNREADABLE:
        reason = f"cannot be read here: {view.problem}" if view.problem else "cannot be read here"
        return RunSafety(view.id, view.step, None, None, 0, 0.0, (reason,), safe=False)
    uncovered = run.uncovered or ()
    if view.state is RunState.QUEUED and run.link_up and not run.newer_there:  # nothing of it was ever started
        return RunSafety(view.id, view.step, None, None, 0, 0.0, (), safe=True)
    picture = _Picture.of(run)
    minutes = _minutes(run, picture, now)
    reasons = tuple(_reasons(run, picture, minutes))
    return RunSafety(
        id=view.id,
        newest_step=picture.newest_step,
        verified_step=None if picture.held is None else picture.held.step,
        age_s=None if picture.held is None else max(0.0, now + run.skew_s - picture.held.t),
        bytes_outstanding=sum(line.bytes for line in picture.missing)
        + (run.samples_behind or 0)
        + (run.journal_behind or 0),
        minutes=minutes,
        reasons=reasons,
        safe=not reasons,
        uncovered=uncovered,
    )


@dataclass(frozen=True, slots=True)
class _Picture:
    """The checkpoints of a run: the newest that exists, the newest verified elsewhere, what is still to come."""

    newest: CheckpointLine | None
    held: CheckpointLine | None
    missing: tuple[CheckpointLine, ...]
    newest_step: int | None

    @classmethod
    def of(cls, run: RunEvidence) -> _Picture:
        places = safe_places(run.view.host, run.policy)
        lines = [place.line for place in run.located]
        manifest = run.view.manifest
        missing = still_to_come(run.located, places, run.policy, manifest.headline if manifest else None)
        steps = [step for step in (run.view.step, *(line.step for line in lines)) if step is not None]
        return cls(
            newest=next((line for line in reversed(lines) if line.kind in RESUMABLE), None),
            held=newest_elsewhere(run.located, places),
            missing=() if run.view.moved_to else tuple(missing),
            newest_step=max(steps, default=None),
        )

    @property
    def caught_up(self) -> bool:
        """Whether the newest checkpoint that exists is verified elsewhere."""
        return self.newest is None or self.newest is self.held


def _minutes(run: RunEvidence, picture: _Picture, now: float) -> float:
    """Training that would have to be done again."""
    view, there = run.view, now + run.skew_s
    if view.moved_to is not None:
        return 0.0
    since = picture.held.t if picture.held is not None else (view.started or view.created)
    if since is None:
        return 0.0
    if view.state.active:
        return max(0.0, there - since) / 60
    return 0.0 if picture.caught_up or picture.newest is None else max(0.0, picture.newest.t - since) / 60


def _reasons(run: RunEvidence, picture: _Picture, minutes: float) -> list[str]:
    view = run.view
    said: list[str] = []
    if view.doubled:
        said.append(f"still runs although {plain(view.moved_to or '', 80)} goes on in its place: stop one of them")
    elif view.moved_to is not None:
        pass  # what it had since is given up: the run in its place has it already, or does it again
    elif view.state.active or view.state is RunState.QUEUED:
        said.append(_running(run, picture, minutes))
    else:
        if not run.link_up and view.state not in _TOLD:
            said.append("its link is down: how it ended is unknown")
        if not picture.caught_up:
            said.append(_ended(picture, minutes))
    others = [line for line in picture.missing if line is not picture.newest]
    if others:
        total = size(sum(line.bytes for line in others))
        said.append(
            f"{_count(len(others), 'checkpoint')} ({total}) that retention wants {_is(others)} not verified here"
        )
    if picture.missing and not run.policy.enabled:
        said.append("its backup is switched off")
    said += _behind(run)
    said += _files(run)
    return said


def _running(run: RunEvidence, picture: _Picture, minutes: float) -> str:
    view = run.view
    if not run.link_up or view.state in (RunState.UNREACHABLE, RunState.QUEUED):
        heard = run.heard if run.heard is not None else view.heard
        since = "" if heard is None else f" since {time.strftime('%H:%M', time.localtime(heard))}"
        return f"its link is down: what was written{since} is unknown" + _unsaved(picture, ", and it has ")
    doing = {RunState.STARTING: "starts", RunState.STALLED: "is stalled"}.get(view.state, "runs")
    if picture.held is None:
        steps = "" if view.step is None else f"{view.step:,} steps, "
        return f"{doing} and has no verified checkpoint: {steps}{_words(minutes)} are only there"
    ahead = 0 if view.step is None else max(0, view.step - picture.held.step)
    what = f"{ahead:,} step{'' if ahead == 1 else 's'} ({_words(minutes)})" if ahead else _words(minutes)
    return f"{doing}: {what} since step {picture.held.step:,} are only there"


def _unsaved(picture: _Picture, lead: str) -> str:
    return "" if picture.held is not None else f"{lead}no verified checkpoint"


def _ended(picture: _Picture, minutes: float) -> str:
    assert picture.newest is not None
    step = f"its newest checkpoint (step {picture.newest.step:,}, {size(picture.newest.bytes)}) is not verified here"
    if picture.held is None:
        return f"has no verified checkpoint: {step}"
    return f"{step}; the newest that is, is step {picture.held.step:,} ({_words(minutes)} before)"


def _behind(run: RunEvidence) -> list[str]:
    """What of samples and logs is not here. A run of this machine has them nowhere else."""
    said: list[str] = []
    if run.newer_there:
        said.append("its host has more of it than was read here so far: ask again")
    if run.samples_behind is None:
        said.append("how much of its samples is not here is unknown")
    elif run.samples_behind:
        said.append(f"samples: {size(run.samples_behind)} are not here")
    if run.journal_behind:
        said.append(f"logs: {size(run.journal_behind)} are not here")
    elif run.journal_behind is None and run.view.state not in _TOLD:
        said.append("how much of its logs is not here is unknown")
    if run.view.host == LOCAL:
        said.append("its logs and samples are on this machine alone")
    return said


def _files(run: RunEvidence) -> list[str]:
    """What its trainer left there, and what nobody knows of it. Only a foreign trainer's files can be anywhere."""
    if run.view.moved_to is not None and not run.view.doubled:
        return []  # it goes on elsewhere: what was left behind is given up
    manifest = run.view.manifest
    foreign = manifest is not None and not manifest.recipe and run.view.attempt is not None
    said: list[str] = []
    if run.uncovered is None and foreign:
        said.append("nobody has looked which of its files no policy covers")
    if run.uncovered:
        largest = sorted(run.uncovered, key=lambda file: -file.bytes)
        named = ", ".join(f"{plain(file.path, 80)} {size(file.bytes)}" for file in largest[:_NAMED])
        said.append(f"{_count(len(largest), 'file')} no policy covers: {named}{_more(largest)}")
    if run.unseen:
        said.append(f"not looked into there: {', '.join(plain(one, 120) for one in run.unseen[:_NAMED])}")
        said[-1] += _more(run.unseen)
    if foreign and not run.ever_saved and run.view.step and run.view.moved_to is None:
        said.append(f"{run.view.step:,} steps, and no checkpoint of it was ever found: do its patterns fit?")
    return said


def _more(items: Sequence[object]) -> str:
    return f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _is(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _words(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    hours, rest = divmod(round(minutes), 60)
    return f"{rest} min" if not hours else f"{hours} h {rest:02d} min"
