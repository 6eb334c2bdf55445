"""Home: all runs, and the picture of the one under the cursor."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input

from ...engine.batch_view import BatchView, batch_of
from ...engine.run_view import RunView
from ...engine.rundir import RunDir
from ...engine.state import RunState
from ...remote.queue.lock import ensure_runner
from ...widgets.live_table import LiveTable
from ...widgets.run_header import RunHeader
from ...widgets.run_preview import RunPreview
from ...widgets.runs_table import RunsTable
from ...widgets.title_bar import TitleBar
from ..batch_commands import BatchCommands
from ..deck import deck_of
from ..messages import RunSeen
from ..watchers import RunWatcher
from .run_keys import RUN_BINDINGS, RunKeys, keys_of
from .watching import WatchingScreen

ENSURE_S = 5.0
"""How often it is looked whether somebody starts what waits."""
_RUN_ACTIONS = frozenset({"stop_run", "resume_run", "attach_run", "delete_run", "move_run", "other_run"})


class RunsScreen(RunKeys, WatchingScreen, Screen[None]):
    """The table of runs above, the selected run's facts and curves below."""

    HELP_TITLE = "Runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        *RUN_BINDINGS,
        Binding("slash", "filter", "Find", id="runs.filter", tooltip="Show only runs whose words or tags match"),
        Binding("escape", "clear_filter", "Clear filter", show=False, id="runs.clear", tooltip="Show all runs again"),
        Binding("space", "mark", "Mark", show=False, id="runs.mark", tooltip="Mark a run to compare it with others"),
        Binding("c", "compare", "Compare", id="runs.compare", tooltip="The marked runs, or this one's batch"),
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
        self._ensured = -ENSURE_S

    @property
    def _batch_commands(self) -> BatchCommands:
        return BatchCommands(self.app, deck_of(self))

    def compose(self) -> ComposeResult:
        """Title, table, preview, filter line, keys."""
        yield TitleBar("Runs")
        with Vertical():
            yield RunsTable(id="runs")
            yield RunPreview(id="preview")
        yield Input(placeholder="filter: words of id, name, tags, recipe, choices, state, host", id="filter")
        yield Footer()

    # --- what comes in

    def show_runs(self, views: tuple[RunView, ...]) -> None:
        """Draw the list; called by the app on every change and when the screen appears."""
        self._views = {view.id: view for view in views}
        self.query_one(RunsTable).show(views)
        self.query_one(TitleBar).note = summarise(views)
        self._show_selected()
        self._keep_queue_going(views)

    def _keep_queue_going(self, views: tuple[RunView, ...]) -> None:
        """Runs that wait need somebody who starts them; one that was killed is started again."""
        waits = any(view.state is RunState.QUEUED and not view.is_copy for view in views)
        if waits and time.monotonic() - self._ensured > ENSURE_S:
            self._ensured = time.monotonic()
            work = asyncio.to_thread(ensure_runner, deck_of(self).home)
            self.run_worker(work, name="starting the queue", group="queue", exit_on_error=False)

    @on(LiveTable.Highlighted)
    def _selection_moved(self) -> None:
        self._show_selected()

    @on(LiveTable.Chosen)
    def _row_chosen(self) -> None:
        self.action_open()

    @on(RunSeen)
    def _picture_arrived(self, message: RunSeen) -> None:
        pictured = self.pictured
        if pictured is not None and message.picture.run_id == pictured.id:
            self.query_one(RunPreview).show_series(message.picture.series, message.picture.loading)

    # --- the selected run

    @property
    def selected(self) -> RunView | None:
        """The run under the cursor; what the run keys act on."""
        return self._views.get(cast(str, self.query_one(RunsTable).key))

    @property
    def chosen_batch(self) -> BatchView | None:
        """The batch whose heading is under the cursor."""
        return self.query_one(RunsTable).chosen_batch

    @property
    def pictured(self) -> RunView | None:
        """The run that is shown below: the selected one; of a batch the one whose turn it is, or its best."""
        batch = self.chosen_batch
        return self.selected if batch is None else batch.current or batch.best or batch.members[0]

    def _show_selected(self) -> None:
        view, batch = self.pictured, self.chosen_batch
        self.query_one(RunHeader).know(deck_of(self).hosts)
        self.query_one(RunPreview).show_run(view)
        self._watch(view)
        offered: tuple[object, ...] | None = keys_of(view) if view else None
        if batch is not None:
            offered = (batch.id, batch.is_over, batch.current is not None)
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
        """Open the selected run; hide or show the runs of a batch."""
        if self.chosen_batch is not None:
            self.query_one(RunsTable).fold(self.chosen_batch.id)
        elif self.selected is not None:
            deck_of(self).open_run(self.selected.id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The heading of a batch stops or deletes it as a whole, and attaches to the run whose turn it is."""
        batch = self.chosen_batch if self.is_mounted else None
        if batch is None or action not in _RUN_ACTIONS:
            return super().check_action(action, parameters)
        offered = {"stop_run": not batch.is_over, "delete_run": batch.is_over, "attach_run": batch.current is not None}
        return offered.get(action, False)

    def action_stop_run(self) -> None:
        """Ask, then stop the run or the whole batch."""
        if self.chosen_batch is not None:
            self._batch_commands.stop(self.chosen_batch)
        else:
            super().action_stop_run()

    def action_delete_run(self) -> None:
        """Ask, then delete the run or the whole batch."""
        if self.chosen_batch is not None:
            self._batch_commands.delete(self.chosen_batch)
        else:
            super().action_delete_run()

    def action_attach_run(self) -> None:
        """The terminal of the run, or of the batch's run whose turn it is."""
        view = self.chosen_batch.current if self.chosen_batch is not None else self.selected
        if view is not None:
            deck_of(self).commands.attach(view)

    def action_listen_run(self) -> None:
        """Hear the samples of the run, or of the batch's best one."""
        view = (self.chosen_batch.best or self.pictured) if self.chosen_batch is not None else self.selected
        if view is not None:
            deck_of(self).open_listen(view.id)

    def action_mark(self) -> None:
        """Mark the run or the whole batch under the cursor, or take the marks away; the cursor moves on."""
        table = self.query_one(RunsTable)
        if self.chosen_batch is not None:
            members = {view.id for view in self.chosen_batch.members}
            table.marked = table.marked - members if members <= table.marked else table.marked | members
        elif self.selected is not None:
            table.marked ^= {self.selected.id}
        table.action_cursor(1)

    def action_compare(self) -> None:
        """The marked runs; without marks the batch of the run under the cursor, or that run alone."""
        marked = self.query_one(RunsTable).marked
        chosen = [view.id for view in self._views.values() if view.id in marked]
        if chosen:
            deck_of(self).open_compare(chosen)
        elif self.chosen_batch is not None:
            deck_of(self).open_compare((), self.chosen_batch.id)
        elif self.selected is not None:
            batch = batch_of(self.selected)
            deck_of(self).open_compare(() if batch else (self.selected.id,), batch)

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
    queued = sum(view.state is RunState.QUEUED for view in views)
    rest = len(views) - active - failed - queued
    parts = [(active, "active"), (queued, "queued"), (failed, "failed"), (rest, "ended")]
    return " · ".join(f"{count} {word}" for count, word in parts if count)
