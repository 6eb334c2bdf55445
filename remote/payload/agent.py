"""The agent: one process on a host, for as long as a deck is connected to it.

It answers requests, sends what is appended to the runs that are followed, and reads the machine. One thread, one
selector, nothing that waits: disks are waited for in `agent_workers`, programs in child processes with deadlines. It
ends when its standard input does, when nothing arrived for a while, or when nobody reads its output; whatever it
started ends with it, except what was meant to live on (a supervisor in tmux). A connection that breaks leaves no
process: sshd does not end it (no terminal, and root's sessions take no signals), so it must do so itself.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from . import agent_living, run_files
from .agent_files import Home, inner_name, run_id
from .agent_follow import Follower
from .agent_frames import URGENT, Frame, FrameReader, Output, Refused, Rubbish
from .agent_host import hello, home_directory, lengthen_path, socket_name
from .agent_jobs import Commands
from .agent_readings import KernelLog, Readings
from .agent_sweep import Sweep
from .agent_watch import GpuProcesses, Sessions
from .agent_workers import Workers

IDLE_S = 30.0
CREDIT = 1 << 20
LONGEST_WAIT_S = 1.0
READ_BYTES = 256 << 10
READING_BYTES = 128 << 10
"""Readings are left out while more than this waits to be written."""


class Agent:
    """Everything between standard input and standard output.

    Parameters
    ----------
    options: `home`, `idle_s`, `credit`, `tmux_socket`, all optional.
    """

    def __init__(self, options: Dict[str, Any], stdin: int = 0, stdout: int = 1) -> None:
        lengthen_path()
        self._stdin, self._stdout = stdin, stdout
        self._idle_s = _positive(options.get("idle_s"), IDLE_S)
        self._root = home_directory(_word(options.get("home")))
        self._socket = socket_name(_word(options.get("tmux_socket")))
        self._home = Home(self._root)
        self._reader = FrameReader()
        self._output = Output(stdout)
        self._selector = selectors.PollSelector() if hasattr(selectors, "PollSelector") else selectors.DefaultSelector()
        self._ended: Optional[int] = None
        self._writing = False
        self._heard = time.monotonic()
        self._wake, waker = _wake_pipe()
        self._commands = Commands(self._selector, self._output)
        self._workers = Workers(waker)
        self._follower = Follower(
            self._home.runs, self._output, max(1 << 16, int(_positive(options.get("credit"), CREDIT)))
        )
        self._readings = Readings(self._root, self._tell)
        self._looks: List[Any] = [
            self._readings,
            KernelLog(self._tell),
            GpuProcesses(self._commands, self._trainers, lambda: self._readings.index_of, self._tell),
            Sessions(self._commands, self._socket, self._tell),
            Sweep(self._home.runs),
            self._follower,
            self._commands,
        ]
        self._requests: Dict[str, Callable[[Frame, bytes], None]] = {
            "ping": self._ping,
            "input": self._commands.input,
            "run": self._commands.run,
            "cancel": self._cancel,
            "create_run": self._create_run,
            "place": self._place,
            "withdraw": self._withdraw,
            "exists": self._exists,
            "discard": self._discard,
            "living": self._living,
            "sha256": self._sha256,
            "stat": self._stat,
            "uncovered": self._uncovered,
            "read": self._range,
            "payload": self._payload,
            "watch": lambda frame, payload: self._follower.watch(),
            "follow": lambda frame, payload: self._follower.follow(frame),
            "unfollow": lambda frame, payload: self._follower.unfollow(run_id(frame.get("run"))),
            "ack": lambda frame, payload: self._follower.acknowledge(frame.get("bytes")),
        }

    def run(self, nonce: str, left: bytes) -> int:
        """Serve until the deck is gone; returns the exit status."""
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, _on_child)
        self._selector.register(self._stdin, selectors.EVENT_READ, self._read)
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
        self._output.put_bytes("WAVEDECK-AGENT {}\n".format(nonce).encode(), URGENT)
        self._output.put(hello(self._root, self._socket), lane=URGENT)
        self._heard = time.monotonic()
        try:
            self._take(left)
            while self._ended is None:
                self._turn()
        finally:
            self._close()
        return self._ended

    # The loop

    def _turn(self) -> None:
        """Write what can be written, wait for something to happen, and deal with it."""
        self._flush()
        for key, _ in self._selector.select(self._wait_s()):
            key.data()
        now = time.monotonic()
        for look in list(self._looks):
            self._guard(look, now)
        if now - self._heard > self._idle_s:
            self._ended = 0
        if self._output.flooded:
            self._end("the deck asks and does not read", 1)

    def _wait_s(self) -> float:
        due = min([look.due() for look in self._looks])
        return max(0.0, min(due - time.monotonic(), LONGEST_WAIT_S))

    def _guard(self, look: Any, now: float) -> None:
        """A defect in one of them costs that one, and says so; without commands or files there is no agent."""
        try:
            look.turn(now)
        except Exception as error:
            if look in (self._commands, self._follower):
                raise
            self._looks.remove(look)
            text = "the agent lost its {}: {}".format(type(look).__name__, _place(error))
            self._tell({"op": "notice", "text": text})

    def _flush(self) -> None:
        try:
            self._output.flush()
        except OSError:
            self._ended = 0
            return
        if self._writing == self._output.empty:
            self._writing = not self._output.empty
            if self._stdout == self._stdin:
                return
            if self._writing:
                self._selector.register(self._stdout, selectors.EVENT_WRITE, self._flush)
            else:
                self._selector.unregister(self._stdout)

    def _read(self) -> None:
        try:
            data = os.read(self._stdin, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended = 0
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except Rubbish as rubbish:
            self._end(str(rubbish), 2)
            return
        for frame, payload in frames:
            self._heard = time.monotonic()
            self._answer(frame, payload)

    def _answer(self, frame: Frame, payload: bytes) -> None:
        """Do what is asked; a request that cannot be done is answered, whatever is wrong with it."""
        key = frame.get("id")
        try:
            request = self._requests.get(frame["op"])
            if request is None:
                raise Refused("error", "this agent does not know that request")
            if key is not None and (isinstance(key, (bool, float, dict, list)) or len(str(key)) > 64):
                raise Refused("error", "an id must be a number or a short word")
            request(frame, payload)
        except Refused as refused:
            self._refuse(key, refused)
        except Exception as error:
            self._refuse(key, Refused("error", _place(error)))

    def _refuse(self, key: Any, refused: Refused) -> None:
        if isinstance(key, (str, int)) and len(str(key)) <= 64:
            self._output.put({"op": "failed", "id": key, "why": refused.why, "text": refused.text[:1000]})

    def _woken(self) -> None:
        """A child ended, or a worker is ready."""
        try:
            while os.read(self._wake, 512):
                continue
        except OSError:
            pass
        for answer in self._workers.results():
            data = answer.pop("data", None)
            self._output.put(answer, data or None)

    def _tell(self, frame: Frame) -> None:
        """A reading or a notice; the next one replaces it, so a link that is too slow loses some."""
        if sum(self._output.waiting(lane) for lane in (0, 1)) < READING_BYTES:
            try:
                self._output.put(frame)
            except ValueError:
                return  # longer than a frame may be

    def _trainers(self) -> Any:
        return [(run.run, run.child) for run in self._follower.active_runs()]

    # Requests

    def _ping(self, frame: Frame, payload: bytes) -> None:
        pong = {"op": "pong", "id": frame.get("id"), "t": time.time(), "mono": time.monotonic()}
        self._output.put(pong, lane=URGENT)

    def _cancel(self, frame: Frame, payload: bytes) -> None:
        if not self._commands.cancel(frame.get("id")):
            self._workers.cancel(frame.get("id"))

    def _create_run(self, frame: Frame, payload: bytes) -> None:
        run = run_id(frame.get("run"))
        self._file_work(frame, lambda: self._home.create_run(run, frame.get("files"), payload))

    def _place(self, frame: Frame, payload: bytes) -> None:
        run, name, exclusive = run_id(frame.get("run")), inner_name(frame.get("name")), bool(frame.get("exclusive"))
        self._file_work(frame, lambda: self._home.place(run, name, payload, exclusive))

    def _withdraw(self, frame: Frame, payload: bytes) -> None:
        run, name = run_id(frame.get("run")), inner_name(frame.get("name"))
        self._file_work(frame, lambda: self._home.withdraw(run, name))

    def _exists(self, frame: Frame, payload: bytes) -> None:
        run, name = run_id(frame.get("run")), inner_name(frame.get("name"))
        self._file_work(frame, lambda: self._home.exists(run, name))

    def _discard(self, frame: Frame, payload: bytes) -> None:
        run = run_id(frame.get("run"))
        self._file_work(frame, lambda: self._home.discard(run))
        self._workers.submit("files", None, lambda _: self._begin_deleting())

    def _begin_deleting(self) -> Frame:
        """In the lane of the files, so that the run is in the trash by now; the deleting itself is in another one."""
        self._workers.submit("trash", None, lambda _: self._home.empty_trash())
        return {}

    def _living(self, frame: Frame, payload: bytes) -> None:
        path = self._home.run_dir(run_id(frame.get("run")))
        self._file_work(frame, lambda: agent_living.living(path))

    def _sha256(self, frame: Frame, payload: bytes) -> None:
        run, name, path = self._run_of(frame), frame.get("name"), frame.get("path")
        if run is None:
            self._workers.submit("hash", _key(frame), lambda cancelled: self._home.sha256(path, cancelled))
        else:
            self._workers.submit("hash", _key(frame), lambda cancelled: run_files.sha256(run, name, path, cancelled))

    def _stat(self, frame: Frame, payload: bytes) -> None:
        run, name, path = self._run_of(frame), frame.get("name"), frame.get("path")
        if run is None:
            self._workers.submit("stat", _key(frame), lambda _: self._home.stat(path))
        else:
            self._workers.submit("stat", _key(frame), lambda _: run_files.facts(run, name, path))

    def _uncovered(self, frame: Frame, payload: bytes) -> None:
        run = self._home.run_dir(run_id(frame.get("run")))

        def look(cancelled: Any) -> Frame:
            found = json.dumps(run_files.uncovered(run, cancelled), ensure_ascii=False)
            return {"data": found.encode("utf-8", "replace")}

        self._workers.submit("uncovered", _key(frame), look)

    def _run_of(self, frame: Frame) -> Optional[str]:
        """The directory of the run that a file is asked for of; None where it is any path of this host."""
        return None if frame.get("run") is None else self._home.run_dir(run_id(frame["run"]))

    def _range(self, frame: Frame, payload: bytes) -> None:
        run = run_id(frame.get("run"))
        self._workers.submit(
            "read", _key(frame),
            lambda _: self._home.read(run, frame.get("name"), frame.get("offset"), frame.get("count")),
        )  # fmt: skip

    def _payload(self, frame: Frame, payload: bytes) -> None:
        self._file_work(frame, lambda: self._home.payload(frame.get("digest"), frame.get("name"), payload))

    def _file_work(self, frame: Frame, work: Callable[[], Frame]) -> None:
        self._workers.submit("files", _key(frame), lambda _: work())

    # The end

    def _on_signal(self, *_: Any) -> None:
        self._ended = 0

    def _end(self, text: str, status: int) -> None:
        sys.stderr.write("wavedeck: the agent ends: {}\n".format(text))
        self._ended = status

    def _close(self) -> None:
        self._commands.close()
        self._readings.close()


def _key(frame: Frame) -> Any:
    if frame.get("id") is None:
        raise Refused("error", "this request needs an id")
    return frame["id"]


def _positive(value: Any, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else default


def _word(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _place(error: BaseException) -> str:
    """What went wrong and where, in one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = " ({}:{})".format(os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_lineno) if trace else ""
    return "{!r}{}".format(error, where)[:400]


def _on_child(*_: Any) -> None:
    """Its only use is to wake the loop."""


def _wake_pipe() -> Any:
    """A pipe that signals and workers write to, so that the loop need not poll for them."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def main(nonce: str, options: Dict[str, Any], left: bytes = b"") -> int:
    """Run the agent on standard input and output. Exit status 0: the deck is gone. 2: it sent rubbish. 70: a defect."""
    if (
        not isinstance(nonce, str)
        or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", nonce) is None
        or not isinstance(options, dict)
    ):
        sys.stderr.write("wavedeck: the agent got a damaged header.\n")
        return 2
    try:
        return Agent(options).run(nonce, left)
    except Exception as error:
        sys.stderr.write("wavedeck: the agent failed: {}\n".format(_place(error)))
        return 70
