"""Alerts on their way out: a queue and a thread per sink, so that no sink delays another, or the watch.

What fails for a reason that may pass (no answer, 5xx, 429) is tried three times more within seconds, and then again and
again with growing pauses for some hours: the network that took the host away often took the webhook with it. What
cannot succeed (a wrong address) is dropped and said. A queue is bounded: the oldest go first, and that is said, too.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from ...engine.alerts.alert import Alert
from ...engine.alerts.deliveries import UNDELIVERED_S, Which, which
from ...engine.format import count
from .sinks import Sink, SinkFailed


@dataclass(frozen=True, slots=True)
class Patience:
    """Every waiting time of an outbox, in seconds, and its numbers."""

    tries: int = 4
    first_s: float = 0.5
    rest_s: float = 60.0
    """After the last try in a row; it doubles."""
    longest_rest_s: float = 600.0
    keep_s: float = UNDELIVERED_S
    queue: int = 200


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """How one sink does."""

    name: str
    delivered: int
    waiting: int
    dropped: int
    problem: str | None
    """Why the last delivery failed; None when it did not."""


class Outbox:
    """Takes alerts and brings each to every sink that wants it.

    Parameters
    ----------
    said: told, from any thread, what goes wrong with a sink, as a sentence without secrets.
    reached: told, from any thread, that one sink (its id) is done with an alert.
    settled: told, from any thread, that every sink is done with an alert.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        said: Callable[[str], None] = lambda sentence: None,
        reached: Callable[[Alert, str], None] = lambda alert, sink: None,
        settled: Callable[[Alert], None] = lambda alert: None,
        patience: Patience | None = None,
    ) -> None:
        self._reached, self._settled = reached, settled
        self._open: dict[Which, int] = {}
        self._lock = threading.Lock()
        ids = _told_apart([sink.id for sink in sinks])
        self._lanes = [
            _Lane(sink, one, said, self._done, patience or Patience()) for sink, one in zip(sinks, ids, strict=True)
        ]

    def put(self, alert: Alert, done: Collection[str] = ()) -> int:
        """Hand an alert over; how many sinks will bring it. Returns at once.

        Parameters
        ----------
        done: ids of sinks that have it already.
        """
        lanes = [lane for lane in self._lanes if lane.id not in done and lane.sink.wants(alert)]
        if not lanes:
            self._settled(alert)
            return 0
        with self._lock:
            self._open[which(alert)] = len(lanes)
        for lane in lanes:
            lane.put(alert)
        return len(lanes)

    def _done(self, alert: Alert, sink: str) -> None:
        self._reached(alert, sink)
        one = which(alert)
        with self._lock:
            left = self._open.get(one, 0) - 1
            if left > 0:
                self._open[one] = left
                return
            self._open.pop(one, None)
        self._settled(alert)

    @property
    def undelivered(self) -> tuple[Which, ...]:
        """What some sink of it is not done with."""
        with self._lock:
            return tuple(self._open)

    def status(self) -> tuple[SinkStatus, ...]:
        """How each sink does."""
        return tuple(lane.status() for lane in self._lanes)

    def close(self, within_s: float = 5.0) -> int:
        """Deliver what can be delivered in that time; how many deliveries were left. Threads end by themselves."""
        deadline = time.monotonic() + within_s
        for lane in self._lanes:
            lane.finish()
        for lane in self._lanes:
            lane.join(deadline - time.monotonic())
        return sum(lane.abandon() for lane in self._lanes)

    def ended(self, within_s: float) -> None:
        """After `close`: wait until nothing is being sent any more, so that what is left may be sent by another."""
        deadline = time.monotonic() + within_s
        for lane in self._lanes:
            lane.join(deadline - time.monotonic())


def _told_apart(ids: Sequence[str]) -> list[str]:
    """Two sinks may lead to the same place, with other rules."""
    return [one if (before := ids[:at].count(one)) == 0 else f"{one}#{before + 1}" for at, one in enumerate(ids)]


