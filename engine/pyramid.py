"""Min, max, sum and counts over power-of-two buckets, kept while a series grows.

A chart column that merges ten thousand points must still show the one spike among them, and must not read ten
thousand points to do so. Every complete bucket of 64, 512 and 4096 points has its summary; a range of points is then
at most two ragged ends of raw values plus whole buckets, so a redraw costs O(columns) at any run length.

Only *complete* buckets are stored and a stored bucket never changes: that is what lets a frozen snapshot share these
arrays with the live series. Rejected: sampling (loses the spike), LTTB (the same, by design), a summary of the open
last bucket (would change under a snapshot's feet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .growing import GrowingArray

BUCKET_SIZES = (64, 512, 4096)
"""Points per bucket of each level; each divides the next."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Stats:
    """Summaries of C groups of points; every array has shape (C,).

    `minimum` and `maximum` are over finite values and are +inf and -inf where a group has none: the neutral elements,
    so that groups combine by plain minimum and maximum. `count` counts finite values only.
    """

    minimum: Array
    maximum: Array
    total: Array
    count: Array
    nan: Array
    pos_inf: Array
    neg_inf: Array

    @property
    def mean(self) -> FloatArray:
        """Mean of the finite values, NaN where there are none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.count > 0, self.total / self.count, np.nan)

    def slice(self, start: int, end: int) -> Stats:
        """Groups `start` to `end` (exclusive)."""
        return Stats(*(getattr(self, name)[start:end] for name in FIELDS))

    def take(self, indices: IntArray) -> Stats:
        """The groups at `indices`, in that order."""
        return Stats(*(getattr(self, name)[indices] for name in FIELDS))


FIELDS = ("minimum", "maximum", "total", "count", "nan", "pos_inf", "neg_inf")
_REDUCE = (np.minimum, np.maximum, np.add, np.add, np.add, np.add, np.add)
_NEUTRAL = (np.inf, -np.inf, 0.0, 0, 0, 0, 0)
_DTYPES = (np.float64, np.float64, np.float64, np.int32, np.int32, np.int32, np.int32)


def stats_of_points(values: Array) -> Stats:
    """Each point as a group of its own."""
    finite = np.isfinite(values)
    wide = values.astype(np.float64)
    return Stats(
        np.where(finite, wide, np.inf),
        np.where(finite, wide, -np.inf),
        np.where(finite, wide, 0.0),
        finite.astype(np.int64),
        np.isnan(values).astype(np.int64),
        np.isposinf(values).astype(np.int64),
        np.isneginf(values).astype(np.int64),
    )


def empty_stats(count: int) -> Stats:
    """`count` groups with nothing in them."""
    return Stats(*(np.full(count, neutral) for neutral in _NEUTRAL))


class Pyramid:
    """The growing summaries of one series."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        self._columns = [[GrowingArray(dtype) for dtype in _DTYPES] for _ in BUCKET_SIZES]

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return sum(column.nbytes for level in self._columns for column in level)

    def update(self, values: Array) -> None:
        """Summarise the buckets that `values`, the whole series so far, has completed since the last call."""
        done = len(self._columns[0][0])
        complete = len(values) // BUCKET_SIZES[0]
        if complete == done:
            return
        fresh = values[done * BUCKET_SIZES[0] : complete * BUCKET_SIZES[0]]
        self._append(0, _fold(stats_of_points(fresh), BUCKET_SIZES[0]))
        for level in range(1, len(BUCKET_SIZES)):
            factor = BUCKET_SIZES[level] // BUCKET_SIZES[level - 1]
            below = Stats(*(column.view() for column in self._columns[level - 1]))
            done = len(self._columns[level][0])
            complete = len(below.count) // factor
            self._append(level, _fold(below.slice(done * factor, complete * factor), factor))

    def levels(self) -> tuple[Stats, ...]:
        """Frozen views of the complete buckets of each level, finest first."""
        return tuple(Stats(*(column.view() for column in level)) for level in self._columns)

    def _append(self, level: int, stats: Stats) -> None:
        for column, name in zip(self._columns[level], FIELDS, strict=True):
            column.extend(getattr(stats, name))


def _fold(stats: Stats, factor: int) -> Stats:
    """Merge every `factor` neighbouring groups; the number of groups is a multiple of `factor`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Stats(
            *(
                reduce.reduce(getattr(stats, name).reshape(-1, factor), axis=1)
                for reduce, name in zip(_REDUCE, FIELDS, strict=True)
            )
        )


def merge_rows(stats: Stats, rows: int) -> Stats:
    """Combine groups laid out as (rows, C) into C groups."""
    if rows == 1:
        return stats
    return Stats(
        *(
            reduce.reduce(getattr(stats, name).reshape(rows, -1), axis=0)
            for reduce, name in zip(_REDUCE, FIELDS, strict=True)
        )
    )


def reduce_ranges(values: Array, levels: tuple[Stats, ...], starts: IntArray, ends: IntArray) -> Stats:
    """Summaries of `values[starts[c]:ends[c]]` for every c; empty ranges give neutral elements.

    Each range is cut into two raw ends (under 64 points each), two ends of 64-point buckets (under 8 each) and so
    on, the middle going up a level each time; so the work is bounded per range but for the topmost buckets.
    """
    result = empty_stats(len(starts))
    starts, ends = starts.astype(np.int64), np.maximum(ends, starts).astype(np.int64)
    unit = 1
    for level in range(-1, len(levels)):
        if level + 1 < len(levels):
            above = BUCKET_SIZES[level + 1]
            inner_start = -(-starts // above) * above
            inner_end = ends // above * above
            whole = inner_start >= inner_end
            inner_start = np.where(whole, ends, inner_start)
            inner_end = np.where(whole, ends, inner_end)
            pieces = [(starts, inner_start), (inner_end, ends)]
        else:
            inner_start = inner_end = ends
            pieces = [(starts, ends)]
        for begin, finish in pieces:
            _merge_pieces(result, values, levels[level] if level >= 0 else None, begin // unit, finish // unit)
        starts, ends = inner_start, inner_end
        unit = BUCKET_SIZES[min(level + 1, len(levels) - 1)]
    return result


def _merge_pieces(result: Stats, values: Array, level: Stats | None, begin: IntArray, finish: IntArray) -> None:
    """Merge groups `begin[c]:finish[c]` of a level (None: the points themselves) into group c of `result`."""
    lengths = finish - begin
    used = np.flatnonzero(lengths)
    if not len(used):
        return
    lengths = lengths[used]
    offsets = np.cumsum(lengths) - lengths
    indices = np.arange(int(lengths.sum())) + np.repeat(begin[used] - offsets, lengths)
    groups = stats_of_points(values[indices]) if level is None else level.take(indices)
    with np.errstate(over="ignore", invalid="ignore"):
        for reduce, name in zip(_REDUCE, FIELDS, strict=True):
            target = getattr(result, name)
            target[used] = reduce(target[used], reduce.reduceat(getattr(groups, name), offsets))
