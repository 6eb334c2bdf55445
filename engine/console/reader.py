"""Follows a `console.log` of any size: its end first, then what is appended, always within a budget.

A program that prints faster than the deck can draw is not chased: the reader skips ahead and says how much it left out.
Searching goes backwards through the whole file, a bounded stretch a call.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ..format import size as size_text
from .lines import ConsolePicture, plain
from .terminal import TerminalLog

TAIL_BYTES = 256 * 1024
"""What is read of a file that exists already, and what is kept of a flood."""
POLL_BYTES = 256 * 1024
POLL_S = 0.02
"""A poll is bounded twice; ten a second take a fifth of a core at most, and that only under a flood."""
BEHIND_BYTES = 1024 * 1024
SEARCH_BYTES = 8 * 1024 * 1024
_BLOCK = 1024 * 1024
_SEAM = 64
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Match:
    """Where a search has come to.

    Attributes
    ----------
    offset: byte where the match begins, or None when nothing was found in what was searched.
    searched_to: the file was searched from here up; 0 means to its beginning. Go on with `before_offset=searched_to`.
    line: text of the line that matches.
    """

    offset: int | None
    searched_to: int
    line: str = ""


class ConsoleReader:
    """Parameters
    ----------
    rows: height of the program's terminal, when it is known.
    """

    def __init__(self, path: Path, *, max_lines: int = 20_000, rows: int = 40, tail_bytes: int = TAIL_BYTES) -> None:
        self._path = path
        self._max_lines, self._rows, self._tail_bytes = max_lines, rows, tail_bytes
        self._log = TerminalLog(max_lines, rows)
        self._identity: tuple[int, int] | None = None
        self._modified_ns = 0
        self._offset = self._start = self._size = 0
        self._seam = b""

    @property
    def more(self) -> bool:
        """Whether the last poll ended by its budget."""
        return self._offset < self._size

    def poll(self, budget: int = POLL_BYTES, limit_s: float = POLL_S) -> bool:
        """Read what is new, at most `budget` bytes, for about `limit_s`; True when the picture changed.

        Raises OSError for anything but absence.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._vanished()
        try:
            facts = os.fstat(descriptor)
            identity = (facts.st_dev, facts.st_ino)
            if self._identity is None:
                self._begin(descriptor, identity, facts.st_size)
            elif self._replaced(descriptor, identity, facts):
                self._log.note("— the console was replaced; what follows is new —")
                self._begin(descriptor, identity, facts.st_size)
            self._modified_ns = facts.st_mtime_ns
            return self._advance(descriptor, facts.st_size, budget, time.monotonic() + limit_s)
        finally:
            os.close(descriptor)

    def picture(self) -> ConsolePicture:
        """The lines kept, and where they lie in the file."""
        return replace(self._log.picture(), missing=self._identity is None, earlier_bytes=self._start, size=self._size)

    def find(self, pattern: str, before_offset: int | None = None, limit_bytes: int = SEARCH_BYTES) -> Match:
        """The last match that begins before `before_offset` (default: the end), searching `limit_bytes` backwards.

        Plain text; case counts only when it holds a capital. Raises OSError.
        """
        expression = search_expression(pattern)
        with open(self._path, "rb") as handle:
            end = handle.seek(0, os.SEEK_END) if before_offset is None else before_offset
            overlap = max(0, len(pattern.encode()) - 1)
            floor = max(0, end - limit_bytes)
            upper = end
            while upper > floor:
                lower = max(floor, upper - _BLOCK)
                handle.seek(lower)
                block = handle.read(upper + overlap - lower)
                places = [match.start() for match in expression.finditer(block) if lower + match.start() < upper]
                if places:
                    offset = lower + places[-1]
                    return Match(offset, offset, self._line_at(handle.fileno(), offset))
                upper = lower
        return Match(None, floor)

    def window(self, offset: int, span: int = TAIL_BYTES) -> ConsolePicture:
        """The lines around a byte, for looking at a match far back in the file. Raises OSError."""
        with open(self._path, "rb") as handle:
            start = max(0, offset - span // 2)
            handle.seek(start)
            data = handle.read(span)
            size = handle.seek(0, os.SEEK_END)
        skipped = _line_start(data) if start else 0
        log = TerminalLog(self._max_lines, self._rows)
        log.feed(data[skipped:])
        return replace(log.picture(), earlier_bytes=start + skipped, size=size)

    # --- following

    def _vanished(self) -> bool:
        if self._identity is None:
            return False
        self._log.note("— the console is gone —")
        self._identity, self._seam, self._size, self._offset = None, b"", 0, 0
        return True

    def _begin(self, descriptor: int, identity: tuple[int, int], size: int) -> None:
        """Start with the end of the file, at the beginning of a line."""
        self._identity, self._size, self._seam = identity, size, b""
        self._start = self._offset = self._place_near(descriptor, size - self._tail_bytes)

    def _replaced(self, descriptor: int, identity: tuple[int, int], facts: os.stat_result) -> bool:
        """Another file, a shorter one, or one whose bytes before our place have changed."""
        if identity != self._identity or facts.st_size < self._offset:
            return True
        if facts.st_size == self._size and facts.st_mtime_ns == self._modified_ns:
            return False
        return os.pread(descriptor, len(self._seam), self._offset - len(self._seam)) != self._seam

    def _advance(self, descriptor: int, size: int, budget: int, deadline: float) -> bool:
        self._size = size
        changed = False
        if size - self._offset > max(BEHIND_BYTES, self._tail_bytes):
            place = self._place_near(descriptor, size - self._tail_bytes)
            self._log.note(f"… {size_text(place - self._offset)} skipped …")
            self._offset = place
            changed = True
        while budget > 0 and self._offset < size:
            data = os.pread(descriptor, min(budget, _LONGEST_LINE, size - self._offset), self._offset)
            if not data:
                break
            self._log.feed(data)
            self._offset += len(data)
            self._seam = (self._seam + data)[-_SEAM:]
            budget -= len(data)
            changed = True
            if time.monotonic() > deadline:
                break
        return changed

    def _place_near(self, descriptor: int, place: int) -> int:
        """The first beginning of a line at or after `place`; `place` itself when there is none near."""
        if place <= 0:
            return 0
        place += _line_start(os.pread(descriptor, _LONGEST_LINE, place))
        self._seam = os.pread(descriptor, _SEAM, max(0, place - _SEAM))[-min(_SEAM, place) :]
        return place

    def _line_at(self, descriptor: int, offset: int) -> str:
        """The text of the line that holds a byte, as a terminal shows it."""
        start = max(0, offset - 4096)
        before = os.pread(descriptor, offset - start, start)
        start += max(before.rfind(b"\n"), before.rfind(b"\r")) + 1
        log = TerminalLog(8, self._rows)
        log.feed(re.split(rb"[\r\n]", os.pread(descriptor, 8192, start), maxsplit=1)[0])
        lines = log.picture().lines
        return plain(lines[0]) if lines else ""


def search_expression(pattern: str) -> re.Pattern[bytes]:
    """Plain text as a regex that finds where it begins, in either case unless the pattern holds a capital."""
    flags = 0 if any(char.isupper() for char in pattern) else re.IGNORECASE
    return re.compile(b"(?=" + re.escape(pattern.encode()) + b")", flags)


def _line_start(data: bytes) -> int:
    """Where the first whole line begins; 0 when no line ends here."""
    return data.find(b"\n") + 1
