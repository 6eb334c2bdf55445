"""The real deck in a real terminal: launch the debug recipe from the form, watch the curve move, stop, resume, finish.

The deck runs in a pane of a tmux server of its own; the test types keys and reads the pane, as a person would.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.rundir import Home
from wavedeck.remote.far import far_sign
from wavedeck.remote.liveness import alive
from wavedeck.tests.conftest import reap
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture

WaitFor = Callable[..., Any]
PYTHON = shlex.quote(sys.executable)
BRAILLE = re.compile("[\u2801-\u28ff]")


class Terminal:
    """A pane of 120×36 cells with the deck in it."""

    def __init__(self, home: Path, tmux_socket: str) -> None:
        self._socket = f"wd-screen-{uuid.uuid4().hex[:8]}"
        self._home = home
        self._inner = tmux_socket

    def tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, "-f", "/dev/null", *words], capture_output=True, text=True)
        return done.stdout

    def start(self, size: tuple[int, int] = (120, 36), words: str = "") -> None:
        self._socket = f"wd-screen-{uuid.uuid4().hex[:8]}"  # a server that is still ending takes no new session
        width, height = map(str, size)
        settings = f"WAVEDECK_HOME={shlex.quote(str(self._home))} WAVEDECK_TMUX_SOCKET={self._inner}"
        deck = f"env -u TMUX -u COLUMNS -u LINES {settings} TERM=xterm-256color {PYTHON} -m wavedeck {words}"
        command = f"{deck}; echo deck ended $?; sleep 1000"
        self.tmux("new-session", "-d", "-s", "deck", "-x", width, "-y", height, command)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "deck", *keys)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-t", "deck", "-l", text)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "deck")

    def press(self, wait_for: WaitFor, key: str) -> None:
        """A key that moves the focus, and wait until it shows: what is typed ahead goes to the old one."""
        before = self.settled(wait_for)
        self.keys(key)
        wait_for(lambda: self.look != before, 20, f"what {key} does")
        self.settled(wait_for)

    def settled(self, wait_for: WaitFor) -> list[str]:
        """The look once it has been the same ten times in a row."""
        last: list[list[str]] = []

        def same() -> bool:
            last.append(self.look)
            return len(last) >= 10 and all(look == last[-1] for look in last[-10:])

        wait_for(same, 30, "the screen to settle")
        return last[-1]

    @property
    def look(self) -> list[str]:
        """The screen with its colours, but without the title's gauges."""
        return self.tmux("capture-pane", "-p", "-e", "-t", "deck").splitlines()[1:]

    def expect(self, wait_for: WaitFor, text: str, timeout: float = 40) -> None:
        """Wait for `text` on screen; a failure shows the screen."""
        try:
            wait_for(lambda: text in self.screen, timeout, repr(text))
        except BaseException:
            print(self.screen)
            raise

    def kill(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal(home: Path, tmux_socket: str) -> Iterator[Terminal]:
    pane = Terminal(home, tmux_socket)
    yield pane
    pane.kill()
    reap(str(home))


def ps(home: Path) -> list[dict[str, Any]]:
    """What `ps --json` prints; asked in this process, because a new one for each look would slow the training down."""
    return [view.to_json() for view in Catalog(Home(home), alive, far=far_sign(Home(home))).views()]


def choose_small_training(terminal: Terminal, wait_for: WaitFor) -> None:
    """Fewer clips and more epochs than the debug preset, typed into the form like a person would."""
    for words, name, value in (
        ("all splits together", "data.clips", "80"),
        ("max_epochs", "training.max_epochs", "40"),
    ):
        if name != "data.clips":  # at first the search line has the keys anyway
            terminal.press(wait_for, "C-f")
        terminal.type(words)
        wait_for(lambda words=words: words in [line.strip() for line in terminal.screen.splitlines()], 20, words)
        terminal.press(wait_for, "Enter")
        terminal.type(value)
        terminal.expect(wait_for, f"{name}={value}")


def choose_host(terminal: Terminal, wait_for: WaitFor, host: str) -> None:
    """Eight fields before the search line: open the list, take the second, and the command line says so."""
    terminal.press(wait_for, "C-f")
    for _ in range(8):  # backup, name, platform, strategy, model, data, GPUs, host
        terminal.press(wait_for, "BTab")
    terminal.press(wait_for, "Enter")
    terminal.press(wait_for, "Down")
    terminal.keys("Enter")
    terminal.expect(wait_for, f"--host {host}")


@pytest.fixture(params=["local", "gpu1"])
def host(request: pytest.FixtureRequest, home: Path) -> str:
    """This machine, and one behind a real sshd with an interpreter that has everything."""
    name: str = request.param
    if name != "local":
        request.getfixturevalue("sshd")
        home.mkdir(parents=True, exist_ok=True)
        (home / "hosts.toml").write_text(f"[{name}]\npython = {json.dumps(sys.executable)}\n")
    return name


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("end-to-end")
def test_launch_watch_stop_resume_finish(host: str, terminal: Terminal, home: Path, wait_for: WaitFor) -> None:
    terminal.start()
    wait_for(lambda: "no runs yet" in terminal.screen, 40, "the deck")
    if host != "local":
        terminal.expect(wait_for, f"{host} ●")
    terminal.keys("n")
    wait_for(lambda: "wavedeck run sousa --preset debug" in terminal.screen, 40, "the launch form")
    choose_small_training(terminal, wait_for)
    if host != "local":
        choose_host(terminal, wait_for, host)
    terminal.keys("C-l")
    wait_for(lambda: "running" in terminal.screen and "1 Charts" in terminal.screen, 60, "the run's screen")
    assert ps(home)[0]["host"] == host

    # the loss curve appears and moves
    first = wait_for(lambda: BRAILLE.search(terminal.screen) and terminal.screen, 120, "a curve")
    wait_for(lambda: (ps(home)[0]["step"] or 0) >= 20, 120, "some steps")
    wait_for(lambda: BRAILLE.findall(terminal.screen) != BRAILLE.findall(first), 60, "the curve to move")

    # stop, with its question; the trainer saves
    terminal.keys("s")
    wait_for(lambda: "Stop " in terminal.screen and "No (n)" in terminal.screen, 20, "the question")
    terminal.keys("y")
    wait_for(lambda: "stopped" in terminal.screen, 60, "the stop on screen")
    (stopped,) = ps(home)
    assert stopped["state"] == "stopped" and stopped["exit_code"] == 0
    assert stopped["checkpoints"][-1]["step"] >= stopped["step"] > 0

    # the deck dies; the run's record does not
    terminal.kill()
    terminal.start()
    wait_for(lambda: "stopped" in terminal.screen, 40, "the run again")

    # resume goes on from there to the end
    terminal.keys("r")
    wait_for(lambda: "Resume " in terminal.screen and "No (n)" in terminal.screen, 20, "the question")
    terminal.keys("Enter")
    wait_for(lambda: ps(home)[0]["attempt"] == 2, 40, "the second attempt")
    wait_for(lambda: "finished" in terminal.screen, 200, "the end on screen")
    (finished,) = ps(home)
    assert finished["state"] == "finished" and finished["step"] > stopped["step"]
    terminal.keys("q")
    wait_for(lambda: "deck ended 0" in terminal.screen, 20, "a clean end")


@pytest.mark.xdist_group("end-to-end")
def test_a_run_outlives_the_deck_and_attach_comes_back(terminal: Terminal, home: Path, wait_for: WaitFor) -> None:
    loop = "import time\nfor n in range(10**6): print('tick', n, flush=True); time.sleep(0.1)"
    launched = subprocess.run(
        [sys.executable, "-m", "wavedeck", "exec", "--detach", "--name", "ticker", "--", sys.executable, "-c", loop],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ticker" in launched.stdout
    terminal.start()
    wait_for(lambda: "running" in terminal.screen, 40, "the run")
    terminal.keys("a")
    wait_for(lambda: re.search(r"^tick \d+$", terminal.screen, re.M), 20, "the run's own terminal")
    terminal.keys("C-b", "d")
    wait_for(lambda: "WAVEDECK" in terminal.screen, 20, "the deck again")
    shell = psutil.Process(int(terminal.tmux("display-message", "-p", "-t", "deck", "#{pane_pid}")))
    for process in shell.children(recursive=True):
        process.kill()
    assert ps(home)[0]["state"] == "running"
    subprocess.run([sys.executable, "-m", "wavedeck", "stop", "last"], check=True, capture_output=True)
    assert ps(home)[0]["state"] in ("stopped", "killed")
