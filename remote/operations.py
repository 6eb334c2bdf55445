"""What can be done to a run: launch, resume, stop, wait, attach, remove. Both front doors call these and nothing else.

Every record is written before the process it is about is started, so a launch that is cut short anywhere leaves a run
that says so, never a process that nobody knows of.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

import msgspec

from ..engine.backup.policy import BackupPolicy, host_policy
from ..engine.catalog import newest_attempt
from ..engine.errors import RunDirError, UsageError, WavedeckError
from ..engine.hosts import LOCAL, MIRROR_FILE, MirrorRecord, read_mirror
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
from ..engine.queue import is_waiting
from ..engine.rundir import Home, RunDir
from . import run_folders, tmux
from .failover.lease import refuse_moved
from .host import Host, HostLost, LinkDown, Living, StartCut, Started
from .liveness import alive
from .mirror_files import forget_run
from .payload.records import CUT_SHORT
from .queue.waiting import take_out
from .run_evidence import Probe, end_of, is_gone, is_newer, process_state, refuse_alive, still_running

REPORT_S = 5.0
"""How long a launch waits for the supervisor to report."""
FAR_REPORT_S = 15.0
"""The same for another host, whose records arrive here through the mirror."""
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
    home: Home,
    host: Host,
    manifest: Manifest,
    attempt: Attempt,
    environ: Mapping[str, str] | None = None,
    policy: BackupPolicy | None = None,
) -> LaunchResult:
    """Create the run directory, start its supervisor and wait a moment for its report.

    Cancelling it (a screen that is closed) ends only the waiting: the run is launched all the same.

    Parameters
    ----------
    environ: the trainer's environment, secrets included; this process's own when None. It is in no file once the
        supervisor has started.
    policy: how it is backed up; what `backup.toml` says for the host when None. It travels with the run, so that the
        host knows which files are checkpoints, and whoever mirrors it what to keep of them.

    Raises
    ------
    UsageError: there is a run of that id, or `backup.toml` is wrong. WavedeckError: the home is not writable.
    HostError: nothing could be started; the run then exists and is failed, with the reason.
    """
    tmux.session_name(manifest.id)
    run = RunDir(home.runs / manifest.id)

    async def whole() -> LaunchResult:
        await _create(home, host, run, manifest, attempt, policy or host_policy(home, host.name))
        return await _start(host, run, attempt, environ)

    return await _uncut(whole())


async def resume(
    home: Home,
    host: Host,
    run: RunDir,
    environ: Mapping[str, str] | None = None,
    plan: Callable[[RunDir, Manifest, Attempt], Attempt] = plan_resume,
) -> LaunchResult:
    """Start the next attempt of a run that has ended, as `plan` has it: training goes on, unless told otherwise.

    The attempt's record is created exclusively, so of two resumes at once only one starts anything. Records of earlier
    attempts may stay: every reader compares attempt numbers. Cancelling it ends only the waiting, as for `launch`.

    Raises
    ------
    UsageError: the run is still alive, its trainer outlived its supervisor, it goes on elsewhere, or somebody else has
    just resumed it.
    HostError: as for `launch`.
    """
    manifest = read_manifest(run.manifest)
    refuse_moved(run)
    if is_waiting(run):
        raise UsageError(f"{run.id} waits in the queue and starts by itself: `wavedeck queue` shows when.")
    last = newest_attempt(run)
    if last is None:
        attempt = Attempt(attempt=1, requested=time.time(), argv=manifest.command, cwd=manifest.cwd or "/")
    else:
        refuse_alive(run, last, await host.living(run.id), "stop it first")
        attempt = plan(run, manifest, last)

    async def whole() -> LaunchResult:
        await _create_attempt(host, run, attempt)
        return await _start(host, run, attempt, environ)

    return await _uncut(whole())


async def start(host: Host, run: RunDir, attempt: Attempt, environ: Mapping[str, str] | None = None) -> LaunchResult:
    """Start an attempt whose record is on its host already. Cancelling it ends only the waiting, as for `launch`.

    Raises
    ------
    HostError: as for `launch`.
    """
    return await _uncut(_start(host, run, attempt, environ))


async def start_queued(host: Host, run: RunDir, attempt: Attempt) -> LaunchResult:
    """Start a run whose turn in the queue has come, if nobody else has. Cancelling it ends only the waiting.

    Raises
    ------
    UsageError: it was started, or taken out of the queue, a moment ago. HostError: as for `launch`.
    """

    async def whole() -> LaunchResult:
        await _create_attempt(host, run, attempt)
        return await _start(host, run, attempt, None)

    return await _uncut(whole())


async def request_stop(host: Host, run: RunDir) -> StopRequest:
    """Ask a run to save and end. Returns at once; the supervisor sees it within a quarter of a second and escalates.

    One that waits in the queue of this machine is taken out of it and never begins.

    It needs no manifest, and where other records are damaged the supervisor's own process says which attempt it runs.

    Raises
    ------
    UsageError: the run has ended, or was never started. RunDirError: its records are damaged and nothing of it lives.
    HostUnreachable: its host does not answer, so it was not asked.
    """
    if host.name == LOCAL and is_waiting(run) and await take_out(host, run):
        return StopRequest(1, time.time())
    living = await host.living(run.id)
    try:
        number = _stoppable(run, living)
    except RunDirError:
        attempts = [number for _, number in living.supervisors if number is not None]
        if not attempts:
            raise
        number = max(attempts)
    number = max([number, *(attempt for _, attempt in living.supervisors if attempt is not None)])
    request = StopRequest(number, time.time())
    await host.place(run.id, run.stop.name, encode(request))
    return request


def _stoppable(run: RunDir, living: Living) -> int:
    """The attempt that runs or is about to."""
    attempt = newest_attempt(run)
    if attempt is None:
        raise UsageError(f"{run.id} was never started.")
    ended = end_of(run, attempt)
    if is_newer(living, ended):
        return attempt.attempt  # resumed from elsewhere; its records are not here yet
    if ended is not None:
        raise UsageError(f"{run.id} has ended already.")
    if process_state(run, attempt, living) == "gone":
        raise UsageError(f"{run.id} has no process any more: there is nothing to stop.")
    return attempt.attempt


async def wait_ended(run: RunDir, timeout: float | None = None, probe: Probe = alive) -> ExitRecord | None:
    """Wait until the newest attempt has ended; its exit record, or None when it vanished without one.

    While `probe` cannot tell (None: its host does not answer) the waiting goes on.

    Raises
    ------
    TimeoutError: it still runs after `timeout` seconds (None waits for ever).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        attempt = newest_attempt(run)
        if attempt is None:
            return None
        gone = is_gone(run, attempt, probe)
        ended = end_of(run, attempt)
        if ended is not None or gone:
            return ended
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"{run.id} still runs")
        await asyncio.sleep(POLL_S)


