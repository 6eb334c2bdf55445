"""What was told, when, and what still waits: `alerts.jsonl` for people and screens, `alerts.state.json` for restarts.

Nobody reads the hundredth message. A problem that comes back within its cooldown waits: it is told when the cooldown
is over and it still holds, and never when it went away meanwhile, so that what comes and goes costs two messages and
not two hundred. Above a number a minute the rest becomes one line. Nothing is lost for that: all of it stands in
`alerts.jsonl`, which the deck shows.

What was handed out and has not reached every sink is kept (`deliveries.py`), so that the next process tells it after
all, and only those who were not told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ..files import write_atomic
from ..format import plain
from ..rundir import Home
from .alert import Alert, Severity, make_alert
from .config import Limits
from .deliveries import Deliveries, Undelivered, Which
from .rules import Judged, Memory, Open

LOG = "alerts.jsonl"
STATE = "alerts.state.json"
LOG_BYTES = 4 << 20
"""Beyond that the file becomes `alerts.jsonl.old`, and a new one is begun."""
READ_BYTES = 1 << 20
SAVE_S = 60.0
"""How old the file may be while nothing happens: the time of the last look is all that would be lost."""
FORGET_S = 86400.0
MOST_COOLDOWN_S = 3600.0
MINUTE_S = 60.0
SUMMED = "more"
"""The rule of the line that stands for what was too much."""


class Told(msgspec.Struct, array_like=True):
    """What was sent about one key."""

    t: float
    times: int = 1
    problem: bool = True
    """Whether the last thing said was the problem, and not its end."""
    severity: Severity = Severity.INFO


class LedgerState(msgspec.Struct, omit_defaults=True):
    """The file: the rules' memory, and what this module keeps."""

    memory: Memory = msgspec.field(default_factory=Memory)
    told: dict[str, Told] = {}
    held: dict[str, Alert] = {}
    """Problems that came back within their cooldown."""
    sent: list[float] = []
    """Times of the last minute's messages."""
    more: list[Alert] = []
    """What was too much for its minute."""
    again: list[float] = []
    """Times at which, in the last minute, something was handed out once more."""
    outstanding: list[Undelivered] = msgspec.field(default_factory=list, name="undelivered")


