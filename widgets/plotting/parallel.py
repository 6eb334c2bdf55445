"""Parallel coordinates in braille: axes side by side, a line for each run, one of them brought to the front.

From top to bottom: titles, the plot, a row for what has no value. Lines are coloured by their value on the first axis
of words, which is a second look at what stands there in letters; the chosen run is bold and has a marker on each axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engine.comparing.parallel import Axis, Parallel, Trace
from .braille import BRAILLE_BLANK, blank, draw_line, encode
from .canvas import Canvas, plain_text, shorten
from .colours import GRID, MUTED, PLAIN, STRONG, bright

LEAST_GAP = 7
"""Cells from one axis to the next below which axes are left out, the middle ones first."""
NO_VALUE = "no value"
LEAST_ROWS = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Where things lie, in cells: `columns` of the shown axes, `axes` their numbers, the plot's rows; -1 is absent."""

    columns: tuple[int, ...]
    axes: tuple[int, ...]
    top: int
    rows: int
    missing: int


def paint_parallel(data: Parallel, chosen: str | None, width: int, height: int) -> Canvas:
    """Draw into `width` x `height` cells; `chosen` is the id of the run in front."""
    canvas = Canvas(width, height)
    frame = frame_of(data, width, height)
    if not data.axes or frame.rows < 1:
        return canvas
    front = next((trace for trace in data.traces if trace.run == chosen), None)
    slots = _slots(data)
    _axes(canvas, data, frame)
    _lines(canvas, frame, [(trace, slots[trace.run]) for trace in data.traces if trace is not front])
    if front is not None:
        _draw(canvas, frame, front, STRONG, over=True)
    _labels(canvas, data, frame)
    if front is not None:
        _markers(canvas, frame, front, slots[front.run])
    return canvas


