"""Errors a user can act on, and the exit codes of every verb.

A `WavedeckError` is one sentence that says what is wrong and what to do next. Both front doors print it as it is;
anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What a verb's exit status means; scripts may rely on these numbers."""

    OK = 0
    """The verb did what was asked."""
    FAILED = 1
    """The verb could not do it; the sentence on stderr says why."""
    USAGE = 2
    """The command line was not understood: unknown run, field, option or value."""
    HOST_UNREACHABLE = 3
    """A host did not answer."""
    RUN_FAILED = 4
    """The verb worked, but the run it waited for failed."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C."""


class WavedeckError(Exception):
    """A failure with a sentence for the user."""

    exit_code = ExitCode.FAILED


class UsageError(WavedeckError):
    """What was asked for does not exist or is not allowed (unknown run, field, recipe; value out of range)."""

    exit_code = ExitCode.USAGE


class RunDirError(WavedeckError):
    """A run directory cannot be read: unreadable, half-written, foreign, or from a newer format."""


class HostUnreachable(WavedeckError):
    """A host did not answer in time."""

    exit_code = ExitCode.HOST_UNREACHABLE


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that look most like `word`, best first; empty when none is close."""
    return difflib.get_close_matches(word, list(dict.fromkeys(known)), n=count, cutoff=0.5)


def suggestion(word: str, known: Iterable[str]) -> str:
    """` Did you mean a, b or c?` with a leading blank, or an empty string when nothing is close."""
    names = nearest(word, known)
    if not names:
        return ""
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f" Did you mean {text}?"
