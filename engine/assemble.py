"""From a run's records and summaries to the one view that every row, header and `--json` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .backup.copies import Copies
from .backup.money import ran_s
from .backup.places import locate, picture
from .backup.policy import BackupPolicy
from .format import plain
from .headline import direction_of
from .hosts import LOCAL, MirrorRecord
from .lineage import Lease, Moved
from .manifest import Attempt, ExitRecord, Headline, Manifest, SupervisorRecord
from .run_view import RunView
from .rundir import RunDir
from .state import Evidence, RunState, derive_state, restart_words, was_evaluated
from .summary import Notice, Progress, Summary, all_notices


@dataclass(frozen=True, slots=True)
class Found:
    """A run's records, and what is known of its processes."""

    manifest: Manifest
    attempt: Attempt | None
    supervisor: SupervisorRecord | None
    exit: ExitRecord | None
    mirror: MirrorRecord | None
    alive: bool | None
    heard: float | None
    lease: Lease | None = None
    moved: Moved | None = None
    copies: Copies = field(default_factory=Copies)
    policy: BackupPolicy = field(default_factory=BackupPolicy)
    first: Attempt | None = None
    """The first attempt, where there are several."""
    trained: Attempt | None = None
    """The newest attempt that trained, where those after it only judged a checkpoint."""
    problem: str | None = None
    """What is damaged in records that the run can be shown without."""


def covers(record: ExitRecord | SupervisorRecord | None, attempt: Attempt) -> bool:
    """Whether a record is about this attempt or a later one."""
    return record is not None and record.attempt >= attempt.attempt


Before = Sequence[tuple[Summary, Summary, int]]
"""What the runs before a moved one told, trainer and console, each with the last step that counts; oldest first."""


def assemble(run: RunDir, found: Found, main: Summary, spoken: Summary, now: float, before: Before = ()) -> RunView:
    """The view of a run: its records, and what its trainer (`main`) and its console (`spoken`) told."""
    lead = main if main.progress or main.rows or not spoken.rows else spoken
    exit_ = found.exit if found.attempt is None or covers(found.exit, found.attempt) else None
    last_sign = _last_sign(run, found, main, spoken)
    evidence = Evidence(
        found.attempt,
        found.supervisor,
        exit_,
        found.alive,
        last_sign,
        lead.usual_gap_s,
        main.end_reason,
        main.end_attempt,
        far=found.mirror is not None,
    )
    state = derive_state(evidence, now)
    progress = lead.progress or spoken.progress
    timer = lead if lead.progress else spoken
    moving = state.active and state is not RunState.UNREACHABLE
    step = main.step if main.step is not None else spoken.step
    done, total, unit, activity = _position(progress, step, state)
    damage = main.bad_lines + spoken.bad_lines
    problems = (found.problem, f"{damage} damaged journal lines were skipped." if damage else None)
    started = (exit_.started if exit_ else None) or (found.supervisor.started if found.supervisor else None)
    shown = _times(found, exit_, started, main, was_evaluated(evidence))
    located = locate(run, found.manifest, found.mirror, found.copies, found.policy)
    return RunView(
        id=run.id,
        dir=run.path,
        state=state,
        manifest=found.manifest,
        problem=" ".join(problem for problem in problems if problem) or None,
        attempt=found.attempt.attempt if found.attempt else None,
        supervisor=found.supervisor,
        exit=exit_,
        created=found.manifest.created,
        started=shown[0],
        ended=shown[1],
        first_started=found.first.requested if found.first is not None else started,
        evaluated_at=exit_.ended if exit_ is not None and was_evaluated(evidence) else None,
        step=step,
        epoch=main.epoch if main.epoch is not None else spoken.epoch,
        phase=main.phase,
        done=done,
        total=total,
        unit=unit,
        activity=activity,
        rate=timer.rate if moving else None,
        eta_s=timer.eta_s(now) if moving else None,
        last={**spoken.last, **main.last},
        best=best_of(found.manifest.headline, main, spoken, before),
        spark=tuple(main.spark or spoken.spark),
        spark_name=main.spark_name or spoken.spark_name,
        nan_counts={**spoken.nan_counts, **main.nan_counts},
        notices=_notices(found, main, spoken),
        facts={**spoken.facts, **main.facts},
        numbers={**spoken.numbers, **main.numbers},
        lines={**spoken.lines, **main.lines},
        checkpoints=tuple(place.line for place in located),
        last_sign=last_sign,
        host=found.mirror.host if found.mirror is not None else LOCAL,
        heard=found.heard,
        mirror_notices=tuple(found.mirror.notices) if found.mirror is not None else (),
        evaluated=was_evaluated(evidence),
        ran_s=_ran_s(found, exit_, started, state, last_sign, now, main.earlier_s),
        parent=found.manifest.parent,
        lineage=found.lease.lineage if found.lease is not None else run.id,
        moved_to=found.moved.child if found.moved is not None else None,
        moved_host=plain(found.moved.host, 48) if found.moved is not None else None,
        fenced=_fenced(run, exit_, found.lease),
        backup=picture(located, found.copies, found.policy, found.manifest.headline, found.mirror),
    )