class _Lane:
    """One sink, its queue and its thread."""

    def __init__(
        self,
        sink: Sink,
        name: str,
        said: Callable[[str], None],
        done: Callable[[Alert, str], None],
        patience: Patience,
    ) -> None:
        self.sink, self.id = sink, name
        self._said = said
        self._done = done
        self._patience = patience
        self._waiting: deque[Alert] = deque()
        self._turn = threading.Condition()
        self._finishing = False
        self._abandoned = False
        self._delivered = self._dropped = self._untold = 0
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"alerts: {sink.name}", daemon=True)
        self._thread.start()

    def put(self, alert: Alert) -> None:
        gone: Alert | None = None
        with self._turn:
            self._waiting.append(alert)
            if len(self._waiting) > self._patience.queue:
                gone = self._waiting.popleft()
                self._dropped += 1
                self._untold += 1
            self._turn.notify_all()
        if gone is not None:
            if self._untold == 1:
                self._said(f"{self.sink.name} is behind: its oldest alerts are dropped.")
            self._done(gone, self.id)

    def status(self) -> SinkStatus:
        with self._turn:
            return SinkStatus(self.sink.name, self._delivered, len(self._waiting), self._dropped, self._problem)

    def finish(self) -> None:
        with self._turn:
            self._finishing = True
            self._turn.notify_all()

    def join(self, timeout_s: float) -> None:
        self._thread.join(max(0.0, timeout_s))

    def abandon(self) -> int:
        """Let go of what is left. It stays unsettled, so that the next process tells it."""
        with self._turn:
            self._abandoned = True
            left = len(self._waiting)
            self._turn.notify_all()
        return left

    # --- its thread

    def _run(self) -> None:
        rest = self._patience.rest_s
        while (alert := self._next()) is not None:
            if self._delivered_or_dropped(alert):
                rest = self._patience.rest_s
                continue
            self._pause(rest, broken_by_finish=True)
            rest = min(2 * rest, self._patience.longest_rest_s)
            with self._turn:
                if self._finishing:  # it was tried again just now; the next process goes on
                    return

    def _next(self) -> Alert | None:
        """The oldest alert (it stays in the queue); None at the end."""
        with self._turn:
            while not self._waiting:
                if self._finishing or self._abandoned:
                    return None
                self._turn.wait()
            return None if self._abandoned else self._waiting[0]

    def _delivered_or_dropped(self, alert: Alert) -> bool:
        """Try it a few times; False when it stays at the head of the queue."""
        for number in range(1, self._patience.tries + 1):
            try:
                self.sink.send(self._marked(alert))
            except SinkFailed as error:
                failure = error
            except Exception as error:  # a defect of a sink must not end its thread: nobody would be told any more
                failure = SinkFailed(f"{type(error).__name__} in its sink.")
            else:
                self._leave(alert, delivered=True)
                return True
            self._tell(failure)
            if not failure.again or self._abandoned:
                break
            if number < self._patience.tries:
                backoff = self._patience.first_s * 2 ** (number - 1) * random.uniform(0.75, 1.25)
                self._pause(max(backoff, failure.after_s or 0.0))
                if self._is_out(alert):
                    return True
        if failure.again and time.time() - alert.t < self._patience.keep_s:
            return False
        self._leave(alert, delivered=False)
        return True

    def _marked(self, alert: Alert) -> Alert:
        """With a word about those that were dropped before it."""
        with self._turn:
            untold = self._untold
        if not untold:
            return alert
        note = f"({count(untold)} earlier alerts could not be delivered.)"
        return msgspec.structs.replace(alert, text=f"{alert.text}\n{note}" if alert.text else note)

    def _is_out(self, alert: Alert) -> bool:
        """Whether it was pushed out of the queue meanwhile."""
        with self._turn:
            return not self._waiting or self._waiting[0] is not alert

    def _leave(self, alert: Alert, *, delivered: bool) -> None:
        with self._turn:
            if self._waiting and self._waiting[0] is alert:
                self._waiting.popleft()
            elif not delivered:
                return  # pushed out meanwhile, and settled then
            if delivered:
                self._delivered += 1
                self._untold = 0
                self._problem = None
            else:
                self._dropped += 1
        self._done(alert, self.id)

    def _tell(self, failure: SinkFailed) -> None:
        """Say a failure once, until something else happens."""
        text = str(failure)
        with self._turn:
            new, self._problem = text != self._problem, text
        if new:
            self._said(f"{self.sink.name}: {text}")

    def _pause(self, seconds: float, *, broken_by_finish: bool = False) -> None:
        deadline = time.monotonic() + seconds
        with self._turn:
            while (left := deadline - time.monotonic()) > 0 and not self._abandoned:
                if broken_by_finish and self._finishing:
                    return
                self._turn.wait(left)
