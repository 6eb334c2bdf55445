"""What stays put while a run grows, so that a new row changes a few cells of a chart instead of all of them.

A chart that fits its axes to every row moves every dot of every curve ten times a second, by less than anybody sees. So
an axis that was fitted holds until the data leave it: x is fitted with a little room to the right, y keeps its range
while new points lie within it, smoothing keeps its weight. Labels are always those of the axis as drawn, and a point
outside the range, or one that is not finite, has everything fitted and drawn anew in the same frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ...engine.series_view import SeriesView
from .data import ChartData, ChartOptions
from .legend import draw_legend, rows_needed, summary_entries
from .ranges import YView, x_scale, y_view
from .scale import Scale

if TYPE_CHECKING:
    from .picture import Picture

LEFT = 1
"""Margin of title and legend."""
ROOM = 0.05
"""Part of the x range that stays free for rows to come when a growing run's axis is fitted."""


def continues(before: ChartData, after: ChartData) -> bool:
    """Whether `after` is `before` and more points: the same series, nothing taken back, both read to the end."""
    return (
        min(before.loaded, after.loaded) >= 1
        and before.lines == after.lines
        and len(before.series) == len(after.series)
        and all(
            (old.label, old.slot) == (new.label, new.slot) and _extends(old.view, new.view)
            for old, new in zip(before.series, after.series, strict=True)
        )
    )


def _extends(old: SeriesView, new: SeriesView) -> bool:
    """Whether the points of `old` are the first ones of `new`: a run that went back wrote its rows at other times."""
    if old is new:
        return True
    count = len(old)
    if not 0 < count <= len(new) or old.origin_t != new.origin_t:
        return False
    return _stamp(old, count - 1) == _stamp(new, count - 1)


def _stamp(view: SeriesView, index: int) -> tuple[float, int]:
    row = view.row_of(index)
    return float(view.t[row]), int(view.step[row])


def axes_after(
    before: Picture | None, data: ChartData, options: ChartOptions
) -> tuple[Scale | None, YView | None, tuple[float, ...]]:
    """Both axes and the smoothing weights (empty: to be chosen), held where `before` allows it."""
    x = x_scale(data, options)
    if x is None:
        return None, None, ()
    if before is None or before.options != options or not continues(before.data, data):
        return x, y_view(data, options, x), ()
    x = _held_x(before, x)
    if x != before.x or before.y_view is None:
        return x, y_view(data, options, x), ()
    held = within(before.data, data, before.y_view.scale)
    return x, before.y_view if held else y_view(data, options, x), before.weights


def _held_x(before: Picture, fitted: Scale) -> Scale:
    """The x axis for grown data: the one before while it has room, else a new one with room to grow into.

    Only an axis that shows everything grows; a window is where somebody put it.
    """
    if before.x is None or before.options.window is not None or fitted.log:
        return fitted
    if before.x.low == fitted.low and fitted.high <= before.x.high:
        return before.x
    return Scale(fitted.low, fitted.high + ROOM * (fitted.high - fitted.low))


def legend_room(width: int, height: int) -> tuple[int, int]:
    """Width of the legend and the most rows it may take."""
    return width - LEFT, max(1, height // 8)


def with_legend(before: Picture, data: ChartData) -> Picture | None:
    """The picture with the newest values in its legend and the curves as they were, or None where that would hide
    something: a point that is not finite, or not within the axes."""
    fitted = x_scale(data, before.options)
    if fitted is None or before.y_view is None or not continues(before.data, data):
        return None
    if _held_x(before, fitted) != before.x or not within(before.data, data, before.y_view.scale):
        return None
    canvas, frame = before.canvas.copy(), before.frame
    if frame.legend_rows:
        entries = summary_entries(data)
        if rows_needed(entries, *legend_room(canvas.width, canvas.height)) != frame.legend_rows:
            return None
        draw_legend(canvas, frame.legend, frame.legend_rows, LEFT, entries)
    return replace(before, canvas=canvas, data=data)


def within(before: ChartData, after: ChartData, y: Scale) -> bool:
    """Whether every new point is finite and on the y axis, so that the axis and what it leaves out are as before."""
    return all(
        _inside(new.view.values[len(old.view) :], y)
        for old, new in zip(before.series, after.series, strict=True)
        if old.view is not new.view
    )


def _inside(values: npt.NDArray[Any], y: Scale) -> bool:
    return bool(((values >= y.low) & (values <= y.high)).all())
