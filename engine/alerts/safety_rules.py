"""What may befall the copies: the backup falls behind or brings something bad; and the steps of a failover."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Iterator

from ..checkpoints import CheckpointLine
from ..format import ago, size
from ..run_view import RunView
from ..state import RunState
from .alert import Alert, Severity, make_alert
from .evidence import Evidence, MoveNews, MovePhase, RunBackup
from .rules import Kind, Memory, Said

INTERVALS = 2.0
INTERVAL_UNKNOWN_S = 1800.0
LEAST_BEHIND_S = 60.0
"""Checkpoints that come every few seconds do not make a backup that takes a minute a problem."""
NAMED = 3
UNFENCED_S = 10.0
"""A host that goes away again in its first seconds is no failure yet."""


def behind(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """The newest checkpoint is older than two intervals and has no verified copy."""
    for backup in evidence.backups:
        view = evidence.run(backup.run)
        if view is None:
            continue
        key = f"backup-behind/{view.id}"
        if backup.newest_t is None or backup.verified:
            yield Said(Kind.FINE, _over(key, f"the backup of {view.name} has caught up", evidence.now, view))
            continue
        interval = backup.interval_s or checkpoint_interval_s(view.checkpoints) or INTERVAL_UNKNOWN_S
        if evidence.now - backup.newest_t <= max(INTERVALS * interval, LEAST_BEHIND_S):
            continue
        yield Said(Kind.PROBLEM, _behind(key, backup, view, evidence.now))


def _behind(key: str, backup: RunBackup, view: RunView, now: float) -> Alert:
    newest = "a checkpoint" if backup.newest_step is None else f"the checkpoint of step {backup.newest_step:,}"
    verified = "nothing" if backup.verified_step is None else f"step {backup.verified_step:,}"
    lines = [
        f"Verified here: {verified}. On {view.host}: {newest}, written {ago(backup.newest_t, now)}.",
        f"Still to come: {size(backup.bytes_outstanding)}." if backup.bytes_outstanding else "",
        backup.problem or "",
    ]
    title = f"the backup of {view.name} is behind"
    return make_alert(key, Severity.WARNING, title, lines, t=now, run=view.id, host=view.host)


def checkpoint_interval_s(lines: tuple[CheckpointLine, ...]) -> float | None:
    """The usual time between two checkpoints; None while there are not two."""
    gaps = [later.t - earlier.t for earlier, later in zip(lines, lines[1:], strict=False) if later.t > earlier.t]
    return statistics.median(gaps[-10:]) if gaps else None


def bad_copies(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A copy did not fit its hash and there is no good one yet."""
    for backup in evidence.backups:
        view = evidence.run(backup.run)
        if view is None:
            continue
        key = f"backup-bad/{view.id}"
        if backup.bad:
            names = ", ".join(backup.bad[:NAMED]) + (
                f" and {len(backup.bad) - NAMED} more" if backup.bad[NAMED:] else ""
            )
            alert = make_alert(
                key, Severity.ERROR, f"a copy of {view.name} does not match its hash",
                [f"Not accepted: {names}.", "It is fetched again; when that does not help, the disk or memory of "
                 f"{view.host} or of this machine is failing: `wavedeck ckpt {view.id} verify`."],
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert)
        else:
            title = f"every copy of {view.name} matches its hash again"
            yield Said(Kind.FINE, _over(key, title, evidence.now, view))


def backup_stuck(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """The backup as a whole does not work: its process died, the disk here is full."""
    key = "backup/here"
    if evidence.backup_problem:
        alert = make_alert(key, Severity.ERROR, "the backup does not work", evidence.backup_problem, t=evidence.now)
        yield Said(Kind.PROBLEM, alert)
    else:
        title = "the backup works again"
        yield Said(Kind.FINE, make_alert(key, Severity.INFO, title, t=evidence.now, recovered=True))


def moves(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A run moves to another host: begun, done with what was lost, or failed."""
    words = {
        MovePhase.BEGUN: (Severity.WARNING, "{run} is being moved to {to}"),
        MovePhase.DONE: (Severity.WARNING, "{run} goes on on {to}"),
        MovePhase.FAILED: (Severity.ERROR, "{run} could not be moved to {to}"),
    }
    for move in evidence.moves:
        if move.phase is MovePhase.REFUSED:
            yield Said(Kind.PROBLEM, _refused(move, evidence))
            continue
        severity, title = words[move.phase]
        yield Said(Kind.AGAIN, _move(move, severity, title, evidence))


def fenced(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A host came back after its runs were moved: what became of them there."""
    for host, sentence in evidence.fenced:
        key = f"fenced/{host}/{zlib.crc32(sentence.encode()):08x}"
        alert = make_alert(key, Severity.WARNING, sentence, t=evidence.now, host=host)
        yield Said(Kind.NEWS, alert, happened=evidence.now)


def unfenced(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A host came back, and it could not be seen to that what was moved away from it does not write there any more."""
    for host, failure in evidence.fences:
        key = f"fence/{host}"
        if failure is None:
            title = f"{host}: what was moved away from it is stopped there"
            over = make_alert(key, Severity.INFO, title, t=evidence.now, host=host, recovered=True)
            yield Said(Kind.FINE, over)
            continue
        alert = make_alert(
            key, Severity.ERROR, f"{host} is back, and what was moved away from it could not be stopped there",
            [failure, "It is tried again. Until then two copies of one training may be running: `wavedeck ps`."],
            t=evidence.now, host=host,
        )  # fmt: skip
        yield Said(Kind.PROBLEM, alert, after_s=UNFENCED_S)


def not_refused(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """What kept a run from being moved is over once its host answers, or it is moved after all."""
    refused = {move.run for move in evidence.moves if move.phase is MovePhase.REFUSED}
    for view in evidence.runs:
        if view.state is not RunState.UNREACHABLE and view.id not in refused:
            title = f"{view.name} need not be moved any more"
            yield Said(Kind.FINE, _over(f"failover-refused/{view.id}", title, evidence.now, view))


def _refused(move: MoveNews, evidence: Evidence) -> Alert:
    view = evidence.run(move.run)
    title = f"{move.run if view is None else view.name} is not moved to {move.to} by itself"
    key = f"failover-refused/{move.run}"
    return make_alert(key, Severity.ERROR, title, move.text, t=evidence.now, run=move.run, host=move.to)


def _move(move: MoveNews, severity: Severity, title: str, evidence: Evidence) -> Alert:
    view = evidence.run(move.run)
    name = move.run if view is None else view.name
    goes_on = [f"It goes on as {move.child}."] if move.child else []
    # Without a time: a move that fails again and again, in whatever process, is one thing with one cooldown.
    key = f"failover/{move.run}/{move.to}/{move.phase}" + (f"/{move.child}" if move.child else "")
    lines = [*move.text.split("\n"), *goes_on]
    return make_alert(
        key, severity, title.format(run=name, to=move.to), lines, t=evidence.now, run=move.run, host=move.to
    )


def _over(key: str, title: str, now: float, view: RunView) -> Alert:
    return make_alert(key, Severity.INFO, title, t=now, run=view.id, host=view.host, recovered=True)


RULES = (moves, fenced, unfenced, not_refused, backup_stuck, bad_copies, behind)
