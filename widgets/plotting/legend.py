"""The legend rows: marker, name, newest and best value, what was NaN; under a crosshair the readings instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...engine.format import count, number
from ...engine.series_stats import best, non_finite
from ...engine.series_view import Reading, XAxis
from .canvas import Canvas, plain_text, shorten
from .colours import ERROR, MARKERS, MUTED, PLAIN, SLOTS, STRONG, bright
from .data import ChartData, ChartSeries
from .scale import clock_label

GAP = 3
DASH = "╌"
"""What levels across a chart are drawn with; curves are dots and lines, the grid is finer."""
LEAST_NAME = 8
"""Cells of a name below which it no longer tells the metrics apart."""
Part = tuple[str, int]
"""Text and style number."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the legend says of one series, most important part first, so that narrow charts drop from the end."""

    parts: tuple[Part, ...]

    def fitted(self, width: int) -> tuple[Part, ...]:
        """As many parts as fit into `width`; the name is shortened for the sake of the newest value."""
        marker, name, *rest = self.parts
        room = width - len(marker[0])
        value = len(rest[0][0]) if rest else 0
        parts = [marker, (shorten(name[0], room - value if room - value >= LEAST_NAME else max(0, room)), name[1])]
        room = width - sum(len(text) for text, _ in parts)
        for text, style in rest:
            if len(text) > room:
                break
            parts.append((text, style))
            room -= len(text)
        return tuple(parts)


def marker_of(slot: int) -> str:
    """The shape of a slot."""
    return MARKERS[slot % SLOTS]


def place(reading: Reading, axis: XAxis) -> str:
    """Where a point is, in words: its step, unless the chart is by epoch or time, which then comes first."""
    step = f"step {count(reading.step)}"
    if axis == "epoch" and not np.isnan(reading.epoch):
        return f"epoch {number(reading.epoch)}, {step}"
    if axis == "time":
        return f"{clock_label(reading.time_s)}, {step}"
    return step


def summary_entries(data: ChartData) -> list[Entry]:
    """One for each series, then one for each level across the chart."""
    return [*(summary_entry(series) for series in data.series), *line_entries(data)]


def line_entries(data: ChartData) -> list[Entry]:
    """What the legend says of the levels; under a crosshair they are the same."""
    return [
        Entry(
            (
                (DASH * 2, bright(line_slot(place))),
                (f" {plain_text(line.label)}", bright(line_slot(place))),
                (f" {number(line.value)}", MUTED),
            )
        )
        for place, line in enumerate(data.lines)
    ]


def line_slot(place: int) -> int:
    """The colour of a level: from the end, where the fewest series are."""
    return SLOTS - 1 - place % SLOTS


def summary_entry(series: ChartSeries) -> Entry:
    """Newest value, anything that was not finite, best value with its step."""
    parts = _head(series)
    last = series.view.last
    if last is not None:
        parts.append((f" {number(last.value)}", STRONG if np.isfinite(last.value) else ERROR))
    bad = non_finite(series.view)
    if bad.first is not None:
        named = [f"{count(n)} {word}" for n, word in ((bad.nan, "NaN"), (bad.inf, "Inf")) if n]
        where = "at" if bad.nan + bad.inf == 1 else "from"
        parts.append((f" × {', '.join(named)} {where} step {count(bad.first.step)}", ERROR))
    top = best(series.view, series.goal) if series.goal else None
    if top is not None:
        parts.append((f" best {number(top.value)}", MUTED))
        parts.append((f" at {count(top.step)}", MUTED))
    return Entry(tuple(parts))


def reading_entry(series: ChartSeries, axis: XAxis, x: float, low: float, high: float) -> Entry:
    """The point nearest to `x`, and the span of the column [low, high] where that merges several."""
    parts = _head(series)
    point = series.view.nearest(axis, x)
    if point is None:
        return Entry((*parts, (" –", MUTED)))
    parts.append((f" {number(point.value)}", STRONG if np.isfinite(point.value) else ERROR))
    column = series.view.window(axis, low, high, 1)
    if column.points > 1 and column.count[0]:
        parts.append((f" ({number(float(column.minimum[0]))}…{number(float(column.maximum[0]))})", PLAIN))
    if column.bad[0]:
        parts.append((f" × {count(int(column.bad[0]))}", ERROR))
    parts.append((f" {place(point, axis)}", MUTED))
    return Entry(tuple(parts))


def _head(series: ChartSeries) -> list[Part]:
    return [(marker_of(series.slot), bright(series.slot)), (f" {plain_text(series.label)}", bright(series.slot))]


def rows_needed(entries: list[Entry], width: int, most: int) -> int:
    """Legend rows for these entries: one if all fit into it whole, else one each, up to `most`."""
    total = sum(sum(len(text) for text, _ in entry.parts) + GAP for entry in entries) - GAP
    return 1 if total <= width else min(len(entries), most)


def draw_legend(canvas: Canvas, top: int, rows: int, left: int, entries: list[Entry]) -> None:
    """Write the entries into `rows` rows from `top`, side by side where there are fewer rows than entries."""
    width = canvas.width - left
    for y in range(top, top + rows):
        canvas.text(0, y, " " * canvas.width)
    if rows >= len(entries):
        for row, entry in enumerate(entries):
            _write(canvas, left, top + row, entry.fitted(width))
        return
    shown = entries
    each = (width + GAP) // max(1, -(-len(shown) // rows)) - GAP
    if rows == 1 and sum(sum(len(t) for t, _ in e.parts) + GAP for e in entries) - GAP <= width:
        x = left
        for entry in entries:
            x = _write(canvas, x, top, entry.parts) + GAP
        return
    per_row = -(-len(shown) // rows)
    while each < 8 and per_row > 1:
        per_row -= 1
        each = (width + GAP) // per_row - GAP
    hidden = len(entries) - per_row * rows
    for number_, entry in enumerate(entries[: per_row * rows]):
        row, column = divmod(number_, per_row)
        _write(canvas, left + column * (each + GAP), top + row, entry.fitted(each))
    if hidden > 0:
        more = f" +{hidden} more"
        canvas.text(canvas.width - len(more), top + rows - 1, more, MUTED)


def _write(canvas: Canvas, x: int, y: int, parts: tuple[Part, ...]) -> int:
    for text, style in parts:
        x = canvas.text(x, y, text, style)
    return x
