"""What is known of one host at the moment: everything it said, made safe, and how long its answers take."""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import Any

import msgspec

from ..engine.format import plain
from ..engine.hosts import GpuProcess, HostFacts, TmuxSession
from ..engine.machine import MachineReading
from .link_news import processes_of, reading_of, safe_reading, sessions_of
from .posix_reading import PosixBlock

IDLE_PCT = 5.0
"""A GPU that computes less than this is idle: a desktop or a forgotten process keeps some at 1 to 3 %."""
MOST_SKEW_S = 10 * 365 * 86400.0
"""A clock that is further off tells nothing."""


class Picture:
    """One host as its agent describes it. Kept when the link is lost: it is then the last known picture."""

    def __init__(self) -> None:
        self.facts: HostFacts | None = None
        self.reading: MachineReading | None = None
        self.processes: tuple[GpuProcess, ...] = ()
        self.sessions: tuple[TmuxSession, ...] = ()
        self.notices: deque[str] = deque(maxlen=20)
        self.heard: float | None = None
        """When anything last arrived (seconds since the epoch)."""
        self.gpu_idle_since: float | None = None
        """Since when none of its GPUs has computed (seconds since the epoch); None when one does, or is not known."""
        self._heard_mono = 0.0
        self._trips: deque[float] = deque(maxlen=9)
        self._skews: deque[tuple[float, float]] = deque(maxlen=9)

    def begin(self, facts: HostFacts | None) -> None:
        """A new connection: what was measured over the old one says nothing about it."""
        self.facts = facts or self.facts
        self._trips.clear()
        self._skews.clear()
        self._heard_mono = time.monotonic()

    def hear(self) -> None:
        """Something arrived."""
        self.heard, self._heard_mono = time.time(), time.monotonic()

    @property
    def silent_s(self) -> float:
        """How long nothing has arrived."""
        return time.monotonic() - self._heard_mono

    def trip(self, took_s: float, asked: float, there: object) -> None:
        """A question was answered: it took so long, was asked at `asked` by our clock, and `there` is the host's."""
        self._trips.append(took_s)
        if isinstance(there, int | float) and abs(there - asked) < MOST_SKEW_S:
            self._skews.append((took_s, float(there) - (asked + took_s / 2)))

    @property
    def latency_ms(self) -> float | None:
        """Median of the last round trips, in milliseconds."""
        return round(1000 * statistics.median(self._trips), 2) if self._trips else None

    @property
    def skew_s(self) -> float | None:
        """The host's clock minus ours, from the quickest of the last answers."""
        return min(self._skews)[1] if self._skews else None

    def take(self, header: dict[str, Any]) -> bool:
        """Something the agent said about its machine; False when it is about something else. Nonsense is left out."""
        op = header["op"]
        try:
            if op == "reading":
                self.reading = reading_of(header)
                self._watch_gpus()
            elif op == "processes":
                self.processes = processes_of(header)
            elif op == "sessions":
                self.sessions = sessions_of(header)
            elif op == "notice":
                self.note(header.get("text"))
            else:
                return False
        except (msgspec.ValidationError, ValueError, OverflowError):
            return True
        return True

    def _watch_gpus(self) -> None:
        used = [gpu.utilization_pct for gpu in self.reading.gpus] if self.reading is not None else []
        if not used or any(share is None or share >= IDLE_PCT for share in used):
            self.gpu_idle_since = None
        elif self.gpu_idle_since is None:
            self.gpu_idle_since = time.time()

    def take_block(self, block: PosixBlock) -> None:
        """The same from a host without Python."""
        self.reading = safe_reading(block.reading)
        self._watch_gpus()
        self.sessions = block.sessions
        self.facts = block.facts or self.facts

    def note(self, text: object) -> None:
        """A sentence for its user, once."""
        if isinstance(text, str) and (sentence := plain(text, 300)) not in self.notices:
            self.notices.append(sentence)
