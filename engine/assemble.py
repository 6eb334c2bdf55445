"""From a run's records and summaries to the one view that every row, header and `--json` shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .checkpoints import CheckpointLine, read_checkpoints
from .hosts import LOCAL, MirrorRecord
from .manifest import Attempt, ExitRecord, Manifest, SupervisorRecord
from .run_view import RunView
from .rundir import RunDir
from .state import Evidence, RunState, derive_state
from .summary import Progress, Summary, all_notices


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


def covers(record: ExitRecord | SupervisorRecord | None, attempt: Attempt) -> bool:
    """Whether a record is about this attempt or a later one."""
    return record is not None and record.attempt >= attempt.attempt


def assemble(run: RunDir, found: Found, main: Summary, spoken: Summary, now: float) -> RunView:
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
    return RunView(
        id=run.id,
        dir=run.path,
        state=state,
        manifest=found.manifest,
        problem=f"{damage} damaged journal lines were skipped." if damage else None,
        attempt=found.attempt.attempt if found.attempt else None,
        supervisor=found.supervisor,
        exit=exit_,
        created=found.manifest.created,
        started=(exit_.started if exit_ else None) or (found.supervisor.started if found.supervisor else None),
        ended=exit_.ended if exit_ else None,
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
        best=main.best(found.manifest.headline) or spoken.best(found.manifest.headline),
        spark=tuple(main.spark or spoken.spark),
        spark_name=main.spark_name or spoken.spark_name,
        nan_counts={**spoken.nan_counts, **main.nan_counts},
        notices=all_notices(main, spoken),
        checkpoints=_kept_checkpoints(run, found.mirror),
        last_sign=last_sign,
        host=found.mirror.host if found.mirror is not None else LOCAL,
        heard=found.heard,
        mirror_notices=tuple(found.mirror.notices) if found.mirror is not None else (),
    )


def _last_sign(run: RunDir, found: Found, main: Summary, spoken: Summary) -> float | None:
    """When the run last wrote anything, by the clock here; a copy's file times only tell when it was copied."""
    if found.mirror is None:
        return _newest(main.last_t, spoken.last_t, modified(run.console))
    there = _newest(main.last_t, spoken.last_t)
    return None if there is None else there - found.mirror.skew_s


def _kept_checkpoints(run: RunDir, mirror: MirrorRecord | None) -> tuple[CheckpointLine, ...]:
    """The checkpoints whose files are still there, on the run's host; retention has removed the others."""
    lines = read_checkpoints(run.checkpoint_manifest)
    if not lines:
        return ()
    if mirror is not None:
        there = set(mirror.checkpoints)
        return tuple(line for line in lines if line.name in there)
    try:
        present = {path.name for path in run.checkpoints.iterdir()}
    except OSError:
        return ()
    return tuple(line for line in lines if line.name in present)


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
