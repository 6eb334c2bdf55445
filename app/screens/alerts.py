"""What was told: alerts newest first, what is still open, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from ...engine import format as fmt
from ...engine.alerts.alert import Alert, Severity
from ...engine.alerts.rules import Open
from ...widgets.live_table import Column, LiveTable, Row
from ...widgets.palette import Palette
from ..deck import deck_of
from ..messages import AlertsSeen

MOST_LINES = 6


class AlertTable(LiveTable):
    """Newest first; the key of a row is its number in the file, so that equal ones stay apart."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("WHEN", 14, rank=1),
        Column("", 9),
        Column("WHAT", 0, least=30),
    )

    def __init__(self) -> None:
        super().__init__(self.COLUMNS, empty="nothing was told yet")
        self._alerts: tuple[Alert, ...] = ()

    @property
    def alert(self) -> Alert | None:
        """The alert under the cursor."""
        return self._alerts[cast(int, self.key)] if self.key is not None else None

    def show(self, alerts: Sequence[Alert], still: frozenset[str]) -> None:
        """Replace the lines, which come oldest first; those whose title is in `still` have not ended."""
        self._alerts = tuple(alerts)
        palette = Palette.of(self.app)
        rows = [_row(n, alert, alert.title in still, palette) for n, alert in enumerate(alerts)]
        self.show_rows(rows[::-1])


def _row(number: int, alert: Alert, still: bool, palette: Palette) -> Row:
    style = {Severity.INFO: palette.muted, Severity.WARNING: palette.warn, Severity.ERROR: palette.bad}[alert.severity]
    word = Text("✓ over", style=palette.good) if alert.recovered else Text(f"{alert.severity.mark} {alert.severity}")
    if not alert.recovered:
        word.stylize(style)
    title = Text()
    if still and not alert.recovered:
        title.append("⚑ ", style=palette.bad)
    return Row(number, (fmt.clock(alert.t)[5:], word, title.append(alert.title)))


class Alerts(ModalScreen[None]):
    """The list above, the facts of the one under the cursor below; enter opens its run."""

    HELP_TITLE = "Alerts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,exclamation_mark", "dismiss(None)", "Close", id="alerts.close", tooltip="Close this page"),
    ]
    DEFAULT_CSS = """
    Alerts { align: center middle; background: $background 60%; }
    Alerts > Vertical { width: 96%; max-width: 130; height: 80%; background: $panel; border: round $primary; }
    Alerts #who { height: auto; padding: 0 1; color: $text-muted; }
    Alerts #facts { height: auto; max-height: 8; padding: 0 1; color: $text; background: $panel; }
    """

    def __init__(self, seen: AlertsSeen | None) -> None:
        super().__init__()
        self._seen = seen

    def compose(self) -> ComposeResult:
        """Who watches, the list, the facts."""
        with Vertical() as box:
            box.border_title = "alerts"
            yield Static("", id="who", markup=False)
            yield AlertTable()
            yield Static("", id="facts", markup=False)

    def on_mount(self) -> None:
        """What is known now."""
        self.query_one(AlertTable).focus()
        self.show(self._seen)

    def show(self, seen: AlertsSeen | None) -> None:
        """The file grew, or somebody else watches."""
        if seen is None:
            return
        self.query_one("#who", Static).update(who_text(seen.watching, seen.problems))
        self.query_one(AlertTable).show(seen.alerts, frozenset(one.title for one in seen.problems))
        self._show_facts()

    @on(LiveTable.Highlighted)
    def _show_facts(self) -> None:
        alert = self.query_one(AlertTable).alert
        lines = alert.text.split("\n")[:MOST_LINES] if alert else []
        self.query_one("#facts", Static).update("\n".join(lines))

    @on(LiveTable.Chosen)
    def _open(self) -> None:
        alert = self.query_one(AlertTable).alert
        run = alert.run if alert is not None else None
        if run is None or all(view.id != run for view in deck_of(self).views):
            self.app.notify("no run of this home is named in it", markup=False)
            return
        self.dismiss(None)
        self.app.call_later(deck_of(self).open_run, run)


def who_text(watching: str, problems: Sequence[Open]) -> Text:
    """Who watches, and how much is open."""
    count = "nothing is open" if not problems else "1 is open" if len(problems) == 1 else f"{len(problems)} are open"
    tail = "" if watching != "nobody watches" else ": `wavedeck babysit` does, on a machine that stays on"
    return Text(f"{watching}{tail} · {count}")
