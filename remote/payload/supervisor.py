"""Runs one attempt of a training and tells how it ended: `supervisor.py RUN_DIR ATTEMPT [SESSION] [--detach] [--env]`.

It is the only process that must live as long as the training, so it does little: it owns the pty, copies bytes to
`console.log`, passes keystrokes and signals on, and writes `exit.json`. Everything that could break or take time (GPU
readings, parsing the console) is in a companion process whose death harms nothing. Standard library only, Python 3.8.

A hang-up of its own terminal is ignored: a killed tmux server costs the view, not the training. SIGTERM or SIGINT to
the supervisor is a stop request. If the supervisor itself is killed, the trainer gets the pty's hang-up and no
`exit.json` is written; readers call such a run vanished.

A crash that its attempt allows to be tried again is followed by the next attempt: its record is made, the end of this
one goes on record, and this process becomes that attempt's supervisor (`restarting.py` has the rules).
"""

from __future__ import annotations

import importlib
import os
import select
import selectors
import signal
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, Sequence

if not __package__:  # started as a plain script: its folder becomes the package (PEP 366), so siblings import alike
    _FOLDER = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(_FOLDER))
    __package__ = os.path.basename(_FOLDER)
    importlib.import_module(__package__)

from . import restarting
from .child import NOT_EXECUTABLE, NOT_FOUND, CannotStart, Child, Escalation, environment, kill_strays
from .console_log import ConsoleLog, Tail
from .helper import Helper
from .oom import OomWatch
from .orders import Orders
from .records import CUT_SHORT, ReservedRecord, boot_id, claim_attempt, read_json, take_environment, write_json
from .terminal import Terminal, detach
from .wake import empty, nothing, wake_pipe

POLL_S = 0.2
"""How soon a stop request is seen."""
LEFTOVER_GRACE_S = 2.0
"""How long other processes of the group may outlive the command."""
DRAIN_S = 2.0
"""How long output is still read after everything of the group is gone."""
EXIT_RETRY_S = 600.0
"""How long an exit record that cannot be written is tried again."""
INPUT_BYTES = 65536


