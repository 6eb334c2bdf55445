"""What can be done to a run: launch, resume, stop, wait, attach, remove. Both front doors call these and nothing else.

Every record is written before the process it is about is started, so a launch that is cut short anywhere leaves a run
that says so, never a process that nobody knows of.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..engine.catalog import newest_attempt
from ..engine.errors import RunDirError, UsageError, WavedeckError
from ..engine.files import create_exclusive, write_atomic
from ..engine.manifest import (
    Attempt,
    ExitRecord,
    Manifest,
    StopRequest,
    SupervisorRecord,
    encode,
    read_manifest,
    read_record,
    write_record,
)
from ..engine.planning import plan_resume
from ..engine.rundir import Home, RunDir
from ..engine.state import START_GRACE_S
from . import tmux
from .host import Host, HostError, StartCut, Started
from .liveness import alive, orphan, supervisors
from .local import sweep_environments
from .payload.records import CUT_SHORT

REPORT_S = 5.0
"""How long a launch waits for the supervisor to report."""
POLL_S = 0.05
_starting: set[asyncio.Task[LaunchResult]] = set()
"""Launches and resumes under way; an event loop itself holds its tasks only weakly."""


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What became of a launch or a resume."""

    run: RunDir
    attempt: int
    session: str | None
    """tmux session, or None when the run cannot be attached to."""
    notice: str | None = None
    """What the user should know, as a sentence: no tmux, or no report from the supervisor yet."""
    supervisor: SupervisorRecord | None = None
    exit: ExitRecord | None = None
    """Set when the attempt was over before the launch returned, for example because the command was not found."""


async def launch(
    home: Home, host: Host, manifest: Manifest, attempt: Attempt, environ: Mapping[str, str] | None = None
) -> LaunchResult:
    """Create the run directory, start its supervisor and wait a moment for its report.

    Cancelling it (a screen that is closed) ends only the waiting: the run is launched all the same.

    Parameters
    ----------
    environ: the trainer's environment, secrets included; this process's own when None. It is in no file once the
        supervisor has started.

    Raises
    ------
    UsageError: there is a run of that id. WavedeckError: the home is not writable. HostError: nothing could be started;
    the run then exists and is failed, with the reason.
    """
    tmux.session_name(manifest.id)
    home.ensure_writable()
    run = RunDir(home.runs / manifest.id)

    async def whole() -> LaunchResult:
        await asyncio.to_thread(_create, home, run, manifest, attempt)
        return await _start(host, run, attempt, environ)

    return await _uncut(whole())


async def resume(home: Home, host: Host, run: RunDir, environ: Mapping[str, str] | None = None) -> LaunchResult:
    """Start the next attempt of a run that has ended.

    The attempt's record is created exclusively, so of two resumes at once only one starts anything. Records of earlier
    attempts may stay: every reader compares attempt numbers. Cancelling it ends only the waiting, as for `launch`.

    Raises
    ------
    UsageError: the run is still alive, its trainer outlived its supervisor, or somebody else has just resumed it.
    HostError: as for `launch`.
    """
    manifest = read_manifest(run.manifest)
    last = newest_attempt(run)
    if last is None:
        attempt = Attempt(attempt=1, requested=time.time(), argv=manifest.command, cwd=manifest.cwd or "/")
    else:
        await asyncio.to_thread(_refuse_alive, run, last, "stop it first")
        attempt = plan_resume(run, manifest, last)

    async def whole() -> LaunchResult:
        await asyncio.to_thread(_create_attempt, run, attempt)
        return await _start(host, run, attempt, environ)

    return await _uncut(whole())


def request_stop(run: RunDir) -> StopRequest:
    """Ask a run to save and end. Returns at once; the supervisor sees it within a quarter of a second and escalates.

    It needs no manifest, and where other records are damaged the supervisor's own process says which attempt it runs.

    Raises
    ------
    UsageError: the run has ended, or was never started. RunDirError: its records are damaged and nothing of it lives.
    """
    try:
        number = _stoppable(run)
    except RunDirError:
        living = [found.attempt for found in supervisors(run.path) if found.attempt is not None]
        if not living:
            raise
        number = max(living)
    request = StopRequest(number, time.time())
    write_record(run.stop, request)
    return request


