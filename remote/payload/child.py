"""The trainer's process: its pty, its environment, its process group, and every way it can fail to start or to end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
import time
from typing import Any, Dict, List, Optional, Set, Tuple

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_NOT_INHERITED = ("TMUX", "TMUX_PANE", "COLUMNS", "LINES")
"""They describe the supervisor's terminal, not the pty the trainer is given."""
_DEFAULTS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGCHLD")


class CannotStart(Exception):
    """The command could not be started. `exit_code` is what a shell would have said: 126 or 127."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def environment(base: Dict[str, str], attempt: Dict[str, Any], run_dir: str) -> Dict[str, str]:
    """What the trainer sees: the launcher's environment, then the attempt's own variables, then Wavedeck's.

    One OpenMP thread per run unless somebody chose otherwise: several trainers on one machine slow each other down.
    """
    env = {key: value for key, value in base.items() if key not in _NOT_INHERITED}
    env["TERM"] = "xterm-256color"
    env.update({str(key): str(value) for key, value in (attempt.get("env") or {}).items()})
    env.setdefault("OMP_NUM_THREADS", "1")
    env.setdefault("PYTHONUNBUFFERED", "1")
    env.pop("WAVEDECK_RESUME", None)
    if attempt.get("resume"):
        env["WAVEDECK_RESUME"] = "1"
    env["WAVEDECK_RUN_DIR"] = run_dir
    env["WAVEDECK_RUN_ID"] = os.path.basename(run_dir)
    env["WAVEDECK_ATTEMPT"] = str(attempt.get("attempt", 1))
    return env


class Child:
    """A started command on its own pty, leader of its own session and process group.

    The pty's slave end stays open here as well: its last output then waits for us however fast the command ends, and a
    command that closes its own output is not mistaken for one that ended.

    Raises
    ------
    CannotStart: with a sentence; nothing was left behind.
    """

    def __init__(self, argv: List[str], cwd: str, env: Dict[str, str], columns: int, rows: int) -> None:
        self.master, self._slave = os.openpty()
        try:
            fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            self._process = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=self._slave, stdout=self._slave, stderr=self._slave,
                start_new_session=True, preexec_fn=_take_terminal,
            )  # fmt: skip
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            self.close()
            raise _cannot_start(error, argv, cwd) from error
        os.set_blocking(self.master, False)
        self.pid = self._process.pid
        self.exit_code: Optional[int] = None
        self.signal: Optional[int] = None

    def has_ended(self) -> bool:
        """Whether the command has ended; then `exit_code` or `signal` is set."""
        status = self._process.poll()
        if status is None:
            return False
        if status < 0:
            self.signal = -status
        else:
            self.exit_code = status
        return True

    def read(self) -> Optional[bytes]:
        """Output that has arrived; None when there is none now, `b""` when there will never be any."""
        try:
            return os.read(self.master, 65536)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def type(self, keys: bytes) -> int:
        """Pass keystrokes on; returns how many bytes the pty took without waiting."""
        try:
            return os.write(self.master, keys)
        except BlockingIOError:
            return 0
        except OSError:
            return len(keys)

    def resize(self, packed: bytes) -> None:
        """Give the pty a window size (as `TIOCGWINSZ` packs it); the kernel tells the command."""
        try:
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, packed)
        except OSError:
            return

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole process group, waking it if it was suspended."""
        try:
            os.killpg(self.pid, number)
            if number != signal.SIGKILL:
                os.killpg(self.pid, signal.SIGCONT)
        except OSError:
            return

    def group_exists(self) -> bool:
        """Whether any process of the group is left."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def close_slave(self) -> None:
        """Let the pty report its end once nobody else writes to it."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def close(self) -> None:
        """Hang the pty up."""
        self.close_slave()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def _take_terminal() -> None:
    """In the new process: the pty becomes the controlling terminal, signals get back their usual meaning."""
    for name in _DEFAULTS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _cannot_start(error: Exception, argv: List[str], cwd: str) -> CannotStart:
    name = argv[0] if argv else ""
    if not argv:
        return CannotStart("there is no command to run.", NOT_FOUND)
    if not os.path.isdir(cwd):
        return CannotStart("the working directory {} does not exist on this host.".format(cwd), NOT_FOUND)
    if not isinstance(error, OSError):
        return CannotStart("{} could not be started: {}.".format(name, error), NOT_EXECUTABLE)
    if error.errno == errno.ENOENT:
        if os.path.exists(os.path.join(cwd, name)):
            sentence = "{} could not be started: the interpreter its first line names was not found.".format(name)
            if os.sep not in name:
                sentence = "{} was not found in PATH; it is a file in {}: write ./{}.".format(name, cwd, name)
            return CannotStart(sentence, NOT_FOUND)
        where = "" if os.sep in name else " in PATH"
        return CannotStart("command not found: {} is not{} on this host.".format(name, where), NOT_FOUND)
    if error.errno == errno.EACCES:
        sentence = "{} may not be executed (permission denied): chmod +x it, or start it through its interpreter."
        return CannotStart(sentence.format(name), NOT_EXECUTABLE)
    if error.errno == errno.ENOEXEC:
        sentence = "{} is not a program: its first line must name an interpreter (#!/usr/bin/env python3)."
        return CannotStart(sentence.format(name), NOT_EXECUTABLE)
    return CannotStart("{} could not be started: {}.".format(name, error.strerror), NOT_EXECUTABLE)


