"""From series to dots: a faint layer of everything that was logged and a bright line one can follow.

Few points are drawn as they are. Many become, per dot column, the full span from minimum to maximum, which is what
keeps a single spike visible, with the smoothed mean on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...engine.series_stats import auto_weight, smooth, smooth_points
from ...engine.series_view import ColumnStats
from .braille import FAR, FloatArray, Mask, blank, draw_line, fill_spans
from .data import ChartOptions, ChartSeries
from .scale import Scale

POINTS_PER_COLUMN = 2
"""Up to this many points per dot column are drawn one by one."""
NOISE_WORTH_SMOOTHING = 0.03
"""Part of the height that neighbours must differ by before smoothing chosen automatically sets in."""
CELLS_PER_MARKER = 3
"""Points at least this many cells apart on average get their series' marker."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One series, rasterised. `points_xy` are dot coordinates of points that deserve a marker, shape (2, P)."""

    slot: int
    columns: ColumnStats
    faint: Mask
    line: Mask
    points_xy: FloatArray
    weight: float
    reduced: bool


def weight_of(series: ChartSeries, options: ChartOptions, stats: ColumnStats) -> float:
    """The smoothing weight in force. Left to itself, a curve without noise is not smoothed: it would only lag."""
    if options.smoothing is not None:
        return options.smoothing
    return auto_weight(len(series.view)) if _noise(stats) > NOISE_WORTH_SMOOTHING else 0.0


def _noise(stats: ColumnStats) -> float:
    """How far neighbours usually lie apart, as a part of the whole height: inside columns or between their means."""
    some = stats.count > 0
    means = stats.mean[some]
    if len(means) < 3 or (height := float(means.max() - means.min())) == 0:
        return 0.0
    inside, between = np.median((stats.maximum - stats.minimum)[some]), np.median(np.abs(np.diff(means)))
    return float(max(inside, between)) / height


def build_layer(
    series: ChartSeries,
    options: ChartOptions,
    x: Scale,
    y: Scale,
    rows: int,
    columns: int,
    weight: float | None = None,
) -> Layer:
    """Rasterise one series into `rows` x `columns` cells; without a smoothing `weight`, the one that suits it."""
    raster = _Raster(x, y, rows, columns)
    stats = series.view.window_between(options.x_axis, x.edges(2 * columns))
    weight = weight_of(series, options, stats) if weight is None else weight
    reduced = stats.points > POINTS_PER_COLUMN * 2 * columns
    if reduced:
        raster.many(series, options, stats, weight)
    else:
        raster.few(series, options, weight)
    markers = raster.points if stats.points * CELLS_PER_MARKER <= columns else np.empty((2, 0))
    return Layer(series.slot, stats, raster.faint, raster.line, markers, weight, reduced)


class _Raster:
    """The two masks of a layer and the way from values to dots."""

    def __init__(self, x: Scale, y: Scale, rows: int, columns: int) -> None:
        self.x, self.y = x, y
        self.width, self.height = 2 * columns, 4 * rows
        self.faint, self.line = blank(rows, columns), blank(rows, columns)
        self.points: FloatArray = np.empty((2, 0))

    def dots_x(self, values: FloatArray) -> FloatArray:
        """Dot column of x values."""
        unit = self.x.unit(values)
        dots = np.clip(unit * self.width - 0.5, -FAR, FAR)
        # The last point of the axis belongs to the last column.
        return np.where((unit >= 0) & (unit <= 1), np.clip(dots, 0, self.width - 1), dots)

    def dots_y(self, values: FloatArray) -> FloatArray:
        """Dot row of values, from the top; infinities lift the pen like NaN: they have a mark of their own."""
        finite = np.where(np.isfinite(values), values, np.nan)
        return (1.0 - self.y.unit(finite)) * (self.height - 1)

    def few(self, series: ChartSeries, options: ChartOptions, weight: float) -> None:
        """Every point, connected in order."""
        xs, raw, smoothed = smooth_points(series.view, options.x_axis, self.x.low, self.x.high, weight)
        x, y = self.dots_x(xs), self.dots_y(raw)
        self.points = np.vstack([x, y])
        if weight > 0:
            draw_line(self.faint, x, y)
            draw_line(self.line, x, self.dots_y(smoothed))
        else:
            draw_line(self.line, x, y)

    def many(self, series: ChartSeries, options: ChartOptions, stats: ColumnStats, weight: float) -> None:
        """The span of each dot column, and the smoothed mean over it."""
        target = self.faint if weight > 0 else self.line
        top, bottom = self.dots_y(stats.maximum), self.dots_y(stats.minimum)
        # Down to the edge where the minimum is at or below the zero that a log axis does not have.
        bottom = np.where(np.isnan(bottom) & ~np.isnan(top), self.height - 1.0, bottom)
        fill_spans(target, top, bottom)
        # Columns without any point are bridged; columns with nothing but NaN lift the pen.
        filled = (stats.count > 0) | (stats.bad > 0)
        x = np.flatnonzero(filled).astype(np.float64)
        draw_line(target, x, self.dots_y(stats.mean[filled]))
        if weight > 0:
            line = np.where(stats.count > 0, smooth(series.view, options.x_axis, stats, weight), np.nan)
            draw_line(self.line, x, self.dots_y(line[filled]))
