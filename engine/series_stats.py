"""What a chart says about a series beyond its columns: smoothing, robust range, best value, where the NaN is.

All of it reads the pyramid first and raw points only where a bucket asks for it, so it stays cheap at a million points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .pyramid import BUCKET_SIZES, FloatArray, IntArray, reduce_ranges
from .series_view import ColumnStats, Reading, SeriesView, XAxis

Goal = Literal["min", "max"]
SAMPLES = 1 << 12
"""At most this many values go into the percentiles of a robust range."""
MIXED_BUCKETS = 256
"""On a log axis a bucket that reaches below zero hides its smallest positive value. So many are opened; of a series
that lives around zero, which has no business on a log axis, the lower end comes from the sample."""
HISTORY_COLUMNS = 64
"""Columns in which the past left of the window is summarised, to start the average warm."""


def ema(values: FloatArray, counts: npt.NDArray[Any], weight: float) -> FloatArray:
    """Debiased exponential moving average of groups of points, shape (C,).

    TensorBoard's smoothing: `s = w*s + (1-w)*x` from zero, divided by `1 - w**n` so that the start is not pulled to
    zero. `values[c]` is the mean of `counts[c]` finite points: such a column counts as that many equal points, so it
    decays the past by `w**count` and the curve does not depend on the zoom. With one point a column this is the exact
    per-point average. Columns without finite points pass the average on unchanged; before the first it is NaN.
    """
    if weight <= 0:
        return np.where(counts > 0, values, np.nan)
    decay = np.power(weight, np.asarray(counts, np.float64))
    filled = np.where(counts > 0, values, 0.0)
    total = (1 - decay) * filled
    mass = 1 - decay
    # s[c] = decay[c]*s[c-1] + total[c] is an associative scan over pairs; doubling needs log2(C) vector passes.
    shift = 1
    while shift < len(decay):
        total[shift:] = decay[shift:] * total[:-shift] + total[shift:]
        mass[shift:] = decay[shift:] * mass[:-shift] + mass[shift:]
        decay[shift:] = decay[shift:] * decay[:-shift]
        shift *= 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0, total / mass, np.nan)


def auto_weight(points: int) -> float:
    """A smoothing weight that reads well unasked: an average over 2 % of the series, none under 100 points."""
    return max(0.0, 1.0 - 50.0 / points) if points >= 100 else 0.0


def history_points(weight: float) -> int:
    """Points older than this weigh less than a thousandth together."""
    return int(np.ceil(np.log(1e-3) / np.log(weight))) if 0 < weight < 1 else 0


def smooth(view: SeriesView, axis: XAxis, columns: ColumnStats, weight: float) -> FloatArray:
    """The debiased EMA of `view` at the columns of a window, warmed up on the points left of it.

    At *column resolution*: inside a column the points count by their mean. O(columns), whatever lies to the left.
    """
    if weight <= 0 or len(view) == 0:
        return columns.mean
    view = view.ordered(axis)
    stretches = view.stretches[axis]
    first = view.search(axis, columns.edges[:1].repeat(2))[:, 0]
    if stretches is None or not stretches.starts:
        return columns.mean
    starts = np.maximum(np.array(stretches.starts), first - history_points(weight))
    newest = int(np.argmax(np.where(first > starts, first, -1)))
    if first[newest] <= starts[newest]:
        return ema(columns.mean, columns.count, weight)
    cuts = np.linspace(starts[newest], first[newest], HISTORY_COLUMNS + 1).astype(np.int64)
    past = reduce_ranges(view.values, view.levels, cuts[:-1], cuts[1:])
    means = np.concatenate([past.mean, columns.mean])
    return ema(means, np.concatenate([past.count, columns.count]), weight)[HISTORY_COLUMNS:]


def smooth_points(
    view: SeriesView, axis: XAxis, x0: float, x1: float, weight: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """X, values and exact per-point EMA in [x0, x1] and one neighbour either side, for windows with few points.

    NaN x separates stretches, each with an average of its own; the average is NaN where the value is not finite.
    """
    xs, ys = view.points(axis, x0, x1, 1 + history_points(weight))
    if not len(xs):
        return xs, ys, ys
    smoothed = np.full(len(ys), np.nan)
    wanted = np.isnan(xs)
    for piece in np.split(np.arange(len(xs)), np.flatnonzero(wanted)):
        finite = np.isfinite(ys[piece])
        smoothed[piece] = np.where(finite, ema(ys[piece], finite, weight), np.nan)
    inside = (xs >= x0) & (xs <= x1)
    wanted |= inside | np.append(inside[1:], False) | np.append(False, inside[:-1])
    if not inside.any():
        # No point inside: the line from the last one before to the first one after crosses the window.
        before, after = np.flatnonzero(xs < x0)[-1:], np.flatnonzero(xs > x1)[:1]
        wanted[before] = wanted[after] = True
    return xs[wanted], ys[wanted], smoothed[wanted]


@dataclass(frozen=True, slots=True)
class Outliers:
    """Points beyond one end of a robust range: how many, and the one farthest out."""

    count: int
    farthest: Reading | None


@dataclass(frozen=True, slots=True)
class RobustRange:
    """`low` to `high` hold the bulk of the finite values; both NaN when there are none."""

    low: float
    high: float
    above: Outliers
    below: Outliers


NOTHING = Outliers(0, None)


def robust_range(view: SeriesView, axis: XAxis, x0: float, x1: float, *, log: bool = False) -> RobustRange:
    """A y range for [x0, x1] that a few spikes cannot flatten, and exactly what lies outside it.

    The 1st to 99th percentile plus that span again on either side is a fence. What is inside the fence is included, so
    ordinary data is never cut; the range ends at the outermost value inside. With `log`, percentiles and fence are
    taken of log10 and values <= 0 ignored.
    """
    view = view.ordered(axis)
    bounds = view.search(axis, np.array([x0, x1]))
    sample = _sample(view, bounds)
    if log:
        sample = np.log10(sample[sample > 0])
    if not len(sample):
        return RobustRange(np.nan, np.nan, NOTHING, NOTHING)
    p1, p99 = (float(p) for p in np.percentile(sample, (1, 99)))
    span = max(p99 - p1, 1e-9 * max(abs(p1), abs(p99)))
    fences = p1 - span, p99 + span
    if log:
        fences = float(10.0 ** max(fences[0], -300.0)), float(10.0 ** min(fences[1], 300.0))
    high, above = _outermost(view, bounds, fences[1], 1, log)
    low, below = _outermost(view, bounds, fences[0], -1, log)
    if log and not np.isfinite(low):
        low = float(10.0 ** sample.min())
    return RobustRange(low, high, above, below)


def outliers_beyond(
    view: SeriesView, axis: XAxis, x0: float, x1: float, limit: float, side: Literal[1, -1], *, log: bool = False
) -> Outliers:
    """The finite points of [x0, x1] above `limit` (side 1) or below it (side -1)."""
    view = view.ordered(axis)
    return _outermost(view, view.search(axis, np.array([x0, x1])), limit, side, log)[1]


def _sample(view: SeriesView, bounds: IntArray) -> FloatArray:
    """Finite values of the index ranges `bounds` (S, 2); of many points, `SAMPLES` spread evenly.

    The multiples of the golden ratio modulo 1 are the positions: as even as a stride, but in step with no period.
    """
    lengths = bounds[:, 1] - bounds[:, 0]
    total = int(lengths.sum())
    if total <= SAMPLES:
        values = np.concatenate([view.values[first:end] for first, end in bounds])
    else:
        place = (np.arange(SAMPLES) * 0.6180339887498949 % 1.0 * total).astype(np.int64)
        part = np.searchsorted(np.cumsum(lengths), place, side="right")
        values = view.values[place - (np.cumsum(lengths) - lengths)[part] + bounds[part, 0]]
    return values[np.isfinite(values)].astype(np.float64)


def _outermost(
    view: SeriesView, bounds: IntArray, fence: float, side: Literal[1, -1], log: bool
) -> tuple[float, Outliers]:
    """The finite value farthest out on one side but inside `fence`, and the points beyond the fence.

    Exact at the price of opening only the buckets whose extreme is beyond the fence.
    """
    opened: list[IntArray] = []
    inside = [-np.inf]
    for first, end in bounds:
        index, settled = _split(view, int(first), int(end), fence, side, log)
        opened.append(index)
        inside.append(settled)
    index = np.concatenate(opened)
    values = view.values[index].astype(np.float64)
    usable = np.isfinite(values) & (values > 0 if log else True)
    index, values = index[usable], values[usable] * side
    beyond = values > fence * side
    if not beyond.all():
        inside.append(float(values[~beyond].max()))
    edge = max(inside) * side
    if not beyond.any():
        return edge, NOTHING
    farthest = view.reading(int(index[beyond][np.argmax(values[beyond])]))
    return edge, Outliers(int(np.count_nonzero(beyond)), farthest)


def _split(
    view: SeriesView, first: int, end: int, fence: float, side: Literal[1, -1], log: bool
) -> tuple[IntArray, float]:
    """Indices in [first, end) that must be looked at one by one, and `side` times the extreme of all others."""
    size = BUCKET_SIZES[0]
    inner, outer = -(-first // size), end // size
    if inner >= outer:
        return np.arange(first, end), -np.inf
    stats = view.levels[0].slice(inner, outer)
    extreme = stats.maximum if side > 0 else -stats.minimum
    hit = extreme > fence * side
    if log and side < 0:
        mixed = stats.minimum <= 0
        hit = (hit & ~mixed) | (mixed & (np.count_nonzero(mixed) <= MIXED_BUCKETS))
        extreme = np.where(mixed, -np.inf, extreme)
    looked_at = ((np.flatnonzero(hit) + inner) * size)[:, None] + np.arange(size)
    index = np.concatenate([np.arange(first, inner * size), looked_at.ravel(), np.arange(outer * size, end)])
    return index, float(np.max(extreme[~hit], initial=-np.inf))


def best(view: SeriesView, goal: Goal) -> Reading | None:
    """The smallest or largest finite value of the whole series, the earliest among equals."""
    if not len(view):
        return None
    size = BUCKET_SIZES[0]
    stats = view.levels[0]
    candidates = [np.arange(len(stats.count) * size, len(view))]
    if len(stats.count):
        bucket = int(np.argmin(stats.minimum) if goal == "min" else np.argmax(stats.maximum))
        candidates.insert(0, np.arange(bucket * size, (bucket + 1) * size))
    index = np.concatenate(candidates)
    values = view.values[index].astype(np.float64)
    index, values = index[np.isfinite(values)], values[np.isfinite(values)]
    if not len(index):
        return None
    return view.reading(int(index[np.argmin(values) if goal == "min" else np.argmax(values)]))


@dataclass(frozen=True, slots=True)
class NonFinite:
    """How many values are NaN or infinite, and the first of them."""

    nan: int
    inf: int
    first: Reading | None


def non_finite(view: SeriesView) -> NonFinite:
    """Count the values of the whole series that are not finite."""
    level = view.levels[0]
    tail = view.values[len(level.count) * BUCKET_SIZES[0] :]
    nan = int(level.nan.sum()) + int(np.count_nonzero(np.isnan(tail)))
    inf = int(level.pos_inf.sum()) + int(level.neg_inf.sum()) + int(np.count_nonzero(np.isinf(tail)))
    if not nan + inf:
        return NonFinite(0, 0, None)
    bad = np.flatnonzero(level.nan + level.pos_inf + level.neg_inf)
    start = int(bad[0] if len(bad) else len(level.count)) * BUCKET_SIZES[0]
    first = start + int(np.flatnonzero(~np.isfinite(view.values[start:]))[0])
    return NonFinite(nan, inf, view.reading(first))
