"""The selected run at a glance: its two header lines and its most telling curves."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Vertical

from ..engine.feed import Loading
from ..engine.run_view import RunView
from ..engine.series_view import SeriesView
from .chart_grid import ChartGrid
from .run_end import RunEnd
from .run_header import RunHeader


class RunPreview(Vertical):
    """Header over a small chart grid; both follow the selection."""

    DEFAULT_CSS = """
    RunPreview { border-top: solid $panel; }
    RunPreview ChartGrid { height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_id: str | None = None
        self._view: RunView | None = None
        self._charts = False
        self._lines: Mapping[str, Mapping[str, float]] = {}

    def compose(self) -> ComposeResult:
        """Header, why it failed where there are no charts, and charts."""
        yield RunHeader(tall=False)
        yield RunEnd(lines=6)
        yield ChartGrid(id="preview-charts")

    def show_run(self, view: RunView | None) -> None:
        """Another selection, or news of the same run."""
        self.query_one(RunHeader).view = view
        self._view, self._lines = view, view.lines if view is not None else {}
        run_id = view.id if view else None
        if run_id != self._run_id:
            self._run_id, self._charts = run_id, False
            self.query_one(ChartGrid).show({})
        self.query_one(RunEnd).show(view, charts=self._charts or _trained(view))

    def show_series(self, series: Mapping[str, SeriesView], loading: Loading) -> None:
        """The curves of the selected run."""
        self._charts = bool(series)
        self.query_one(RunEnd).show(self._view, charts=self._charts)
        self.query_one(ChartGrid).show(series, loading=loading.fraction, lines=self._lines)


def _trained(view: RunView | None) -> bool:
    """Whether curves are to be expected, before they are read."""
    return view is not None and bool(view.last)
