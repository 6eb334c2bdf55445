"""A frozen series: what crosses from the reader to the screen, and every question a chart asks of it.

A view shares its arrays with the live `Series` (see `growing.py`), so taking one costs microseconds at any length.

X axes: `step` as logged, `epoch` as logged (NaN where the row had none: such points are absent from that axis), `time`
in seconds since the first row of the table. Restarted runs go backwards in x. Points keep their order of arrival and a
*stretch* is a maximal run of points along which x does not decrease; questions are put to each stretch by binary search
and the answers merged. Past `MAX_STRETCHES` (interleaved writers) a sorted copy is made once per view instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .pyramid import BUCKET_SIZES, FloatArray, IntArray, Pyramid, Stats, merge_rows, reduce_ranges

XAxis = Literal["step", "epoch", "time"]
X_AXES: tuple[XAxis, ...] = ("step", "epoch", "time")
MAX_STRETCHES = 64
FAR_STEP = 2.0**62
"""Beyond any step; what an edge is clipped to before it becomes a whole number."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One point of a series. `time_s` counts from the first row of its table."""

    index: int
    step: int
    epoch: float
    time_s: float
    value: float

    def x(self, axis: XAxis) -> float:
        """Where the point lies on `axis`."""
        return float({"step": self.step, "epoch": self.epoch, "time": self.time_s}[axis])


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStats:
    """C chart columns over [edges[0], edges[C]]: column c is [edges[c], edges[c+1]), the last one closed.

    Arrays of shape (C,); `minimum`, `maximum` and `mean` are NaN in columns without a finite value. `count` is finite
    values, `nan`, `pos_inf` and `neg_inf` the others.
    """

    edges: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    mean: FloatArray
    count: IntArray
    nan: IntArray
    pos_inf: IntArray
    neg_inf: IntArray

    @property
    def bad(self) -> IntArray:
        """Values per column that are not finite."""
        return self.nan + self.pos_inf + self.neg_inf

    @property
    def points(self) -> int:
        """Points in the window, finite or not."""
        return int(self.count.sum() + self.bad.sum())


