"""Looking at a program from outside: its CPU seconds, its peak memory, and what stands on its screen.

CPU seconds and ratios are what to read: wall-clock times stretch severalfold on a machine that others use as well, so
every trial notes the load it ran under.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

BRAILLE = re.compile("[\u2801-\u28ff]")
LOOK_EVERY_S = 0.02


@dataclass(slots=True)
class Spread:
    """One figure over several trials."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float | None) -> None:
        """Take one trial's value; None is a trial that did not get there."""
        if value is not None:
            self.values.append(value)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ends(self) -> tuple[float, float]:
        return min(self.values), max(self.values)


class NotSeen(Exception):
    """What was waited for did not appear; says why, with the last screen."""


class Late(NotSeen):
    """It did not appear in time."""


def wait_for(look: Callable[[], object], timeout_s: float, what: str, every_s: float = LOOK_EVERY_S) -> float:
    """Seconds until `look()` is true.

    Raises
    ------
    Late: it was not, within `timeout_s`.
    """
    begin = time.monotonic()
    while not look():
        if time.monotonic() - begin > timeout_s:
            raise Late(f"{what} did not come within {timeout_s:g} s")
        time.sleep(every_s)
    return time.monotonic() - begin


def child_cpu_s(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """User and system seconds of one command that runs to its end, its children included.

    Raises
    ------
    RuntimeError: it failed.
    """
    process = subprocess.Popen(argv, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{shlex.join(argv)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def compiled(sandbox: Path) -> dict[str, str]:
    """Environment in which Python keeps compiled modules, as it does for users, but in the sandbox."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(sandbox / "compiled")}


class Pane:
    """A program on a terminal of its own: a tmux session that nobody else has."""

    def __init__(self, sandbox: Path, argv: Sequence[str], env: Mapping[str, str], columns: int, rows: int) -> None:
        self._tmux = ["tmux", "-u", "-L", "panes", "-f", "/dev/null"]
        self._env = {**os.environ, "TMUX_TMPDIR": str(sandbox)}
        self._env.pop("TMUX", None)
        words = ["env", "COLORTERM=truecolor", *(f"{key}={value}" for key, value in env.items()), *argv]
        self.load = os.getloadavg()[0]
        self.started = time.monotonic()
        keep = ("start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";")
        self._run(*keep, "new-session", "-d", "-s", "bench", "-x", str(columns), "-y", str(rows), "--", *words)
        self.pid = int(self._run("list-panes", "-t", "=bench:", "-F", "#{pane_pid}"))

    def _run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], env=self._env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise NotSeen(f"the program under measurement is gone: tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def text(self) -> str:
        """The screen as text.

        Raises
        ------
        NotSeen: the program has ended; what it left on the screen is told.
        """
        where = ("-p", "-t", "=bench:")
        ended, _, text = self._run("display-message", *where, "#{pane_dead}", ";", "capture-pane", *where).partition(
            "\n"
        )
        if ended == "1":
            raise NotSeen(f"the program under measurement has ended; it left:\n{_without_blanks(text)}")
        return text

    def press(self, *keys: str) -> None:
        """Type keys, by tmux's names."""
        self._run("send-keys", "-t", "=bench:", *keys)

    def wait(self, seen: Callable[[str], object], timeout_s: float, what: str, every_s: float = LOOK_EVERY_S) -> float:
        """Seconds since the program was started until its screen satisfies `seen`."""
        try:
            wait_for(lambda: seen(self.text()), timeout_s, what, every_s)
        except Late as error:
            raise NotSeen(f"{error}; the screen was:\n{_without_blanks(self.text())}") from None
        return time.monotonic() - self.started

    def answer_s(self, key: str, seen: Callable[[str], object], timeout_s: float = 30.0) -> float:
        """Seconds from a key to the screen it asks for; includes about 20 ms of tmux and of looking."""
        begin = time.monotonic()
        self.press(key)
        self.wait(seen, timeout_s, f"the answer to {key!r}", every_s=0.005)
        return time.monotonic() - begin

    def cpu_s(self) -> float:
        """User and system seconds of the program and everything it started."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def cpu_percent(self, seconds: float) -> float:
        """Per cent of one core over the next `seconds`."""
        cpu, begin = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu_s() - cpu) / (time.monotonic() - begin)

    def peak_mb(self) -> float:
        """Sum of the processes' peak resident memory, MB (Linux: VmHWM)."""
        kib = 0
        for process in self._tree():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                kib += int(re.search(r"VmHWM:\s+(\d+)", status).group(1))  # type: ignore[union-attr]
        return kib * 1024 / 1e6

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End the program and its terminal."""
        tree = self._tree()
        with contextlib.suppress(NotSeen):
            self._run("kill-server")
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(tree, timeout=10)

    def __enter__(self) -> Pane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _without_blanks(screen: str) -> str:
    return "\n".join(line.rstrip() for line in screen.splitlines() if line.strip())
