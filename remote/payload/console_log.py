"""Where the trainer's output goes: `console.log`, byte for byte, and the last lines as plain text.

A full disk must never stop a training: `ConsoleLog.write` cannot fail. Bytes that do not fit are dropped and counted,
and a marker line says so where they are missing, as soon as there is room again.
"""

from __future__ import annotations

import os
import re
import time
from typing import Callable, List, Optional

RETRY_S = 0.5
"""After a failed write the disk is left alone for this long."""
TAIL_BYTES = 32768
TAIL_LINES = 20
LINE_LENGTH = 500

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|[PX^_][^\x1b]{0,4096}(?:\x1b\\)?"
    r"|[ -/]{0,4}[0-~])?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")


class ConsoleLog:
    """Appends raw bytes to a file and survives whatever the disk does.

    Parameters
    ----------
    path: created when missing, opened for appending; opened again later when that fails now.
    clock: seconds that never go back.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._descriptor: Optional[int] = None
        self._silent_until = float("-inf")
        self._reason = ""
        self.lost_bytes = 0
        """Bytes dropped since the last marker line."""

    def size(self) -> int:
        """Bytes in the file now; 0 when there is none."""
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def write(self, data: bytes) -> None:
        """Append `data`, or as much of it as fits. Never raises, never waits."""
        if self._clock() < self._silent_until:
            self.lost_bytes += len(data)
            return
        written = 0
        try:
            descriptor = self._open()
            if self.lost_bytes:
                self._confess(descriptor)
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError as error:
            self.lost_bytes += len(data) - written
            self._reason = error.strerror or str(error)
            self._silent_until = self._clock() + RETRY_S

    def close(self) -> None:
        """A last try to say what is missing, then close the file."""
        self._silent_until = float("-inf")
        if self.lost_bytes:
            self.write(b"")
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        return self._descriptor

    def _confess(self, descriptor: int) -> None:
        text = "\r\n[wavedeck: {} bytes of output are missing here: {}]\r\n".format(self.lost_bytes, self._reason)
        marker = text.encode()
        if os.write(descriptor, marker) < len(marker):
            raise OSError("no room for the marker line")
        self.lost_bytes = 0


class Tail:
    """Remembers the end of the output in bounded memory, whether or not the disk took it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data[-TAIL_BYTES:]
        if len(self._data) > 2 * TAIL_BYTES:
            del self._data[:-TAIL_BYTES]

    def lines(self) -> List[str]:
        """The last lines as a person would have seen them: no escapes, no control characters, bounded length."""
        text = bytes(self._data[-TAIL_BYTES:]).decode("utf-8", "replace")
        seen = [_visible(line) for line in text.split("\n")]
        kept = [line for line in seen if line.strip()][-TAIL_LINES:]
        return [line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…" for line in kept]


def _visible(line: str) -> str:
    """One line after its carriage returns: a progress bar keeps its last state only."""
    states = [_CONTROLS.sub("", _ESCAPES.sub("", state)).rstrip() for state in line.split("\r")]
    return next((state for state in reversed(states) if state), "").replace("\t", "    ")
