"""The deck and the verbs under measurement: their home, their runs, and what their screens say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from wavedeck.engine.format import count, number
from wavedeck.engine.rundir import Home

from .generate import NAN_STEP, SPIKE_STEP, SPIKE_VALUE, SPIKED, Shape, finished_run, journal, writer
from .measure import BRAILLE, NotSeen, Pane, compiled, wait_for
from .viewer import Viewer

OPEN = "from wavedeck.app.cli.opening import open_deck; open_deck({!r})"
CLOCK = re.compile(r"\bclock\s+(\d+)\b")
SPIKE_COLUMNS = 120
BUSY_KEYS = (("6", "config"), ("1", "charts"))


class Bench:
    """A home in the sandbox, with its own tmux server; `close` leaves nothing running."""

    def __init__(self, sandbox: Path, data: Path, name: str = "home") -> None:
        self.sandbox, self.data = sandbox, data
        self.home = Home(sandbox / name)
        self.home.runs.mkdir(parents=True)
        self._ids: list[str] = []

    @property
    def env(self) -> dict[str, str]:
        """What the deck and the verbs are given on top of this process's environment."""
        return {
            "WAVEDECK_HOME": str(self.home.root),
            "WAVEDECK_TMUX_SOCKET": "runs",
            "TMUX_TMPDIR": str(self.sandbox),
            "PYTHONSAFEPATH": "1",
            **compiled(self.sandbox),
        }

    def wavedeck(self, *words: str) -> list[str]:
        """Command line of a verb."""
        return [str(Path(sys.executable).with_name("wavedeck")), *words]

    def json(self, *words: str) -> Any:
        """What a verb answers with `--json`."""
        command = self.wavedeck(*words)
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise NotSeen(f"{' '.join(words)} failed: {done.stderr.decode(errors='replace').strip()}")
        return json.loads(done.stdout)

    def finished(self, shape: Shape) -> Callable[[], Viewer]:
        """A finished run of this shape; each call gives a viewer that knows nothing of it yet (no cached summary)."""
        run_id = f"20260921-{len(list(self.home.runs.iterdir())):04d}-bench-finished-{shape.steps}"
        finished_run(self.home, run_id, shape, self.data)
        last = _last_value(shape, self.data)

        def fresh() -> Viewer:
            self.forget()
            return self.viewer(run_id, last)

        return fresh

    def viewer(self, run_id: str, last: str = "") -> Viewer:
        """The deck, opened on one run. `last` is the newest value of its first metric, as the legend writes it."""

        def loaded(text: str, shape: Shape) -> bool:
            header = f"{count(shape.steps)}/{count(shape.steps)}"
            return header in text and f"loss/m0 {last}" in text and "loading" not in text

        def newest(text: str) -> int | None:
            found = CLOCK.search(text)
            return int(found.group(1)) if found else None

        return Viewer("wavedeck", [sys.executable, "-c", OPEN.format(run_id)], self.env, loaded, newest)

    def forget(self) -> None:
        """Drop the cache of summaries, so that a trial starts from the journals alone."""
        for file in self.home.cache.glob("*"):
            file.unlink()

    def live(self, seconds: float, history: int = 1000) -> tuple[str, Path]:
        """A supervised writer of ten rows a second: its run id, and the file in which it notes what it wrote when."""
        notes = self.sandbox / f"live-{len(self._ids)}"
        command = [*writer("wavedeck"), str(notes), "--steps", str(history), "--seconds", str(seconds)]
        answer = self.json("exec", "--name", "bench", "--detach", "--json", "--", *command)
        self._ids.append(answer["id"])
        written = notes / "written.txt"
        wait_for(lambda: written.exists() and written.read_text(), 60, "the first live row")
        return answer["id"], written

    def trainer_pid(self, run_id: str) -> int:
        """The supervised process."""
        return int(self._supervisor(run_id)["child"])

    def _supervisor(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.home.runs / run_id / "supervisor.json").read_text())

    def close(self) -> None:
        """End what was launched: trainers first, so that supervisors can write how they ended."""
        supervisors = []
        for run_id in self._ids:
            with contextlib.suppress(OSError, KeyError, ValueError, psutil.Error):
                record = self._supervisor(run_id)
                supervisors.append(psutil.Process(record["pid"]))
                psutil.Process(record["child"]).kill()
        for process in psutil.wait_procs(supervisors, timeout=20)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for socket in ("runs", "panes"):
            subprocess.run(
                ["tmux", "-L", socket, "kill-server"], env={**os.environ, **self.env}, capture_output=True, check=False
            )


