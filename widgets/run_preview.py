"""The selected run at a glance: its two header lines and its most telling curves."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Vertical

from ..engine.feed import Loading
from ..engine.run_view import RunView
from ..engine.series_view import SeriesView
from .chart_grid import ChartGrid
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

    def compose(self) -> ComposeResult:
        """Header and charts."""
        yield RunHeader()
        yield ChartGrid(id="preview-charts")

    def show_run(self, view: RunView | None) -> None:
        """Another selection, or news of the same run."""
        self.query_one(RunHeader).view = view
        run_id = view.id if view else None
        if run_id != self._run_id:
            self._run_id = run_id
            self.query_one(ChartGrid).show({})

    def show_series(self, series: Mapping[str, SeriesView], loading: Loading) -> None:
        """The curves of the selected run."""
        self.query_one(ChartGrid).show(series, loading=loading.fraction)
