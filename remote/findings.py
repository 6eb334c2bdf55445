"""One thing that was found out about a host before a launch."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FindingState(StrEnum):
    """How good it is. Every state has a mark as well as a colour."""

    OK = "ok"
    WARN = "warn"
    """Trainings work, with something to know."""
    MISSING = "missing"
    """Something has to be installed."""
    BAD = "bad"
    """Trainings cannot work like this."""

    @property
    def mark(self) -> str:
        """One character that tells the states apart without colour."""
        return {"ok": "✓", "warn": "!", "missing": "○", "bad": "✗"}[self.value]


OK, WARN, MISSING, BAD = FindingState.OK, FindingState.WARN, FindingState.MISSING, FindingState.BAD


class Finding(msgspec.Struct, frozen=True):
    """`what` was looked at, how it stands, what was `found`, and what mends it where something does."""

    what: str
    state: FindingState
    found: str
    fix: str | None = None
