"""Compare: several runs beside each other, live: table, curves of one metric, parallel coordinates, what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Footer, TabbedContent, TabPane

from ...engine import format as fmt
from ...engine.batch_view import batch_of
from ...engine.comparing import ComparedRun, Comparison, Place, column_for, columns_of, sorted_runs
from ...engine.comparing.clips import judged_alike
from ...engine.comparing.export import comparison_csv
from ...engine.comparing.parallel import parallel
from ...engine.comparing.table import default_column
from ...engine.errors import UsageError, WavedeckError
from ...engine.files import write_atomic
from ...engine.headline import goal_of
from ...engine.run_view import RunView
from ...widgets.compare_table import CompareTable
from ...widgets.config_diff import ConfigDiff
from ...widgets.line_chart import LineChart
from ...widgets.live_table import LiveTable
from ...widgets.parallel_coordinates import ParallelCoordinates
from ...widgets.plotting.colours import SLOTS
from ...widgets.plotting.data import ChartData, ChartSeries, ReferenceLine
from ...widgets.title_bar import TitleBar
from ..compare_watching import CompareWatcher, ComparisonSeen
from ..comparing import folder_problem
from ..deck import deck_of
from .choose import Choice, Choose
from .instrument_tabs import InstrumentTabs
from .text_question import TextQuestion
from .watching import WatchingScreen

INSTRUMENTS: dict[str, type[Widget]] = {
    "curves": LineChart,
    "coordinates": ParallelCoordinates,
    "config": ConfigDiff,
}
"""The tabs in order, and what has the keys in each."""
PLACES = (Place("best"), Place("last"))
MOST_PATH = 400


class CompareScreen(WatchingScreen, InstrumentTabs):
    """The runs of `run_ids`, and those of `batch` as they come."""

    instruments = INSTRUMENTS
    HELP_TITLE = "Compare"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="compare.back", tooltip="Back to where you came from"),
        Binding("s", "sort", "Sort by…", id="compare.sort", tooltip="Order the runs by a metric, number or setting"),
        Binding("r", "reverse", "Reverse", show=False, id="compare.reverse", tooltip="The other end first"),
        Binding("y", "metric", "Metric…", id="compare.metric", tooltip="Which metric the curves show"),
        Binding("p", "place", "Best/last", id="compare.place", tooltip="Metrics of each run's best, or of its end"),
        Binding("P", "step", "At step…", show=False, id="compare.step", tooltip="Metrics of all runs at one step"),
        Binding("e", "export", "Export…", id="compare.export", tooltip="A page with curves and sound, or a CSV table"),
        Binding("L", "listen", "Listen", show=False, id="compare.listen", tooltip="Hear the run's samples"),
        *[
            Binding(
                str(number), f"tab('{name}')", name.capitalize(), show=False, id=f"compare.tab.{name}",
                tooltip=f"The {name} below the table",
            )
            for number, name in enumerate(INSTRUMENTS, 1)
        ],
        Binding("T", "table", "Table", show=False, id="compare.table", tooltip="Back to the table"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    CompareScreen CompareTable { height: 2fr; min-height: 4; }
    CompareScreen TabbedContent { height: 3fr; }
    CompareScreen ContentSwitcher { height: 1fr; }
    CompareScreen TabPane { height: 1fr; padding: 0; }
    """

    def __init__(self, run_ids: Sequence[str] = (), batch: str | None = None) -> None:
        super().__init__()
        self.run_ids = tuple(run_ids)
        self.batch_id = batch
        self.comparison: Comparison | None = None
        self._loaded = 0.0
        self._sort: str | None = None
        self._descending: bool | None = None
        self._metric: str | None = None
        self._place = PLACES[0]

    def compose(self) -> ComposeResult:
        """Title, table, tabs, keys."""
        yield TitleBar("Compare")
        yield CompareTable(id="compared")
        with TabbedContent(initial="curves"):
            with TabPane("1 Curves", id="curves"):
                yield LineChart(id="overlay")
            with TabPane("2 Coordinates", id="coordinates"):
                yield ParallelCoordinates()
            with TabPane("3 Config", id="config"):
                yield ConfigDiff()
        yield Footer()

    def on_mount(self) -> None:
        """The table has the keys."""
        self.query_one(CompareTable).focus()
        self.query_one(CompareTable).empty = "reading…"
        self.keep_watching("comparison", True, lambda: CompareWatcher(self.views, self, self._place))

    # --- what comes in

    def views(self) -> list[RunView]:
        """The runs to compare, as the deck knows them now; called from the watcher's thread too."""
        known = {view.id: view for view in deck_of(self).views}
        chosen = {run_id: known[run_id] for run_id in self.run_ids if run_id in known}
        if self.batch_id is not None:
            chosen |= {view.id: view for view in known.values() if batch_of(view) == self.batch_id}
        return list(chosen.values())

    def show_runs(self, views: tuple[RunView, ...]) -> None:
        """The app saw the runs again; the watcher asks for them itself."""

    @on(ComparisonSeen)
    def _comparison_arrived(self, message: ComparisonSeen) -> None:
        self.comparison = message.comparison
        self._loaded = message.loaded
        if self.is_mounted:
            self._show()

    def _show(self) -> None:
        comparison = self.comparison
        if comparison is None:
            return
        table = self.query_one(CompareTable)
        table.empty = "these runs are gone: esc goes back" if not comparison.runs else "reading…"
        runs = self.ordered
        table.show(comparison, runs, columns_of(comparison), self.sorted_by)
        self.query_one(ParallelCoordinates).data = parallel(comparison)
        self.query_one(ConfigDiff).show(comparison)
        self._show_curves()
        self._say(comparison)

    def _say(self, comparison: Comparison) -> None:
        count = len(comparison.runs)
        words = [self.query_one(CompareTable).more_words] if self.query_one(CompareTable).more_words else []
        words.append("one run alone: mark more with space" if count == 1 else f"{count} runs")
        if self.batch_id is not None:
            words.append(fmt.plain(self.batch_id, 40))
        active = sum(run.state.active for run in comparison.runs)
        words += [f"{active} active"] if active else []
        words.append(f"at {comparison.place}")
        words += [] if judged_alike(comparison.runs) else ["judged on different clips: no ★ across tests"]
        self.query_one(TitleBar).note = " · ".join(words)

    @on(CompareTable.Fitted)
    def _columns_fitted(self) -> None:
        if self.comparison is not None:
            self._say(self.comparison)

    @on(LiveTable.Highlighted)
    def _selection_moved(self) -> None:
        self._show_curves()

    @on(LiveTable.Chosen)
    def _row_chosen(self) -> None:
        if self.selected is not None:
            deck_of(self).open_run(self.selected.id)

    @on(ParallelCoordinates.Chosen)
    def _line_chosen(self, message: ParallelCoordinates.Chosen) -> None:
        self.query_one(CompareTable).select(message.run)

    # --- what is shown

    @property
    def ordered(self) -> tuple[ComparedRun, ...]:
        """The runs in the order of the table."""
        if self.comparison is None:
            return ()
        column = None
        if self._sort is not None:
            try:
                column = column_for(self.comparison, self._sort)
            except UsageError:  # the run that had it is gone
                self._sort = None
        return sorted_runs(self.comparison, column, descending=self._descending)

    @property
    def sorted_by(self) -> str:
        """Key of the column that the table is sorted by."""
        if self._sort is not None or self.comparison is None:
            return self._sort or ""
        return default_column(self.comparison).key

    @property
    def selected(self) -> ComparedRun | None:
        """The run under the cursor."""
        key = cast(str, self.query_one(CompareTable).key)
        runs = self.comparison.runs if self.comparison is not None else ()
        return next((run for run in runs if run.id == key), None)

    @property
    def metric(self) -> str | None:
        """The metric of the curves: the one that was chosen, else the headline, else the first."""
        names = self.comparison.curve_names if self.comparison is not None else ()
        return self._metric if self._metric in names else next(iter(names), None)

    def _show_curves(self) -> None:
        comparison, name = self.comparison, self.metric
        if comparison is None:
            return
        chosen = self.selected
        self.query_one(ParallelCoordinates).chosen = None if chosen is None else chosen.id
        having = [run for run in self.ordered if name in run.series]
        shown = having[:SLOTS]
        if chosen is not None and chosen in having and chosen not in shown:
            shown[-1] = chosen
        slots = {run.id: slot for slot, run in enumerate(run for run in comparison.runs if run in shown)}
        chart = self.query_one("#overlay", LineChart)
        part = f" · {len(shown)} of {len(having)} runs" if len(shown) < len(having) else ""
        chart.title = f"{name}{part}" if name else ""
        chart.data = ChartData(
            tuple(
                ChartSeries(comparison.title(run), run.series[name or ""], slots[run.id], goal_of(name or ""))
                for run in shown
            ),
            self._loaded if self._loaded < 0.99 else 1.0,
            empty="no metrics yet" if comparison.runs else "no runs",
            lines=tuple(ReferenceLine(label, value) for label, value in comparison.levels(name or "").items()),
        )

    # --- keys

    def action_back(self) -> None:
        """Leave; watchers end with the screen."""
        self.dismiss(None)

    def action_table(self) -> None:
        """The keys go back to the table."""
        self.query_one(CompareTable).focus()

    def action_sort(self) -> None:
        """Ask for a column."""
        if self.comparison is None:
            return
        columns = columns_of(self.comparison, everything=True)
        choices = [Choice(column.key, fmt.plain(column.title, 50), column.kind) for column in columns]
        self.app.push_screen(Choose("Sort by", choices), self._sort_by)

    def _sort_by(self, key: str | None) -> None:
        if key is not None:
            self._sort, self._descending = key, None
            self._show()

    def action_reverse(self) -> None:
        """The other end first."""
        if self.comparison is None:
            return
        column = column_for(self.comparison, self.sorted_by)
        down = column.goal == "max" if self._descending is None else self._descending
        self._descending = not down
        self._show()

    def action_metric(self) -> None:
        """Ask which metric is drawn."""
        if self.comparison is None or not self.comparison.curve_names:
            return
        runs = self.comparison.runs
        choices = [
            Choice(name, fmt.plain(name, 50), f"{sum(name in run.series for run in runs)} runs")
            for name in self.comparison.curve_names
        ]
        self.app.push_screen(Choose("Which curves", choices), self._metric_chosen)

    def _metric_chosen(self, name: str | None) -> None:
        if name is not None:
            self._metric = name
            self._show_curves()

    def action_place(self) -> None:
        """From each run's best to its end, and back."""
        self._go_to(PLACES[1] if self._place == PLACES[0] else PLACES[0])

    def action_step(self) -> None:
        """Ask for a step."""
        hint = "Every run is then shown as it was at this step."
        value = str(self._place.step or "")
        self.app.push_screen(
            TextQuestion("At which step?", "Compare", value=value, check=_not_a_step, hint=hint), self._step_given
        )

    def _step_given(self, text: str | None) -> None:
        if text:
            self._go_to(Place("step", int(text)))

    def _go_to(self, place: Place) -> None:
        self._place = place
        watcher = self.watcher("comparison", CompareWatcher)
        if watcher is not None:
            watcher.at(place)

    def action_listen(self) -> None:
        """Hear the selected run."""
        if self.selected is not None:
            deck_of(self).open_listen(self.selected.id)

    def action_export(self) -> None:
        """Ask where to."""
        if self.comparison is None or not self.comparison.runs:
            return
        name = f"compare-{self.batch_id or f'{len(self.comparison.runs)}-runs'}.html"
        question = TextQuestion(
            "Export to which file?",
            "Export",
            value=str(Path.cwd() / name.replace("/", "-")),
            check=_not_a_report,
            hint=".html is one page with curves, matrices and sound; .csv a table.",
            most=MOST_PATH,
        )
        self.app.push_screen(question, self._export_to)

    def _export_to(self, text: str | None) -> None:
        if text and self.comparison is not None:
            self._export(Path(text).expanduser(), self.comparison, self.ordered)

    @work(thread=True, group="export", name="export")
    def _export(self, path: Path, comparison: Comparison, runs: Sequence[ComparedRun]) -> None:
        """Write it; sound is read and packed here, so not in the screen's thread."""
        if path.suffix.lower() == ".csv":
            data = comparison_csv(comparison, runs).encode()
        else:
            from ...engine.comparing.page import report_page

            data = report_page(comparison, runs).encode()
        try:
            write_atomic(path, data)
        except OSError as error:
            raise WavedeckError(f"{path} could not be written: {error.strerror}.") from error
        self.app.call_from_thread(self.app.notify, f"{path} ({fmt.size(len(data))})", title="exported", markup=False)


def _not_a_step(text: str) -> str | None:
    return None if text.isascii() and text.isdigit() and len(text) < 19 else "a whole number is wanted"


def _not_a_report(text: str) -> str | None:
    if not text.lower().endswith((".html", ".csv")):
        return "the name ends in .html or .csv"
    return folder_problem(Path(text))
