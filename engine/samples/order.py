"""The order of rows: sorted worst first, grouped by label, or those behind one cell of a confusion matrix.

What has no value comes last in both directions, and equal rows keep the order they had. A metric that is NaN is the
worst there can be: before all others worst first, after them best first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..format import plain
from ..headline import direction_of, goal_of
from .columns import Codes, Floats, Ints, Mask, SampleColumns
from .query import NoteColumns, QueryError, coded, number_column

_ON_A_SET = re.compile(r"^(val|valid|validation|eval|test|dev)[_.-]")


def default_sort(columns: SampleColumns, preferred: str | Sequence[str] | None = None) -> str | None:
    """What to sort by when nobody said: the first of `preferred` that the items have too (`val/wer` of the run is `wer`
    of an item), else the first metric that has a good end.

    Parameters
    ----------
    preferred: metrics of the run, the one it is judged by first.
    """
    names = list(columns.metrics)
    for wanted in (preferred,) if isinstance(preferred, str) else preferred or ():
        if wanted in columns.metrics:
            return wanted
        for name in names:
            if _bare(name) == _bare(wanted):
                return name
    return next((name for name in names if goal_of(name)), names[0] if names else None)


def _bare(metric: str) -> str:
    """A metric without the name of the set it was taken on: `val/wer`, `val_wer` and `wer` are one."""
    return _ON_A_SET.sub("", metric.rsplit("/", 1)[-1].casefold())


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
    if key == "id":
        return rows[_order_of_ids(columns, rows, descending)]
    values = _sortable(columns, key, notes)[rows]
    values = -values if descending else values
    if key in columns.nan_rows:
        nan, worst_first = columns.is_nan(key)[rows], descending == is_descending(key)
        rank = np.where(nan, 0 if worst_first else 2, np.where(np.isnan(values), 3, 1))
        return rows[np.lexsort((values, rank))]
    return rows[np.argsort(values, kind="stable")]  # NaN is last for argsort


def _order_of_ids(columns: SampleColumns, rows: Ints, descending: bool) -> Ints:
    if columns.id_keys:
        words = [column[rows] for column in columns.id_keys]
        words = [word for word in words if word.any()]
        return (
            np.lexsort([~word if descending else word for word in reversed(words)]) if words else np.arange(len(rows))
        )
    ids = list(map(list(columns.ids).__getitem__, rows.tolist()))
    return np.asarray(sorted(range(len(ids)), key=ids.__getitem__, reverse=descending), np.int64)


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
