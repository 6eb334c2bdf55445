"""`LineChart` and `ChartGrid` in a running app: what is on screen, what keys and mouse do, what is redrawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.theme import Theme
from textual.widget import Widget

from wavedeck.engine.series import Series, SeriesTable
from wavedeck.engine.series_view import SeriesView
from wavedeck.widgets.chart_grid import ChartGrid
from wavedeck.widgets.line_chart import LineChart
from wavedeck.widgets.plotting import picture as picture_module
from wavedeck.widgets.plotting.colours import bright
from wavedeck.widgets.plotting.data import ChartData, ChartSeries


class Stage(App[None]):
    """One widget, and the crosshair messages it sent."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.moves: list[float | None] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_line_chart_crosshair_moved(self, message: LineChart.CrosshairMoved) -> None:
        self.moves.append(message.x)


def curve(count: int = 1000, name: str = "train/loss") -> Series:
    """A noisy decay."""
    rng = np.random.default_rng(0)
    step = np.arange(count)
    series = Series(name)
    value = np.exp(-step / count * 3) + 0.05 * rng.standard_normal(count) + 0.3
    series.extend(step, 1.7e9 + step * 0.5, step / 100, value)
    return series


def data_of(*series: Series, **kwargs: object) -> ChartData:
    """A picture of these series."""
    lines = tuple(ChartSeries(s.name, s.view(), i, "min") for i, s in enumerate(series))
    return ChartData(lines, **kwargs)  # type: ignore[arg-type]


def text_of(chart: LineChart) -> list[str]:
    """What the chart puts on screen, a string a row."""
    return [chart.render_line(y).text for y in range(chart.size.height)]


async def test_spike_and_nan_of_a_hundred_thousand_points_are_on_screen() -> None:
    step = np.arange(100_000)
    value = np.random.default_rng(0).uniform(0.1, 1.1, 100_000)
    value[54_321], value[77_777] = 50.0, np.nan
    series = Series("train/loss")
    series.extend(step, step * 1.0, None, value)
    chart = LineChart(data_of(series), title="loss")
    async with Stage(chart).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        text = "\n".join(text_of(chart))
        assert "1 above, 50 at step 54,321" in text
        assert "× 1 NaN at step 77,777" in text
        rows = text_of(chart)
        assert rows[chart.picture.frame.above].count("▲") == 1
        assert rows[chart.picture.frame.bad].index("×") == chart.picture.column_of(77_777)
        assert "min–max of" in rows[0]
        chart.focus()
        await pilot.press("u")
        assert "above" not in "\n".join(text_of(chart)) and "full range" in text_of(chart)[0]


async def test_every_cell_has_the_themes_background_and_follows_a_theme_change() -> None:
    chart = LineChart(data_of(curve()))
    app = Stage(chart)
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        segments = [segment for y in range(20) for segment in chart.render_line(y)]
        grounds = {segment.style.bgcolor for segment in segments if segment.style}
        assert len(grounds) == 1 and None not in grounds
        assert chart.app.theme == "textual-dark"
        before = chart._style_table()[bright(0)].color
        app.register_theme(Theme("mine", primary="#00ff00", background="#000000", surface="#000000"))
        app.theme = "mine"
        await pilot.pause()
        assert chart._style_table()[bright(0)].color != before


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 7), (5, 3), (12, 6), (80, 24), (400, 120)])
async def test_every_size_draws_every_row_in_full(size: tuple[int, int]) -> None:
    spiky = curve(3000)
    spiky.extend([3000, 3001], [2e9, 2e9], None, [999.0, np.nan])
    chart = LineChart(data_of(spiky, curve(20, "val/loss")), title="loss")
    async with Stage(chart).run_test(size=size) as pilot:
        await pilot.pause()
        for keys in ([], ["left"], ["l"], ["L"], ["x"], ["plus"], ["u"]):
            chart.focus()
            await pilot.press(*keys)
            assert [chart.render_line(y).cell_length for y in range(size[1])] == [size[0]] * size[1]


async def test_keys_move_the_crosshair_and_say_so() -> None:
    chart = LineChart(data_of(curve()))
    app = Stage(chart)
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        chart.focus()
        await pilot.press("left")
        newest = chart.crosshair
        assert newest is not None and newest > 990
        await pilot.press("left")
        cell = newest - (chart.crosshair or 0)
        assert cell == pytest.approx(999 / chart.picture.frame.columns)
        await pilot.press("shift+left")
        assert newest - (chart.crosshair or 0) == pytest.approx(11 * cell)
        assert "step" in text_of(chart)[1] and "(" in text_of(chart)[1]
        await pilot.press("home")
        assert chart.crosshair == pytest.approx(cell / 2)
        await pilot.press("shift+left")
        assert chart.crosshair == pytest.approx(cell / 2), "stops at the edge"
        await pilot.press("escape")
        assert chart.crosshair is None and app.moves[-1] is None
        assert len(app.moves) == 6
        assert "best" in text_of(chart)[1]


