"""Choose a run from a short list, by typing or by arrow keys."""

from __future__ import annotations

from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from ...engine.run_view import RunView
from ...widgets.live_table import LiveTable
from ...widgets.runs_table import RunsTable


class PickRun(ModalScreen[str | None]):
    """Dismisses with the id of the chosen run, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="pick.cancel", tooltip="Stay where we are"),
        Binding("down", "to_table", "List", show=False, id="pick.down", tooltip="Into the list"),
    ]
    DEFAULT_CSS = """
    PickRun { align: center middle; background: $background 60%; }
    PickRun > Vertical { width: 90%; height: 70%; background: $panel; border: round $primary; }
    """

    def __init__(self, views: tuple[RunView, ...]) -> None:
        super().__init__()
        self._views = views

    def compose(self) -> ComposeResult:
        """A filter line over the table of runs."""
        with Vertical() as box:
            box.border_title = "open a run"
            yield Input(placeholder="type to filter, enter opens")
            yield RunsTable()

    def on_mount(self) -> None:
        """Fill the table; typing comes first."""
        self.query_one(RunsTable).show(self._views)
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one(RunsTable).needle = event.value

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._choose()

    @on(LiveTable.Chosen)
    def _chosen(self) -> None:
        self._choose()

    def _choose(self) -> None:
        key = cast("str | None", self.query_one(RunsTable).key)
        if key is not None:
            self.dismiss(key)

    def action_to_table(self) -> None:
        """Arrow down leaves the filter line."""
        self.query_one(RunsTable).focus()