def strays(run_dir: str, attempt: int, proc: str = "/proc") -> List[int]:
    """Processes of this attempt, wherever they have moved: those whose environment names run directory and attempt.

    torchrun's workers have sessions of their own and outlive it when it is killed, holding their GPUs. Linux only;
    empty elsewhere.
    """
    marks = {
        "WAVEDECK_RUN_DIR={}".format(run_dir).encode("utf-8", "surrogateescape"),
        "WAVEDECK_ATTEMPT={}".format(attempt).encode(),
    }
    try:
        names = [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []
    return [int(name) for name in names if int(name) != os.getpid() and marks <= _environ(proc, name)]


def kill_strays(run_dir: str, attempt: int) -> None:
    """End what is left of an attempt outside its process group."""
    for pid in strays(run_dir, attempt):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def _environ(proc: str, name: str) -> Set[bytes]:
    try:
        with open("{}/{}/environ".format(proc, name), "rb") as handle:
            return set(handle.read(1 << 20).split(b"\0"))
    except OSError:
        return set()


class Escalation:
    """SIGINT, then SIGTERM, then SIGKILL to the trainer's group, each after its grace.

    Parameters
    ----------
    grace_s: seconds from SIGINT to SIGTERM and from SIGTERM to SIGKILL.
    """

    STEPS: Tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

    def __init__(self, grace_s: List[float]) -> None:
        self._grace_s = [max(0.0, float(grace)) for grace in grace_s[:2]]
        self._grace_s += [10.0] * (2 - len(self._grace_s))
        self._step = 0
        self._due = float("inf")
        self.killed = False
        """Whether it has come to SIGKILL."""

    @property
    def requested(self) -> bool:
        """Whether somebody asked for the end."""
        return self._due < float("inf") or self._step > 0

    def begin(self) -> None:
        """Start now; asking again changes nothing."""
        if not self.requested:
            self._due = time.monotonic()

    def turn(self, child: Child) -> None:
        """Send the next signal when it is due."""
        if time.monotonic() < self._due:
            return
        child.signal_group(self.STEPS[self._step])
        self.killed = self.STEPS[self._step] == signal.SIGKILL
        waits = self._grace_s[self._step] if self._step < 2 else float("inf")
        self._due = time.monotonic() + waits
        self._step = min(self._step + 1, 2)
