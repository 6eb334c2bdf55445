"""Rows turned into columns: what the feed and the summaries are both made from."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.events import Event, as_float, columns_of
from wavedeck.engine.summary import SPARK_POINTS, Summary

_VALUES = st.dictionaries(
    st.sampled_from(["loss", "lr", "val/loss"]),
    st.one_of(st.floats(-10, 10), st.sampled_from(["NaN", "Infinity", "soon", None])),
)


def _row(step: int, values: dict[str, float | str | None] | None) -> Event:
    return Event(t=float(step), k="metrics", step=step, v=values)


def _one_by_one(rows: list[Event]) -> dict[str, list[tuple[int, str]]]:
    """The plain way to the same columns; values as text, so that NaN equals NaN."""
    columns: dict[str, list[tuple[int, str]]] = {}
    for number, row in enumerate(rows):
        for name, raw in (row.v or {}).items():
            value = as_float(raw)
            if value is not None:
                columns.setdefault(name, []).append((number, repr(value)))
    return columns


@given(st.lists(st.one_of(st.none(), _VALUES), max_size=30))
def test_any_mixture_of_rows_gives_the_columns_that_reading_row_by_row_gives(
    values: list[dict[str, float | str | None] | None],
) -> None:
    rows = [_row(step, row) for step, row in enumerate(values)]
    columns = columns_of(rows)
    found = {
        name: [(row, repr(value)) for row, value in zip(column.rows, column.values, strict=True)]
        for name, column in columns.items()
    }
    assert found == _one_by_one(rows)


def test_no_rows_are_no_columns() -> None:
    assert columns_of([]) == {}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=700), st.integers(1, 60))
def test_the_sparkline_does_not_depend_on_how_rows_arrive(values: list[float], batch: int) -> None:
    rows = [_row(step, {"loss": value}) for step, value in enumerate(values)]
    whole, pieces = Summary(), Summary()
    whole.absorb(rows)
    for first in range(0, len(rows), batch):
        pieces.absorb(rows[first : first + batch])
    assert len(whole.spark) == len(pieces.spark) <= 2 * SPARK_POINTS
    assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(whole.spark, pieces.spark, strict=True))
    width = whole.spark_width
    newest = values[(len(values) - 1) // width * width :]
    assert math.isclose(whole.spark[-1], sum(newest) / len(newest), abs_tol=1e-9)
    assert (whole.last, whole.rows, whole.step) == (pieces.last, pieces.rows, pieces.step)
