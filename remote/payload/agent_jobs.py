"""Commands on the host: for the deck (`run`), and for the agent's own looks at tmux and nvidia-smi.

Each runs in `/`, in a session of its own, with a deadline and a bound on what it may print. Whoever breaks them, and
whatever still runs when the agent ends, is killed with its whole process group. A process that does not even die (a
driver that hangs) is never waited for.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from .agent_frames import ANSWER, Frame, Output, Refused

MAX_JOBS = 64
PIECE_BYTES = 256 << 10
MAX_TIMEOUT_S = 7 * 86400.0
MAX_LIMIT = 1 << 30
MAX_INPUT = 16 << 20
"""What may wait here for the commands that it is the input of."""
_ABSENT = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)


class Command:
    """One child process.

    Parameters
    ----------
    on_output: gets the descriptor (1 or 2) and the bytes, as they come.
    on_end: called once, with `done` and the exit status (negative: a signal), or with why it was killed and a sentence.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        argv: Sequence[str],
        on_output: Callable[[int, bytes], None],
        on_end: Callable[[str, Optional[int], str], None],
        timeout_s: float = 10.0,
        limit: int = 256 << 10,
        stdin: bytes = b"",
        env: Optional[Dict[str, str]] = None,
    ) -> None:
        self._selector = selector
        self._on_output = on_output
        self._on_end = on_end
        self._left = limit
        self._limit = limit
        self._timeout_s = timeout_s
        self._stdin = memoryview(stdin)
        self._pipes: Dict[int, Any] = {}
        self._paused = False
        self.ended = False
        self.deadline = time.monotonic() + timeout_s
        self.process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd="/", env=env, start_new_session=True, bufsize=0,
        )  # fmt: skip
        self._open(self.process.stdout, 1)
        self._open(self.process.stderr, 2)
        if self.process.stdin is not None:
            self._open(self.process.stdin, 0)

    def _open(self, pipe: Any, which: int) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipes[which] = pipe
        events = selectors.EVENT_READ if which else selectors.EVENT_WRITE
        self._selector.register(pipe, events, (lambda: self._read(which)) if which else self._write)

    def _close(self, which: int) -> None:
        pipe = self._pipes.pop(which)
        if which == 0 or not self._paused:
            self._selector.unregister(pipe)
        pipe.close()

    def _write(self) -> None:
        if 0 not in self._pipes:
            return
        try:
            self._stdin = self._stdin[os.write(self._pipes[0].fileno(), self._stdin[: 64 << 10]) :]
        except BlockingIOError:
            return
        except OSError:
            self._stdin = memoryview(b"")  # it does not want its input: no failure
        if not self._stdin:
            self._close(0)

    def _read(self, which: int) -> None:
        if self.ended or which not in self._pipes:
            return
        try:
            data = os.read(self._pipes[which].fileno(), PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(which)
        elif len(data) > self._left:
            self._finish("too_large", None, "it printed more than {} bytes".format(self._limit))
        else:
            self._left -= len(data)
            self._on_output(which, data)

    def pause(self, paused: bool) -> None:
        """Leave its output where it is for now, so that it has to wait; its deadline goes on."""
        if paused == self._paused or self.ended:
            return
        self._paused = paused
        for which in [which for which in self._pipes if which]:
            if paused:
                self._selector.unregister(self._pipes[which])
            else:
                self._selector.register(self._pipes[which], selectors.EVENT_READ, lambda which=which: self._read(which))

    def turn(self, now: float) -> None:
        """See whether it has ended or is late.

        It is not reaped while somebody holds its pipes: its group can then still be killed by its number.
        """
        if self.ended:
            return
        if 1 not in self._pipes and 2 not in self._pipes:
            status = self.process.poll()
            if status is not None:
                self._finish("done", status, "")
                return
        if now >= self.deadline:
            self._finish("timeout", None, "it did not end within {:g} s".format(self._timeout_s))

    def cancel(self) -> None:
        """Kill it; nobody is told."""
        self._on_end = lambda *_: None
        self._finish("cancelled", None, "")

    def reaped(self) -> bool:
        """Whether nothing is left of it in the process table."""
        return self.process.poll() is not None

    def _finish(self, why: str, status: Optional[int], text: str) -> None:
        if self.ended:
            return
        if self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                self.process.kill()
        for which in list(self._pipes):
            self._close(which)
        self.ended = True
        self._on_end(why, status, text)


class Commands:
    """All commands of an agent, its own and those of the deck."""

    def __init__(self, selector: selectors.BaseSelector, output: Output) -> None:
        self._selector = selector
        self._output = output
        self._jobs: Dict[Any, Command] = {}
        self._own: List[Command] = []
        self._dying: List[Command] = []
        self._inputs: Dict[Any, bytearray] = {}
        self._refused: Set[Any] = set()

    def collect(
        self,
        argv: Sequence[str],
        on_end: Callable[[str, Optional[int], bytes], None],
        timeout_s: float = 10.0,
        limit: int = 256 << 10,
        env: Optional[Dict[str, str]] = None,
    ) -> Optional[Command]:
        """Run a command of the agent's own; `on_end` gets why, the status and all it printed. None: no such program."""
        said = bytearray()
        try:
            command = Command(
                self._selector, argv, lambda _, data: said.extend(data),
                lambda why, status, _: on_end(why, status, bytes(said)), timeout_s, limit, env=env,
            )  # fmt: skip
        except (OSError, ValueError):
            return None
        self._own.append(command)
        return command

    def input(self, frame: Frame, payload: bytes) -> None:
        """Keep a piece of the input of a command that is yet to be started under the same id. Raises Refused."""
        key = frame["id"]
        if key in self._refused:
            return
        if sum(map(len, self._inputs.values())) + len(payload) > MAX_INPUT:
            self._inputs.pop(key, None)
            self._refused.add(key)  # what follows is not the input that was meant, and the command is not started
            raise Refused("error", "more input than {} bytes".format(MAX_INPUT))
        self._inputs.setdefault(key, bytearray()).extend(payload)

    def run(self, frame: Frame, payload: bytes) -> None:
        """Start a command for the deck; what came before under its id is the beginning of its input. Raises Refused."""
        key = frame["id"]
        if key in self._refused:
            self._refused.discard(key)
            return
        payload = bytes(self._inputs.pop(key, b"")) + payload
        if key in self._jobs or len(self._jobs) >= MAX_JOBS:
            raise Refused("error", "too many commands at once")
        argv, env = frame.get("argv"), frame.get("env")
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise Refused("error", "`argv` must be words")
        if env is not None and not _is_environment(env):
            raise Refused("error", "`env` must be null or names with values")
        try:
            self._jobs[key] = Command(
                self._selector, argv, lambda which, data: self._piece(key, which, data),
                lambda why, status, text: self._end(key, why, status, text),
                _number(frame, "timeout", 30.0, MAX_TIMEOUT_S), int(_number(frame, "limit", 16 << 20, MAX_LIMIT)),
                payload, env,
            )  # fmt: skip
        except _ABSENT as error:
            raise Refused("missing", error.strerror or str(error)) from None
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise Refused("error", str(error)) from None

    def cancel(self, key: Any) -> bool:
        """Kill a job of the deck; False when there is none of that id."""
        self._inputs.pop(key, None)
        self._refused.discard(key)
        command = self._jobs.pop(key, None)
        if command is not None:
            command.cancel()
            self._dying.append(command)
        return command is not None

    def turn(self, now: float) -> None:
        """Ended ones are told, late ones killed, and what died is taken out of the process table."""
        crowded = self._output.crowded
        for command in list(self._jobs.values()):
            command.pause(crowded)
            command.turn(now)
        for command in list(self._own):
            command.turn(now)
            if command.ended:
                self._own.remove(command)
                self._dying.append(command)
        self._dying = [command for command in self._dying if not command.reaped()]

    def due(self) -> float:
        """When the next one is late, or may have ended; a death wakes the loop by its signal as well."""
        commands = [*self._jobs.values(), *self._own]
        soonest = min([command.deadline for command in commands], default=float("inf"))
        return min(soonest, time.monotonic() + 0.5) if commands or self._dying else soonest

    def close(self, wait_s: float = 1.0) -> None:
        """Kill everything that still runs; wait for it only for a moment."""
        for command in [*self._jobs.values(), *self._own]:
            command.cancel()
            self._dying.append(command)
        self._jobs, self._own = {}, []
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not all(command.reaped() for command in self._dying):
            time.sleep(0.01)

    def _piece(self, key: Any, which: int, data: bytes) -> None:
        self._output.put({"op": "piece", "id": key, "fd": which}, data, ANSWER)

    def _end(self, key: Any, why: str, status: Optional[int], text: str) -> None:
        self._dying.append(self._jobs.pop(key))
        if why == "done":
            self._output.put({"op": "done", "id": key, "status": status})
        else:
            self._output.put({"op": "failed", "id": key, "why": why, "text": text})


def _is_environment(env: Any) -> bool:
    return isinstance(env, dict) and all(isinstance(value, str) for value in env.values())


def _number(frame: Frame, key: str, default: float, most: float) -> float:
    value = frame.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise Refused("error", "`{}` must be a number up to {:g}".format(key, most))
    return float(value)
