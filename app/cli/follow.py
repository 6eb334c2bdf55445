"""Printing a console that is still being written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .common import say

if TYPE_CHECKING:
    from ...engine.catalog import Catalog
    from ...engine.rundir import RunDir

POLL_S = 0.1
BLOCK = 256 * 1024
MOST_COUNTED = 64 * 1024 * 1024
"""Bytes in which lines are counted that are not printed."""
PIECE = 16 * 1024
"""Fed at once: it cannot hold more lines than the log keeps."""


def follow_console(
    runs: Catalog, run: RunDir, *, follow: bool, lines: int, raw: bool, tell: Callable[[], None] = lambda: None
) -> None:
    """Write the run's console to stdout; with `follow`, until the run has ended and every byte is out.

    `tell` is called while waiting: it narrates what becomes of the run's host.
    """
    _say_what_is_cut(run, lines)
    printer = _RawPrinter(run, lines) if raw else _LinePrinter(run, lines)
    ended = False
    while True:
        printed = printer.pump(final=not follow or ended)
        if not follow or ended:
            break
        if not printed:
            ended = not runs.view(run).state.active
            tell()
            if not ended:
                time.sleep(POLL_S)
    sys.stdout.flush()


class _RawPrinter:
    """Bytes as they are."""

    def __init__(self, run: RunDir, lines: int) -> None:
        self._path = run.console
        self._offset = _tail_offset(run, lines)

    def pump(self, final: bool) -> bool:
        printed = False
        while data := _read(self._path, self._offset):
            sys.stdout.buffer.write(data)
            self._offset += len(data)
            printed = True
        sys.stdout.flush()
        return printed


class _LinePrinter:
    """Lines as a terminal would have left them: a progress bar is its last state."""

    def __init__(self, run: RunDir, lines: int) -> None:
        from ...engine.console import TerminalLog

        self._path = run.console
        self._offset = _tail_offset(run, lines)
        self._log = TerminalLog()
        self._printed = 0

    def pump(self, final: bool) -> bool:
        before = self._offset
        while data := _read(self._path, self._offset):
            self._offset += len(data)
            for start in range(0, len(data), PIECE):
                self._log.feed(data[start : start + PIECE])
                self._write(settled=True)
        if final:
            self._write(settled=False)
        sys.stdout.flush()
        return self._offset > before

    def _write(self, settled: bool) -> None:
        """Print what is new; the lines a cursor may still reach (a bar being redrawn) wait unless this is the end."""
        first, texts = self._log.plain_lines(self._printed)
        keep = len(texts) - (self._log.height_in_motion if settled else 0)
        for text in texts[: max(0, keep)]:
            sys.stdout.write(text + "\n")
        self._printed = first + max(0, keep)


def _read(path: object, offset: int) -> bytes:
    try:
        with open(path, "rb") as handle:  # type: ignore[call-overload]
            handle.seek(offset)
            data: bytes = handle.read(BLOCK)
            return data
    except FileNotFoundError:
        return b""


def _say_what_is_cut(run: RunDir, lines: int) -> None:
    """How many lines come before those that are printed, on stderr, and how to see them; nothing where none do."""
    start = _tail_offset(run, lines)
    if not start:
        return
    earlier, position = 0, 0
    with open(run.console, "rb") as handle:
        while position < min(start, MOST_COUNTED):
            data = handle.read(min(BLOCK, start - position))
            if not data:
                break
            position += len(data)
            earlier += data.count(b"\n")
    more = position < start
    ask = "--lines 0 prints all" if more else f"--lines {lines + earlier}"
    word = "line" if earlier == 1 else "lines"
    say(f"{'more than ' if more else ''}{earlier:,} earlier {word}: {ask}")


def _tail_offset(run: RunDir, lines: int) -> int:
    """Where the last `lines` lines begin; 0 lines mean the whole file. Reads backwards, at most 8 MiB."""
    try:
        size = run.console.stat().st_size
    except OSError:
        return 0
    if lines == 0:
        return 0
    with open(run.console, "rb") as handle:
        position, found = size, 0
        while position > 0 and size - position < 8 * 1024 * 1024:
            block = min(BLOCK, position)
            position -= block
            handle.seek(position)
            data = handle.read(block)
            end = len(data) - 1 if position + block == size else len(data)
            while (newline := data.rfind(b"\n", 0, end)) >= 0:
                found += 1
                if found == lines:
                    return position + newline + 1
                end = newline
    return position
