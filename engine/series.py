"""Metrics in memory: one table of rows per run, one column of values per metric.

Steps, times and epochs are stored once per row, however many metrics the row carries; a metric that is in every row
of a consecutive stretch needs nothing but its values, one that comes and goes keeps its row numbers as well. A million
rows of three metrics are 20 MB of rows and 4 or 8 bytes a value.

`Series.view()` is the seam: a frozen `SeriesView`, the same object until something is appended, so "did this metric
change?" is an identity test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .growing import GrowingArray
from .pyramid import FloatArray, IntArray, Pyramid
from .series_view import MAX_STRETCHES, X_AXES, ColumnStats, SeriesView, Stretches, XAxis, find_stretches

Row = tuple[int, float, float | None, Mapping[str, float]]
"""step, unix time in seconds, epoch or None, values by metric name."""


class RowIndex:
    """Steps, times and epochs of a run's rows, in order of arrival."""

    __slots__ = ("_epoch", "_step", "_t")

    def __init__(self) -> None:
        self._step = GrowingArray(np.int64)
        self._t = GrowingArray(np.float64)
        self._epoch = GrowingArray(np.float32)

    def __len__(self) -> int:
        return len(self._step)

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return self._step.nbytes + self._t.nbytes + self._epoch.nbytes

    @property
    def origin_t(self) -> float:
        """Unix time of the first row, NaN before there is one."""
        return float(self._t.view()[0]) if len(self) else float("nan")

    def extend(self, step: npt.ArrayLike, t: npt.ArrayLike, epoch: npt.ArrayLike | None = None) -> int:
        """Append rows and return the number of the first one. Unknown epochs are NaN, or None for all."""
        steps = np.atleast_1d(np.asarray(step, np.int64))
        times = np.atleast_1d(np.asarray(t, np.float64))
        epochs = np.full(len(steps), np.nan) if epoch is None else np.atleast_1d(np.asarray(epoch, np.float64))
        if not len(steps) == len(times) == len(epochs):
            raise ValueError(f"{len(steps)} steps, {len(times)} times and {len(epochs)} epochs do not make rows")
        first = len(self)
        self._step.extend(steps)
        self._t.extend(times)
        self._epoch.extend(epochs)
        return first

    def columns(self) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[Any]]:
        """Read-only views of step, t and epoch."""
        return self._step.view(), self._t.view(), self._epoch.view()

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop the rows where `mask` is False."""
        for column in (self._step, self._t, self._epoch):
            column.replace(column.view()[mask])


class _Stretching:
    """Stretches of one axis, found as points arrive. Gives up (None) past `MAX_STRETCHES`."""

    __slots__ = ("_last", "_length", "ends", "overflow", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.overflow = False
        self._last = np.nan
        self._length = 0

    def extend(self, x: FloatArray) -> None:
        """Take the x of new points."""
        if not len(x):
            return
        if not self.overflow:
            starts, ends = find_stretches(x, self._length, self._last)
            if len(ends) > len(starts):
                self.ends.pop()
            self.starts += starts
            self.ends += ends
            self.overflow = len(self.starts) > MAX_STRETCHES
        self._last = float(x[-1])
        self._length += len(x)

    def freeze(self) -> Stretches | None:
        """What a view carries."""
        return None if self.overflow else Stretches(tuple(self.starts), tuple(self.ends))


class Series:
    """One metric, append-only. Alone it owns its rows; in a `SeriesTable` it shares them."""

    def __init__(self, name: str, rows: RowIndex | None = None) -> None:
        self.name = name
        self._rows = RowIndex() if rows is None else rows
        self._values = GrowingArray(np.float32)
        self._reset()

    def _reset(self) -> None:
        self._pyramid = Pyramid()
        self._stretching: dict[XAxis, _Stretching] = {axis: _Stretching() for axis in X_AXES}
        self._first_row = 0
        self._row_numbers: GrowingArray | None = None
        self._next_row = 0
        self._view: SeriesView | None = None

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes reserved for this metric alone, without the shared rows."""
        return self._values.nbytes + self._pyramid.nbytes + (self._row_numbers.nbytes if self._row_numbers else 0)

    def extend(self, step: npt.ArrayLike, t: npt.ArrayLike, epoch: npt.ArrayLike | None, value: npt.ArrayLike) -> None:
        """Append points as rows of their own; one-dimensional arrays of one length, or plain numbers."""
        values = np.atleast_1d(np.asarray(value, np.float64))
        if len(values) != np.size(step):
            raise ValueError(f"{self.name}: {np.size(step)} steps and {len(values)} values")
        first = self._rows.extend(step, t, epoch)
        self.extend_rows(np.arange(first, first + len(values)), values)

    def extend_rows(self, rows: IntArray, values: npt.NDArray[Any]) -> None:
        """Append points that belong to rows already in the index; `rows` rises."""
        if not len(values):
            return
        self._note_rows(rows)
        self._values.extend(values)
        self._pyramid.update(self._values.view())
        step, t, epoch = self._rows.columns()
        self._stretching["step"].extend(step[rows].astype(np.float64))
        self._stretching["time"].extend(t[rows] - self._rows.origin_t)
        self._stretching["epoch"].extend(epoch[rows].astype(np.float64))
        self._view = None

    def _note_rows(self, rows: IntArray) -> None:
        count = len(self._values)
        if count == 0:
            self._first_row = self._next_row = int(rows[0])
        consecutive = int(rows[0]) == self._next_row and int(rows[-1]) - int(rows[0]) == len(rows) - 1
        if self._row_numbers is None and not consecutive:
            self._row_numbers = GrowingArray(np.int32)
            self._row_numbers.extend(np.arange(self._first_row, self._first_row + count))
        if self._row_numbers is not None:
            self._row_numbers.extend(rows)
        self._next_row = int(rows[-1]) + 1

    def row_numbers(self) -> IntArray:
        """Table row of every point."""
        if self._row_numbers is None:
            return np.arange(self._first_row, self._first_row + len(self))
        return self._row_numbers.view().astype(np.int64)

    def view(self) -> SeriesView:
        """The series as it is now, frozen; the same object until it changes."""
        if self._view is None:
            step, t, epoch = self._rows.columns()
            self._view = SeriesView(
                self.name,
                step,
                t,
                epoch,
                self._rows.origin_t,
                self._first_row if self._row_numbers is None else self._row_numbers.view(),
                self._values.view(),
                self._pyramid.levels(),
                {axis: stretching.freeze() for axis, stretching in self._stretching.items()},
            )
        return self._view

    def window(self, x_axis: XAxis, x0: float, x1: float, columns: int) -> ColumnStats:
        """See `SeriesView.window`."""
        return self.view().window(x_axis, x0, x1, columns)

    def truncate_after_step(self, step: int) -> None:
        """Forget the points with a larger step (a resume went back). For a series that owns its rows."""
        keep = self._rows.columns()[0] <= step
        self._rows.keep(keep)
        self.reindex(keep)

    def reindex(self, keep: npt.NDArray[np.bool_]) -> None:
        """Follow the row index after rows where `keep` is False were dropped; earlier views stay as they were."""
        rows = self.row_numbers()
        kept = keep[rows]
        moved = (np.cumsum(keep) - 1)[rows[kept]]
        values = self._values.view()[kept]
        self._values = GrowingArray(np.float32)
        self._reset()
        self.extend_rows(moved, values)


