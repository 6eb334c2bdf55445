"""What was handed out and has not reached everybody it is for, sink by sink, so that no sink is told a thing twice
because another one is away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from ..format import count
from .alert import Alert

MOST = 200
UNDELIVERED_S = 6 * 3600.0
"""What could not be delivered for that long is given up."""

Which = tuple[str, float]
"""An alert among those that were handed out: key and time."""


class Undelivered(msgspec.Struct):
    """An alert that some sink lacks."""

    alert: Alert
    done: list[str] = []
    """Ids of the sinks that have it, or never will."""

    @property
    def which(self) -> Which:
        """What it is told apart by."""
        return which(self.alert)


def which(alert: Alert) -> Which:
    """What an alert is told apart by."""
    return alert.key, alert.t


class Deliveries:
    """Alerts under way. `reached` and `settle` may be called from any thread; the rest belongs to one."""

    def __init__(self, kept: Iterable[Undelivered] = ()) -> None:
        self._waiting = list(kept)
        self._handed: set[Which] = set()
        self._heard: deque[tuple[Which, str | None]] = deque()

    @property
    def waiting(self) -> list[Undelivered]:
        """What some sink lacks, oldest first; to be kept on disk."""
        return self._waiting

    def reached(self, alert: Alert, sink: str) -> None:
        """One sink is done with an alert."""
        self._heard.append((which(alert), sink))

    def settle(self, alert: Alert) -> None:
        """Every sink is done with an alert."""
        self._heard.append((which(alert), None))

    def take_in(self) -> bool:
        """Take in what sinks have reported; whether there was anything."""
        heard: dict[Which, set[str | None]] = {}
        while self._heard:
            one, sink = self._heard.popleft()
            heard.setdefault(one, set()).add(sink)
        if not heard:
            return False
        still = []
        for waiting in self._waiting:
            sinks = heard.get(waiting.which, set())
            if None in sinks:
                self._handed.discard(waiting.which)
                continue
            waiting.done = [*waiting.done, *sorted(sink for sink in sinks if sink and sink not in waiting.done)]
            still.append(waiting)
        self._waiting = still
        return True

    def add(self, alerts: Sequence[Alert], now: float) -> str | None:
        """Alerts that are handed out now; what is given up for it or for its age, as a sentence."""
        young = [one for one in self._waiting if now - one.alert.t < UNDELIVERED_S]
        kept = [*young, *(Undelivered(alert) for alert in alerts)][-MOST:]
        lost = len(self._waiting) + len(alerts) - len(kept)
        self._waiting = kept
        self._handed = (self._handed | {which(alert) for alert in alerts}) & {one.which for one in kept}
        return _given_up(lost) if lost else None

    def again(self, most: int) -> list[Undelivered]:
        """What an earlier process or outbox did not deliver, oldest first, to be handed out now."""
        found = [one for one in self._waiting if one.which not in self._handed][: max(0, most)]
        self._handed.update(one.which for one in found)
        return found

    def taken_back(self, ones: Iterable[Which]) -> None:
        """Whoever had these will not deliver them any more: `again` hands them out."""
        self._handed.difference_update(ones)


def _given_up(lost: int) -> str:
    what = "1 alert has" if lost == 1 else f"{count(lost)} alerts have"
    return (
        f"{what} not reached every sink within {UNDELIVERED_S / 3600:g} h, or too many waited: given up. "
        "alerts.jsonl holds all of them."
    )
