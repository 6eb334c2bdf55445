"""The time axis of sounds: which stretch is visible, which column a moment lies in, what the ruler says."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_S = 0.002
"""The narrowest window: at 48 kHz some hundred samples."""
STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Seconds `start` to `end`, start < end, of a clip."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """How long the window is, in seconds."""
        return self.end - self.start

    def column(self, seconds: float, columns: int) -> int | None:
        """The column of a moment; None outside. The very end belongs to the last column."""
        if columns <= 0 or not self.start <= seconds <= self.end:
            return None
        return min(columns - 1, int((seconds - self.start) / self.length * columns))

    def seconds(self, column: float, columns: int) -> float:
        """The moment at a column's left edge."""
        return self.start + self.length * column / max(1, columns)

    def zoomed(self, factor: float, around: float, whole: TimeWindow) -> TimeWindow:
        """`factor` times as long, with the moment `around` where it is."""
        length = min(max(self.length * factor, min(LEAST_S, whole.length)), whole.length)
        part = (around - self.start) / self.length
        start = around - part * length
        return TimeWindow(start, start + length).inside(whole)

    def moved(self, seconds: float, whole: TimeWindow) -> TimeWindow:
        """Later by so many seconds, stopped by the ends of the clip."""
        return TimeWindow(self.start + seconds, self.end + seconds).inside(whole)

    def inside(self, whole: TimeWindow) -> TimeWindow:
        """The same length within the clip, or the clip."""
        length = min(self.length, whole.length)
        start = min(max(self.start, whole.start), whole.end - length)
        return TimeWindow(start, start + length)


def whole_window(duration_s: float) -> TimeWindow:
    """All of a clip; a clip of no length gets a second, so that there is an axis."""
    return TimeWindow(0.0, duration_s if math.isfinite(duration_s) and duration_s > 0 else 1.0)


def region(first: float, second: float, whole: TimeWindow) -> TimeWindow:
    """What was dragged over, in order, inside the clip and not narrower than a window may be."""
    start, end = (min(max(at, whole.start), whole.end) for at in sorted((first, second)))
    least = min(LEAST_S, whole.length)
    return TimeWindow(start, max(end, start + least)).inside(whole)


def ruler(window: TimeWindow, columns: int) -> list[tuple[int, str]]:
    """Ticks as (column, label): round moments, with room for each label to the right of its tick."""
    if columns < 4:
        return []
    for step in [*STEPS_S, *(3600.0 * 2**power for power in range(1, 12))]:
        if window.length / step > columns / 4:
            continue
        first = math.ceil(window.start / step - 1e-9)
        last = math.floor(window.end / step + 1e-9)
        ticks = [
            (window.column(number * step, columns), time_label(number * step, step))
            for number in range(first, last + 1)
        ]
        placed = [
            (column, label) for column, label in ticks if column is not None and column + 1 + len(label) <= columns
        ]
        widest = max((len(label) for _, label in placed), default=0)
        if columns * step / window.length >= max(8, widest + 3):
            return placed
    return []


def time_label(seconds: float, step: float = 1.0) -> str:
    """`0:03.5`: minutes, seconds, and as many decimals as tell neighbours `step` seconds apart."""
    decimals = 0 if step >= 1 else max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = round(max(0.0, seconds) * 10**decimals)
    whole, part = divmod(ticks, 10**decimals)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{clock}.{part:0{decimals}d}" if decimals else clock
