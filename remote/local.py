"""This machine as a host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.errors import RunDirError
from ..engine.hosts import LOCAL
from ..engine.machine import MachineReading
from ..engine.manifest import Attempt, SupervisorRecord, read_record
from ..engine.rundir import Home, RunDir
from . import run_folders, tmux
from .host import (
    DEFAULT_TIMEOUT_S,
    OUTPUT_BYTES,
    CommandTimeout,
    Completed,
    HostError,
    Living,
    OutputTooLarge,
    ProgramMissing,
    StartCut,
    Started,
)
from .liveness import orphan, supervisors
from .local_machine import LocalMachine
from .run_files import RunFiles, ask_here
from .starting import small_environment, start_in_tmux

SUPERVISOR = Path(__file__).parent / "payload" / "supervisor.py"
END_S = 10.0
TAKE_S = 15.0
"""How long a supervisor may take to come up on a machine that is busy."""


class LocalHost(RunFiles):
    """Runs commands here. tmux and the supervisor get a small environment without secrets.

    Parameters
    ----------
    python: interpreter for the supervisor, 3.8 or newer; this process's own by default.
    home: where its runs are; this user's own by default.
    """

    def __init__(self, python: str = sys.executable, home: Home | None = None) -> None:
        self._python = python
        self._home = home
        self._machine: LocalMachine | None = None

    @property
    def name(self) -> str:
        return LOCAL

    @property
    def home(self) -> Home:
        """Where its runs are."""
        return self._home or Home.default()

    def _run(self, run_id: str) -> RunDir:
        return RunDir(self.home.runs / run_id)

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ProgramMissing(self.name, argv, getattr(error, "strerror", None) or str(error)) from error
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await _exchange(process, stdin, limit, on_output)
                status = await process.wait()
        except TimeoutError:
            raise CommandTimeout(self.name, argv, timeout_s) from None
        except _TooMuch:
            raise OutputTooLarge(self.name, argv, limit) from None
        finally:
            await _end(process)
        return Completed(self.name, tuple(argv), status, out, err)

    def reading(self, path: Path) -> MachineReading:
        """This machine now, with the file system of `path`. Synchronous; call it from one thread at a time."""
        if self._machine is None:
            self._machine = LocalMachine()
        return self._machine.reading(path)

    def close(self) -> None:
        """End the tools that readings keep running."""
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    async def create_run(self, run_id: str, files: Mapping[str, bytes]) -> None:
        await asyncio.to_thread(run_folders.create, self.home, self._run(run_id), files)

    async def place(self, run_id: str, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        return await asyncio.to_thread(run_folders.place, self._run(run_id), name, data, exclusive)

    async def living(self, run_id: str) -> Living:
        return await asyncio.to_thread(self._living, self._run(run_id))

    def _living(self, run: RunDir) -> Living:
        found = tuple((one.pid, one.attempt) for one in supervisors(run.path))
        try:
            record = read_record(run.supervisor, SupervisorRecord)
        except RunDirError:
            record = None
        return Living(found, None if record is None or found else orphan(run.id, record))

    async def discard(self, run_id: str) -> None:
        await asyncio.to_thread(run_folders.discard, self.home, self._run(run_id))

    async def _ask_of_files(self, op: str, run_id: str, fields: Mapping[str, Any], timeout_s: float) -> object:
        try:
            async with asyncio.timeout(timeout_s):
                return await ask_here(op, self._run(run_id).path, fields)
        except TimeoutError:
            raise CommandTimeout(self.name, (op,), timeout_s) from None

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return dict(environ)

    async def start_supervisor(self, run_dir: Path, attempt: Attempt, environ: Mapping[str, str]) -> Started:
        run_dir = run_dir.absolute()
        session = tmux.session_name(run_dir.name)
        handed_over = hand_over(run_dir, attempt.attempt, environ)  # no await between: a cancellation leaves no file
        command = [self._python, "-IS", str(SUPERVISOR), str(run_dir), str(attempt.attempt), "--env"]
        note = None
        try:
            note = await self._start_in_tmux(session, attempt, [*command, session])
            if note is not None:
                (await self.run([*command, "--detach"], env=small_environment(os.environ))).check()
            await self._until_taken(handed_over, command)
        except BaseException as error:
            if withdraw(handed_over):
                if isinstance(error, asyncio.CancelledError):
                    raise StartCut from error
                raise
            if not isinstance(error, HostError):
                raise  # a late answer of tmux or a slow start is no failure once the supervisor is there
        return Started(session if note is None else None, note)

    async def _start_in_tmux(self, session: str, attempt: Attempt, command: list[str]) -> str | None:
        """None when it worked, else why it did not, as a sentence."""
        argv = tmux.new_session_argv(session, attempt.columns, attempt.rows, command)
        if shutil.which(argv[0]) is None:
            return "tmux is not installed here: the run is safe without it, but cannot be attached to."
        return await start_in_tmux(self.run, argv, small_environment(os.environ))

    async def _until_taken(self, handed_over: Path, command: list[str]) -> None:
        """Wait until the supervisor has taken its environment: from then on nothing secret is in any file.

        Raises
        ------
        CommandTimeout: it never came.
        """
        deadline = time.monotonic() + TAKE_S
        while handed_over.exists():
            if time.monotonic() > deadline:
                raise CommandTimeout(self.name, command, TAKE_S)
            await asyncio.sleep(0.01)


def hand_over(run_dir: Path, attempt: int, environ: Mapping[str, str]) -> Path:
    """Leave an environment for the supervisor of `attempt`, readable by this user only; it deletes it first thing.

    An environment in a file for a moment is the only way that shows in no process list: tmux keeps `-e KEY=value` in
    its command line for as long as it lives, and a tmux server that runs already passes on its own, old environment.
    """
    path = run_dir / "attempts" / f".env-{attempt:04d}"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(json.dumps(dict(environ), ensure_ascii=False).encode("utf-8", "surrogateescape"))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def withdraw(handed_over: Path) -> bool:
    """Take a handed-over environment back; False when the supervisor has it already, and so will run the trainer."""
    try:
        handed_over.unlink()
    except FileNotFoundError:
        return False
    return True


class _TooMuch(Exception):
    """A command printed more than was allowed."""


async def _exchange(
    process: asyncio.subprocess.Process, stdin: bytes, limit: int, on_output: Callable[[bytes], None] | None
) -> tuple[bytes, bytes]:
    """Write `stdin`, read both outputs. Raises _TooMuch when one is longer than `limit`."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    out, err = bytearray(), bytearray()
    tasks = [
        asyncio.create_task(_write(process.stdin, stdin)),
        asyncio.create_task(_read(process.stdout, out, limit, on_output)),
        asyncio.create_task(_read(process.stderr, err, limit, on_output)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return bytes(out), bytes(err)


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _read(
    stream: asyncio.StreamReader, into: bytearray, limit: int, on_output: Callable[[bytes], None] | None
) -> None:
    while data := await stream.read(1 << 16):
        into += data
        if on_output is not None:
            on_output(data)
        if len(into) > limit:
            raise _TooMuch


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave nothing behind of a command that did not end by itself: no process, no open pipe."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    transport = getattr(process, "_transport", None)  # the only handle on pipes that a grandchild may hold open
    if transport is not None:
        transport.close()
    with contextlib.suppress(TimeoutError):  # it was killed; its end is not worth waiting for for ever
        async with asyncio.timeout(END_S):
            await process.wait()