def _stoppable(run: RunDir) -> int:
    """The attempt that runs or is about to."""
    attempt = newest_attempt(run)
    if attempt is None:
        raise UsageError(f"{run.id} was never started.")
    if _ended(run, attempt) is not None:
        raise UsageError(f"{run.id} has ended already.")
    if _process_state(run, attempt) == "gone":
        raise UsageError(f"{run.id} has no process any more: there is nothing to stop.")
    return attempt.attempt


async def wait_ended(run: RunDir, timeout: float | None = None) -> ExitRecord | None:
    """Wait until the newest attempt has ended; its exit record, or None when it vanished without one.

    Raises
    ------
    TimeoutError: it still runs after `timeout` seconds (None waits for ever).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        attempt = newest_attempt(run)
        if attempt is None:
            return None
        gone = _process_state(run, attempt) == "gone"
        ended = _ended(run, attempt)
        if ended is not None or gone:
            return ended
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"{run.id} still runs")
        await asyncio.sleep(POLL_S)


def attach_argv(run: RunDir) -> list[str]:
    """The command that takes over the terminal and shows the run's own until the user detaches.

    Raises
    ------
    UsageError: the run has ended or has not begun, or runs without tmux.
    """
    attempt = newest_attempt(run)
    if attempt is None or _ended(run, attempt) is not None or _process_state(run, attempt) == "gone":
        raise UsageError(f"{run.id} is not running: `wavedeck logs {run.id}` shows what it printed.")
    supervisor = read_record(run.supervisor, SupervisorRecord)
    if supervisor is None or supervisor.attempt < attempt.attempt:
        raise UsageError(f"{run.id} is still starting: try again in a moment.")
    if supervisor.session is None:
        raise UsageError(f"{run.id} runs without tmux and has no terminal: use `wavedeck logs -f {run.id}`.")
    if shutil.which("tmux") is None:
        raise UsageError(f"tmux is not installed here: use `wavedeck logs -f {run.id}`.")
    return tmux.attach_argv(supervisor.session)


async def remove(home: Home, run: RunDir) -> None:
    """Delete a run for good.

    It is renamed out of the runs first, so an interrupted removal leaves rubbish in the trash, which the next one
    clears, and never half a run. Where its records are damaged, the process table alone says whether it lives.

    Raises
    ------
    UsageError: it is still alive. WavedeckError: it cannot be moved away.
    """
    await asyncio.to_thread(_refuse_to_remove, run)
    await asyncio.to_thread(_discard, home, run)


def _refuse_to_remove(run: RunDir) -> None:
    advice = "stop it before deleting it"
    try:
        attempt = newest_attempt(run)
        if attempt is not None:
            _refuse_alive(run, attempt, advice)
    except RunDirError:
        if supervisors(run.path):
            raise _still_running(run, advice) from None


def _create(home: Home, run: RunDir, manifest: Manifest, attempt: Attempt) -> None:
    """Make the directory under a hidden name and rename it when it is whole: no reader sees half a run."""
    if run.path.exists():
        raise UsageError(f"there is a run {run.id} already.")
    hidden = RunDir(home.runs / f".{run.id}.{secrets.token_hex(4)}.new")
    try:
        hidden.attempts.mkdir(parents=True, mode=0o700)
        hidden.checkpoints.mkdir()
        write_atomic(hidden.manifest, encode(manifest))
        create_exclusive(hidden.attempt(attempt.attempt), encode(attempt))
        hidden.path.rename(run.path)
    except OSError as error:
        shutil.rmtree(hidden.path, ignore_errors=True)
        raise WavedeckError(f"{run.path} cannot be created: {error.strerror}.") from error


def _create_attempt(run: RunDir, attempt: Attempt) -> None:
    run.attempts.mkdir(mode=0o700, exist_ok=True)
    if not create_exclusive(run.attempt(attempt.attempt), encode(attempt)):
        raise UsageError(f"{run.id} was resumed by somebody else a moment ago: `wavedeck show {run.id}` shows it.")
    sweep_environments(run.path, before=attempt.attempt)


async def _uncut(start: Coroutine[None, None, LaunchResult]) -> LaunchResult:
    """Wait for `start`, which goes on when the waiting is cancelled: half a launch helps nobody."""
    task = asyncio.get_running_loop().create_task(start)
    _starting.add(task)
    task.add_done_callback(_starting.discard)
    return await asyncio.shield(task)


async def _start(host: Host, run: RunDir, attempt: Attempt, environ: Mapping[str, str] | None) -> LaunchResult:
    try:
        started = await host.start_supervisor(run.path, attempt, dict(os.environ) if environ is None else environ)
    except (HostError, OSError) as error:
        await asyncio.to_thread(_record_failure, run, attempt, str(error))
        raise
    except StartCut:
        _record_failure(run, attempt, CUT_SHORT)
        raise
    return await _report(run, attempt, started)


async def _report(run: RunDir, attempt: Attempt, started: Started) -> LaunchResult:
    """Wait for the supervisor's first word. Silence is no failure: a busy machine may need longer."""
    deadline = time.monotonic() + REPORT_S
    while True:
        ended = _ended(run, attempt)
        supervisor = read_record(run.supervisor, SupervisorRecord)
        if supervisor is not None and supervisor.attempt < attempt.attempt:
            supervisor = None
        late = time.monotonic() >= deadline
        if ended is not None or supervisor is not None or late:
            break
        await asyncio.sleep(0.02)
    notice = started.note
    if late and ended is None and supervisor is None:
        notice = f"the supervisor has not reported within {REPORT_S:g} s: `wavedeck show {run.id}` tells when it has."
    return LaunchResult(run, attempt.attempt, started.session, notice, supervisor, ended)