def attach_argv(run: RunDir) -> list[str]:
    """The command that takes over the terminal and shows the run's own until the user detaches, on this machine.

    Raises
    ------
    UsageError: the run has ended or has not begun, or runs without tmux.
    """
    session = session_of(run)
    if shutil.which("tmux") is None:
        raise UsageError(f"tmux is not installed here: use `wavedeck logs -f {run.id}`.")
    return tmux.attach_argv(session)


def session_of(run: RunDir) -> str:
    """The tmux session a run's terminal is in, on whichever host.

    Raises
    ------
    UsageError: the run has ended or has not begun, or runs without tmux.
    """
    attempt = newest_attempt(run)
    far = read_mirror(run.path) is not None
    if attempt is None or end_of(run, attempt) is not None or (not far and is_gone(run, attempt, alive)):
        raise UsageError(f"{run.id} is not running: `wavedeck logs {run.id}` shows what it printed.")
    supervisor = read_record(run.supervisor, SupervisorRecord)
    if supervisor is None or supervisor.attempt < attempt.attempt:
        raise UsageError(f"{run.id} is still starting: try again in a moment.")
    if supervisor.session is None:
        raise UsageError(f"{run.id} runs without tmux and has no terminal: use `wavedeck logs -f {run.id}`.")
    return tmux.valid_name(supervisor.session)


async def remove(home: Home, host: Host, run: RunDir) -> None:
    """Delete a run for good: on its host, and the copy of it here.

    It is renamed out of the runs first, so an interrupted removal leaves rubbish in the trash, which the next one
    clears, and never half a run. Where its records are damaged, the process table alone says whether it lives.

    Raises
    ------
    UsageError: it is still alive. WavedeckError: it cannot be moved away. HostUnreachable: its host does not answer.
    """
    if host.name == LOCAL and is_waiting(run):
        with contextlib.suppress(RunDirError):
            await take_out(host, run)  # or it may start while it is deleted
    living = await host.living(run.id)
    advice = "stop it before deleting it"
    try:
        attempt = newest_attempt(run)
        if attempt is not None:
            refuse_alive(run, attempt, living, advice)
    except RunDirError:
        if living.supervisors:
            raise still_running(run, advice) from None
    if host.name == LOCAL:
        await host.discard(run.id)
        return
    with contextlib.suppress(UsageError):  # it is gone there already
        await host.discard(run.id)
    await asyncio.to_thread(forget_run, home, host.name, run.id)
    await asyncio.to_thread(run_folders.discard, home, run)