class SeriesTable:
    """All metrics of one run over shared rows."""

    def __init__(self) -> None:
        self.rows = RowIndex()
        self.series: dict[str, Series] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Series:
        return self.series[name]

    @property
    def nbytes(self) -> int:
        """Bytes reserved, rows and metrics together."""
        return self.rows.nbytes + sum(series.nbytes for series in self.series.values())

    def extend(
        self,
        step: npt.ArrayLike,
        t: npt.ArrayLike,
        epoch: npt.ArrayLike | None,
        columns: Mapping[str, npt.ArrayLike],
        at: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """Append R rows. `columns[name]` has R values, or as many as `at[name]` names rows of this batch (0 to R-1).

        A NaN in a column is a metric that *was* NaN; a row without the metric is one that `at` leaves out.
        """
        count = np.size(step)
        batch = {name: np.atleast_1d(np.asarray(values, np.float64)) for name, values in columns.items()}
        places = {name: np.asarray(at[name], np.int64) if at and name in at else np.arange(count) for name in batch}
        for name, values in batch.items():
            if len(values) != len(places[name]):
                raise ValueError(f"{name}: {len(values)} values for {len(places[name])} rows")
        first = self.rows.extend(step, t, epoch)
        for name, values in batch.items():
            if name not in self.series:
                self.series[name] = Series(name, self.rows)
            self.series[name].extend_rows(places[name] + first, values)

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Append rows as they come from a journal: each with its own set of metrics."""
        steps: list[int] = []
        times: list[float] = []
        epochs: list[float] = []
        columns: dict[str, list[float]] = {}
        at: dict[str, list[int]] = {}
        for number, (step, t, epoch, values) in enumerate(rows):
            steps.append(step)
            times.append(t)
            epochs.append(np.nan if epoch is None else epoch)
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
                at.setdefault(name, []).append(number)
        self.extend(steps, times, epochs, columns, cast("Mapping[str, npt.ArrayLike]", at))

    def truncate_after_step(self, step: int) -> None:
        """Forget every row with a larger step: what a run wrote and then went back on when it resumed."""
        keep = self.rows.columns()[0] <= step
        if keep.all():
            return
        self.rows.keep(keep)
        for series in self.series.values():
            series.reindex(keep)

    def views(self) -> dict[str, SeriesView]:
        """Frozen views of every metric, in order of first appearance."""
        return {name: series.view() for name, series in self.series.items()}