def _last_value(shape: Shape, data: Path) -> str:
    """The newest value of `loss/m0`, as the legend writes it."""
    with journal(shape, data).open("rb") as file:
        file.seek(-4096, os.SEEK_END)
        lines = file.read().splitlines()[1:]
    newest = [row["v"]["loss/m0"] for line in lines if (row := json.loads(line))["k"] == "metrics"][-1]
    return number(float(np.float32(newest)))


def answers_while_loading(viewer: Viewer, shape: Shape, sandbox: Path, timeout_s: float) -> list[float]:
    """Seconds from a key to its tab, again and again until everything is loaded."""
    answers = []
    begin = time.monotonic()
    with viewer.open(sandbox) as pane:
        pane.wait(lambda text: "loss/m0" in text and BRAILLE.search(text), timeout_s, "the first chart")
        while time.monotonic() - begin < timeout_s:
            for key, _ in BUSY_KEYS:
                drawn = key == "1"
                answers.append(pane.answer_s(key, lambda text, drawn=drawn: bool(BRAILLE.search(text)) is drawn))
                if viewer.loaded(pane.text(), shape):
                    return answers
    raise NotSeen(f"{shape} was not loaded within {timeout_s:g} s while keys were pressed")


def spike_on_screen(bench: Bench) -> tuple[bool, bool, str]:
    """Whether 120 columns show the one spike and the one NaN among 100,000 points, and the chart that does.

    Seen means: a mark in the plot at the column of its step, and its step in words.
    """
    viewer = bench.finished(SPIKED)()
    with viewer.open(bench.sandbox, SPIKE_COLUMNS, 36) as pane:
        pane.wait(lambda text: viewer.loaded(text, SPIKED), 120, "the spiked run")
        text = _settled(pane)
    spike = _marked(text, "▲", SPIKE_STEP) and f"{SPIKE_VALUE:.0f} at step {count(SPIKE_STEP)}" in text
    bad = _marked(text, "×", NAN_STEP) and f"NaN at step {count(NAN_STEP)}" in text
    return spike, bad, "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _marked(text: str, mark: str, step: int) -> bool:
    """Whether a row of the plot has `mark` where `step` lies, within two cells."""
    for line in text.splitlines():
        gutter, bar, plot = line.partition("│")
        if bar and not gutter.strip() and mark in plot:
            width = SPIKE_COLUMNS - len(gutter) - 1
            return abs(plot.index(mark) - step / SPIKED.steps * width) <= 2
    return False


def _settled(pane: Pane) -> str:
    """The screen once it has been the same for a second."""
    before, since = pane.text(), time.monotonic()
    while time.monotonic() - since < 1.0:
        text = pane.text()
        if text != before:
            before, since = text, time.monotonic()
        time.sleep(0.1)
    return before


def noticing_a_kill(bench: Bench, seconds: float) -> tuple[float, float]:
    """Seconds from `kill -9` of a supervised trainer until the open deck and `ps --json` tell it, with the signal."""
    run_id, _ = bench.live(seconds)
    with bench.viewer(run_id).open(bench.sandbox) as pane:
        pane.wait(lambda text: "running" in text and BRAILLE.search(text), 60, "the running run on the deck")
        os.kill(bench.trainer_pid(run_id), signal.SIGKILL)
        killed = time.monotonic()
        pane.wait(lambda text: "killed" in text and re.search(r"SIGKILL|signal 9", text), 60, "the kill on the deck")
        on_deck = time.monotonic() - killed
    run_id, _ = bench.live(seconds)
    os.kill(bench.trainer_pid(run_id), signal.SIGKILL)
    return on_deck, wait_for(lambda: _told(bench, run_id), 60, "the kill in ps --json")


def _told(bench: Bench, run_id: str) -> bool:
    view = next(view for view in bench.json("ps", "--json") if view["id"] == run_id)
    return view["state"] == "killed" and view["signal"] == signal.SIGKILL