class Supervisor:
    """One attempt, from its record to its exit record.

    Parameters
    ----------
    session: the tmux session this runs in, for the record.
    oom_files: kernel counters to watch instead of the ones of this machine.
    promised: the launcher handed an environment over; without it the trainer must not start.
    """

    def __init__(
        self,
        run_dir: str,
        number: int,
        session: Optional[str] = None,
        oom_files: Optional[Sequence[str]] = None,
        promised: bool = False,
    ) -> None:
        self.run_dir = os.path.abspath(run_dir)
        self.number = number
        self.session = session
        self._oom_files = oom_files
        self._promised = promised
        self._attempt = read_json(self._path("attempts", "{:04d}.json".format(number))) or {}
        self._stop = Escalation(self._attempt.get("grace_s") or [])
        self._console = ConsoleLog(self._path("console.log"))
        self._tail = Tail()
        self._exit = ReservedRecord(self._path("exit.json"), "{:04d}".format(number))
        self._terminal = Terminal()
        self._selector = selectors.DefaultSelector()
        self._wake = wake_pipe()
        self._resized = False
        self._typed = bytearray()
        self._companion: Optional[Helper] = None
        self._orders = Orders(self.run_dir, number)
        self._fenced: Optional[str] = None
        self._unwritten: Optional[Dict[str, Any]] = None
        self._started = time.time()
        self._ended: Optional[float] = None

    def run(self) -> int:
        """Run the attempt to its end; returns 0 when its exit record was written."""
        self._handle_signals()
        base = take_environment(self._path("attempts", ".env-{:04d}".format(self.number)))
        if base is None and self._promised:
            return self._write_exit(None, error=CUT_SHORT, exit_code=NOT_FOUND)
        self._fenced = self._orders.fenced_by()
        if self._fenced is not None:
            sentence = "the run went on as {}: this copy may not write any more.".format(self._fenced)
            return self._write_exit(None, error=sentence, exit_code=NOT_EXECUTABLE)
        env = environment(dict(os.environ) if base is None else base, self._attempt, self.run_dir)
        self._say(restarting.told(self._attempt))  # the file exists from the start, so that followers need not guess
        if not self._wait_for_turn():
            return self._write_exit(None)
        offset = self._console.size()
        oom = OomWatch(self._oom_files)
        try:
            child = Child(
                list(self._attempt.get("argv") or []), self._attempt.get("cwd") or "/", env,
                int(self._attempt.get("columns") or 120), int(self._attempt.get("rows") or 40),
            )  # fmt: skip
        except CannotStart as error:
            return self._write_exit(None, error=str(error), exit_code=error.exit_code)
        try:
            oom.pid = child.pid
            self._report(child.pid)
            self._companion = Helper(self.run_dir, self.number, child.pid, offset)
            self._serve(child, oom)
            self._ended = time.time()
            killed = child.signal == signal.SIGKILL or child.exit_code == 137
            oom_killed = child.exit_code != 0 and oom.took(killed and not self._stop.killed)  # ours explains itself
            self._finish(child)
        except BaseException:
            child.signal_group(signal.SIGKILL)
            raise
        return self._conclude(child, oom_killed, base)

    def _wait_for_turn(self) -> bool:
        """Let the pause before a restart pass; False when somebody asked for the end meanwhile."""
        deadline = time.monotonic() + restarting.wait_s(self._attempt)
        if not self._attempt.get("restarted"):
            return True
        self._report(None)
        before = Orders(self.run_dir, self.number - 1, quiet=True)  # asked before this attempt was there
        while True:
            self._look_for_orders()
            if self._stop.requested or before.stop_asked():
                self._stop.begin()
                return False
            left = deadline - time.monotonic()
            if left <= 0:
                return True
            if select.select([self._wake], [], [], min(POLL_S, left))[0]:
                empty(self._wake)
            self._housekeeping()

    # The loop

    def _serve(self, child: Child, oom: OomWatch) -> None:
        """Copy, forward and watch until the command has ended."""
        self._selector.register(child.master, selectors.EVENT_READ, "child")
        self._selector.register(self._wake, selectors.EVENT_READ, "wake")
        if self._terminal.input_fd is not None:
            self._selector.register(self._terminal.input_fd, selectors.EVENT_READ, "keys")
        while not child.has_ended():
            self._turn(child, POLL_S)
            self._look_for_orders()
            self._stop.turn(child)
            oom.sample()
            self._housekeeping()

    def _turn(self, child: Child, timeout_s: float) -> None:
        """Wait for something to happen and deal with it."""
        self._watch_writable(child)
        for key, events in self._selector.select(timeout_s):
            if key.data == "wake":
                empty(self._wake)
            elif key.data == "keys":
                self._take_keys(key.fd)
            elif key.data == "screen":
                self._terminal.flush()
            elif events & selectors.EVENT_READ:
                self._copy(child)
        if self._typed:
            del self._typed[: child.type(bytes(self._typed))]
        if self._resized:
            self._resized = False
            size = self._terminal.size()
            if size is not None:
                child.resize(size)

    def _copy(self, child: Child) -> int:
        """Pass on what the command has written; returns the number of bytes, -1 when there will be no more."""
        data = child.read()
        if data is None:
            return 0
        if not data:
            self._forget_fd(child.master)
            return -1
        self._console.write(data)
        self._tail.feed(data)
        self._terminal.show(data)
        return len(data)

    def _take_keys(self, descriptor: int) -> None:
        keys = self._terminal.read_keys()
        if self._terminal.input_fd is None:
            self._forget_fd(descriptor)
        self._typed += keys[: INPUT_BYTES - len(self._typed)]

    def _watch_writable(self, child: Child) -> None:
        """Ask to be woken when the command or the screen takes bytes again, only while some wait."""
        if child.master in self._selector.get_map():
            both = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._typed else 0)
            self._selector.modify(child.master, both, "child")
        screen, wanted = self._terminal.output_fd, self._terminal.wants_to_write
        watched = [key.fd for key in self._selector.get_map().values() if key.data == "screen"]
        for descriptor in watched:
            if descriptor != screen or not wanted:
                self._forget_fd(descriptor)
        if wanted and screen is not None and screen not in watched:
            self._selector.register(screen, selectors.EVENT_WRITE, "screen")

    def _forget_fd(self, descriptor: int) -> None:
        try:
            self._selector.unregister(descriptor)
        except (KeyError, ValueError):
            return

    def _look_for_orders(self) -> None:
        """Somebody asks for the end, or the run goes on elsewhere: both begin the escalation."""
        self._fenced = self._orders.fenced_by() or self._fenced
        if self._fenced is not None or self._orders.stop_asked():
            self._stop.begin()

    def _housekeeping(self) -> None:
        if self._companion is not None:
            self._companion.reap()
        if self._unwritten is not None:
            self._write_report()

    # The end

    def _conclude(self, child: Child, oom_killed: bool, environ: Optional[Dict[str, str]]) -> int:
        """Write the exit record; after a crash that may be tried again, go on as the next attempt's supervisor."""
        self._look_for_orders()
        record = self._exit_record(child.pid, child.exit_code, child.signal, oom_killed)
        follower, record["not_restarted"] = restarting.next_attempt(self.run_dir, self._attempt, record)
        if follower is not None and not restarting.claim(self.run_dir, follower):
            follower = None  # resumed by somebody, or the disk is full
        status = self._keep(record)
        if follower is None or status:
            return status
        return self._go_on_as(int(follower["attempt"]), environ)

    def _go_on_as(self, number: int, environ: Optional[Dict[str, str]]) -> int:
        """Become the supervisor of another attempt; returns only when that cannot be done, which is then on record."""
        reason = restarting.become(os.path.abspath(__file__), self.run_dir, number, self.session, environ)
        self.number = number
        self._exit = ReservedRecord(self._path("exit.json"), "{:04d}".format(number))
        return self._write_exit(None, error=reason, exit_code=NOT_EXECUTABLE)

    def _finish(self, child: Child) -> None:
        """Everything between the command's death and its exit record, each step bounded."""
        self._drain_while(child, child.group_exists, LEFTOVER_GRACE_S)
        if child.group_exists():
            child.signal_group(signal.SIGKILL)
        if child.exit_code != 0 or self._stop.requested:
            kill_strays(self.run_dir, self.number)
        child.close_slave()
        self._drain_while(child, lambda: child.master in self._selector.get_map(), DRAIN_S)
        child.close()
        self._console.close()
        self._terminal.close()
        if self._companion is not None:
            self._companion.close()

    def _drain_while(self, child: Child, condition: Any, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while condition() and time.monotonic() < deadline:
            self._turn(child, 0.02)

    def _write_exit(
        self,
        pid: Optional[int],
        exit_code: Optional[int] = None,
        number: Optional[int] = None,
        oom_killed: bool = False,
        error: Optional[str] = None,
    ) -> int:
        return self._keep(self._exit_record(pid, exit_code, number, oom_killed, error))

    def _exit_record(
        self,
        pid: Optional[int],
        exit_code: Optional[int],
        number: Optional[int],
        oom_killed: bool,
        error: Optional[str] = None,
    ) -> Dict[str, Any]:
        return {
            "attempt": self.number,
            "pid": pid,
            "started": self._started,
            "ended": self._ended or time.time(),
            "exit_code": exit_code,
            "signal": number,
            "oom_killed": oom_killed,
            "stop_requested": self._stop.requested,
            "fenced": self._fenced,
            "error": error,
            "tail": self._tail.lines(),
        }

    def _keep(self, record: Dict[str, Any]) -> int:
        """Write the exit record; on a disk that refuses it, go on trying with a smaller one for a while."""
        return 0 if self._exit.keep(record, EXIT_RETRY_S) else 1

    def fail(self, error: BaseException) -> None:
        """Tell about a defect of the supervisor itself; the trainer has been killed by then."""
        reason = "the supervisor failed ({!r}): see supervisor.log, and report it as a defect.".format(error)
        try:
            with open(self._path("supervisor.log"), "a") as handle:
                traceback.print_exception(type(error), error, error.__traceback__, file=handle)
        except OSError as second:
            reason = "the supervisor failed ({!r}), and its log could not be written ({}).".format(error, second)
        self._write_exit(None, error=reason, exit_code=1)

    # What others are told

    def _say(self, text: bytes) -> None:
        """A line of our own on the console."""
        self._console.write(text)
        self._terminal.show(text)

    def _report(self, child: Optional[int]) -> None:
        """Say that the attempt is under way; None for the trainer while it still waits."""
        self._started = time.time()
        self._unwritten = {
            "attempt": self.number,
            "pid": os.getpid(),
            "started": self._started,
            "child": child,
            "boot_id": boot_id(),
            "session": self.session,
        }
        self._write_report()

    def _write_report(self) -> None:
        """On a full disk the record is tried again at every turn; the training goes on meanwhile."""
        try:
            write_json(self._path("supervisor.json"), self._unwritten or {})
            self._unwritten = None
        except OSError:
            return

    # Signals

    def _handle_signals(self) -> None:
        for ignored in (signal.SIGHUP, signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        for asked in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asked, self._on_stop)
        signal.signal(signal.SIGWINCH, self._on_resize)
        signal.signal(signal.SIGCHLD, nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # what came before anybody listened is heard now

    def _on_stop(self, *_: Any) -> None:
        self._stop.begin()

    def _on_resize(self, *_: Any) -> None:
        self._resized = True

    def _path(self, *parts: str) -> str:
        return os.path.join(self.run_dir, *parts)


def main(argv: List[str]) -> int:
    """Exit status 0: the end is on record. 2: wrong arguments. 3: it runs already, has run, or is outdated."""
    words = [word for word in argv if word not in ("--detach", "--env")]
    if len(words) not in (2, 3) or not words[1].isdigit():
        sys.stderr.write("usage: supervisor.py RUN_DIR ATTEMPT [SESSION] [--detach] [--env]\n")
        return 2
    run_dir, number = os.path.abspath(words[0]), int(words[1])
    if "--detach" in argv:
        detach()
    try:
        claim = claim_attempt(run_dir, number)
    except OSError as error:
        sys.stderr.write("attempt {} cannot be read: {}\n".format(number, error))
        return 2
    if claim is None:
        sys.stderr.write("attempt {} runs already, has run, or was followed by another\n".format(number))
        return 3
    supervisor = Supervisor(run_dir, number, words[2] if len(words) == 3 else None, promised="--env" in argv)
    try:
        return supervisor.run()
    except Exception as error:
        supervisor.fail(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
