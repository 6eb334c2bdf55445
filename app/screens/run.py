"""One run: charts, loss table, console, machine, checkpoints, config, evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Footer, Static, TabbedContent, TabPane
from textual.worker import get_current_worker

from ...engine import format as fmt
from ...engine.console import ConsoleReader
from ...engine.loss_table import build
from ...engine.machine_series import StepClock, gpu_of, gpus_of_run, only_gpus
from ...engine.run_view import RunView
from ...engine.rundir import RunDir
from ...engine.series_view import SeriesView
from ...engine.state import RunState
from ...widgets.backup_line import BackupLine
from ...widgets.chart_grid import ChartGrid
from ...widgets.checkpoint_table import CheckpointTable
from ...widgets.config_page import ConfigPage
from ...widgets.console_lines import ConsoleLines
from ...widgets.console_view import ConsoleView
from ...widgets.evaluation_page import ClassTable, EvaluationPage
from ...widgets.line_chart import LineChart
from ...widgets.loss_view import LossView
from ...widgets.machine_charts import MachineCharts
from ...widgets.run_end import RunEnd
from ...widgets.run_header import RunHeader
from ...widgets.title_bar import TitleBar
from ..deck import deck_of
from ..evaluations import EvaluationSeen, EvaluationWatcher, listen_to
from ..messages import CheckpointsSeen, ConsoleSeen, MachineHistorySeen, RunPicture, RunSeen
from ..watchers import CheckpointsWatcher, ConsoleWatcher, MachineWatcher, RunWatcher
from .instrument_tabs import InstrumentTabs
from .pick_run import PickRun
from .run_keys import RUN_BINDINGS, RunKeys, keys_of
from .watching import WatchingScreen

INSTRUMENTS: dict[str, type[Widget]] = {
    "charts": LineChart,
    "losses": LossView,
    "console": ConsoleLines,
    "machine": LineChart,
    "checkpoints": CheckpointTable,
    "config": ConfigPage,
    "evaluation": ClassTable,
}
"""The tabs in order, and what has the keys in each."""


class RunScreen(RunKeys, WatchingScreen, InstrumentTabs):
    """Everything about one run, live."""

    instruments = INSTRUMENTS
    HELP_TITLE = "Run"
    BINDINGS: ClassVar[list[BindingType]] = [
        *RUN_BINDINGS,
        Binding("escape", "back", "Runs", id="run.back", tooltip="Back to the list of runs"),
        Binding(
            "h", "hosts_of_run", "Hosts", show=False, id="run.hosts", tooltip="Machines: links, GPUs, tmux sessions"
        ),
        Binding("8,l", "listen", "Listen", show=False, id="run.listen", tooltip="Hear its samples", key_display="8"),
        Binding("o", "pick", "Open…", id="run.pick", tooltip="Open another run"),
        *[
            Binding(
                str(n), f"tab('{name}')", name.capitalize(), show=False, id=f"run.tab.{name}", tooltip=f"The {name} tab"
            )
            for n, name in enumerate(INSTRUMENTS, 1)
        ],
    ]
    DEFAULT_CSS = """
    RunScreen TabbedContent { height: 1fr; }
    RunScreen ContentSwitcher { height: 1fr; }
    RunScreen TabPane { height: 1fr; padding: 0; }
    RunScreen #machine-note { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self._view: RunView | None = None
        self._picture: RunPicture | None = None
        self._machine: Mapping[str, SeriesView] = {}
        self._checkpoints: CheckpointsSeen | None = None

    def compose(self) -> ComposeResult:
        """Title, header, tabs, keys."""
        yield TitleBar("Run")
        yield RunHeader()
        with TabbedContent(initial="charts"):
            with TabPane("1 Charts", id="charts"):
                yield RunEnd()
                yield ChartGrid(id="metric-charts")
            with TabPane("2 Losses", id="losses"):
                yield LossView()
            with TabPane("3 Console", id="console"):
                yield ConsoleView()
            with TabPane("4 Machine", id="machine"):
                yield Static("", id="machine-note", markup=False)
                yield MachineCharts(steps=True, id="machine-charts")
            with TabPane("5 Checkpoints", id="checkpoints"):
                yield CheckpointTable()
                yield BackupLine()
            with TabPane("6 Config", id="config"):
                yield ConfigPage()
            with TabPane("7 Evaluation", id="evaluation"):
                yield EvaluationPage()
        yield Footer()

    # --- what comes in

    @property
    def selected(self) -> RunView | None:
        """The run the run keys act on."""
        return self._view

    def on_mount(self) -> None:
        """The charts have the keys."""
        self.query_one("#machine-note", Static).display = False
        self.query_one("#machine-charts", MachineCharts).empty = "no readings yet: the supervisor takes one every 2 s"
        self.call_after_refresh(self.action_tab, "charts")
        run = RunDir(deck_of(self).home.runs / self.run_id)
        self.keep_watching(
            "metrics", True, lambda: RunWatcher(run, self)
        )  # the first chart need not wait for the catalog

    def show_runs(self, views: tuple[RunView, ...]) -> None:
        """The app saw the runs again; ours may have changed, or be gone."""
        view = next((view for view in views if view.id == self.run_id), None)
        if view is None:
            if self._view is not None:
                self.app.notify(f"{self.run_id} was deleted", markup=False)
                self.action_back()
            return
        changed = self._view is None or keys_of(self._view) != keys_of(view)
        relined = (self._view.lines if self._view is not None else {}) != view.lines
        self._view = view
        if relined:
            self._show_charts()
        header = self.query_one(RunHeader)
        header.know(deck_of(self).hosts)
        header.view = view
        self._show_end()
        self.query_one(TitleBar).note = self.run_id
        self._show_checkpoints()
        self.query_one(ConfigPage).show(view.manifest, view.facts, view.numbers)
        self.query_one(ConsoleView).show_state(str(view.state), view.state.active)
        self._show_losses()
        self._watch()
        if changed:
            self.refresh_bindings()

    @on(RunSeen)
    def _metrics_arrived(self, message: RunSeen) -> None:
        began = time.thread_time()
        self._picture = message.picture
        self._show_end()
        self._show_charts()
        self._show_losses()
        self.call_after_refresh(self._picture_drawn, began)

    def _picture_drawn(self, began: float) -> None:
        """Tell the watcher what the picture cost from arrival to screen: CPU time of this thread since `began`."""
        watcher = self.watcher("metrics", RunWatcher)
        if watcher is not None:
            watcher.drawn(time.thread_time() - began)

    @on(CheckpointsSeen)
    def _checkpoints_arrived(self, message: CheckpointsSeen) -> None:
        self._checkpoints = message
        self._show_checkpoints()

    def _show_checkpoints(self) -> None:
        """Where each one is, as soon as the tab's watcher has looked; what the backup does, and what it is to do."""
        seen, view = self._checkpoints, self._view
        if seen is None or view is None:
            return
        self.query_one(CheckpointTable).show(seen.rows, view.checkpoints, is_copy=view.is_copy)
        self.query_one(BackupLine).show(view.backup, seen.copying, seen.policy)

    @on(CheckpointTable.Wanted)
    def _checkpoint_wanted(self, message: CheckpointTable.Wanted) -> None:
        if self._view is not None:
            deck_of(self).copies.do(message.verb, self._view, message.row)

    @on(EvaluationSeen)
    def _evaluation_arrived(self, message: EvaluationSeen) -> None:
        self.query_one(EvaluationPage).show(message.picture)

    @on(EvaluationPage.Wanted)
    def _clips_wanted(self, message: EvaluationPage.Wanted) -> None:
        listen_to(self, self.run_id, message)

    @on(ConsoleSeen)
    def _console_arrived(self, message: ConsoleSeen) -> None:
        self.query_one(ConsoleView).show(message.picture)

    @on(ConsoleView.EarlierWanted)
    def _search_earlier(self, message: ConsoleView.EarlierWanted) -> None:
        self._find_earlier(message.query_text, message.before_offset)

    @work(thread=True, exclusive=True, group="console-search", name="searching the console", exit_on_error=False)
    def _find_earlier(self, query: str, before: int) -> None:
        """Look through the part of console.log that is not on screen, newest first."""
        if self._view is None:
            return
        reader, worker = ConsoleReader(RunDir(self._view.dir).console), get_current_worker()
        match = reader.find(query, before)
        while match.offset is None and match.searched_to > 0 and not worker.is_cancelled:
            match = reader.find(query, match.searched_to)
        if worker.is_cancelled:
            return
        where = f"{fmt.size(before - match.offset)} further up" if match.offset is not None else "nowhere further up"
        text = f"{where}: {fmt.plain(match.line, 200)}" if match.line else where
        self.app.call_from_thread(self.app.notify, text, title=f"“{fmt.plain(query, 40)}”", markup=False)

    @on(MachineHistorySeen)
    def _machine_arrived(self, message: MachineHistorySeen) -> None:
        self._machine = message.series
        self._show_machine()

    def _show_machine(self) -> None:
        """The readings of the run and of its own GPUs; the others on that machine are not its business."""
        view, series = self._view, self._machine
        own = self._own_gpus()
        shown = only_gpus(series, own)
        note = ""
        if own is not None and len(shown) < len(series):
            total = len({gpu[0] for name in series if (gpu := gpu_of(name))})
            word = f"GPU {', '.join(map(str, sorted(own)))}" if own else "no GPU"
            note = f"{word} of {total}: what this run uses. All of them: h, hosts"
        line = self.query_one("#machine-note", Static)
        if line.display != bool(note) or note:
            line.display = bool(note)
            line.update(note)
        charts = self.query_one("#machine-charts", MachineCharts)
        charts.show_machine(shown, self._step_clock, stale=view is not None and view.state is RunState.UNREACHABLE)

    def _own_gpus(self) -> frozenset[int] | None:
        view = self._view
        if view is None:
            return None
        host = next((host for host in deck_of(self).hosts if host.name == view.host), None)
        given = view.manifest.gpus if view.manifest else ()
        return gpus_of_run(view.id, given, host.processes if host else ())

    def _step_clock(self) -> StepClock | None:
        return StepClock.of(self._picture.series) if self._picture is not None else None

    def _show_end(self) -> None:
        """Why the run failed, where there is no curve to show."""
        view, picture = self._view, self._picture
        charts = bool(picture.series) if picture is not None else view is not None and bool(view.last)
        self.query_one(RunEnd).show(view, charts=charts)

    def _show_charts(self) -> None:
        if self._picture is not None:
            stale = self._view is not None and self._view.state is RunState.UNREACHABLE
            self.query_one("#metric-charts", ChartGrid).show(
                self._picture.series,
                loading=self._picture.loading.fraction,
                stale=stale,
                lines=self._view.lines if self._view is not None else None,
            )

    def _show_losses(self) -> None:
        """The table is built only while somebody looks at it."""
        if self._picture is None or self.query_one(TabbedContent).active != "losses":
            return
        manifest = self._view.manifest if self._view else None
        wanted = manifest.columns if manifest else []
        self.query_one(LossView).show(build(self._picture.series, wanted, manifest.headline if manifest else None))

    # --- who reads

    def _watch(self) -> None:
        """Metrics always; console and machine only while their tab is in front."""
        if self._view is None or self._view.state is RunState.UNREADABLE or not self.is_active:
            return
        run, active = RunDir(self._view.dir), self.query_one(TabbedContent).active
        self.keep_watching("metrics", True, lambda: RunWatcher(run, self))
        self.keep_watching("console", active == "console", lambda: ConsoleWatcher(run, self))
        self.keep_watching("machine", active == "machine", lambda: MachineWatcher(run, self))
        self.keep_watching(
            "evaluation", active == "evaluation", lambda: EvaluationWatcher(lambda: self._view, run, self)
        )
        self.keep_watching(
            "checkpoints", active == "checkpoints", lambda: CheckpointsWatcher(lambda: self._view, run, self)
        )

    def on_screen_resume(self) -> None:
        """Back in front, or new."""
        self.show_runs(deck_of(self).views)

    # --- keys

    @on(TabbedContent.TabActivated)
    def _tab_changed(self) -> None:
        self._show_losses()
        self._watch()

    def action_back(self) -> None:
        """Back to the list."""
        self.app.pop_screen()

    def action_listen(self) -> None:
        """Hear the samples."""
        deck_of(self).open_listen(self.run_id)

    def action_pick(self) -> None:
        """Choose another run."""

        def chosen(run_id: str | None) -> None:
            if run_id is not None and run_id != self.run_id:
                deck_of(self).open_run(run_id)

        self.app.push_screen(PickRun(deck_of(self).views), chosen)
