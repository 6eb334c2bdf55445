"""`ChartGrid`: all metrics of a run as small charts, a page at a time, with one crosshair over all of them.

Only the charts of the current page exist. A new picture of the series reaches each of them as its own `ChartData`; a
chart whose metrics did not change gets an equal one and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.reactive import reactive
from textual.widgets import Input, Static

from ..engine.series_view import SeriesView, XAxis
from .line_chart import LineChart
from .plotting.data import ChartData, reference_lines
from .plotting.groups import Group, group

LEAST_WIDTH, LEAST_HEIGHT = 44, 9
"""Cells below which a chart in the grid does not read well; the grid shows fewer instead."""
BEST_ASPECT = 3.5
"""Columns per row of a chart that reads well: a cell is about twice as high as wide."""
MOST_COLUMNS, MOST_ROWS = 4, 4
SHARED = ("x_axis", "log_x", "smoothing", "window")
"""What all charts of a grid have in common: changing it on one changes it on all."""


class ChartGrid(Vertical):
    """Charts by metric: paging, filter, one of them maximised.

    `show` gives it a complete picture. Focus is on a chart; its keys work as they do alone.
    """

    DEFAULT_CSS = """
    ChartGrid { height: 1fr; width: 1fr; }
    ChartGrid > Grid { height: 1fr; grid-gutter: 0 1; }
    ChartGrid > #status { height: 1; color: $text-muted; padding: 0 1; display: none; }
    ChartGrid > #filter { height: 1; border: none; padding: 0 1; background: $panel; display: none; }
    ChartGrid.-filtering > #filter { display: block; }
    ChartGrid.-status > #status { display: block; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "page(1)", "Next charts", show=False, id="charts.next", tooltip="Next page of charts"),
        Binding("pageup", "page(-1)", "Previous charts", show=False, id="charts.previous", tooltip="Previous page"),
        Binding("slash", "filter", "Filter", show=False, id="charts.filter", tooltip="Show metrics that match"),
        Binding("enter", "maximise", "Maximise", show=False, id="charts.maximise", tooltip="One chart, or all again"),
        Binding("escape", "back", "Back", show=False, id="charts.back", tooltip="All charts, then no filter"),
    ]

    CHART: ClassVar[type[LineChart]] = LineChart
    """What draws one chart."""

    empty: reactive[str] = reactive("no metrics yet")
    """Said while there is nothing to draw."""
    pattern: reactive[str] = reactive("")
    """Only metrics that match this regular expression (or contain this text) are drawn."""
    page: reactive[int] = reactive(0)
    """Page shown, from 0."""
    maximised: reactive[str | None] = reactive[str | None](None)
    """Title of the only chart shown, None for all."""

    def __init__(self, *, x_axis: XAxis = "step", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._series: Mapping[str, SeriesView] = {}
        self._lines: Mapping[str, Mapping[str, float]] = {}
        self._state: tuple[float, str] = (1.0, "")
        self._groups: tuple[Group, ...] = ()
        self._shape = (0, 0)
        self._said = ""
        self._shared: dict[str, object] = {"x_axis": x_axis}

    def compose(self) -> ComposeResult:
        """Filter line, charts, status line; the lines appear when they have something to say."""
        yield Input(placeholder="metric name or regular expression", id="filter", compact=True)
        yield Grid()
        yield Static(id="status", markup=False)

    # --- what comes in

    def show(
        self,
        series: Mapping[str, SeriesView],
        *,
        loading: float = 1.0,
        stale: bool | str = False,
        lines: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """A complete picture of the series.

        `loading` is the part of the history read so far, `stale` a sentence (or True) when no news can arrive.
        `lines` are levels across the chart of a metric, `{metric: {label: value}}`.
        """
        self._series = dict(series)
        self._lines = dict(lines or {})
        # Whole percents: a live journal is always a few bytes ahead, and that is no reason to redraw.
        loaded = 1.0 if loading >= 0.99 else math.floor(loading * 100) / 100
        self._state = (loaded, "no news: host unreachable" if stale is True else stale or "")
        self._regroup()

    @property
    def charts(self) -> list[LineChart]:
        """The charts of the page, in order; those without a metric are not displayed."""
        return [chart for chart in self.query(LineChart) if chart.display]

    def watch_pattern(self) -> None:
        """Another selection starts at its first page."""
        self.page = 0
        self.maximised = None
        self._regroup()

    def watch_page(self) -> None:
        """Other charts, the same look."""
        self._lay_out()

    watch_maximised = watch_empty = watch_page

    def on_resize(self) -> None:
        """As many charts as read well."""
        self._lay_out()

    def _regroup(self) -> None:
        self._groups = group(self._series, self.pattern)
        self._lay_out()

    # --- what is drawn

    def _grid_shape(self, count: int) -> tuple[int, int]:
        """Columns and rows for `count` charts in the present size."""
        most_columns = max(1, min(MOST_COLUMNS, self.size.width // LEAST_WIDTH))
        most_rows = max(1, min(MOST_ROWS, (self.size.height - 1) // LEAST_HEIGHT))

        def merit(columns: int) -> tuple[int, float]:
            rows = min(most_rows, -(-count // columns))
            aspect = (self.size.width / columns) / (self.size.height / rows)
            return min(count, columns * rows), -abs(math.log(aspect / BEST_ASPECT))

        count = max(1, count)
        columns = max(range(1, most_columns + 1), key=merit)
        return columns, min(most_rows, -(-count // columns))

    def _lay_out(self) -> None:
        """Give the groups of this page to the charts, mounting more where there are too few."""
        if not self.is_mounted or not self.size:
            return
        groups = [g for g in self._groups if self.maximised in (None, g.title)] or list(self._groups)
        columns, rows = self._grid_shape(len(groups))
        per_page = columns * rows
        pages = max(1, -(-len(groups) // per_page))
        self.set_reactive(ChartGrid.page, min(self.page, pages - 1))
        shown = groups[self.page * per_page : (self.page + 1) * per_page]
        grid = self.query_one(Grid)
        if self._shape != (columns, rows):
            self._shape = (columns, rows)
            grid.styles.grid_size_columns, grid.styles.grid_size_rows = columns, rows
        charts = list(self.query(LineChart))
        fresh = [self._new_chart() for _ in range(max(1, len(shown)) - len(charts))]
        if fresh:
            grid.mount_all(fresh)
        for number, chart in enumerate([*charts, *fresh]):
            self._fill(chart, shown[number] if number < len(shown) else None, first=number == 0)
        self._say(len(groups), pages)

    def _new_chart(self) -> LineChart:
        chart = self.CHART()
        for name, value in self._shared.items():
            chart.set_reactive(getattr(LineChart, name), value)
        for name in (*SHARED, "crosshair"):
            self.watch(chart, name, self._sharer(name), init=False)
        return chart

    def _sharer(self, name: str) -> Callable[[object], None]:
        def changed(value: object) -> None:
            self._share(name, value)

        return changed

    def _fill(self, chart: LineChart, content: Group | None, *, first: bool) -> None:
        """Show a group, or nothing; the first chart stays to say why there is nothing."""
        chart.display = content is not None or first
        loaded, stale = self._state
        empty = f"no metric matches {self.pattern}" if self.pattern and self._series else self.empty
        chart.title = content.title if content else ""
        series = content.series if content else ()
        chart.data = ChartData(series, loaded, stale, empty, reference_lines(series, self._lines))

    def _say(self, count: int, pages: int) -> None:
        words = []
        if pages > 1:
            words.append(f"page {self.page + 1} of {pages}, {count} charts (page up, page down)")
        if self.maximised is not None:
            words.append(f"{self.maximised} alone (enter: all)")
        if self.pattern:
            words.append(f"only {self.pattern} (/)")
        text = "  ·  ".join(words)
        if text != self._said:  # an update asks for a layout, whatever it holds
            self._said = text
            self.set_class(bool(words), "-status")
            self.query_one("#status", Static).update(text)

    def _share(self, name: str, value: object) -> None:
        """What was changed on one chart holds for all, those still to come included."""
        if self._shared.get(name) == value and name in self._shared:
            return
        self._shared[name] = value
        for chart in self.query(LineChart):
            setattr(chart, name, value)

    # --- actions

    def action_page(self, pages: int) -> None:
        """Turn the page; stops at the ends."""
        self.page = max(0, self.page + pages)

    def action_filter(self) -> None:
        """Type a filter; it works while typing."""
        self.add_class("-filtering")
        self.query_one(Input).focus()

    def action_maximise(self) -> None:
        """The focused chart alone, or all again."""
        focused = self.screen.focused
        if self.maximised is not None:
            self._restore(self.maximised)
        elif isinstance(focused, LineChart) and focused.title:
            self.maximised = focused.title
            self.charts[0].focus()

    def _restore(self, title: str) -> None:
        """All charts again, on the page and with the focus where `title` is."""
        self.maximised = None
        columns, rows = self._shape
        place = next((number for number, g in enumerate(self._groups) if g.title == title), 0)
        self.page = place // (columns * rows)
        for chart in self.charts:
            if chart.title == title:
                chart.focus()

    def action_back(self) -> None:
        """One layer out: all charts, then all metrics."""
        if self.maximised is not None:
            self._restore(self.maximised)
        else:
            self._close_filter()
            self.query_one(Input).value = ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape belongs to the screen when there is no layer to leave here."""
        return action != "back" or self.maximised is not None or bool(self.pattern) or self.has_class("-filtering")

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        event.stop()
        self.pattern = event.value

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_filter()

    def _close_filter(self) -> None:
        self.remove_class("-filtering")
        if self.charts:
            self.charts[0].focus()
