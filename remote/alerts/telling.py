"""From what the rules found to whoever is told: the ledger decides, the outbox delivers, `alerts.toml` may change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ...engine.alerts.alert import Alert
from ...engine.alerts.config import AlertConfig, config_stamp, load_alert_config
from ...engine.alerts.ledger import Ledger
from ...engine.alerts.rules import Judged, Memory
from ...engine.rundir import Home
from ..daemon import in_daemon_thread
from .outbox import Outbox, Patience, SinkStatus
from .sinks import Write, make_sinks

FLUSH_S = 3.0
"""How long old sinks may still deliver when alerts.toml has changed."""
LAST_SEND_S = 15.0
"""Longer than any sink takes for one message."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How somebody is told.

    Parameters
    ----------
    write: the terminal, for the bell. `said`: told, from any thread, what does not work. `told`: told each alert sent.
    """

    write: Write | None = None
    said: Callable[[str], None] = lambda sentence: None
    told: Callable[[Alert], None] = lambda alert: None
    patience: Patience | None = None


class Telling:
    """Tells each problem to every sink once, across restarts, edits of `alerts.toml` and sinks that are away."""

    def __init__(self, home: Home, config: AlertConfig, ways: Ways) -> None:
        self.count = 0
        self.last_alert: Alert | None = None
        self._home = home
        self._ways = ways
        self._stamp = config_stamp(home)
        self._ledger = Ledger(home, config.limits)
        self._outbox = self._made(config)
        self._handing: set[asyncio.Task[None]] = set()

    def _made(self, config: AlertConfig) -> Outbox:
        under_way = self._ledger.deliveries
        return Outbox(
            make_sinks(config, self._ways.write), said=self._ways.said, reached=under_way.reached,
            settled=under_way.settle, patience=self._ways.patience,
        )  # fmt: skip

    @property
    def memory(self) -> Memory:
        """What the rules kept from the last look."""
        return self._ledger.memory

    @property
    def problem(self) -> str | None:
        """What of the files does not work, as a sentence."""
        return self._ledger.problem

    def sinks(self) -> tuple[SinkStatus, ...]:
        """How each sink does."""
        return self._outbox.status()

    def tell(self, judged: Judged, now: float) -> None:
        """Send what is to be sent of a look."""
        new = self._ledger.take(judged, now)
        for waiting in self._ledger.again(now):  # first: what is older is told before what is newer
            self._outbox.put(waiting.alert, waiting.done)
        for alert in new:
            self.count += 1
            self.last_alert = alert
            self._outbox.put(alert)
            self._ways.told(alert)
        if self._ledger.given_up is not None:
            self._ways.said(self._ledger.given_up)

    def follow_config(self) -> None:
        """alerts.toml, whenever it changes; one that is wrong changes nothing. To be called in an event loop.

        Raises
        ------
        WavedeckError: it is wrong; not raised again until it changes.
        """
        stamp = config_stamp(self._home)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        config = load_alert_config(self._home)
        self._ledger.limits = config.limits
        old, self._outbox = self._outbox, self._made(config)
        task = asyncio.get_running_loop().create_task(self._hand_over(old))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def _hand_over(self, old: Outbox) -> None:
        """End an outbox; what it did not deliver is sent again by the next look, when it surely sends nothing more."""
        await in_daemon_thread(lambda: old.close(FLUSH_S))
        await in_daemon_thread(lambda: old.ended(LAST_SEND_S))
        self._ledger.taken_back(old.undelivered)

    def close(self, within_s: float) -> None:
        """Deliver what can be delivered in that time. Blocks."""
        self._outbox.close(within_s)

    def save(self) -> None:
        """Write down what was told and what still waits."""
        self._ledger.save()
