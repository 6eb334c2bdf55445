"""Home: all runs, and the picture of the one under the cursor."""

from __future__ import annotations

from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input

from ...engine.run_view import RunView
from ...engine.rundir import RunDir
from ...engine.state import RunState
from ...widgets.live_table import LiveTable
from ...widgets.run_header import RunHeader
from ...widgets.run_preview import RunPreview
from ...widgets.runs_table import RunsTable
from ...widgets.title_bar import TitleBar
from ..deck import deck_of
from ..messages import RunSeen
from ..watchers import RunWatcher
from .run_keys import RUN_BINDINGS, RunKeys, keys_of
from .watching import WatchingScreen


class RunsScreen(RunKeys, WatchingScreen, Screen[None]):
    """The table of runs above, the selected run's facts and curves below."""

    HELP_TITLE = "Runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        *RUN_BINDINGS,
        Binding("slash", "filter", "Find", id="runs.filter", tooltip="Show only runs whose words match"),
        Binding("escape", "clear_filter", "Clear filter", show=False, id="runs.clear", tooltip="Show all runs again"),
        Binding("h", "hosts_of_run", "Hosts", id="runs.hosts", tooltip="Machines: links, GPUs, tmux sessions"),
    ]
    DEFAULT_CSS = """
    RunsScreen #filter { dock: bottom; display: none; height: 3; border: round $accent; }
    RunsScreen #filter.shown { display: block; }
    RunsScreen RunsTable { height: 1fr; min-height: 5; }
    RunsScreen RunPreview { height: 55%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._views: dict[str, RunView] = {}
        self._offered: tuple[object, ...] | None = None

    def compose(self) -> ComposeResult:
        """Title, table, preview, filter line, keys."""
        yield TitleBar("Runs")
        with Vertical():
            yield RunsTable(id="runs")
            yield RunPreview(id="preview")
        yield Input(placeholder="filter: words of id, recipe, state, host", id="filter")
        yield Footer()

    # --- what comes in

    def show_runs(self, views: tuple[RunView, ...]) -> None:
        """Draw the list; called by the app on every change and when the screen appears."""
        self._views = {view.id: view for view in views}
        self.query_one(RunsTable).show(views)
        self.query_one(TitleBar).note = summarise(views)
        self._show_selected()

    @on(LiveTable.Highlighted)
    def _selection_moved(self) -> None:
        self._show_selected()

    @on(LiveTable.Chosen)
    def _row_chosen(self) -> None:
        self.action_open()

    @on(RunSeen)
    def _picture_arrived(self, message: RunSeen) -> None:
        if message.picture.run_id == self.query_one(RunsTable).key:
            self.query_one(RunPreview).show_series(message.picture.series, message.picture.loading)

    # --- the selected run

    @property
    def selected(self) -> RunView | None:
        """The run under the cursor; what the run keys act on."""
        return self._views.get(cast(str, self.query_one(RunsTable).key))

    def _show_selected(self) -> None:
        view = self.selected
        self.query_one(RunHeader).know(deck_of(self).hosts)
        self.query_one(RunPreview).show_run(view)
        self._watch(view)
        offered = keys_of(view) if view else None
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def _watch(self, view: RunView | None) -> None:
        """Read the selected run's metrics, and nobody else's."""
        watcher = self.watcher("metrics", RunWatcher)
        current = watcher.run_dir.id if watcher else None
        wanted = view.id if view and view.state is not RunState.UNREADABLE else None
        if wanted == current or not self.is_active:
            return
        self.stop_watching()
        if view is not None and wanted is not None:
            self.keep_watching("metrics", True, lambda: RunWatcher(RunDir(view.dir), self))

    def on_screen_resume(self) -> None:
        """Back in front."""
        self.show_runs(deck_of(self).views)

    # --- keys

    def action_open(self) -> None:
        """Open the selected run."""
        if self.selected is not None:
            deck_of(self).open_run(self.selected.id)

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.add_class("shown")
        line.focus()

    def action_clear_filter(self) -> None:
        """Show everything again."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.remove_class("shown")
        self.query_one(RunsTable).focus()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        self.query_one(RunsTable).needle = event.value

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        line = self.query_one("#filter", Input)
        line.set_class(bool(line.value), "shown")
        self.query_one(RunsTable).focus()


def summarise(views: tuple[RunView, ...]) -> str:
    """`2 running · 1 failed · 14 ended`."""
    active = sum(view.state.active for view in views)
    failed = sum(view.state in (RunState.FAILED, RunState.KILLED, RunState.VANISHED) for view in views)
    rest = len(views) - active - failed
    parts = [(active, "active"), (failed, "failed"), (rest, "ended")]
    return " · ".join(f"{count} {word}" for count, word in parts if count)
