"""What the deck does with alerts: a notification, the bell, the list, and the number of open problems in the title."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, cast

from ..engine.alerts.alert import Alert, Severity
from ..engine.rundir import Home
from ..widgets.title_bar import TitleBar
from .babysitting import AlertsLook, DeckBabysitter, DeckBackup
from .messages import AlertsSeen, AlertTold, BellRung, while_running
from .screens.alerts import Alerts

if TYPE_CHECKING:
    from textual.app import App

    from .cockpit import Wavedeck

SEVERITIES = {Severity.INFO: "information", Severity.WARNING: "warning", Severity.ERROR: "error"}
TIMEOUTS = {Severity.INFO: 6, Severity.WARNING: 12, Severity.ERROR: 30}
MOST_LINES = 3


class AlertsOnDeck:
    """A mixin for the app. Handlers are found by their names: Textual collects decorated ones from widgets only."""

    babysitter: DeckBabysitter | None = None
    """Who babysits for this deck; None when it shall not."""
    alerts: AlertsSeen | None = None
    """What was told so far."""

    def make_babysitter(self, home: Home) -> DeckBabysitter:
        """It backs up as soon as there is anything to back up."""
        deck = cast("Wavedeck", self)
        return DeckBabysitter(deck, home, lambda: any(view.backup is not None for view in deck.views))

    def alerts_look(self, home: Home) -> AlertsLook:
        """For a watcher."""
        app = cast("App[None]", self)
        return AlertsLook(app, home, lambda: self.babysitter is not None and self.babysitter.watches)

    @property
    def problems(self) -> int:
        """How many are open."""
        return len(self.alerts.problems) if self.alerts is not None else 0

    def backup_held(self) -> AbstractAsyncContextManager[None]:
        """The right to bring files here.

        Raises
        ------
        UsageError: another process backs up.
        """
        backup = (
            self.babysitter.backup
            if self.babysitter is not None
            else DeckBackup(cast("Wavedeck", self).home, lambda: False)
        )
        return backup.held()

    @while_running
    def on_alert_told(self, message: AlertTold) -> None:
        """Whatever is in front."""
        alert = message.alert
        severity = SEVERITIES[Severity.INFO if alert.recovered else alert.severity]
        title, text = words_of(alert)
        app, timeout = cast("App[None]", self), TIMEOUTS[alert.severity]
        app.notify(text, title=title, severity=severity, timeout=timeout, markup=False)  # type: ignore[arg-type]

    @while_running
    def on_alerts_seen(self, message: AlertsSeen) -> None:
        """The title counts, the list shows."""
        self.alerts = message
        app = cast("App[None]", self)
        for screen in app.screen_stack:
            if isinstance(screen, Alerts) and screen.is_mounted:
                screen.show(message)
            for bar in screen.query(TitleBar):
                bar.problems = self.problems

    @while_running
    def on_bell_rung(self, message: BellRung) -> None:
        """alerts.toml wants it."""
        cast("App[None]", self).bell()

    def action_alerts(self) -> None:
        """The list."""
        cast("App[None]", self).push_screen(Alerts(self.alerts))


def words_of(alert: Alert) -> tuple[str, str]:
    """Title and text of a notification."""
    lines = alert.text.split("\n")[:MOST_LINES] if alert.text else []
    return (alert.title, "\n".join(lines)) if lines else ("", alert.title)
