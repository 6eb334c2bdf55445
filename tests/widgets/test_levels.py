"""Levels across a chart: near ones are on the axis, far ones at its edge, names never cover a curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wavedeck.engine.series import SeriesTable
from wavedeck.widgets.plotting.canvas import Canvas
from wavedeck.widgets.plotting.crosshair import with_crosshair
from wavedeck.widgets.plotting.data import ChartData, ChartOptions, ChartSeries, ReferenceLine, reference_lines
from wavedeck.widgets.plotting.hold import continues
from wavedeck.widgets.plotting.legend import DASH
from wavedeck.widgets.plotting.picture import Picture, paint


def chart(values: list[float], *lines: tuple[str, float]) -> ChartData:
    table = SeriesTable()
    step = np.arange(len(values))
    table.extend(step, step * 1.0, None, {"val/acc": np.array(values, float)})
    series = (ChartSeries("val/acc", table.series["val/acc"].view()),)
    return ChartData(series, lines=tuple(ReferenceLine(label, value) for label, value in lines))


def rows_of(canvas: Canvas) -> list[str]:
    return [canvas.chars[y].tobytes().decode("utf-32-le") for y in range(canvas.height)]


def dashed(picture: Picture) -> list[int]:
    """Rows of the plot with a dashed line."""
    frame = picture.frame
    return [y for y in range(frame.plot, frame.plot + frame.rows) if DASH * 3 in rows_of(picture.canvas)[y]]


CURVE = [0.1, 0.2, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(("width", "height"), [(44, 9), (80, 20), (120, 36)])
def test_a_near_level_is_on_the_axis_with_its_name(width: int, height: int) -> None:
    picture = paint(chart(CURVE, ("ceiling", 0.85)), ChartOptions("acc"), width, height)
    assert picture.y is not None and picture.y.low < 0.1 and picture.y.high >= 0.85
    (row,) = dashed(picture)
    assert "ceiling 0.85" in rows_of(picture.canvas)[row]
    assert any(f"{DASH}{DASH} ceiling 0.85" in line for line in rows_of(picture.canvas)[: picture.frame.plot])


def test_a_far_level_is_a_mark_at_the_edge_and_does_not_press_the_curve_flat() -> None:
    alone = paint(chart(CURVE), ChartOptions("acc"), 80, 20)
    picture = paint(chart(CURVE, ("human", 9.0), ("floor", -9.0)), ChartOptions("acc"), 80, 20)
    assert picture.y == alone.y and dashed(picture) == []
    text, frame = rows_of(picture.canvas), picture.frame
    assert "↑ human 9" in text[frame.plot] and "↓ floor -9" in text[frame.plot + frame.rows - 1]
    full = paint(chart(CURVE, ("human", 9.0)), ChartOptions("acc", full_range=True), 80, 20)
    assert full.y is not None and full.y.high >= 9 and len(dashed(full)) == 1


def test_one_point_is_no_curve_to_be_pressed_flat() -> None:
    picture = paint(chart([0.03], ("ceiling", 0.85)), ChartOptions("acc"), 80, 20)
    assert picture.y is not None and picture.y.high >= 0.85 and picture.y.low <= 0.03


def test_on_a_logarithmic_axis() -> None:
    data = chart([1.0, 0.1, 0.01], ("near", 0.005), ("zero", 0.0))
    picture = paint(data, ChartOptions("loss", log_y=True), 80, 20)
    assert picture.y is not None and 0 < picture.y.low <= 0.005 and len(dashed(picture)) == 1
    assert any("↓ zero 0" in line for line in rows_of(picture.canvas))


def test_a_name_does_not_cover_a_curve() -> None:
    flat = paint(chart([0.5] * 40, ("same", 0.5)), ChartOptions("acc"), 60, 14)
    bare = paint(chart([0.5] * 40), ChartOptions("acc"), 60, 14)
    braille = [sum("\u2801" <= char <= "\u28ff" for char in "".join(rows_of(p.canvas))) for p in (flat, bare)]
    assert braille[0] == braille[1] > 0


def test_under_a_crosshair_the_levels_stay() -> None:
    picture = paint(chart(CURVE, ("ceiling", 0.85)), ChartOptions("acc"), 80, 20)
    text = "\n".join(rows_of(with_crosshair(picture, 2.0)))
    assert "val/acc 0.4000 step 2" in text and text.count("ceiling 0.85") == 2
    (row,) = dashed(picture)
    column = picture.column_of(2.0) or 0
    assert rows_of(with_crosshair(picture, 2.0))[row][column] == "│"


def test_another_level_is_another_picture() -> None:
    data = chart(CURVE, ("ceiling", 0.85))
    assert continues(data, data) and not continues(data, replace(data, lines=()))
    before = paint(replace(data, lines=()), ChartOptions("acc"), 80, 20)
    assert len(dashed(paint(data, ChartOptions("acc"), 80, 20, before))) == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (10, 5), (20, 4), (12, 30)])
def test_no_size_is_too_small(size: tuple[int, int]) -> None:
    paint(chart(CURVE, ("a ceiling with a very long name", 0.85), ("far", 99.0)), ChartOptions("acc"), *size)


def test_levels_belong_to_the_chart_of_their_metric() -> None:
    series = chart(CURVE).series
    lines = {"val/acc": {"ceiling": 0.85, "chance": 0.025}, "val/loss": {"other": 1.0}}
    assert reference_lines(series, lines) == (ReferenceLine("ceiling", 0.85), ReferenceLine("chance", 0.025))
    assert reference_lines((*series, *series), lines) == reference_lines(series, lines)