class Ledger:
    """Decides which alerts are sent now, and remembers it. One process has it at a time (the babysitter's lock)."""

    def __init__(self, home: Home, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.problem: str | None = None
        """Why something could not be written or read, as a sentence."""
        self.given_up: str | None = None
        """What the last look gave up to deliver, as a sentence."""
        self._home = home
        self._path = home.root / STATE
        self._saved = 0.0
        self._state = self._load()
        self.deliveries = Deliveries(self._state.outstanding)
        """What is under way to the sinks. `reached` and `settle` of it may be called from any thread."""

    @property
    def memory(self) -> Memory:
        """What the rules kept from the last look."""
        return self._state.memory

    @property
    def outstanding(self) -> tuple[Alert, ...]:
        """Alerts that were handed out and that some sink lacks."""
        return tuple(one.alert for one in self.deliveries.waiting)

    def take(self, judged: Judged, now: float) -> list[Alert]:
        """Note a look; the alerts to be sent now. They are on disk before this returns."""
        self.problem = None
        settled = self.deliveries.take_in()
        before = self._state.memory
        self._state.memory = judged.memory
        sent = self._admit(judged.alerts, now)
        log = [*judged.alerts, *(alert for alert in sent if alert.rule == SUMMED)]
        self._append(log)
        self.given_up = self.deliveries.add(sent, now)
        happened = bool(judged.alerts or sent)
        moved = settled or self.given_up is not None
        changed = happened or moved or (before.open, before.known) != (judged.memory.open, judged.memory.known)
        if changed or before.looked is None or now - self._saved >= SAVE_S:
            self.save(durable=happened)
        return sent

    def again(self, now: float) -> list[Undelivered]:
        """What an earlier process or outbox did not deliver and what is to be handed out now: oldest first, within the
        messages of a minute, and at most half of those, so that what is new finds room."""
        state = self._state
        self._forget_minutes(now)
        limit = self.limits.per_minute
        room = min(limit - len(state.sent), max(1, limit // 2)) - len(state.again)
        found = self.deliveries.again(room)
        state.again += [now] * len(found)
        return found

    def taken_back(self, ones: Iterable[Which]) -> None:
        """An outbox that had these is closed: `again` hands them out."""
        self.deliveries.taken_back(ones)

    # --- which of them are sent

    def _admit(self, alerts: Iterable[Alert], now: float) -> list[Alert]:
        state = self._state
        self._forget_minutes(now)
        state.told = {key: told for key, told in state.told.items() if abs(now - told.t) < FORGET_S}
        passed = [alert for one in alerts if (alert := self._repeated(one, now)) is not None]
        for key, alert in list(state.held.items()):
            if key not in state.memory.open:
                del state.held[key]  # it went away, or what it is about did
            elif not self._cooling(key, now):
                del state.held[key]
                passed.append(self._note(alert, now))
        return self._limited(passed, now)

    def _forget_minutes(self, now: float) -> None:
        state = self._state
        state.sent = [t for t in state.sent if 0 <= now - t < MINUTE_S]
        state.again = [t for t in state.again if 0 <= now - t < MINUTE_S]

    def _repeated(self, alert: Alert, now: float) -> Alert | None:
        """The alert, unless it only repeats what was told a moment ago."""
        told = self._state.told.get(alert.key)
        if alert.recovered:
            waited = self._state.held.pop(alert.key, None)
            if waited is not None or (told is not None and not told.problem):
                return None
            return self._note(alert, now)
        worse = told is not None and told.problem and alert.severity.rank > told.severity.rank
        if self._cooling(alert.key, now) and not worse:
            self._state.held[alert.key] = alert
            return None
        return self._note(alert, now)

    def _cooling(self, key: str, now: float) -> bool:
        """Whether too little time has passed since this was last told; each time it takes twice as long."""
        told = self._state.told.get(key)
        if told is None:
            return False
        wait = min(self.limits.cooldown_s * 2 ** min(told.times - 1, 10), MOST_COOLDOWN_S)
        return 0 <= now - told.t < wait

    def _note(self, alert: Alert, now: float) -> Alert:
        told = self._state.told.get(alert.key)
        times = told.times if told is not None else 0
        if alert.recovered:  # the clock of the cooldown runs from the problem, not from its end
            began = told.t if told is not None else now
            self._state.told[alert.key] = Told(began, max(times, 1), False, alert.severity)
        else:
            self._state.told[alert.key] = Told(now, times + 1, True, alert.severity)
        return alert

    def _limited(self, alerts: list[Alert], now: float) -> list[Alert]:
        """At most so many a minute; the rest in one line, as soon as there is room for it."""
        state = self._state
        limit = self.limits.per_minute - min(len(state.again), self.limits.per_minute // 2)
        room = max(0, limit - len(state.sent))
        if len(alerts) > room:
            alerts.sort(key=lambda alert: -alert.severity.rank)  # of too many the worst ones are told
        now_sent, rest = alerts[:room], alerts[room:]
        state.more = [*state.more, *rest]
        state.sent += [now] * len(now_sent)
        if state.more and not rest and len(state.sent) < limit:
            now_sent.append(_and_more(state.more, now))
            state.sent.append(now)
            state.more = []
        state.more = state.more[-1000:]
        return now_sent

    # --- files

    def save(self, *, durable: bool = True) -> None:
        """Write the state down; a home that cannot be written costs only what a restart would want to know."""
        self.deliveries.take_in()
        self._state.outstanding = self.deliveries.waiting
        try:
            self._home.root.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, msgspec.json.encode(self._state) + b"\n", durable=durable)
        except OSError as error:
            self.problem = f"{self._path} cannot be written ({error.strerror}): a restart would repeat some alerts."
        else:
            self._saved = self._state.memory.looked or 0.0

    def _load(self) -> LedgerState:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=LedgerState)
        except FileNotFoundError:
            return LedgerState()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.problem = f"{self._path} cannot be read ({plain(str(error), 200)}): the watch begins anew."
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_name(f"{STATE}.damaged"))
            return LedgerState()

    def _append(self, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        path = self._home.root / LOG
        data = b"".join(msgspec.json.encode(alert.to_json()) + b"\n" for alert in alerts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_room(path)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    data = b"\n" + data  # the torn tail of a full disk spoils itself only
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.problem = f"{path} cannot be written ({error.strerror}); alerts are sent all the same."


def _make_room(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            os.replace(path, path.with_name(f"{LOG}.old"))


def _and_more(alerts: Sequence[Alert], now: float) -> Alert:
    worst = max(alerts, key=lambda alert: alert.severity.rank).severity
    titles = [f"{alert.severity.mark} {alert.title}" for alert in alerts[:10]]
    if len(alerts) > len(titles):
        titles.append(f"… and {len(alerts) - len(titles)} more")
    return make_alert(f"{SUMMED}/{now:.0f}", worst, f"and {len(alerts)} more", titles, t=now)


def read_alerts(home: Home, most: int = 200) -> list[Alert]:
    """The newest alerts of `alerts.jsonl`, oldest first; for screens. Damaged lines are left out."""
    try:
        with open(home.root / LOG, "rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            start = max(0, size - READ_BYTES)
            handle.seek(start)
            block = handle.read(READ_BYTES)
    except OSError:
        return []
    lines = block.split(b"\n")[1 if start else 0 : -1]
    alerts = [alert for line in lines[-2 * most :] if (alert := _decoded(line)) is not None]
    return alerts[-most:]


def open_problems(home: Home) -> list[Open]:
    """What had not ended when the babysitter last wrote it down, oldest first; for screens."""
    try:
        state = msgspec.json.decode((home.root / STATE).read_bytes(), type=LedgerState)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    return sorted(state.memory.open.values(), key=lambda one: one.since)


def _decoded(line: bytes) -> Alert | None:
    try:
        alert = msgspec.json.decode(line, type=Alert)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return make_alert(
        alert.key, alert.severity, alert.title, alert.text, t=alert.t, run=alert.run, host=alert.host,
        recovered=alert.recovered,
    )  # fmt: skip
