"""Axes that hold while a run grows: fewer cells change, and nothing that matters is ever held back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.series import SeriesTable
from wavedeck.widgets.plotting.data import ChartData, ChartOptions, ChartSeries
from wavedeck.widgets.plotting.hold import with_legend
from wavedeck.widgets.plotting.picture import Picture, paint

OPTIONS = ChartOptions("loss")
SIZE = (66, 22)


class Growing:
    """A run that logs one loss."""

    def __init__(self, rows: int) -> None:
        self.table, self.step = SeriesTable(), 0
        rng = np.random.default_rng(5)
        for _ in range(rows):
            self.add(1.95 + 0.1 * rng.random())

    def add(self, value: float) -> ChartData:
        self.step += 1
        self.table.append_rows([(self.step, 1e9 + 0.1 * self.step, None, {"loss": value})])
        return ChartData((ChartSeries("loss", self.table.views()["loss"], 0, "min"),))


def text(picture: Picture) -> str:
    return "\n".join("".join(map(chr, row)) for row in picture.canvas.chars)


def held(run: Growing) -> Picture:
    """A picture that has seen a few quiet rows come."""
    picture = paint(run.add(2.0), OPTIONS, *SIZE)
    for _ in range(3):
        picture = paint(run.add(2.0), OPTIONS, *SIZE, picture)
    return picture


def test_a_quiet_row_changes_the_legend_and_leaves_the_axes() -> None:
    run = Growing(1000)
    before = held(run)
    after = with_legend(before, run.add(1.9876))
    assert after is not None and "1.988" in text(after)
    painted = paint(run.add(1.99), OPTIONS, *SIZE, before)
    rows_before, rows_after = text(before).splitlines(), text(painted).splitlines()
    assert rows_before[-2:] == rows_after[-2:], "the x axis and its labels hold"


@pytest.mark.parametrize(("value", "sign"), [(50.0, "▲"), (-9.0, "▼"), (math.nan, "×"), (math.inf, "×")])
def test_a_spike_or_nan_is_drawn_in_the_same_frame(value: float, sign: str) -> None:
    run = Growing(1000)
    before = held(run)
    data = run.add(value)
    assert with_legend(before, data) is None, "the legend alone would hide it"
    shown = text(paint(data, OPTIONS, *SIZE, before))
    assert sign in shown and sign in text(paint(data, OPTIONS, *SIZE))


@given(st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, math.inf, 40.0])), min_size=1, max_size=25))
@settings(deadline=None, max_examples=25)
def test_held_pictures_mark_whatever_fresh_ones_mark(values: list[float]) -> None:
    run = Growing(200)
    picture = held(run)
    for value in values:
        data = run.add(value)
        picture = with_legend(picture, data) or paint(data, OPTIONS, *SIZE, picture)
    fresh = text(paint(data, OPTIONS, *SIZE))
    assert ("×" in text(picture)) == ("×" in fresh)
    if any(not -5 <= value <= 5 for value in values if math.isfinite(value)):
        assert "40" in text(picture) or "▲" in text(picture)