def _times(
    found: Found, exit_: ExitRecord | None, started: float | None, main: Summary, judged: bool
) -> tuple[float | None, float | None]:
    """(start, end) of the newest attempt; of the training where that one only judged a checkpoint of it."""
    if found.trained is None or not judged:
        return started, exit_.ended if exit_ else None
    span = main.spans.get(found.trained.attempt)
    return span if span is not None else (found.trained.requested, None)


def _notices(found: Found, main: Summary, spoken: Summary) -> tuple[Notice, ...]:
    """What both journals warn of, and that an attempt was started by the supervisor itself."""
    notices = all_notices(main, spoken)
    words = restart_words(found.attempt) if found.attempt is not None else ""
    if found.attempt is None or not words:
        return notices
    restart = Notice(found.attempt.requested, "warning", words, "restarted")
    return tuple(sorted((*notices, restart), key=lambda notice: notice.t))[-10:]


def _ran_s(
    found: Found,
    exit_: ExitRecord | None,
    started: float | None,
    state: RunState,
    last_sign: float | None,
    now: float,
    earlier_s: float,
) -> float | None:
    """How long the attempts ran, by the host's own clock; a run that vanished ran until its last sign."""
    skew = found.mirror.skew_s if found.mirror is not None else 0.0
    ended = exit_.ended if exit_ is not None else None
    if ended is None and not state.active and last_sign is not None:
        ended = last_sign + skew
    return ran_s(started, ended, now + skew, earlier_s)


def _fenced(run: RunDir, exit_: ExitRecord | None, lease: Lease | None) -> str | None:
    """The run that may write instead of this one."""
    if exit_ is not None and exit_.fenced is not None:
        return plain(exit_.fenced, 120)
    if lease is None or lease.allows(run.id):
        return None
    return plain(lease.fenced_by or lease.holder, 120)


def best_of(
    headline: Headline | None, main: Summary, spoken: Summary, before: Before = ()
) -> tuple[str, float, int | None] | None:
    """(metric, value, step) of the best of a run, and of what those before it had reached when it went on."""
    best = main.best(headline) or spoken.best(headline)
    for trainer, console, step in before:
        earlier = trainer.best_until(step, headline) or console.best_until(step, headline)
        if earlier is None or (best is not None and earlier[0] != best[0]):
            continue
        if best is None or not Headline(best[0], direction_of(best[0])).better(best[1], earlier[1]):
            best = earlier
    return best


def _last_sign(run: RunDir, found: Found, main: Summary, spoken: Summary) -> float | None:
    """When the run last wrote anything, by the clock here; a copy's file times only tell when it was copied."""
    if found.mirror is None:
        return _newest(main.last_t, spoken.last_t, modified(run.console))
    there = _newest(main.last_t, spoken.last_t)
    return None if there is None else there - found.mirror.skew_s


def _position(
    progress: Progress | None, step: int | None, state: RunState
) -> tuple[float | None, float | None, str, str]:
    """(done, total, unit, description): an ended run is as far as it trained, not as far as its last stage counted."""
    counted = progress is not None and (state.active or progress.unit == "step")
    if step is not None and not counted:
        return float(step), float(step) if state is RunState.FINISHED else None, "step", ""
    if progress is None:
        return None, None, "step", ""
    return progress.done, progress.total, progress.unit, progress.description


def _newest(*times: float | None) -> float | None:
    known = [t for t in times if t is not None]
    return max(known) if known else None


def modified(path: Path) -> float | None:
    """When a file was last written to; None when it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