async def remove_copy(home: Home, run: RunDir) -> None:
    """Delete the copy of a run whose host is gone for good; should the host come back, the run stays forgotten.

    Raises
    ------
    UsageError: it is no copy.
    """
    mirror = read_mirror(run.path)
    if mirror is None:
        raise UsageError(f"{run.id} is a run of this machine: delete it with `wavedeck rm {run.id}`.")
    await asyncio.to_thread(forget_run, home, mirror.host, run.id)
    await asyncio.to_thread(run_folders.discard, home, run)


async def _create(
    home: Home, host: Host, run: RunDir, manifest: Manifest, attempt: Attempt, policy: BackupPolicy
) -> None:
    """The run's directory on its host, and first the copy here: whatever happens next, the launch is on record."""
    files = {run.manifest.name: encode(manifest), f"attempts/{attempt.attempt:04d}.json": encode(attempt)}
    if policy != BackupPolicy():
        files[run.policy.name] = encode(policy)
    if host.name == LOCAL:
        await host.create_run(run.id, files)
        return
    mirror = msgspec.json.encode(MirrorRecord(host=host.name))
    await asyncio.to_thread(run_folders.create, home, run, {**files, MIRROR_FILE: mirror})
    try:
        await host.create_run(run.id, files)
    except HostLost:
        raise  # it may be there: the mirror finds out
    except BaseException:
        await asyncio.to_thread(run_folders.discard, home, run)
        raise


async def _create_attempt(host: Host, run: RunDir, attempt: Attempt) -> None:
    name, data = f"attempts/{attempt.attempt:04d}.json", encode(attempt)
    if not await host.place(run.id, name, data, exclusive=True):
        raise UsageError(f"{run.id} was resumed by somebody else a moment ago: `wavedeck show {run.id}` shows it.")
    if host.name != LOCAL:
        await asyncio.to_thread(run_folders.place, run, name, data, False)
    else:
        await asyncio.to_thread(run_folders.sweep_environments, run.path, attempt.attempt)


async def _uncut(start: Coroutine[None, None, LaunchResult]) -> LaunchResult:
    """Wait for `start`, which goes on when the waiting is cancelled: half a launch helps nobody."""
    task = asyncio.get_running_loop().create_task(start)
    _starting.add(task)
    task.add_done_callback(_starting.discard)
    return await asyncio.shield(task)


async def _start(host: Host, run: RunDir, attempt: Attempt, environ: Mapping[str, str] | None) -> LaunchResult:
    try:
        started = await host.start_supervisor(
            run.path, attempt, host.environment(dict(os.environ) if environ is None else environ)
        )
    except LinkDown:
        raise  # whether it was started is not known: its host tells once it answers
    except (WavedeckError, OSError, ValueError) as error:
        if not await _is_up(host, run, attempt):
            await _record_failure(host, run, attempt, str(error))
        raise
    except StartCut:
        await _record_failure(host, run, attempt, CUT_SHORT)
        raise
    return await _report(host, run, attempt, started)


async def _is_up(host: Host, run: RunDir, attempt: Attempt) -> bool:
    """Whether a supervisor lives all the same: a launcher that was killed a moment ago may have started it."""
    with contextlib.suppress(WavedeckError, OSError):
        living = await host.living(run.id)
        return any(number is None or number >= attempt.attempt for _, number in living.supervisors)
    return False


async def _report(host: Host, run: RunDir, attempt: Attempt, started: Started) -> LaunchResult:
    """Wait for the supervisor's first word. Silence is no failure: a busy machine may need longer."""
    limit = REPORT_S if host.name == LOCAL else FAR_REPORT_S
    deadline = time.monotonic() + limit
    while True:
        ended = end_of(run, attempt)
        supervisor = read_record(run.supervisor, SupervisorRecord)
        if supervisor is not None and supervisor.attempt < attempt.attempt:
            supervisor = None
        late = time.monotonic() >= deadline
        if ended is not None or supervisor is not None or late:
            break
        await asyncio.sleep(0.02)
    notice = started.note
    if late and ended is None and supervisor is None:
        notice = f"the supervisor has not reported within {limit:g} s: `wavedeck show {run.id}` tells when it has."
    return LaunchResult(run, attempt.attempt, started.session, notice, supervisor, ended)


async def _record_failure(host: Host, run: RunDir, attempt: Attempt, reason: str) -> None:
    """The launcher writes the exit record of an attempt that no supervisor will ever write one for."""
    record = ExitRecord(attempt.attempt, time.time(), started=attempt.requested, exit_code=127, error=reason)
    if host.name == LOCAL:
        write_record(run.exit, record)  # no await: a cancellation leaves a record as well
        return
    await asyncio.to_thread(write_record, run.exit, record)
    with contextlib.suppress(WavedeckError):
        await host.place(run.id, run.exit.name, encode(record))
