"""The backup in a process of its own: bulk transfer and hashing never make a screen wait.

`python -m wavedeck.remote.backup.worker [--once] [--run ID]… [--tied]`. One at a time for each home: a second one says
who holds the lock and ends. With `--tied` standard input is its life line: it ends when that does, and the first line
of it may be JSON with passwords for its links, `{"passwords": {HOST: PASSWORD}}`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping

from ...engine.errors import ExitCode, UsageError, WavedeckError
from ...engine.rundir import HOME_VARIABLE, Home
from ..alone import AloneLock, pid_of
from ..fleet import Fleet
from ..ssh.questions import Question, QuestionKind
from .keeper import Keeper, once

LOCK = "backup.lock"
NICENESS = 10
SECRETS_BYTES = 64 << 10
END_S = 5.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


class BackupLock:
    """The right to back up the runs of a home: one process here has it.

    Raises
    ------
    UsageError: another one has; the sentence says which.
    """

    def __init__(self, home: Home) -> None:
        self._home, self._lock = home, AloneLock(home.root / LOCK)

    def __enter__(self) -> BackupLock:
        if not self._lock.take():
            pid = holder(self._home)
            who = f"process {pid}" if pid else "another process"
            raise UsageError(f"{who} backs up already: it does all runs of this home.")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def holder(home: Home) -> int | None:
    """The process that backs up now; None when nobody does."""
    return pid_of(home.root / LOCK)


class Answers:
    """Answers questions for passwords with those that were handed over; every other question is left."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = passwords

    async def ask(self, question: Question) -> str | None:
        return answer_of(question, self._passwords)


def answer_of(question: Question, passwords: Mapping[str, str]) -> str | None:
    """The secret that a question asks for, if it was handed over."""
    if question.kind is QuestionKind.HOST_KEY:
        return None
    named = next((secret for label, secret in passwords.items() if label in question.title), None)
    return named if named is not None else passwords.get(question.host)


class WorkerHandle:
    """A backup that this process has started; it ends with it.

    `alive` is whether it still runs; another process that backs up already makes it end at once, which is no failure.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it; what has arrived is kept for the next one."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_worker(home: Home, secrets: Mapping[str, Mapping[str, str]] | None = None) -> WorkerHandle:
    """Start a backup of all runs that ends when this process does.

    Parameters
    ----------
    secrets: `{"passwords": {label: password}}`; they travel over its standard input only.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, "--tied"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, HOME_VARIABLE: str(home.root), "PYTHONPATH": _path()},
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(json.dumps(dict(secrets or {})).encode() + b"\n")
        process.stdin.flush()
    return WorkerHandle(process)


def _path() -> str:
    """So that the child finds the package this process runs from, wherever that is."""
    return os.pathsep.join(word for word in sys.path if word)


def main(words: list[str] | None = None) -> int:
    """Back up; an exit status of the verbs."""
    options = _options(words)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    _keep_memory()
    home = Home.default()
    secrets = _secrets() if options.tied else {}
    try:
        home.ensure_writable()
        with BackupLock(home):
            return asyncio.run(_work(home, options, secrets))
    except WavedeckError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


async def _work(home: Home, options: argparse.Namespace, secrets: Mapping[str, str]) -> int:
    fleet = Fleet(home, Answers(secrets), mirrors=options.once)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    if options.tied:
        threading.Thread(target=_watch_line, args=(loop, task), daemon=True).start()
    try:
        if not options.once:
            await Keeper(home, fleet, options.run or None).forever()
        done = await once(home, options.run or None, fleet=fleet, mirror_first=True)
    except asyncio.CancelledError:
        return int(ExitCode.OK)
    finally:
        await fleet.close()
    for run_id, said in sorted([*done.failed.items(), *done.second.items()]):
        sys.stderr.write(f"{run_id}: {said}\n")
    return int(ExitCode.FAILED if done.failed or done.second else ExitCode.OK)


def _secrets() -> Mapping[str, str]:
    """The first line of standard input."""
    line = sys.stdin.buffer.readline(SECRETS_BYTES)
    try:
        found = json.loads(line or b"{}").get("passwords", {})
    except (ValueError, AttributeError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _watch_line(loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> None:
    """Whoever started this has ended when its standard input does."""
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(task.cancel)


def _keep_memory() -> None:
    """Have the C library keep freed memory: blocks of a stream come and go, and each new page costs a fault.

    Without it a quarter of the processor time of a stream goes into that. glibc only; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 256 << 20)
        mallopt(_MMAP_THRESHOLD, 32 << 20)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m wavedeck.remote.backup.worker", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when nothing is left to do")
    parser.add_argument("--run", action="append", metavar="ID", help="only this run; may be given several times")
    parser.add_argument("--tied", action="store_true", help="end when standard input does")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
