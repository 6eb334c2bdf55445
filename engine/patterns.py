"""The user's own console patterns: regular expressions whose named groups are metrics."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from .errors import UsageError
from .rundir import Home

PATTERNS_FILE = "patterns.toml"


def load_patterns(home: Home, path: Path | None = None) -> list[str]:
    """The user's own console patterns: `patterns = ['loss is (?P<loss>\\S+)', …]` in a TOML file.

    Without `path`, `$WAVEDECK_HOME/patterns.toml` where it exists.

    Raises
    ------
    UsageError: the file cannot be read, is no TOML, or holds no list of regular expressions with named groups.
    """
    chosen = path or home.root / PATTERNS_FILE
    if path is None and not chosen.exists():
        return []
    try:
        table = tomllib.loads(chosen.read_text())
    except OSError as error:
        raise UsageError(f"{chosen} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{chosen} is no TOML: {error}.") from error
    patterns = table.get("patterns")
    if not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns):
        raise UsageError(f"{chosen} needs a line `patterns = ['…', '…']` with regular expressions.")
    check_patterns(patterns)
    return patterns


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse what is no regular expression or names no group: a group's name is the metric's name."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"pattern {pattern!r} is no regular expression: {error}.") from error
        if not compiled.groupindex:
            raise UsageError(f"pattern {pattern!r} names no group: write (?P<loss>…) around the number.")
