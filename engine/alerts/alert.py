"""An alert as a value: one sentence for a title, the facts below it, and a key that is the same when it is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from ..format import plain

TITLE_CHARS = 300
TEXT_CHARS = 2000


class Severity(StrEnum):
    """How much it matters. Every severity has a word, so that colour is never the only signal."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Larger is worse."""
        return _RANKS[self]

    @property
    def mark(self) -> str:
        """One character that tells the severities apart without colour."""
        return _MARKS[self]


_RANKS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
_MARKS = {Severity.INFO: "i", Severity.WARNING: "!", Severity.ERROR: "✗"}


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that its user should know, safe for a terminal (`make_alert` sees to that)."""

    key: str
    """What it is about, `crashed/RUN/2`: the same key is the same problem, and its end has that key as well."""
    rule: str
    severity: Severity
    title: str
    """One sentence that stands alone, as in a notification."""
    t: float
    """When it was noticed, seconds since the epoch."""
    text: str = ""
    """More lines: last words of a run, what can be done."""
    run: str | None = None
    host: str | None = None
    recovered: bool = False
    """The problem of this key is over."""

    def to_json(self) -> dict[str, Any]:
        """The stable keys of a webhook's body and of `--json` lines; nothing is left out."""
        return {
            "key": self.key,
            "rule": self.rule,
            "severity": str(self.severity),
            "run": self.run,
            "host": self.host,
            "title": self.title,
            "text": self.text,
            "t": self.t,
            "recovered": self.recovered,
        }

    @property
    def words(self) -> str:
        """Title and text in one piece."""
        return f"{self.title}\n{self.text}" if self.text else self.title


def make_alert(
    key: str,
    severity: Severity,
    title: str,
    text: str | Sequence[str] = "",
    *,
    t: float,
    run: str | None = None,
    host: str | None = None,
    recovered: bool = False,
) -> Alert:
    """An alert whose texts may be drawn and sent: without control characters (lines stay lines), of bounded length.

    The rule is the first part of the key.
    """
    lines = text.split("\n") if isinstance(text, str) else list(text)
    clean = "\n".join(plain(line, 500) for line in lines if line.strip())
    return Alert(
        key=plain(key, 300),
        rule=key.partition("/")[0],
        severity=severity,
        title=plain(title, TITLE_CHARS),
        t=round(t, 3),
        text=clean if len(clean) <= TEXT_CHARS else clean[: TEXT_CHARS - 1] + "…",
        run=run,
        host=host,
        recovered=recovered,
    )


def wanted(alert: Alert, rules: Sequence[str], least: Severity) -> bool:
    """Whether somebody who asked for `rules` (globs; empty means all) of at least a severity wants this one.

    The end of a problem is wanted by whoever wanted its beginning, though it is itself only an info: nobody should be
    left believing that a host is still away.
    """
    if rules and not any(fnmatchcase(alert.rule, glob) for glob in rules):
        return False
    return alert.recovered or alert.severity.rank >= least.rank
