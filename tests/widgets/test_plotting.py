"""Scales, ticks, rasters, legends, groups and sparklines: everything about a chart that needs no app."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from wavedeck.engine.series import Series, SeriesTable
from wavedeck.widgets.plotting.braille import blank, draw_line, encode, fill_spans
from wavedeck.widgets.plotting.canvas import Canvas, plain_text, shorten
from wavedeck.widgets.plotting.colours import SLOTS, build_styles, series_colours
from wavedeck.widgets.plotting.crosshair import with_crosshair
from wavedeck.widgets.plotting.data import ChartData, ChartOptions, ChartSeries
from wavedeck.widgets.plotting.groups import group, matcher
from wavedeck.widgets.plotting.picture import paint
from wavedeck.widgets.plotting.scale import Scale, clock_label, fit, spaced_ticks, tick_labels, ticks, value_label
from wavedeck.widgets.sparkline import sparkline

ANY = st.floats(allow_nan=True, allow_infinity=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def rows_of(canvas: Canvas) -> list[str]:
    """A canvas as text."""
    return [line.tobytes().decode("utf-32-le") for line in canvas.chars]


def one(values: object, label: str = "loss", **kwargs: object) -> ChartData:
    """A chart of one series over steps 0, 1, ..."""
    array = np.asarray(values, float)
    series = Series(label)
    series.extend(np.arange(len(array)), np.arange(len(array)) * 1.0, None, array)
    return ChartData((ChartSeries(label, series.view(), goal="min"),), **kwargs)  # type: ignore[arg-type]


# --- scales and ticks


@given(ANY, ANY, st.booleans(), st.floats(0, 0.2))
@example(1.2e308, 1.2e308, False, 0.0)
def test_every_pair_of_ends_makes_a_scale(a: float, b: float, log: bool, pad: float) -> None:
    low, high = sorted((abs(a) or 1e-300, abs(b) or 1e-300) if log else (a, b))
    scale = fit(low, high, log=log, pad=pad)
    assert scale.low < scale.high and math.isfinite(scale.low) and math.isfinite(scale.high)
    if math.isfinite(low) and math.isfinite(high) and 1e-290 < abs(low) < 1e290 and 1e-290 < abs(high) < 1e290:
        assert -1e-6 <= float(scale.unit(low)) <= float(scale.unit(high)) <= 1 + 1e-6


@given(FINITE, FINITE, st.integers(1, 20), st.booleans(), st.booleans())
def test_ticks_rise_lie_inside_and_have_labels_of_their_own(
    a: float, b: float, count: int, log: bool, time: bool
) -> None:
    low, high = (abs(a) or 1.0, abs(b) or 1.0) if log else (a, b)
    scale = fit(min(low, high), max(low, high), log=log)
    found = ticks(scale, count, time=time)
    assert all(0 <= tick.unit <= 1 for tick in found)
    assert all(one.unit < other.unit for one, other in pairwise(found))
    assert len(found) <= 2 * count + 1
    if not time and not log and scale.high - scale.low > 1e-6 * max(abs(scale.low), abs(scale.high)):
        assert len({tick.label for tick in found}) == len(found)


@given(FINITE, FINITE, st.integers(1, 300), st.booleans())
def test_x_labels_never_touch(a: float, b: float, cells: int, time: bool) -> None:
    placed = spaced_ticks(fit(min(a, b), max(a, b)), cells, time=time)
    for (left, tick), (right, _) in pairwise(placed):
        assert left + len(tick.label) + 2 <= right
    assert all(left >= 0 and left + len(tick.label) <= cells for left, tick in placed)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 100_000, ["0", "20k", "40k", "60k", "80k", "100k"]),
        (0, 1000, ["0", "200", "400", "600", "800", "1000"]),
        (0.30, 0.31, ["0.300", "0.302", "0.304", "0.306", "0.308", "0.310"]),
        (0, 5e-4, ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]),
        (-2e9, 2e9, ["-2G", "-1G", "0", "1G", "2G"]),
    ],
)
def test_linear_labels(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in ticks(Scale(low, high), 5)] == labels


def test_log_ticks_are_decades_with_2_and_5_when_there_is_room() -> None:
    assert [tick.label for tick in ticks(Scale(0.01, 1, True), 10)] == [
        "0.01",
        "0.02",
        "0.05",
        "0.1",
        "0.2",
        "0.5",
        "1",
    ]
    assert [tick.label for tick in ticks(Scale(1e-6, 1, True), 4)] == ["1e-6", "1e-4", "0.01", "1"]
    assert len(ticks(Scale(0.30, 0.31, True), 5)) >= 2


def test_time_labels_are_a_clocks() -> None:
    assert [tick.label for tick in ticks(Scale(0, 7200), 5, time=True)] == ["0", "30m", "1h", "1h30", "2h"]
    assert [clock_label(s) for s in (0, 45, 90, 3600, 5400, 90_000, 172_800)] == [
        "0", "45s", "1m30", "1h", "1h30", "1d01h", "2d",
    ]  # fmt: skip


def test_values_are_short() -> None:
    values = (0.0, 0.5, 123.0, 12_345.0, 1e-5, float("nan"))
    assert [value_label(v) for v in values] == ["0", "0.5", "123", "12.35k", "1e-5", "NaN"]
    assert tick_labels([], 1.0) == []


# --- raster


def test_spans_and_lines_are_braille() -> None:
    mask = blank(1, 2)
    fill_spans(mask, np.array([0.0, np.nan, 3.0, -9.0]), np.array([3.0, np.nan, 3.0, -5.0]))
    assert encode(mask).tolist() == [[0x47, 0x40 | 0x08]]
    mask = blank(1, 2)
    draw_line(mask, np.array([0.0, 3.0]), np.array([3.0, 0.0]))
    assert mask.sum() == 4 and all(mask[3 - i, i] for i in range(4))


def test_a_line_lifts_the_pen_at_nan_and_is_cut_at_the_edges() -> None:
    mask = blank(2, 4)
    draw_line(mask, np.array([0.0, 1.0, 2.0, 7.0]), np.array([4.0, np.nan, 4.0, 4.0]))
    assert np.flatnonzero(mask[4]).tolist() == [0, 2, 3, 4, 5, 6, 7]
    mask = blank(2, 4)
    draw_line(mask, np.array([-1e12, 1e12]), np.array([0.0, 7.0]))
    assert mask.any(axis=0).all(), "crosses the whole window although both ends are far outside"
    mask = blank(2, 4)
    draw_line(mask, np.array([1.0, 2.0, 3.0]), np.array([4.0, -1e300, 4.0]))
    assert mask[0, 1:4].any()


@settings(deadline=None)
@given(st.lists(st.tuples(ANY, ANY), max_size=30), st.integers(1, 6), st.integers(1, 6))
def test_lines_never_leave_the_mask(points: list[tuple[float, float]], rows: int, columns: int) -> None:
    mask = blank(rows, columns)
    x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    x, y = np.where(np.isfinite(x), np.clip(x, -1e9, 1e9), np.nan), np.where(np.isfinite(y), y, np.nan)
    draw_line(mask, x, np.clip(y, -1e300, 1e300))
    assert mask.shape == (4 * rows, 2 * columns)


def test_text_is_one_cell_a_character() -> None:
    wild = "a\x1b[31m日本\u0301\n🎵é"
    assert cell_len(plain_text(wild)) == len(wild)
    assert "\x1b" not in plain_text(wild)
    assert [shorten("abcdef", n) for n in (0, 1, 3, 6)] == ["", "…", "ab…", "abcdef"]


# --- colours


@pytest.mark.parametrize("name", [name for name in BUILTIN_THEMES if not name.startswith("ansi")])
def test_series_colours_differ_in_every_theme(name: str) -> None:
    theme = BUILTIN_THEMES[name]
    variables = theme.to_color_system().generate()
    colours = series_colours(variables, Color.parse(variables["foreground"]), Color.parse(variables["background"]))
    assert len({colour.rgb for colour in colours}) == len(colours) == SLOTS
    ground = Color.parse(variables["background"])
    assert all(abs(colour.brightness - ground.brightness) > 0.15 for colour in colours)


def test_a_theme_may_name_its_chart_colours() -> None:
    styles = build_styles({"chart-1": "#123456", "primary": "#fff"}, Color(255, 255, 255), Color(0, 0, 0))
    assert styles.bright[0].color is not None and styles.bright[0].color.triplet == (0x12, 0x34, 0x56)


# --- pictures


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (ChartData(), ChartOptions(), "no metrics yet"),
        (ChartData(empty="nothing logged"), ChartOptions(), "nothing logged"),
        (ChartData(loaded=0.42), ChartOptions(), "loading… 42%"),
        (one([1, 2], stale="no news for 3m"), ChartOptions(), "no news for 3m"),
        (one([1, 2], loaded=0.5), ChartOptions(), "loading 50%"),
        (one([np.nan, np.inf]), ChartOptions(), "every value here is NaN or infinite"),
        (one([-1, -2]), ChartOptions(log_y=True), "no value above 0"),
        (one([-1, 2, 3]), ChartOptions(log_y=True), "leaves out values ≤ 0"),
        (one([1, 2, 3]), ChartOptions(window=(50, 60)), "no points in this window"),
        (one([1, 2]), ChartOptions(x_axis="epoch"), "no epoch was logged"),
        (one([1, 2], label="evil\x1b[2J"), ChartOptions(title="日本"), "evil□[2J"),
    ],
)
def test_every_state_has_words(data: ChartData, options: ChartOptions, words: str) -> None:
    assert words in "\n".join(rows_of(paint(data, options, 70, 16).canvas))


def test_equal_values_are_a_line_in_the_middle() -> None:
    text = rows_of(paint(one([0.5] * 50), ChartOptions(smoothing=0.0), 60, 15).canvas)
    drawn = [y for y, line in enumerate(text[2:12]) if any("\u2801" <= char <= "\u28ff" for char in line)]
    assert len(drawn) == 1 and 3 <= drawn[0] <= 6
    assert "0.4" in "".join(text[2:12]) and "0.6" in "".join(text[2:12])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 130),
    st.integers(1, 40),
    st.lists(ANY, max_size=40),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.9]),
    st.sampled_from(["step", "epoch", "time"]),
    st.booleans(),
)
def test_no_size_and_no_data_crash_it(
    width: int,
    height: int,
    values: list[float],
    log_x: bool,
    log_y: bool,
    smoothing: float | None,
    axis: str,
    full: bool,
) -> None:
    options = ChartOptions("t", axis, log_x, log_y, smoothing, full)  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        picture = paint(one(values), options, width, height)
    assert picture.canvas.chars.shape == (height, width)
    x = picture.x_at(width // 2)
    if x is not None:
        with_crosshair(picture, x)


@pytest.mark.parametrize("width", [30, 80, 120, 200])
def test_spike_and_nan_in_a_hundred_thousand_points(width: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 1.1, 100_000)
    values[54_321], values[77_777] = 50, np.nan
    picture = paint(one(values), ChartOptions("loss"), width, 24)
    text, frame = rows_of(picture.canvas), picture.frame
    assert text[frame.above][picture.column_of(54_321) or 0] == "▲"
    assert text[frame.bad][picture.column_of(77_777) or 0] == "×"
    assert text[frame.above].count("▲") == text[frame.bad].count("×") == 1
    column = [line[picture.column_of(54_321) or 0] for line in text[frame.plot : frame.plot + 3]]
    assert all("\u2801" <= char <= "\u28ff" for char in column), "the spike runs off the top of the plot"
    if width >= 80:
        assert "1 above, 50 at step 54,321" in text[frame.above]
        assert "1 NaN at step 77,777" in text[frame.legend]
    assert picture.y is not None and picture.y.high < 2, "the spike does not flatten the rest"
    full = paint(one(values), ChartOptions("loss", full_range=True), width, 24)
    assert full.y is not None and full.y.high > 50 and full.frame.above == -1


def test_an_outlier_of_one_series_may_be_ordinary_for_another() -> None:
    table = SeriesTable()
    step = np.arange(1000)
    small = np.full(1000, 0.5) + 0.01 * np.sin(step)
    small[500] = 5.0
    table.extend(step, step * 1.0, None, {"small": small, "large": np.linspace(0, 10, 1000)})
    data = ChartData(tuple(ChartSeries(n, s.view(), i) for i, (n, s) in enumerate(table.series.items())))
    assert paint(data, ChartOptions(), 80, 20).frame.above == -1
    assert paint(ChartData(data.series[:1]), ChartOptions(), 80, 20).frame.above >= 0


def test_the_crosshair_reads_every_series() -> None:
    table = SeriesTable()
    step = np.arange(10_000)
    table.extend(step, step * 1.0, None, {"train/loss": step / 1000})
    table.extend([0, 5000, 9999], [1, 2, 3], None, {"val/loss": [3.0, 4.0, 5.0]})
    data = ChartData(tuple(ChartSeries(n, s.view(), i) for i, (n, s) in enumerate(table.series.items())))
    picture = paint(data, ChartOptions(), 120, 20)
    canvas = with_crosshair(picture, 5000.0)
    text = rows_of(canvas)
    legend = text[picture.frame.legend]
    assert "train/loss 5 (" in legend and "step 5,000" in legend
    assert "val/loss 4 step 5,000" in legend
    assert " 5,000 " in text[picture.frame.labels]
    assert rows_of(picture.canvas) != text and "│" not in rows_of(picture.canvas)[5][12:]
    assert with_crosshair(picture, 1e9) is picture.canvas


def test_few_points_get_the_marker_of_their_slot() -> None:
    data = one([3, 2, 1, 2])
    text = rows_of(paint(ChartData((ChartSeries("v", data.series[0].view, 1),)), ChartOptions(), 80, 20).canvas)
    assert sum(line.count("◆") for line in text[2:]) == 4
    assert "◆ v" in text[1]


def test_a_curve_without_noise_is_not_smoothed_unasked() -> None:
    step = np.arange(20_000)
    warmup = np.minimum(step / 1000, 1) * np.exp(-step / 10_000)
    noisy = warmup + 0.1 * np.random.default_rng(0).standard_normal(20_000)
    for values, words in ((warmup, "raw"), (warmup[::100], "raw"), (noisy, "smooth auto")):
        assert words in rows_of(paint(one(values), ChartOptions(), 100, 20).canvas)[0]
    assert "smooth 0.9" in rows_of(paint(one(warmup), ChartOptions(smoothing=0.9), 100, 20).canvas)[0]


# --- groups


def test_splits_share_a_chart_and_a_look() -> None:
    names = [
        "lr",
        "train/loss",
        "val/loss",
        "train_acc",
        "val_acc",
        "gen/loss",
        "val/wer",
        "train/x_step",
        "train/x_epoch",
    ]
    views = {name: Series(name).view() for name in names}
    groups = {g.title: [(s.label, s.slot, s.goal) for s in g.series] for g in group(views)}
    assert groups["loss"] == [("train/loss", 0, "min"), ("val/loss", 1, "min")]
    assert groups["acc"] == [("train_acc", 0, "max"), ("val_acc", 1, "max")]
    assert groups["gen/loss"] == [("gen/loss", 0, "min")]
    assert groups["wer"] == [("val/wer", 1, "min")]
    assert groups["lr"] == [("lr", 0, None)]
    assert [label for label, _, _ in groups["x"]] == ["train/x_step", "train/x_epoch"]
    assert next(iter(groups)) == "loss"
    assert [g.title for g in group(views, "^val")] == ["loss", "acc", "wer"]


def test_half_typed_expressions_are_plain_text() -> None:
    assert matcher("(loss")("a(loss") and not matcher("(loss")("loss")
    assert matcher("LOSS|acc")("val/Acc")


# --- sparkline


def test_sparkline() -> None:
    assert sparkline(np.arange(8.0), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, float("nan"), 2.0], 8) == "▁×█"
    assert sparkline([], 8) == sparkline(None, 8) == sparkline([1.0], 0) == ""
    assert sparkline([5.0] * 20, 4) == "▁▁▁▁"
    assert sparkline([float("nan")] * 3, 2) == "××"
    spiky = np.linspace(1, 0, 100)
    spiky[50] = 1000
    line = sparkline(spiky, 10)
    assert line[5] == "█" and line[0] == "█" and line[-1] == "▁" and line[2] != line[8]


def test_a_narrow_legend_shortens_the_name_and_keeps_the_value() -> None:
    from wavedeck.widgets.plotting.legend import Entry

    entry = Entry((("◆", 1), (" val/balanced_accuracy", 1), (" 0.9562", 2), (" best 0.9562", 3)))
    shown = "".join(text for text, _ in entry.fitted(24))
    assert shown.endswith(" 0.9562") and shown.startswith("◆ val/bal") and len(shown) <= 24
