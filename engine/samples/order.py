"""The order of rows: sorted worst first, grouped by label, or those behind one cell of a confusion matrix.

What has no value comes last in both directions, and equal rows keep the order they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..format import plain
from ..headline import direction_of, goal_of
from .columns import Codes, Floats, Ints, Mask, SampleColumns
from .query import NoteColumns, QueryError, coded, number_column


def default_sort(columns: SampleColumns, preferred: str | None = None) -> str | None:
    """What to sort by when nobody said: `preferred` (the run's headline, with or without its `val/`), else the first
    metric that has a good end."""
    names = list(columns.metrics)
    for name in (preferred, (preferred or "").rsplit("/", 1)[-1]):
        if name in columns.metrics:
            return name
    return next((name for name in names if goal_of(name)), names[0] if names else None)


def is_descending(key: str) -> bool:
    """Whether worst first (for a metric) or the usual order (for all else) means from high to low."""
    if key in ("id", "label", "predicted", "rating"):
        return False
    return key in ("step", "epoch", "t", "seconds") or direction_of(key) == "min"


def sort_rows(
    columns: SampleColumns,
    rows: Ints,
    key: str,
    descending: bool | None = None,
    notes: NoteColumns | None = None,
) -> Ints:
    """`rows` sorted by a metric, `step`, `epoch`, `seconds`, `rating`, `t`, `id`, `label` or `predicted`.

    `descending` None: worst first. Rows without a value come last either way; equals keep their order.

    Raises
    ------
    QueryError: there is no such column.
    """
    if descending is None:
        descending = is_descending(key)
    if key == "id":  # ids differ nearly always: ranks for all of them would cost more than the order of these
        ids = list(map(list(columns.ids).__getitem__, rows.tolist()))
        return rows[sorted(range(len(ids)), key=ids.__getitem__, reverse=descending)]
    values = _sortable(columns, key, notes)[rows]
    order = np.argsort(-values if descending else values, kind="stable")  # NaN is last for argsort
    return rows[order]


def _sortable(columns: SampleColumns, key: str, notes: NoteColumns | None) -> Floats:
    if key in columns.metrics:
        return columns.metrics[key]
    if key in ("label", "predicted"):
        return _ranks(columns.classes)[columns.label_codes if key == "label" else columns.predicted_codes]
    return number_column(columns, key, notes)


def _ranks(words: Sequence[str]) -> Floats:
    """Each word's place in the alphabet; NaN at the end, where -1 finds it."""
    ranks = np.full(len(words) + 1, np.nan)
    ranks[sorted(range(len(words)), key=lambda index: words[index].casefold())] = np.arange(len(words))
    return ranks


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a label (None: those without), in the order they had."""

    name: str | None
    rows: Ints


def group_rows(columns: SampleColumns, rows: Ints, by: str = "label") -> tuple[Group, ...]:
    """`rows` by `label`, `predicted` or `tag`, in alphabetical order, those without last; an item with two tags is in
    two groups."""
    if by == "tag":
        codes = columns.tag_codes[rows]
        tags = sorted({tag for tag_set in columns.tag_sets for tag in tag_set}, key=str.casefold)
        groups = [Group(tag, rows[_with_tag(codes, columns.tag_sets, tag)]) for tag in tags]
        groups.append(Group(None, rows[codes < 0]))
    elif by in ("label", "predicted"):
        codes = (columns.label_codes if by == "label" else columns.predicted_codes)[rows]
        order = sorted(range(len(columns.classes)), key=lambda index: columns.classes[index].casefold())
        groups = [Group(columns.classes[code], rows[codes == code]) for code in order]
        groups.append(Group(None, rows[codes < 0]))
    else:
        raise QueryError(f"Samples are not grouped by {plain(by, 40)!r}: use label, predicted or tag.")
    return tuple(group for group in groups if len(group.rows))


def _with_tag(codes: Codes, tag_sets: Sequence[tuple[str, ...]], tag: str) -> Mask:
    return coded(codes, tag_sets, lambda tags: tag in tags)


def confusion_rows(columns: SampleColumns, rows: Ints, label: str, predicted: str) -> Ints:
    """The rows behind one cell of a confusion matrix."""
    codes = {name: code for code, name in enumerate(columns.classes)}
    if label not in codes or predicted not in codes:
        return rows[:0]
    hit = (columns.label_codes[rows] == codes[label]) & (columns.predicted_codes[rows] == codes[predicted])
    return rows[hit]