@dataclass(frozen=True, slots=True)
class Stretches:
    """Where x does not decrease: starts and ends of index ranges, or `None` when there are too many to be useful."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SeriesView:
    """N points of one metric, frozen. `step`, `t`, `epoch` are the table's; `rows` says which of its rows have a point.

    Attributes:
        name: the metric's name as logged.
        step: int64 (R,) steps of the table's rows.
        t: float64 (R,) unix seconds.
        epoch: float (R,), NaN where unknown.
        origin_t: unix time of the first row, zero of the time axis.
        rows: the first row when the points lie in consecutive rows, else their row numbers (N,).
        values: float32 or float64 (N,).
    """

    name: str
    step: npt.NDArray[np.int64]
    t: FloatArray
    epoch: npt.NDArray[Any]
    origin_t: float
    rows: int | npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    levels: tuple[Stats, ...]
    stretches: dict[XAxis, Stretches | None]
    _sorted: dict[XAxis, SeriesView] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<SeriesView {self.name!r}, {len(self)} points>"

    def __len__(self) -> int:
        return len(self.values)

    def row_of(self, index: Any) -> Any:
        """Table row of point `index` (a number or an array of them)."""
        return index + self.rows if isinstance(self.rows, int) else self.rows[index]

    def x_of(self, axis: XAxis, index: Any) -> Any:
        """X of point `index` (a number or an array of them), float64."""
        row = self.row_of(index)
        if axis == "time":
            return self.t[row] - self.origin_t
        return np.asarray((self.step if axis == "step" else self.epoch)[row], np.float64)

    def reading(self, index: int) -> Reading:
        """The point at `index`."""
        row = self.row_of(index)
        return Reading(
            int(index),
            int(self.step[row]),
            float(self.epoch[row]),
            float(self.t[row] - self.origin_t),
            float(self.values[index]),
        )

    @property
    def last(self) -> Reading | None:
        """The newest point, finite or not."""
        return self.reading(len(self) - 1) if len(self) else None

    def x_range(self, axis: XAxis) -> tuple[float, float] | None:
        """Smallest and largest x, or None where no point has one."""
        view = self.ordered(axis)
        stretches = view.stretches[axis]
        if stretches is None or not stretches.starts:
            return None
        first = view.x_of(axis, np.array(stretches.starts))
        last = view.x_of(axis, np.array(stretches.ends) - 1)
        return float(first.min()), float(last.max())

    def ordered(self, axis: XAxis) -> SeriesView:
        """This view, or its copy sorted along `axis` where arrival order is too jumbled to search."""
        if self.stretches[axis] is not None:
            return self
        if axis not in self._sorted:
            self._sorted[axis] = _sort(self, axis)
        return self._sorted[axis]

    def window(self, axis: XAxis, x0: float, x1: float, columns: int) -> ColumnStats:
        """Summaries of `columns` equal slices of [x0, x1]; O(columns), every point inside counted exactly once."""
        return self.window_between(axis, np.linspace(x0, x1, columns + 1))

    def window_between(self, axis: XAxis, edges: FloatArray) -> ColumnStats:
        """Like `window` for rising `edges` of any spacing (a logarithmic axis)."""
        view = self.ordered(axis)
        bounds = view.search(axis, edges)
        starts, ends = bounds[:, :-1].ravel(), bounds[:, 1:].ravel()
        # No range of fewer points than a bucket holds one whole.
        levels = view.levels if (ends - starts).max(initial=0) >= BUCKET_SIZES[0] else ()
        stats = reduce_ranges(view.values, levels, starts, ends)
        stats = merge_rows(stats, len(bounds))
        some = stats.count > 0
        return ColumnStats(
            edges,
            np.where(some, stats.minimum, np.nan),
            np.where(some, stats.maximum, np.nan),
            stats.mean,
            stats.count,
            stats.nan,
            stats.pos_inf,
            stats.neg_inf,
        )

    def search(self, axis: XAxis, edges: FloatArray) -> IntArray:
        """Point indices (S, E): the first point at or after each edge in each stretch; after the last edge, strictly.

        Only meaningful on an `ordered` view. Bisection over all stretches and edges at once, so that the x column is
        never gathered or converted as a whole.
        """
        stretches = self.stretches[axis]
        if stretches is None or not stretches.starts:
            return np.zeros((1, len(edges)), np.int64)
        limits = np.array(edges, np.float64)
        limits[-1] = np.nextafter(limits[-1], np.inf)
        if axis == "step" and isinstance(self.rows, int):
            return self._search_steps(self.rows, stretches, limits)
        shape = (len(stretches.starts), len(edges))
        low = np.broadcast_to(np.array(stretches.starts, np.int64)[:, None], shape).copy()
        high = np.broadcast_to(np.array(stretches.ends, np.int64)[:, None], shape).copy()
        for _ in range(int((high - low).max()).bit_length()):
            open_ = low < high
            middle = (low + high) >> 1
            before = open_ & (self.x_of(axis, np.minimum(middle, len(self) - 1)) < limits)
            low = np.where(before, middle + 1, low)
            high = np.where(open_ & ~before, middle, high)
        return low

    def _search_steps(self, first_row: int, stretches: Stretches, limits: FloatArray) -> IntArray:
        """`search` by step in consecutive rows, the common case: whole numbers, which lie in memory as they are."""
        whole = np.ceil(np.clip(limits, -FAR_STEP, FAR_STEP)).astype(np.int64)
        return np.stack(
            [
                start + np.searchsorted(self.step[first_row + start : first_row + end], whole)
                for start, end in zip(stretches.starts, stretches.ends, strict=True)
            ]
        )

    def points(self, axis: XAxis, x0: float, x1: float, pad: int = 1) -> tuple[FloatArray, FloatArray]:
        """X and values inside [x0, x1] with `pad` neighbours either side, in order of arrival.

        A NaN pair separates stretches, so that a line drawn through them lifts the pen where a run went back.
        """
        view = self.ordered(axis)
        stretches = view.stretches[axis]
        if stretches is None:
            return np.empty(0), np.empty(0)
        xs: list[FloatArray] = []
        ys: list[FloatArray] = []
        lift = np.array([np.nan])
        bounds = view.search(axis, np.array([x0, x1]))
        for (first, end), start, stop in zip(bounds, stretches.starts, stretches.ends, strict=False):
            index = np.arange(max(start, first - pad), min(stop, end + pad))
            if len(index):
                xs += [view.x_of(axis, index), lift]
                ys += [view.values[index].astype(np.float64), lift]
        return (np.concatenate(xs)[:-1], np.concatenate(ys)[:-1]) if xs else (np.empty(0), np.empty(0))

    def nearest(self, axis: XAxis, x: float) -> Reading | None:
        """The point closest to `x`; among equals the newest."""
        view = self.ordered(axis)
        stretches = view.stretches[axis]
        if stretches is None or not stretches.starts:
            return None
        after = view.search(axis, np.array([x, x]))[:, 1]
        low, high = np.array(stretches.starts), np.array(stretches.ends) - 1
        candidates = np.unique(np.concatenate([np.clip(after - 1, low, high), np.clip(after, low, high)]))
        distance = np.abs(view.x_of(axis, candidates) - x)
        best = candidates[distance == distance.min()][-1]
        return view.reading(int(best))


def find_stretches(x: FloatArray, offset: int = 0, previous: float = np.nan) -> tuple[list[int], list[int]]:
    """Starts and ends of the non-decreasing, NaN-free runs of `x`, as indices shifted by `offset`.

    `previous` is the x just before; when the first run continues it, its start is left out (the caller moves its
    open end instead).
    """
    known = ~np.isnan(x)
    before = np.concatenate([[previous], x[:-1]])
    joins = known & (x >= before)
    follows = np.append(joins[1:], False)
    starts = np.flatnonzero(known & ~joins) + offset
    ends = np.flatnonzero(known & ~follows) + offset + 1
    return starts.tolist(), ends.tolist()


def _sort(view: SeriesView, axis: XAxis) -> SeriesView:
    """A copy of `view` in rising x without the points that have none; O(N log N)."""
    x = view.x_of(axis, np.arange(len(view)))
    order = np.argsort(x, kind="stable")[: int(np.count_nonzero(~np.isnan(x)))]
    rows = view.row_of(order)
    values = view.values[order]
    pyramid = Pyramid()
    pyramid.update(values)
    stretch = Stretches((0,), (len(order),)) if len(order) else Stretches((), ())
    stretches: dict[XAxis, Stretches | None] = {"step": None, "epoch": None, "time": None}
    stretches[axis] = stretch
    return SeriesView(
        view.name,
        view.step[rows],
        view.t[rows],
        view.epoch[rows],
        view.origin_t,
        0,
        values,
        pyramid.levels(),
        stretches,
    )
