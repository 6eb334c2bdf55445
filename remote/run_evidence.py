"""What the records of a run and its host's process table say together: does it live, is it starting, has it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..engine.errors import UsageError
from ..engine.hosts import read_mirror
from ..engine.manifest import Attempt, ExitRecord, SupervisorRecord, read_record
from ..engine.rundir import RunDir
from ..engine.state import START_GRACE_S
from .host import Living

Probe = Callable[[str, SupervisorRecord], bool | None]
"""Whether a run's supervisor lives; None while its host cannot be asked."""


def end_of(run: RunDir, attempt: Attempt) -> ExitRecord | None:
    """How an attempt ended, or one after it; None as long as nobody has said so."""
    record = read_record(run.exit, ExitRecord)
    return record if record is not None and record.attempt >= attempt.attempt else None


def process_state(run: RunDir, attempt: Attempt, living: Living) -> str:
    """`alive`, `starting` or `gone`, whatever the exit record says."""
    supervisor = read_record(run.supervisor, SupervisorRecord)
    if any(number is None or number >= attempt.attempt for _, number in living.supervisors):
        return "alive" if supervisor is not None and supervisor.attempt >= attempt.attempt else "starting"
    if supervisor is None or supervisor.attempt < attempt.attempt:
        return "starting" if time.time() - attempt.requested < START_GRACE_S else "gone"
    return "gone"


def is_gone(run: RunDir, attempt: Attempt, probe: Probe) -> bool:
    """Whether nothing of an attempt lives any more, as far as `probe` can tell; cheap enough for polling."""
    supervisor = read_record(run.supervisor, SupervisorRecord)
    if supervisor is None or supervisor.attempt < attempt.attempt:
        return time.time() - attempt.requested >= START_GRACE_S and read_mirror(run.path) is None
    return probe(run.id, supervisor) is False


def refuse_alive(run: RunDir, attempt: Attempt, living: Living, advice: str) -> None:
    """Raise UsageError when any process of the run lives, or may be about to.

    A supervisor may come up long after its launch was killed, on a busy machine: it has no record then.
    """
    ended = end_of(run, attempt)
    state = process_state(run, attempt, living)
    if is_newer(living, ended) or (state == "alive" and ended is None):
        raise still_running(run, advice)
    if ended is None and (state == "starting" or living.supervisors):
        raise UsageError(f"{run.id} is just starting: try again in a moment.")
    if living.orphan is not None and ended is None:
        raise UsageError(
            f"the trainer of {run.id} outlived its supervisor: "
            f"end process {living.orphan} first (`kill {living.orphan}`)."
        )


def is_newer(living: Living, ended: ExitRecord | None) -> bool:
    """Whether an attempt lives after the one whose end is known: records of another host may be behind."""
    return ended is not None and any(number is not None and number > ended.attempt for _, number in living.supervisors)


def still_running(run: RunDir, advice: str) -> UsageError:
    """The refusal, with what to do first."""
    return UsageError(f"{run.id} is still running: {advice} with `wavedeck stop {run.id}`.")