def _record_failure(run: RunDir, attempt: Attempt, reason: str) -> None:
    """The launcher writes the exit record of an attempt that no supervisor will ever write one for."""
    record = ExitRecord(attempt.attempt, time.time(), started=attempt.requested, exit_code=127, error=reason)
    write_record(run.exit, record)


def _ended(run: RunDir, attempt: Attempt) -> ExitRecord | None:
    record = read_record(run.exit, ExitRecord)
    return record if record is not None and record.attempt >= attempt.attempt else None


def _process_state(run: RunDir, attempt: Attempt) -> str:
    """`alive`, `starting` or `gone`, whatever the exit record says."""
    supervisor = read_record(run.supervisor, SupervisorRecord)
    if supervisor is None or supervisor.attempt < attempt.attempt:
        return "starting" if time.time() - attempt.requested < START_GRACE_S else "gone"
    return "alive" if alive(run.id, supervisor) else "gone"


def _refuse_alive(run: RunDir, attempt: Attempt, advice: str) -> None:
    """Raise UsageError when any process of the run lives, or may be about to.

    A supervisor may come up long after its launch was killed, on a busy machine: it has no record then.
    """
    ended = _ended(run, attempt)
    state = _process_state(run, attempt)
    if state == "alive" and ended is None:
        raise _still_running(run, advice)
    if ended is None and (state == "starting" or supervisors(run.path)):
        raise UsageError(f"{run.id} is just starting: try again in a moment.")
    supervisor = read_record(run.supervisor, SupervisorRecord)
    left = None if supervisor is None or ended is not None else orphan(run.id, supervisor)
    if left is not None:
        raise UsageError(f"the trainer of {run.id} outlived its supervisor: end process {left} first (`kill {left}`).")


def _still_running(run: RunDir, advice: str) -> UsageError:
    return UsageError(f"{run.id} is still running: {advice} with `wavedeck stop {run.id}`.")


def _discard(home: Home, run: RunDir) -> None:
    home.trash.mkdir(parents=True, exist_ok=True)
    try:
        sweep_environments(run.path)
        run.path.rename(home.trash / f"{run.id}.{secrets.token_hex(4)}")
    except FileNotFoundError:
        raise UsageError(f"there is no run {run.id} any more.") from None
    except OSError as error:
        raise WavedeckError(f"{run.id} cannot be deleted: {error.strerror}.") from error
    for leftover in home.trash.iterdir():
        _delete(leftover)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
