"""The same trials for the deck and for its peer: open a run, see its first chart, see all of it, follow it live."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .generate import Shape
from .measure import BRAILLE, Pane, compiled

SETTLE_S = 3.0
"""After the last byte is read the screen may still draw; idling is measured from here on."""
LIVE_LOOK_S = 0.04


@dataclass(frozen=True, slots=True)
class Viewer:
    """How one program is started on a run, and how its screen is read."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    loaded: Callable[[str, Shape], bool]
    """Whether this screen shows that everything was read."""
    newest: Callable[[str], int | None]
    """The newest live step this screen shows."""

    def open(self, sandbox: Path, columns: int = 200, rows: int = 50) -> Pane:
        """Start it on a terminal."""
        return Pane(sandbox, self.argv, {**compiled(sandbox), **self.env}, columns, rows)


@dataclass(slots=True)
class Opened:
    """Figures of one opening of a finished run."""

    first_chart_s: float
    loaded_s: float
    loaded_cpu_s: float
    peak_mb: float
    load: float
    idle_percent: float | None = None


def shows_chart(text: str) -> bool:
    """Whether a chart of the run is drawn: its metric's name and at least one dot."""
    return "loss/m0" in text and BRAILLE.search(text) is not None


def open_finished(viewer: Viewer, shape: Shape, sandbox: Path, idle_s: float, timeout_s: float) -> Opened:
    """Open a finished run and watch until everything is read; then leave it alone for `idle_s`."""
    with viewer.open(sandbox) as pane:
        first = pane.wait(shows_chart, timeout_s, f"{viewer.name}: the first chart of {shape}")
        loaded = pane.wait(lambda text: viewer.loaded(text, shape), timeout_s, f"{viewer.name}: all of {shape}")
        figures = Opened(first, loaded, pane.cpu_s(), 0.0, pane.load)
        if idle_s:
            time.sleep(SETTLE_S)
            figures.idle_percent = pane.cpu_percent(idle_s)
        figures.peak_mb = pane.peak_mb()
        return figures


@dataclass(slots=True)
class Followed:
    """Figures of following a live run. `lags_s`: per row, from logged to shown."""

    cpu_percent: float
    load: float
    lags_s: list[float] = field(default_factory=list)


def follow(viewer: Viewer, written: Path, seconds: float, sandbox: Path) -> Followed:
    """Open a live run and look at its screen many times a second."""
    with viewer.open(sandbox) as pane:
        pane.wait(shows_chart, 60, f"{viewer.name}: the first chart of a live run")
        pane.wait(lambda text: viewer.newest(text) is not None, 60, "the newest step")
        time.sleep(SETTLE_S)
        cpu, begin = pane.cpu_s(), time.monotonic()
        seen: list[tuple[float, str]] = []
        while time.monotonic() - begin < seconds:
            seen.append((time.time(), pane.text()))
            time.sleep(LIVE_LOOK_S)
        percent = 100 * (pane.cpu_s() - cpu) / (time.monotonic() - begin)
        return Followed(percent, pane.load, _lags(viewer, seen, _rows_written(written)))


def _rows_written(path: Path) -> list[tuple[int, float]]:
    """(step, unix seconds) of every live row so far."""
    lines = path.read_text().splitlines()
    return [(int(step), float(t)) for step, t in (line.split() for line in lines if line.count(" ") == 1)]


def _lags(viewer: Viewer, seen: list[tuple[float, str]], written: list[tuple[int, float]]) -> list[float]:
    """Seconds from logged to shown, of every row logged while the screen was looked at.

    A row never shown by itself was shown when a newer one was. Rows of the last moments that no screen showed yet are
    left out, unless the screen froze: then they count with the time they have been waiting.
    """
    begin, end = seen[0][0], seen[-1][0]
    steps: list[tuple[float, int]] = []
    for at, text in seen:
        step = viewer.newest(text)
        if step is not None:
            steps.append((at, step))
    lags = []
    place = 0
    for step, t in written:
        if not begin <= t <= end:
            continue
        while place < len(steps) and steps[place][1] < step:
            place += 1
        if place < len(steps):
            lags.append(max(0.0, steps[place][0] - t))
        elif end - t > 1.0:
            lags.append(end - t)
    return lags