async def test_the_mouse_moves_the_crosshair_and_the_wheel_zooms_about_it() -> None:
    chart = LineChart(data_of(curve()))
    async with Stage(chart).run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        await pilot.hover(chart, offset=(50, 10))
        x = chart.crosshair
        assert x is not None and chart.picture.column_of(x) == 50
        await pilot._post_mouse_events([events.MouseScrollUp], chart, offset=(50, 10))
        assert chart.window is not None
        low, high = chart.window
        assert high - low == pytest.approx(999 / 1.5)
        assert chart.picture.column_of(x) == 50


async def test_zoom_pan_and_reset() -> None:
    chart = LineChart(data_of(curve()))
    async with Stage(chart).run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        chart.focus()
        await pilot.press("plus", "plus")
        assert chart.window is not None and chart.window[1] == 999
        width = 999 - chart.window[0]
        assert width == pytest.approx(999 / 1.5**2)
        assert "zoomed" in text_of(chart)[0]
        await pilot.press("left_square_bracket")
        assert chart.window == pytest.approx((999 - 1.25 * width, 999 - 0.25 * width))
        await pilot.press(*["right_square_bracket"] * 9)
        assert chart.window == pytest.approx((999 - width, 999)), "panning stops at the newest point"
        await pilot.press("minus", "minus", "minus")
        assert chart.window is None
        await pilot.press("plus", "0")
        assert chart.window is None


async def test_a_window_at_the_newest_point_follows_it() -> None:
    series = curve()
    chart = LineChart(data_of(series))
    async with Stage(chart).run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        chart.window = (800, 999)
        series.extend(np.arange(1000, 1100), np.arange(100.0), None, np.ones(100))
        chart.data = data_of(series)
        await pilot.pause()
        assert chart.window == (900, 1099)
        chart.window = (100, 200)
        series.extend(1100, 100.0, None, 1.0)
        chart.data = data_of(series)
        await pilot.pause()
        assert chart.window == (100, 200)


async def test_axes_and_smoothing_are_named_on_the_chart() -> None:
    chart = LineChart(data_of(curve()))
    async with Stage(chart).run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        chart.focus()
        assert text_of(chart)[0].rstrip().endswith("smooth auto  min–max of 5/column  by step")
        await pilot.press("l", "L", "m", "x")
        assert "log x  log y  raw" in text_of(chart)[0] and "by epoch" in text_of(chart)[0]
        await pilot.press("x", "L", "l", "m")
        assert "smooth 0.6" in text_of(chart)[0] and "by time" in text_of(chart)[0]
        assert "8m" in text_of(chart)[-1]
        await pilot.press("M", "M", "M")
        assert "smooth 0.999" in text_of(chart)[0]


async def test_focus_shows_without_colour() -> None:
    chart = LineChart(data_of(curve()), title="loss")
    async with Stage(chart).run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        chart.blur()
        await pilot.pause()
        assert text_of(chart)[0].startswith(" loss")
        chart.focus()
        await pilot.pause()
        assert text_of(chart)[0].startswith("▌loss")


def test_bindings_have_ids_and_tooltips() -> None:
    for widget in (LineChart, ChartGrid):
        bindings = list(widget.BINDINGS)
        assert all(b.id and b.tooltip for b in bindings)  # type: ignore[union-attr]
        assert len({b.id for b in bindings}) == len(bindings)  # type: ignore[union-attr]


# --- the grid


def run_of(metrics: int = 0) -> SeriesTable:
    """loss and acc for train and val, lr, and more metrics."""
    table = SeriesTable()
    step = np.arange(500)
    names = ["train/loss", "train/acc", "lr", *(f"extra{n:02d}" for n in range(metrics))]
    table.extend(step, step * 1.0, None, {name: np.sin(step / 50 + i) + 2 for i, name in enumerate(names)})
    table.extend(step[::50], step[::50] * 1.0, None, {"val/loss": step[::50] / 500, "val/acc": step[::50] / 500})
    return table


def views(table: SeriesTable) -> Mapping[str, SeriesView]:
    """Frozen."""
    return table.views()


async def test_the_grid_has_a_chart_per_measure() -> None:
    grid = ChartGrid()
    async with Stage(grid).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert [c.title for c in grid.charts] == [""]
        assert "no metrics yet" in "\n".join(text_of(grid.charts[0]))
        grid.show(views(run_of()))
        await pilot.pause()
        assert [c.title for c in grid.charts] == ["loss", "acc", "lr"]
        assert [s.label for s in grid.charts[0].data.series] == ["train/loss", "val/loss"]
        legend = "\n".join(text_of(grid.charts[0])[:3])
        assert "● train/loss" in legend and "◆ val/loss" in legend
        grid.show({})
        await pilot.pause()
        assert [c.title for c in grid.charts] == [""]
        assert "no metrics yet" in "\n".join(text_of(grid.charts[0]))


