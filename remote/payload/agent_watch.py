"""What else goes on on the host: processes on its GPUs, and tmux sessions.

Both are asked of programs that may hang, so each question is a child process with a deadline, and the next one is put
only when the last is over.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import agent_living
from . import host_readings as host
from .agent_files import RUN_ID
from .agent_frames import Frame
from .agent_host import find, user_name
from .agent_jobs import Commands
from .gpu_apps import parse_apps, query_apps_argv

PROCESSES_S = 5.0
SESSIONS_S = 3.0
QUERY_S = 10.0
BACK_OFF = 10
"""A driver that takes seconds to answer is asked less often: at most a tenth of the time."""
MAX_PROCESSES = 128
MAX_SESSIONS = 128
FORMAT = "#{session_created} #{session_activity} #{session_attached} #{session_windows} #{session_id} #{session_name}"
_ID = re.compile(r"\$[0-9]{1,9}")

Tell = Callable[[Frame], None]
Owners = Callable[[], List[Tuple[str, int]]]


class GpuProcesses:
    """`processes` when they have changed.

    Parameters
    ----------
    runs: the runs that live, with the pid of each one's trainer.
    """

    def __init__(self, commands: Commands, runs: Owners, index_of: Callable[[], Dict[str, int]], tell: Tell) -> None:
        self._commands = commands
        self._runs = runs
        self._index_of = index_of
        self._tell = tell
        self._program = find("nvidia-smi")
        self._next = 0.0 if self._program else float("inf")
        self._asked: Any = None
        self._begun = 0.0
        self._sent: Optional[List[Dict[str, Any]]] = []

    def due(self) -> float:
        """When there is something to do again."""
        return self._next

    def turn(self, now: float) -> None:
        """Ask again when it is time; a program that not even a signal ends is not asked again before it is gone."""
        if now < self._next:
            return
        self._next = now + PROCESSES_S
        if self._program is None or (self._asked is not None and not (self._asked.ended and self._asked.reaped())):
            return
        self._begun = now
        argv = [self._program, *query_apps_argv()[1:]]
        self._asked = self._commands.collect(argv, self._answered, QUERY_S)

    def _answered(self, why: str, status: Optional[int], said: bytes) -> None:
        """The rows, with what the driver does not tell: whose process it is, and of which run."""
        now = time.monotonic()
        self._next = max(self._next, now + min(60.0, (now - self._begun) * BACK_OFF))
        if why != "done" or status != 0:
            return
        rows = parse_apps(said.decode("utf-8", "replace"), self._index_of())[:MAX_PROCESSES]
        owners = self._owners([row["pid"] for row in rows])
        found = [dict(row, user=_user(row["pid"]), run=owners.get(row["pid"])) for row in rows]
        if found != self._sent:
            self._sent = found
            self._tell({"op": "processes", "gpus": found})

    def _owners(self, pids: List[int]) -> Dict[int, str]:
        """The run of each process: by its environment, else by its ancestors."""
        found: Dict[int, str] = {}
        for pid in pids:
            run = agent_living.run_of(pid)
            if run is not None and RUN_ID.fullmatch(run):
                found[pid] = run
        if len(found) < len(set(pids)):
            table = host.processes()
            for run, child in self._runs():
                for process in host.tree(table, child):
                    found.setdefault(process.pid, run)
        return found


def _user(pid: int) -> Optional[str]:
    try:
        return user_name(os.stat("/proc/{}".format(pid)).st_uid)
    except OSError:
        return None


class Sessions:
    """`sessions` when they have changed: those of Wavedeck's tmux server and of the user's own."""

    def __init__(self, commands: Commands, socket: str, tell: Tell) -> None:
        self._commands = commands
        self._tell = tell
        self._program = find("tmux")
        self._next = 0.0 if self._program else float("inf")
        self._servers = {socket: True, "default": False} if socket != "default" else {socket: True}
        self._asked: Dict[str, Any] = {}
        self._found: Dict[str, List[Dict[str, Any]]] = {}
        self._sent: List[Dict[str, Any]] = []
        folder = os.environ.get("TMUX_TMPDIR") or "/tmp"
        self._folder = os.path.join(folder, "tmux-{}".format(os.getuid()))
        self._env = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TMUX_PANE")}

    def due(self) -> float:
        """When there is something to do again."""
        return self._next

    def turn(self, now: float) -> None:
        """Ask both servers again when it is time. Without its socket there is no server, and nothing to ask."""
        if self._program is None or now < self._next:
            return
        self._next = now + SESSIONS_S
        for socket, ours in self._servers.items():
            before = self._asked.get(socket)
            if before is not None and not (before.ended and before.reaped()):
                continue
            if not os.path.exists(os.path.join(self._folder, socket)):
                self._take(socket, [])
                continue
            argv = [self._program, "-L", socket, *(["-f", "/dev/null"] if ours else []), "list-sessions", "-F", FORMAT]
            self._asked[socket] = self._commands.collect(argv, self._answer(socket, ours), QUERY_S, env=self._env)

    def _answer(self, socket: str, ours: bool) -> Callable[[str, Optional[int], bytes], None]:
        def take(why: str, status: Optional[int], said: bytes) -> None:
            if why == "done":
                self._take(socket, parse_sessions(said.decode("utf-8", "replace"), ours) if status == 0 else [])

        return take

    def _take(self, socket: str, found: List[Dict[str, Any]]) -> None:
        self._found[socket] = found
        every = [row for name in self._servers for row in self._found.get(name, [])][:MAX_SESSIONS]
        if every != self._sent:
            self._sent = every
            self._tell({"op": "sessions", "sessions": every})


def parse_sessions(text: str, ours: bool) -> List[Dict[str, Any]]:
    """Sessions as listed; lines that are something else are left out."""
    found = []
    for line in text.splitlines()[: 4 * MAX_SESSIONS]:
        words = line.split(" ", 5)
        if len(words) < 6 or not words[5] or _ID.fullmatch(words[4]) is None:
            continue
        numbers = [int(word) if word.isdecimal() and len(word) < 16 else None for word in words[:4]]
        keys = ("created", "activity", "attached", "windows")
        found.append({"name": words[5][:128], "ours": ours, "id": words[4], **dict(zip(keys, numbers))})
    return found
