"""The loss table of a run: a row per validation (or per logged row), best-so-far, change since the row before.

Rows follow the rarest of the chosen columns, usually a validation metric; every other column shows its newest value at
or before that row. Pure numpy over frozen series, so that a million rows cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .headline import goal_of
from .manifest import Headline
from .series_view import SeriesView

MAX_COLUMNS = 12


@dataclass(frozen=True, slots=True, eq=False)
class LossTable:
    """R rows, newest last.

    Attributes
    ----------
    columns: metric names, in display order.
    step, epoch, t: (R,); epoch is NaN where unknown, t in unix seconds.
    values: metric -> (R,) float64; NaN where the metric *was* NaN or had no value yet (see `known`).
    known: metric -> (R,) bool, whether there was a value.
    record: metric -> (R,) bool, whether the row was the best so far.
    best: metric -> row of the best of all, or None.
    """

    columns: tuple[str, ...]
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.float64]
    t: npt.NDArray[np.float64]
    values: Mapping[str, npt.NDArray[np.float64]]
    known: Mapping[str, npt.NDArray[np.bool_]]
    record: Mapping[str, npt.NDArray[np.bool_]]
    best: Mapping[str, int | None]

    def __len__(self) -> int:
        return len(self.step)

    def before(self, column: str, row: int) -> float | None:
        """The value in the row before, or None."""
        if row == 0 or not self.known[column][row - 1]:
            return None
        return float(self.values[column][row - 1])


EMPTY = LossTable((), np.empty(0, np.int64), np.empty(0), np.empty(0), {}, {}, {}, {})


def build(views: Mapping[str, SeriesView], wanted: Sequence[str] = (), headline: Headline | None = None) -> LossTable:
    """The table over `wanted` columns (those that exist), or over every metric when none is wanted."""
    names = [name for name in wanted if name in views and len(views[name])]
    if not names:
        names = [name for name, view in views.items() if len(view)][:MAX_COLUMNS]
    if not names:
        return EMPTY
    source = views[_anchor(views, names, headline)]
    names = [name for name in names if views[name].origin_t == source.origin_t]  # one table, one row numbering
    rows = _rows_of(source)
    newest = max(int(views[name].row_of(len(views[name]) - 1)) for name in names)
    is_open = newest > rows[-1]  # what came after the last validation is shown too, without repeating its values
    if is_open:
        rows = np.append(rows, newest)
    fullest = max((views[name] for name in names), key=lambda view: len(view.step))
    values, known, record, best = {}, {}, {}, {}
    for name in names:
        column, has = _at_rows(views[name], rows)
        if is_open and views[name].row_of(len(views[name]) - 1) <= rows[-2]:
            column[-1], has[-1] = np.nan, False
        direction = headline.direction if headline and headline.metric == name else goal_of(name)
        values[name], known[name] = column, has
        record[name] = _records(column, direction)
        best[name] = int(np.flatnonzero(record[name])[-1]) if record[name].any() else None
    return LossTable(
        tuple(names),
        fullest.step[rows],
        np.asarray(fullest.epoch[rows], np.float64),
        fullest.t[rows],
        values,
        known,
        record,
        best,
    )


def _anchor(views: Mapping[str, SeriesView], names: Sequence[str], headline: Headline | None) -> str:
    """The metric whose points make the rows: the headline, else the rarest that came more than once."""
    if headline is not None and headline.metric in names:
        return headline.metric
    repeated = [name for name in names if len(views[name]) > 1]
    return min(repeated or names, key=lambda name: len(views[name]))


def _rows_of(view: SeriesView) -> npt.NDArray[np.int64]:
    return np.asarray(view.row_of(np.arange(len(view))), np.int64)


def _at_rows(view: SeriesView, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The newest value at or before each row. Both belong to one table."""
    own = _rows_of(view)
    place = np.searchsorted(own, rows, side="right") - 1
    known = place >= 0
    column = np.full(len(rows), np.nan)
    column[known] = view.values[place[known]]
    return column, known


def _records(values: npt.NDArray[np.float64], direction: str | None) -> npt.NDArray[np.bool_]:
    """Where a value is better than all before it; nowhere for a metric without a better (a learning rate)."""
    if direction is None:
        return np.zeros(len(values), np.bool_)
    sign = -1.0 if direction == "max" else 1.0
    cost = np.where(np.isfinite(values), sign * values, np.inf)
    before = np.concatenate([[np.inf], np.minimum.accumulate(cost)[:-1]])
    return np.asarray(cost < before)