async def test_only_charts_whose_metrics_changed_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    table, grid = run_of(), ChartGrid()
    async with Stage(grid).run_test(size=(120, 36)) as pilot:
        grid.show(views(table))
        await pilot.pause()
        painted: list[str] = []
        paint = picture_module.paint

        def counting(data: ChartData, options: picture_module.ChartOptions, *size: int) -> picture_module.Picture:
            painted.append(options.title)
            return paint(data, options, *size)

        monkeypatch.setattr("wavedeck.widgets.line_chart.paint", counting)
        grid.show(views(table))
        await pilot.pause()
        assert painted == []
        table.extend([500], [500.0], None, {"lr": [1.0]})
        grid.show(views(table), loading=0.999)
        await pilot.pause()
        assert painted == ["lr"]


async def test_the_crosshair_zoom_and_axis_are_shared() -> None:
    grid = ChartGrid()
    async with Stage(grid).run_test(size=(120, 36)) as pilot:
        grid.show(views(run_of()))
        await pilot.pause()
        grid.charts[1].focus()
        await pilot.press("left", "shift+left", "plus", "m")
        x = grid.charts[1].crosshair
        assert x is not None
        assert {c.crosshair for c in grid.charts} == {x}
        assert {c.window for c in grid.charts} == {grid.charts[1].window} != {None}
        assert {c.smoothing for c in grid.charts} == {0.0}
        for chart in grid.charts:
            column = chart.picture.column_of(x)
            assert column is not None and "│" in [row[column] for row in text_of(chart)[3:-2]]
        await pilot.press("x")
        assert {c.x_axis for c in grid.charts} == {"epoch"}
        assert {c.crosshair for c in grid.charts} == {None}


async def test_paging_and_maximising_come_back_to_the_same_chart(wait_for: Callable[..., object]) -> None:
    grid = ChartGrid()
    app = Stage(grid)
    async with app.run_test(size=(80, 24)) as pilot:
        grid.show(views(run_of(metrics=9)))
        await pilot.pause()
        first = [c.title for c in grid.charts]
        assert len(first) == 2 and "page 1 of 6" in str(app.query_one("#status").render())
        grid.charts[0].focus()
        await pilot.press("pagedown")
        await pilot.pause()
        second = [c.title for c in grid.charts]
        assert not set(first) & set(second)
        grid.charts[1].focus()
        await pilot.press("enter")
        await pilot.pause()
        assert [c.title for c in grid.charts] == second[1:]
        assert grid.charts[0].size.height > 20
        await pilot.press("escape")
        await pilot.pause()
        assert [c.title for c in grid.charts] == second
        assert isinstance(app.focused, LineChart) and app.focused.title == second[1]
        await pilot.press(*["pagedown"] * 20)
        assert grid.page == 5
        await pilot.press(*["pageup"] * 20)
        await pilot.pause()
        assert [c.title for c in grid.charts] == first


async def test_the_filter_works_while_typing_and_escape_steps_out() -> None:
    grid = ChartGrid()
    app = Stage(grid)
    async with app.run_test(size=(120, 36)) as pilot:
        grid.show(views(run_of(metrics=3)))
        await pilot.pause()
        grid.charts[0].focus()
        await pilot.press("slash", *"^ex.*[12]$")
        await pilot.pause()
        assert [c.title for c in grid.charts] == ["extra01", "extra02"]
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.focused, LineChart) and not grid.has_class("-filtering")
        await pilot.press("left", "escape")
        await pilot.pause()
        assert grid.charts[0].crosshair is None and grid.pattern, "one layer at a time: the crosshair first"
        await pilot.press("escape")
        await pilot.pause()
        assert grid.pattern == "" and len(grid.charts) == 6
        await pilot.press("slash", *"nothing", "enter")
        await pilot.pause()
        assert "no metric matches nothing" in "\n".join(text_of(grid.charts[0]))


async def test_loading_and_stale_are_said() -> None:
    grid = ChartGrid(x_axis="time")
    async with Stage(grid).run_test(size=(120, 36)) as pilot:
        grid.show({}, loading=0.3)
        await pilot.pause()
        assert "loading… 30%" in "\n".join(text_of(grid.charts[0]))
        grid.show(views(run_of()), stale=True)
        await pilot.pause()
        assert "host unreachable" in text_of(grid.charts[0])[0]
        assert all(c.x_axis == "time" for c in grid.charts)


@pytest.mark.parametrize("size", [(1, 1), (20, 4), (400, 120)])
async def test_the_grid_fits_any_terminal(size: tuple[int, int]) -> None:
    grid = ChartGrid()
    async with Stage(grid).run_test(size=size) as pilot:
        grid.show(views(run_of(metrics=20)))
        await pilot.pause()
        await pilot.press("tab", "left", "enter", "escape", "pagedown")
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert grid.charts and all(c.size.width > 0 for c in grid.charts)
