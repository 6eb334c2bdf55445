"""From evidence and memory to alerts: what is a problem now, what is over, what is news and what is history.

A rule is a pure function `(evidence, memory) -> Said…`. It names each problem that holds (again at every look), says
*fine* only where it sees that a problem does not hold, and keeps silent where it cannot know: the disk of a host that
does not answer is neither full nor well. `judge` compares what the rules say with the memory of the look before, so
that each problem is told once, its end once, and a run that failed before anybody watched not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from .alert import Alert, Severity
from .evidence import Evidence

RECENT_S = 900.0
"""What happened that long before a run was first seen is history: the lists of a new host arrive bit by bit."""
KNOWN_MOST = 5000


class Kind(StrEnum):
    """What a rule says about a key."""

    PROBLEM = "problem"
    FINE = "fine"
    NEWS = "news"
    """Happened once and never ends."""
    AGAIN = "again"
    """Happens each time that it is said; how often that is told is a matter of its cooldown."""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing a rule says."""

    kind: Kind
    alert: Alert
    after_s: float = 0.0
    """A problem is told once it has held for that long without a break."""
    happened: float | None = None
    """When it came about, by this machine's clock, for what may be old news; None is a state of now."""
    quiet: bool = False
    """What is fine again is not worth a word: something else has taken its place."""


class Open(msgspec.Struct, array_like=True):
    """A problem that was told and has not ended."""

    since: float
    severity: Severity
    title: str
    run: str | None = None
    host: str | None = None


class Memory(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept from look to look, and on disk from process to process."""

    looked: float | None = None
    """The last look; None before the first one ever."""
    open: dict[str, Open] = {}
    pending: dict[str, float] = {}
    """Problems that do not hold for long enough yet, and since when they do."""
    known: dict[str, float] = {}
    """Keys that are told, or were history when they were first seen, and when that was."""
    first: dict[str, float] = {}
    """When each run was first seen."""
    nans: dict[str, int] = {}
    """Run -> values that were not finite, all metrics together."""

    def open_keys(self, prefix: str) -> list[str]:
        """Keys that begin so, of problems that are open or waiting."""
        return [key for key in (*self.open, *self.pending, *self.known) if key.startswith(prefix)]


Rule = Callable[[Evidence, Memory], Iterable[Said]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a look comes to."""

    alerts: tuple[Alert, ...]
    memory: Memory
    broken: tuple[str, ...] = ()
    """Rules that failed, as sentences; the others count all the same."""


def default_rules() -> tuple[Rule, ...]:
    """All rules, in the order in which their alerts are told."""
    from . import host_rules, money_rules, run_rules, safety_rules

    return (*host_rules.RULES, *run_rules.RULES, *safety_rules.RULES, *money_rules.RULES)


def judge(evidence: Evidence, before: Memory, rules: Sequence[Rule] | None = None) -> Judged:
    """Everything to be told now, and the memory for the next look."""
    broken: list[str] = []
    said = [
        one for rule in (default_rules() if rules is None else rules) for one in _asked(rule, evidence, before, broken)
    ]
    step = _Step(evidence, before)
    alerts = [alert for one in said if (alert := step.take(one)) is not None]
    return Judged(tuple(alerts), step.memory(keep_pending=bool(broken)), tuple(broken))


def _asked(rule: Rule, evidence: Evidence, before: Memory, broken: list[str]) -> Iterator[Said]:
    try:
        yield from list(rule(evidence, before))
    except Exception as error:  # values nobody foresaw cost one rule, not the watch
        name = getattr(rule, "__name__", "a rule")
        broken.append(f"the rule {name} failed ({type(error).__name__}: {error}).")


class _Step:
    """The memory while one look is taken in."""

    def __init__(self, evidence: Evidence, before: Memory) -> None:
        self._evidence = evidence
        self._before = before
        self._now = evidence.now
        self._open = dict(before.open)
        self._known = dict(before.known)
        self._waited: dict[str, float] = {}
        self._first = {view.id: before.first.get(view.id, self._now) for view in evidence.runs}

    def take(self, said: Said) -> Alert | None:
        """What is to be told of this, if anything."""
        if said.kind is Kind.FINE:
            return self._fine(said.alert, said.quiet)
        if said.kind is Kind.NEWS:
            return self._once(said)
        if said.kind is Kind.AGAIN:
            return said.alert
        return self._problem(said)

    def _fine(self, alert: Alert, quiet: bool) -> Alert | None:
        self._known.pop(alert.key, None)
        was_open = self._open.pop(alert.key, None) is not None
        return alert if was_open and not quiet else None

    def _once(self, said: Said) -> Alert | None:
        key = said.alert.key
        if key in self._known:
            return None
        self._known[key] = self._now
        return None if self._is_history(said) else said.alert

    def _problem(self, said: Said) -> Alert | None:
        alert = said.alert
        known = self._open.get(alert.key)
        if known is not None:
            if alert.severity.rank <= known.severity.rank:
                return None
        elif alert.key in self._known:
            return None
        elif self._is_history(said):
            self._known[alert.key] = self._now
            return None
        elif not self._has_held(said):
            return None
        since = self._now if known is None else known.since
        self._open[alert.key] = Open(since, alert.severity, alert.title, alert.run, alert.host)
        return alert

    def _is_history(self, said: Said) -> bool:
        """Whether it came about before anybody watched."""
        if said.happened is None:
            return False
        looked = self._before.looked
        if looked is None:
            return True
        seen = self._first.get(said.alert.run or "", self._now)
        return said.happened < min(seen, looked) - RECENT_S

    def _has_held(self, said: Said) -> bool:
        began = min(self._before.pending.get(said.alert.key, self._now), self._now)
        if self._now - began >= said.after_s:
            return True
        self._waited[said.alert.key] = began
        return False

    def memory(self, *, keep_pending: bool) -> Memory:
        """For the next look. What is about runs and hosts that are gone is forgotten without a word."""
        runs = {view.id for view in self._evidence.runs}
        hosts = {view.name for view in self._evidence.hosts}
        still = {
            key: one
            for key, one in self._open.items()
            if (one.run is None or one.run in runs) and (one.host is None or one.host in hosts or one.run is not None)
        }
        known = sorted(self._known.items(), key=lambda item: item[1])[-KNOWN_MOST:]
        return Memory(
            looked=self._now,
            open=still,
            pending={**self._before.pending, **self._waited} if keep_pending else self._waited,
            known=dict(known),
            first=self._first,
            nans={view.id: sum((view.nan_counts or {}).values()) for view in self._evidence.runs},
        )
