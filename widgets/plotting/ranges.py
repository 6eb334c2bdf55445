"""Which part of the world a chart shows: the x window, the y range, and what that leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...engine.series_stats import Outliers, RobustRange, outliers_beyond, robust_range
from ...engine.series_view import XAxis
from .data import ChartData, ChartOptions, ChartSeries
from .scale import Scale, fit

Y_PAD = 0.04
CURVES_SHARE = 1 / 3
"""Part of the height that the curves keep at least when the axis reaches out to a level across the chart."""


def full_x_range(data: ChartData, axis: XAxis) -> tuple[float, float] | None:
    """Smallest and largest x over all series; None when no point has one."""
    ranges = [found for series in data.series if (found := series.view.x_range(axis)) is not None]
    if not ranges:
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def x_scale(data: ChartData, options: ChartOptions) -> Scale | None:
    """The x axis, or None when there is nothing to place on it. A logarithmic axis starts at the first x above 0."""
    extent = full_x_range(data, options.x_axis)
    if extent is None:
        return None
    low, high = options.window or extent
    if not options.log_x:
        return fit(low, high) if high > low else Scale(low - 0.5, high + 0.5)
    if high <= 0:
        return None
    return fit(low if low > 0 else min(_first_positive(data, options.x_axis), high), high, log=True)


def _first_positive(data: ChartData, axis: XAxis) -> float:
    found = []
    for series in data.series:
        view = series.view.ordered(axis)
        index = view.search(axis, np.array([math.ulp(0.0)] * 2))[:, 0]
        stretches = view.stretches[axis]
        if stretches is not None:
            found += [float(view.x_of(axis, i)) for i, end in zip(index, stretches.ends, strict=False) if i < end]
    return min(found, default=1.0)


@dataclass(frozen=True, slots=True)
class Beyond:
    """Points outside the y range on one side: how many in all, and the farthest one with its series."""

    count: int = 0
    value: float = math.nan
    step: int = 0
    x: float = math.nan
    slot: int = 0


@dataclass(frozen=True, slots=True)
class YView:
    """The y axis and what it leaves out. `hidden` says why nothing can be drawn, `note` what a log axis cannot show."""

    scale: Scale
    above: Beyond = Beyond()
    below: Beyond = Beyond()
    hidden: str = ""
    note: str = ""


def y_view(data: ChartData, options: ChartOptions, x: Scale) -> YView:
    """A y axis for what lies in the x window: robust, or to the farthest point with `full_range`."""
    found = [
        (series, robust_range(series.view, options.x_axis, x.low, x.high, log=options.log_y)) for series in data.series
    ]
    found = [(series, robust) for series, robust in found if not math.isnan(robust.low)]
    low, high = _limits([robust for _, robust in found], options.full_range)
    if math.isnan(low):
        return YView(fit(low, high, log=options.log_y), hidden=_why_nothing(data, options, x))
    low, high = _with_lines(low, high, data, options)
    scale = fit(low, high, log=options.log_y, pad=Y_PAD)
    note = "log y leaves out values ≤ 0" if options.log_y and _reaches_zero(data, options, x) else ""
    if options.full_range:
        return YView(scale, note=note)
    above = _beyond([(s, r.above) for s, r in found], options, x, high, 1)
    below = _beyond([(s, r.below) for s, r in found], options, x, low, -1)
    return YView(scale, above, below, note=note)


def _with_lines(low: float, high: float, data: ChartData, options: ChartOptions) -> tuple[float, float]:
    """The range with the levels that are near it. A far one would press the curves flat: it gets a mark at the edge."""
    span = _distance(low, high, options)
    for line in sorted(data.lines, key=lambda line: abs(line.value - low)):
        if options.log_y and line.value <= 0:
            continue
        wider = min(low, line.value), max(high, line.value)
        if options.full_range or span == 0 or span >= CURVES_SHARE * _distance(*wider, options):
            low, high = wider
    return low, high


def _distance(low: float, high: float, options: ChartOptions) -> float:
    """How far apart two values are drawn."""
    if not options.log_y:
        return high - low
    return math.log(high / low) if low > 0 else math.inf


def _limits(ranges: list[RobustRange], full: bool) -> tuple[float, float]:
    lows, highs = [robust.low for robust in ranges], [robust.high for robust in ranges]
    if full:
        lows += [robust.below.farthest.value for robust in ranges if robust.below.farthest]
        highs += [robust.above.farthest.value for robust in ranges if robust.above.farthest]
    return min(lows, default=math.nan), max(highs, default=math.nan)


def _beyond(
    found: list[tuple[ChartSeries, Outliers]], options: ChartOptions, x: Scale, limit: float, side: Literal[1, -1]
) -> Beyond:
    """Add up what lies beyond the common range: one series' outlier may be another's ordinary value."""
    total, farthest = 0, Beyond()
    for series, own in found:
        if own.farthest is None or own.farthest.value * side <= limit * side:
            continue
        out = outliers_beyond(series.view, options.x_axis, x.low, x.high, limit, side, log=options.log_y)
        total += out.count
        point = out.farthest
        if point and (math.isnan(farthest.value) or point.value * side > farthest.value * side):
            farthest = Beyond(0, point.value, point.step, point.x(options.x_axis), series.slot)
    return Beyond(total, farthest.value, farthest.step, farthest.x, farthest.slot)


def _reaches_zero(data: ChartData, options: ChartOptions, x: Scale) -> bool:
    whole = [s.view.window(options.x_axis, x.low, x.high, 1).minimum[0] for s in data.series]
    return any(low <= 0 for low in whole)


def _why_nothing(data: ChartData, options: ChartOptions, x: Scale) -> str:
    """Points there are none of, or none that this axis can show: which of the two, in words."""
    stats = [series.view.window(options.x_axis, x.low, x.high, 1) for series in data.series]
    if any(int(s.count[0]) for s in stats):
        return "log y: no value above 0 (l: linear)"
    if any(int(s.bad[0]) for s in stats):
        return "every value here is NaN or infinite"
    return "no points in this window (0: show all)"
