"""What stays put while a run grows, so that a new row changes a few cells of a chart instead of all of them.

A chart that fits its axes to every row moves every dot of every curve ten times a second, by less than anybody sees. So
an axis that was fitted holds until the data leave it: x is fitted with a little room to the right, y keeps its range
while new points lie within it, smoothing keeps its weight. Labels are always those of the axis as drawn, and a point
outside the range has everything fitted anew in the same frame: nothing is ever drawn late or left out.
"""

from __future__ import annotations

import numpy as np

from ...engine.series_view import SeriesView
from .data import ChartData, ChartOptions
from .scale import Scale

ROOM = 0.05
"""Part of the x range that stays free for rows to come when a growing run's axis is fitted."""


def continues(before: ChartData, after: ChartData) -> bool:
    """Whether `after` is `before` and more points: the same series, nothing taken back, both read to the end."""
    return (
        min(before.loaded, after.loaded) >= 1
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


def held_x(before: Scale, fitted: Scale) -> Scale:
    """The x axis for grown data: the one before while it has room, else a new one with room to grow into."""
    if fitted.log or before.log:
        return fitted
    if before.low == fitted.low and fitted.high <= before.high:
        return before
    return Scale(fitted.low, fitted.high + ROOM * (fitted.high - fitted.low))


def may_hold_x(options: ChartOptions) -> bool:
    """Only an axis that shows everything grows; a window is where somebody put it."""
    return options.window is None and not options.log_x


def within(before: ChartData, after: ChartData, y: Scale) -> bool:
    """Whether every new point is finite and on the y axis, so that the axis and what it leaves out are as before."""
    return all(
        _inside(new.view.values[len(old.view) :], y)
        for old, new in zip(before.series, after.series, strict=True)
        if old.view is not new.view
    )


def _inside(values: np.ndarray, y: Scale) -> bool:
    return bool(((values >= y.low) & (values <= y.high)).all())
