"""Series: the pyramid against brute force, shared rows, resumed and restarted runs, what charts say about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.series import Series, SeriesTable
from wavedeck.engine.series_stats import best, ema, non_finite, outliers_beyond, robust_range, smooth, smooth_points
from wavedeck.engine.series_view import MAX_STRETCHES, X_AXES, SeriesView, XAxis

ODD = [0.0, 1.0, -1.0, 0.1, 1e-40, 1e300, 16_777_217.0, np.nan, np.inf, -np.inf]


@st.composite
def rows(draw: st.DrawFn, most: int = 1500) -> dict[str, np.ndarray]:
    """Rows of a run: long enough for buckets of buckets, with restarts, repeated steps, unknown epochs, odd values."""
    count = draw(st.integers(0, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = np.cumsum(rng.integers(0, 4, count))
    for _ in range(draw(st.integers(0, 3))):
        if count > 1:
            at = int(rng.integers(1, count))
            step[at:] -= int(rng.integers(0, max(1, step[at])))
    epoch = step / 100
    if draw(st.booleans()):
        epoch = np.where(rng.random(count) < 0.01, np.nan, epoch)
    value = rng.standard_normal(count)
    if draw(st.booleans()):
        value = value.astype(np.float32).astype(np.float64)
    odd = rng.random(count) < draw(st.sampled_from([0.0, 0.01, 0.5]))
    value = np.where(odd, rng.choice(ODD, count), value)
    return {"step": step, "t": 1.7e9 + np.cumsum(rng.random(count)), "epoch": epoch, "value": value}


def filled(data: dict[str, np.ndarray], cuts: tuple[int, ...] = ()) -> Series:
    """A series that got `data` in pieces cut at `cuts`."""
    series = Series("loss")
    bounds = [0, *sorted(cuts), len(data["step"])]
    for start, end in zip(bounds, bounds[1:], strict=False):
        series.extend(*(data[name][start:end] for name in ("step", "t", "epoch", "value")))
    return series


def brute(view: SeriesView, axis: XAxis, x0: float, x1: float, columns: int) -> dict[str, np.ndarray]:
    """Column summaries by looking at every point."""
    x = view.x_of(axis, np.arange(len(view)))
    edges = np.linspace(x0, x1, columns + 1)
    found: dict[str, list[float]] = {name: [] for name in ("minimum", "maximum", "mean", "count", "nan", "inf")}
    for c in range(columns):
        inside = (x >= edges[c]) & ((x <= edges[c + 1]) if c == columns - 1 else (x < edges[c + 1]))
        values = view.values[inside].astype(np.float64)
        finite = values[np.isfinite(values)]
        found["count"].append(len(finite))
        found["nan"].append(np.isnan(values).sum())
        found["inf"].append(np.isinf(values).sum())
        for name, reduce in (("minimum", np.min), ("maximum", np.max), ("mean", np.mean)):
            found[name].append(reduce(finite) if len(finite) else np.nan)
    return {name: np.array(column) for name, column in found.items()}


@settings(max_examples=60, deadline=None)
@given(rows(), st.sampled_from(X_AXES), st.floats(0, 1), st.floats(0.001, 1), st.integers(1, 60))
def test_window_equals_brute_force(
    data: dict[str, np.ndarray], axis: XAxis, start: float, width: float, columns: int
) -> None:
    view = filled(data).view()
    low, high = view.x_range(axis) or (0.0, 1.0)
    x0, x1 = low + start * (high - low), low + (start + width) * (high - low)
    stats, wanted = view.window(axis, x0, x1, columns), brute(view, axis, x0, x1, columns)
    for name in ("minimum", "maximum", "count", "nan"):
        np.testing.assert_array_equal(getattr(stats, name), wanted[name], err_msg=name)
    np.testing.assert_array_equal(stats.pos_inf + stats.neg_inf, wanted["inf"])
    # A sum of mixed magnitudes depends on its order, so the tolerance goes with the largest value.
    scale = np.nanmax(np.abs(np.append(wanted["mean"], 0)), initial=0)
    if scale < 1e200:
        np.testing.assert_allclose(stats.mean, wanted["mean"], rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(rows(), st.lists(st.floats(0, 1), max_size=6))
def test_any_chunking_equals_one_append(data: dict[str, np.ndarray], fractions: list[float]) -> None:
    whole = filled(data).view()
    parts = filled(data, tuple(int(f * len(data["step"])) for f in fractions)).view()
    np.testing.assert_array_equal(whole.values, parts.values)
    np.testing.assert_array_equal(whole.values, data["value"])
    assert whole.stretches == parts.stretches
    for one, other in zip(whole.levels, parts.levels, strict=True):
        for name in ("minimum", "maximum", "total", "count", "nan", "pos_inf", "neg_inf"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 19_999), st.sampled_from([50.0, -50.0, np.nan, np.inf]), st.integers(1, 400))
def test_one_odd_value_shows_at_any_width(place: int, odd: float, columns: int) -> None:
    value = np.full(20_000, 0.5)
    value[place] = odd
    series = Series("loss")
    series.extend(np.arange(20_000), np.arange(20_000.0), None, value)
    stats = series.window("step", 0, 19_999, columns)
    seen = {50.0: stats.maximum > 1, -50.0: stats.minimum < 0, np.inf: stats.pos_inf > 0}.get(odd, stats.nan > 0)
    assert np.flatnonzero(seen).tolist() == [min(place * columns // 19_999, columns - 1)]


def test_float32_only_while_nothing_is_lost() -> None:
    series = Series("loss")
    series.extend(1, 0.0, None, float(np.float32(0.1)))
    assert series.view().values.dtype == np.float32
    before = series.view()
    series.extend(2, 1.0, None, 0.1)
    assert series.view().values.tolist() == [float(np.float32(0.1)), 0.1]
    assert before.values.dtype == np.float32 and len(before) == 1


def test_a_view_is_the_same_until_something_is_appended_and_never_changes() -> None:
    table = SeriesTable()
    table.extend([0, 1], [0.0, 1.0], None, {"a": [1.0, 2.0], "b": [3.0, 4.0]})
    a, b = table["a"].view(), table["b"].view()
    assert table["a"].view() is a
    table.extend([2], [2.0], None, {"a": [5.0]})
    assert table["b"].view() is b
    assert table["a"].view() is not a
    table.truncate_after_step(0)
    table.extend([1], [3.0], None, {"a": [-7.0], "b": [-8.0]})
    assert a.values.tolist() == [1.0, 2.0] and b.values.tolist() == [3.0, 4.0]
    assert a.step[a.row_of(np.arange(2))].tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        a.values[0] = 0


def test_metrics_that_come_and_go_share_rows() -> None:
    table = SeriesTable()
    table.append_rows(
        (k, float(k), None, {"train": k * 1.0} | ({"val": -k * 1.0} if k % 3 == 2 else {})) for k in range(9)
    )
    table.append_rows([(9, 9.0, 1.5, {"val": 90.0})])
    assert table["train"].view().last.step == 8  # type: ignore[union-attr]
    view = table["val"].view()
    assert view.x_of("step", np.arange(len(view))).tolist() == [2, 5, 8, 9]
    assert view.reading(3).epoch == 1.5
    assert view.window("step", 0, 9, 9).count.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 2]
    assert len(table) == 10


def test_a_resume_drops_what_was_rewound() -> None:
    table = SeriesTable()
    step = np.arange(1000)
    table.extend(step, step * 1.0, None, {"a": step * 1.0})
    table.extend(step[::10] + 1, step[::10] * 1.0, None, {"b": step[::10] * 1.0})
    table.truncate_after_step(499)
    assert table["a"].view().values.tolist() == list(range(500))
    assert table["b"].view().values.max() == 490
    table.extend([500], [2000.0], None, {"a": [-1.0]})
    assert table["a"].window("step", 0, 500, 1).minimum[0] == -1
    assert table["a"].view().x_range("step") == (0, 500)


def test_a_restart_without_a_word_keeps_both_attempts() -> None:
    series = Series("loss")
    series.extend(np.arange(300), np.arange(300.0), None, np.zeros(300))
    series.extend(np.arange(100, 300), np.arange(400.0, 600), None, np.ones(200))
    view = series.view()
    stats = view.window("step", 0, 299, 3)
    assert stats.maximum.tolist() == [0.0, 1.0, 1.0] and stats.minimum.tolist() == [0.0, 0.0, 0.0]
    x, _ = view.points("step", 0, 299)
    assert np.isnan(x).sum() == 1, "the pen is lifted where the run went back"


def test_jumbled_steps_are_sorted_once() -> None:
    rng = np.random.default_rng(0)
    step, value = rng.permutation(5000), rng.standard_normal(5000)
    series = Series("loss")
    series.extend(step, np.arange(5000.0), None, value)
    view = series.view()
    assert view.stretches["step"] is None and len(step) > MAX_STRETCHES
    stats, wanted = view.window("step", 0, 4999, 37), brute(view, "step", 0, 4999, 37)
    np.testing.assert_array_equal(stats.maximum, wanted["maximum"])
    assert view.ordered("step") is view.ordered("step")
    nearest = view.nearest("step", 1234.2)
    assert nearest is not None and nearest.step == 1234 and nearest.value == value[step == 1234][0]


def test_nearest_prefers_the_newest_among_equals() -> None:
    series = Series("loss")
    series.extend([0, 10, 20], [0, 1, 2], None, [1.0, 2.0, 3.0])
    series.extend([10, 20], [3, 4], None, [5.0, 6.0])
    nearest = series.view().nearest("step", 12)
    assert nearest is not None and (nearest.step, nearest.value) == (10, 5.0)
    assert Series("empty").view().nearest("step", 0) is None


@pytest.mark.parametrize("axis", X_AXES)
def test_unknown_epochs_are_absent_from_the_epoch_axis_only(axis: XAxis) -> None:
    series = Series("loss")
    series.extend([0, 1, 2], [5.0, 6.0, 7.0], [np.nan, 1.0, np.nan], [1.0, 2.0, 3.0])
    low, high = series.view().x_range(axis) or (0.0, 0.0)
    assert series.window(axis, low, high, 1).count[0] == (1 if axis == "epoch" else 3)
    assert {"step": (0, 2), "time": (0, 2), "epoch": (1, 1)}[axis] == (low, high)


def test_a_million_rows_of_three_metrics_fit() -> None:
    table = SeriesTable()
    rng = np.random.default_rng(0)
    for start in range(0, 1_000_000, 50_000):
        step = np.arange(start, start + 50_000)
        table.extend(step, step * 0.1, step // 1000, {name: rng.standard_normal(50_000) for name in "abc"})
    assert table.nbytes < 80e6
    assert table["a"].view().values.dtype == np.float64


def test_smoothing_is_tensorboards_average_and_skips_nan() -> None:
    value = np.array([1.0, 2.0, np.nan, 4.0, 3.0])
    last, wanted, seen = 0.0, [], 0
    for x in value:
        if np.isfinite(x):
            last, seen = last * 0.6 + 0.4 * x, seen + 1
        wanted.append(last / (1 - 0.6**seen))
    np.testing.assert_allclose(ema(value, np.isfinite(value), 0.6), wanted)
    series = Series("loss")
    series.extend(np.arange(5), np.arange(5.0), None, value)
    _, raw, smoothed = smooth_points(series.view(), "step", 0, 4, 0.6)
    np.testing.assert_allclose(smoothed, np.where(np.isnan(raw), np.nan, wanted))


def test_smoothing_does_not_depend_on_the_zoom() -> None:
    rng = np.random.default_rng(1)
    value = np.sin(np.arange(20_000) / 3000) + 0.1 * rng.standard_normal(20_000)
    series = Series("loss")
    series.extend(np.arange(20_000), np.arange(20_000.0), None, value)
    view, exact = series.view(), ema(value, np.ones(20_000), 0.999)
    for x0, x1, columns in ((0, 19_999, 200), (10_000, 15_000, 100), (17_000, 17_100, 101)):
        stats = view.window("step", x0, x1, columns)
        at = np.minimum(np.ceil(stats.edges[1:]).astype(int) - 1, x1)
        np.testing.assert_allclose(smooth(view, "step", stats, 0.999)[:-1], exact[at][:-1], atol=0.02)


def test_robust_range_leaves_out_the_spike_and_says_where_it_is() -> None:
    rng = np.random.default_rng(2)
    value = rng.uniform(0.1, 1.1, 100_000)
    value[54_321], value[77_777], value[1000] = 50, np.nan, -9
    series = Series("loss")
    series.extend(np.arange(100_000), np.arange(100_000.0), None, value)
    view = series.view()
    robust = robust_range(view, "step", 0, 99_999)
    inside = np.delete(value, [54_321, 77_777, 1000])
    assert (robust.low, robust.high) == (inside.min(), inside.max())
    assert robust.above.count == robust.below.count == 1
    assert robust.above.farthest is not None and robust.above.farthest.step == 54_321
    assert robust.below.farthest is not None and robust.below.farthest.value == -9
    assert outliers_beyond(view, "step", 0, 99_999, 0.9, 1).count == int((value > 0.9).sum())
    zoomed = robust_range(view, "step", 60_000, 70_000)
    assert zoomed.above.count == 0


@pytest.mark.parametrize("count", [1, 30, 5000])
def test_robust_range_cuts_nothing_off_ordinary_curves(count: int) -> None:
    value = 3 * np.exp(-np.arange(count) / (count / 2)) + 0.1
    series = Series("loss")
    series.extend(np.arange(count), np.arange(count * 1.0), None, value)
    robust = robust_range(series.view(), "step", 0, count)
    assert (robust.low, robust.high) == (value.min(), value.max())
    assert robust.above.count == robust.below.count == 0


def test_robust_range_on_a_log_axis_ignores_what_is_not_positive() -> None:
    series = Series("loss")
    series.extend(np.arange(300), np.arange(300.0), None, np.r_[np.logspace(-3, 0, 298), -5, 0])
    robust = robust_range(series.view(), "step", 0, 299, log=True)
    assert (robust.low, robust.high) == pytest.approx((1e-3, 1))
    assert robust.below.count == 0
    none = Series("none")
    none.extend([0, 1], [0.0, 1.0], None, [-1.0, np.nan])
    assert np.isnan(robust_range(none.view(), "step", 0, 1, log=True).low)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 9000])
def test_best_and_first_not_finite(count: int) -> None:
    rng = np.random.default_rng(count)
    value: Any = rng.standard_normal(count)
    value[rng.integers(0, count)] = np.nan
    series = Series("loss")
    series.extend(np.arange(count), np.arange(count * 1.0), None, value)
    view = series.view()
    for goal, find in (("min", np.nanargmin), ("max", np.nanargmax)):
        top = best(view, goal)  # type: ignore[arg-type]
        assert (top.index if top else None) == (int(find(value)) if count > 1 else None)
    bad = non_finite(view)
    assert bad.nan == 1 and bad.inf == 0
    assert bad.first is not None and bad.first.index == int(np.flatnonzero(np.isnan(value))[0])
    assert non_finite(Series("x").view()).first is None and best(Series("x").view(), "min") is None


def test_unequal_lengths_are_refused_before_anything_is_stored() -> None:
    table = SeriesTable()
    with pytest.raises(ValueError, match="a: 1 values for 2 rows"):
        table.extend([1, 2], [1.0, 2.0], None, {"a": [1.0]})
    assert len(table) == 0
