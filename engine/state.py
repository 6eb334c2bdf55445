"""What a run is doing, derived from evidence and never stored.

A stored state lies as soon as its writer dies. The supervisor's records, a look at the process and the age of the last
sign of life are enough to tell all cases apart.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum

from .format import plain
from .manifest import Attempt, ExitRecord, SupervisorRecord

START_GRACE_S = 15.0
"""A supervisor that has not reported by then never will."""
STALL_FLOOR_S = 60.0
STALL_FACTOR = 5.0
STALL_UNKNOWN_RHYTHM_S = 600.0


class RunState(StrEnum):
    """Every state has a word, so that colour is never the only signal."""

    QUEUED = "queued"
    """Waits for its turn; nothing was started."""
    STARTING = "starting"
    """Launched a moment ago; the supervisor has not reported yet."""
    RUNNING = "running"
    """The process lives and speaks."""
    STALLED = "stalled"
    """The process lives but has been silent for much longer than its usual rhythm."""
    UNREACHABLE = "unreachable"
    """Its host does not answer; what is shown is the last known picture."""
    FINISHED = "finished"
    """Ended by itself with exit code 0."""
    FAILED = "failed"
    """Ended by itself with another exit code, or could not be started."""
    STOPPED = "stopped"
    """Ended because somebody asked."""
    KILLED = "killed"
    """Ended by a signal nobody here asked for; the kernel's out-of-memory killer is named."""
    VANISHED = "vanished"
    """No process and no exit record: the machine rebooted or the supervisor was killed."""
    UNREADABLE = "unreadable"
    """Its directory cannot be read; the sentence beside it says why."""

    @property
    def active(self) -> bool:
        """Whether a process exists, or may."""
        return self in _ACTIVE

    @property
    def mark(self) -> str:
        """One character that tells the states apart without colour."""
        return _MARKS[self]


_ACTIVE = frozenset({RunState.STARTING, RunState.RUNNING, RunState.STALLED, RunState.UNREACHABLE})
_BEFORE = frozenset({RunState.FINISHED, RunState.FAILED, RunState.STOPPED, RunState.KILLED, RunState.VANISHED})
"""What a run may be in when a checkpoint of it is judged."""
_MARKS = {
    RunState.QUEUED: "◌",
    RunState.STARTING: "◔",
    RunState.RUNNING: "▶",
    RunState.STALLED: "◫",
    RunState.UNREACHABLE: "?",
    RunState.FINISHED: "✓",
    RunState.FAILED: "✗",
    RunState.STOPPED: "■",
    RunState.KILLED: "†",
    RunState.VANISHED: "∅",
    RunState.UNREADABLE: "!",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a state is derived from.

    `alive`: whether the supervisor's process exists; None when its host cannot be asked. `last_sign`: when the run last
    wrote anything. `usual_gap_s`: its longest recent pause between signs; None while unknown.
    """

    attempt: Attempt | None
    supervisor: SupervisorRecord | None
    exit: ExitRecord | None
    alive: bool | None = None
    last_sign: float | None = None
    usual_gap_s: float | None = None
    end_reason: str | None = None
    end_attempt: int | None = None
    """The attempt whose trainer wrote `end_reason`; one that dies at once leaves the reason of the one before."""
    far: bool = False
    """The run lives on another host: without an answer from there nothing is known that is not on record."""


def derive_state(evidence: Evidence, now: float) -> RunState:
    """The state of a run at `now` (seconds since the epoch)."""
    attempt = evidence.attempt
    if attempt is None:
        return RunState.QUEUED
    if evidence.exit is not None and evidence.exit.attempt >= attempt.attempt:
        state, before = _last_end(evidence, evidence.exit), _before(attempt)
        return before if before is not None and state is RunState.FINISHED else state
    supervisor = evidence.supervisor
    if evidence.far and evidence.alive is None:
        return RunState.UNREACHABLE
    if supervisor is None or supervisor.attempt < attempt.attempt:
        return RunState.STARTING if now - attempt.requested < START_GRACE_S else RunState.VANISHED
    if evidence.alive is None:
        return RunState.UNREACHABLE
    if not evidence.alive:
        return RunState.VANISHED
    if attempt.not_before is not None and supervisor.child is None:
        return RunState.STARTING  # a restart lets its pause pass
    return RunState.STALLED if _is_silent(evidence, supervisor, now) else RunState.RUNNING


def was_evaluated(evidence: Evidence) -> bool:
    """Whether the newest attempt judged a checkpoint and came to its end: the training is as far as it was before."""
    attempt, exit_ = evidence.attempt, evidence.exit
    if attempt is None or exit_ is None or exit_.attempt < attempt.attempt or _before(attempt) is None:
        return False
    return _last_end(evidence, exit_) is RunState.FINISHED


def _last_end(evidence: Evidence, exit_: ExitRecord) -> RunState:
    told = evidence.end_attempt in (None, exit_.attempt)
    return _ended(exit_, evidence.end_reason if told else None)


def _before(attempt: Attempt) -> RunState | None:
    """The state an evaluation found; None for a training, and for a record that names no state of ours."""
    return RunState(attempt.after) if attempt.after in _BEFORE else None


def _ended(exit_: ExitRecord, end_reason: str | None) -> RunState:
    if exit_.error is not None:
        return RunState.FAILED
    if end_reason == "stopped" or (exit_.stop_requested and end_reason != "finished"):
        return RunState.STOPPED
    if exit_.signal is not None:
        return RunState.KILLED
    return RunState.FINISHED if exit_.exit_code == 0 else RunState.FAILED


def _is_silent(evidence: Evidence, supervisor: SupervisorRecord, now: float) -> bool:
    last = max(evidence.last_sign or 0.0, supervisor.started)
    if evidence.usual_gap_s is None:
        return now - last > STALL_UNKNOWN_RHYTHM_S
    return now - last > max(STALL_FLOOR_S, STALL_FACTOR * evidence.usual_gap_s)


def restart_words(attempt: Attempt) -> str:
    """That an attempt was started by its supervisor and not by a user; empty for one that a user started."""
    if not attempt.restarted or attempt.crash is None:
        return ""
    before, number = attempt.attempt - 1, f"restart {attempt.restarted} of {attempt.restarts}"
    crash = plain(attempt.crash, 200)
    return f"attempt {before} crashed ({crash}); attempt {attempt.attempt} goes on by itself, {number}."


def describe_end(exit_: ExitRecord | None) -> str:
    """How a run ended, in words: `exit code 1`, `killed by SIGKILL (out of memory)`, and why it was not restarted."""
    words = _describe_end(exit_)
    if exit_ is None or not exit_.not_restarted:
        return words
    return f"{words}; {plain(exit_.not_restarted, 200)}"


def _describe_end(exit_: ExitRecord | None) -> str:
    if exit_ is None:
        return ""
    if exit_.error:
        return plain(exit_.error)
    if exit_.signal is not None:
        try:
            name = signal.Signals(exit_.signal).name
        except ValueError:
            name = f"signal {exit_.signal}"
        return f"killed by {name}" + (" (out of memory)" if exit_.oom_killed else "")
    memory = " (out of memory)" if exit_.oom_killed else ""
    if exit_.exit_code is None and exit_.stop_requested and exit_.pid is None and exit_.attempt == 1:
        return "before it began"
    return "" if exit_.exit_code is None else f"exit code {exit_.exit_code}{memory}"
