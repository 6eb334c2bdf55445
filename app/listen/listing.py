"""Which rows the list shows and in which order: a function of columns, notes and what the user wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ...engine.samples.columns import SampleColumns
from ...engine.samples.order import Group, confusion_rows, default_sort, group_rows, is_descending, sort_rows
from ...engine.samples.query import NoteColumns, QueryError, parse

Rows = npt.NDArray[np.int64]
GROUPINGS: tuple[str | None, ...] = (None, "label", "predicted", "tag")
NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked the list for.

    Parameters
    ----------
    filter: a filter line as `engine.samples.query` has it.
    sort, descending: None is the default: the headline or the first metric, worst first.
    group: `label`, `predicted`, `tag` or None.
    cell: label and prediction of a confusion matrix's cell whose items are shown.
    """

    filter: str = ""
    sort: str | None = None
    descending: bool | None = None
    group: str | None = None
    cell: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The list at one moment.

    Parameters
    ----------
    rows: rows of the columns, filtered and sorted, shape (N,).
    groups: the same rows by what the user groups by, or empty.
    total: items there are without a filter.
    every_step: an item may stand there once for each step (the filter asks for steps).
    problem: why the filter or the sort key means nothing; the list is then as if it was not there.
    """

    columns: SampleColumns = field(default_factory=SampleColumns)
    notes: NoteColumns | None = None
    rows: Rows = field(default_factory=NO_ROWS.copy)
    groups: tuple[Group, ...] = ()
    sort: str | None = None
    descending: bool = True
    total: int = 0
    every_step: bool = False
    problem: str | None = None

    def __len__(self) -> int:
        return len(self.rows)


def arrange(
    columns: SampleColumns, wanted: Wanted, notes: NoteColumns | None = None, preferred: str | None = None
) -> Listing:
    """The list that `wanted` asks for; what cannot be understood is said in `problem` and left out."""
    newest = columns.newest() & columns.current
    total = int(np.count_nonzero(newest))
    try:
        query = parse(wanted.filter)
        kept = query.mask(columns, notes)
    except QueryError as error:
        return replace(arrange(columns, replace(wanted, filter=""), notes, preferred), problem=str(error))
    every_step = any(term.field in ("step", "epoch") for term in query.terms)
    rows = np.flatnonzero(kept & (columns.current if every_step else newest))
    if wanted.cell is not None:
        rows = confusion_rows(columns, rows, *wanted.cell)
    sort = wanted.sort or default_sort(columns, preferred)
    descending = is_descending(sort) if wanted.descending is None and sort else bool(wanted.descending)
    if sort is not None:
        try:
            rows = sort_rows(columns, rows, sort, descending, notes)
        except QueryError as error:
            return replace(arrange(columns, replace(wanted, sort=None), notes, preferred), problem=str(error))
    groups = group_rows(columns, rows, wanted.group) if wanted.group is not None and len(rows) else ()
    return Listing(columns, notes, rows, groups, sort, descending, total, every_step)


def filter_problem(columns: SampleColumns, text: str, notes: NoteColumns | None = None) -> str | None:
    """Why a filter line means nothing, as a sentence; None when it means something."""
    try:
        parse(text).mask(columns, notes)
    except QueryError as error:
        return str(error)
    return None


def sort_keys(columns: SampleColumns) -> list[str]:
    """What the list can be sorted by, in the order in which a key press goes through them."""
    keys = list(columns.metrics)
    if len(columns) and (columns.label_codes >= 0).any():
        keys.append("label")
    if len(columns) and not np.isnan(columns.seconds).all():
        keys.append("seconds")
    return [*keys, "rating", "step", "id"]


def following(known: Sequence[str | None], now: str | None) -> str | None:
    """The next of a ring of choices; the first when `now` is none of them."""
    return known[(known.index(now) + 1) % len(known)] if now in known else known[0]