def frame_of(data: Parallel, width: int, height: int) -> Frame:
    """The first and the last axis always; of those between as many as have room, the first ones."""
    count = len(data.axes)
    most = max(1, min(count, 1 + max(0, width - 2) // LEAST_GAP))
    axes = tuple(range(count)) if most >= count else (*range(most - 1), count - 1)
    title = int(height >= LEAST_ROWS + 1)
    missing = int(data.gaps and height >= LEAST_ROWS + 2)
    rows = max(0, height - title - missing)
    last = max(0, width - 2 - _margin(data.axes[-1], width)) if data.axes else 0
    step = last / (len(axes) - 1) if len(axes) > 1 else 0.0
    columns = tuple(round(place * step) for place in range(len(axes))) if len(axes) > 1 else (last // 2,)
    return Frame(columns, axes, title, rows, title + rows if missing else -1)


def _margin(axis: Axis, width: int) -> int:
    """Cells to the right of the last axis, for its ticks."""
    widest = max((len(plain_text(words)) for _, words in axis.ticks), default=0)
    return min(widest + 1, max(0, width // 4))


def _slots(data: Parallel) -> dict[str, int]:
    """A colour for each run: by what it has on the first axis of words, else by its place."""
    for place, axis in enumerate(data.axes):
        if 1 < len(axis.ticks) <= 8 and not axis.log and _of_words(data, place):
            names = [words for _, words in axis.ticks]
            return {t.run: names.index(t.words[place]) if t.words[place] in names else 0 for t in data.traces}
    return {trace.run: place for place, trace in enumerate(data.traces)}


def _of_words(data: Parallel, place: int) -> bool:
    """Whether each run stands on a tick: an axis of words, or of few numbers."""
    ticks = {tick for tick, _ in data.axes[place].ticks}
    return all(trace.places[place] is None or trace.places[place] in ticks for trace in data.traces)


def _axes(canvas: Canvas, data: Parallel, frame: Frame) -> None:
    end = -1
    for place, (x, number) in enumerate(zip(frame.columns, frame.axes, strict=True)):
        for y in range(frame.top, frame.top + frame.rows):
            canvas.text(x, y, "│", GRID)
        if frame.top:
            left, right = _room(frame, place, canvas.width)
            if place == len(frame.columns) - 2:  # what came out is called by its whole name, if there is room at all
                whole = len(plain_text(data.axes[frame.axes[-1]].title))
                right = max(left + LEAST_GAP, min(right, canvas.width - whole - 2))
            left = end + 2 if place == len(frame.columns) - 1 and end > 0 else left
            title = shorten(plain_text(data.axes[number].title), right - left)
            start = min(max(left, x - len(title) // 2), right - len(title))
            end = canvas.text(start, 0, title, MUTED)
    if frame.missing >= 0:
        canvas.text(0, frame.missing, "┄" * canvas.width, GRID)
        canvas.text(
            max(0, canvas.width // 2 - len(NO_VALUE) // 2), frame.missing, f" {NO_VALUE} "[: canvas.width], MUTED
        )


def _room(frame: Frame, place: int, width: int) -> tuple[int, int]:
    """The cells around an axis that belong to its title."""
    columns = frame.columns
    left = 0 if place == 0 else (columns[place - 1] + columns[place]) // 2 + 1
    right = width if place == len(columns) - 1 else (columns[place] + columns[place + 1]) // 2
    return left, right


def _labels(canvas: Canvas, data: Parallel, frame: Frame) -> None:
    """Ticks to the right of their axes; no two in one row."""
    for place, (x, number) in enumerate(zip(frame.columns, frame.axes, strict=True)):
        following = frame.columns[place + 1] if place + 1 < len(frame.columns) else canvas.width + 1
        for row, words in _rows_of_ticks(data.axes[number], frame.rows):
            text = shorten(plain_text(words), max(1, following - x - 3))
            canvas.text(x, frame.top + row, "├", MUTED)
            canvas.text(x + 2, frame.top + row, text, PLAIN)


def _rows_of_ticks(axis: Axis, rows: int) -> list[tuple[int, str]]:
    """Row and words of the ticks that have a row of their own, the ends first."""
    order = sorted(range(len(axis.ticks)), key=lambda n: n not in (0, len(axis.ticks) - 1))
    taken: dict[int, str] = {}
    for number in order:
        place, words = axis.ticks[number]
        taken.setdefault(row_of(place, rows), words)
    return sorted(taken.items())


def row_of(place: float, rows: int) -> int:
    """The row of a position, 0 at the top; the same arithmetic as the dots'."""
    return int((1.0 - place) * (4 * rows - 1) / 4)


def _points(frame: Frame, trace: Trace) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Dots of a run's corners; what has no value lies in the row below the plot."""
    height = 4 * frame.rows
    below = height + 1.5 if frame.missing >= 0 else np.nan
    places = [trace.places[number] for number in frame.axes]
    y = [below if place is None else (1.0 - place) * (height - 1) for place in places]
    return np.array([2.0 * x for x in frame.columns]), np.array(y, np.float64)


def _lines(canvas: Canvas, frame: Frame, traces: list[tuple[Trace, int]]) -> None:
    for trace, slot in traces:
        _draw(canvas, frame, trace, bright(slot), over=False)


def _draw(canvas: Canvas, frame: Frame, trace: Trace, style: int, *, over: bool) -> None:
    """One run's line. Dots of lines that share a cell are joined, unless the line goes `over` the others."""
    rows = frame.rows + int(frame.missing >= 0)
    mask = blank(rows, canvas.width)
    draw_line(mask, *_points(frame, trace))
    codes = encode(mask).astype(np.uint32)
    area = np.s_[frame.top : frame.top + rows, 0 : canvas.width]
    chars, styles = canvas.chars[area], canvas.styles[area]
    hit = codes > 0
    before = np.where((chars >= BRAILLE_BLANK) & (chars < BRAILLE_BLANK + 256), chars - BRAILLE_BLANK, 0)
    if not over:
        codes = codes | before
    chars[hit] = codes[hit] + BRAILLE_BLANK
    styles[hit] = style


def _markers(canvas: Canvas, frame: Frame, trace: Trace, slot: int) -> None:
    """Where the chosen run crosses each axis."""
    for x, number in zip(frame.columns, frame.axes, strict=True):
        place = trace.places[number]
        if place is not None:
            canvas.text(x, frame.top + row_of(place, frame.rows), "●", bright(slot))
        elif frame.missing >= 0:
            canvas.text(x, frame.missing, "○", bright(slot))
