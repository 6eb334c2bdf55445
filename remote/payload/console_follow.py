"""Follows `console.log` while it grows and turns what it recognises into event lines, with bounded work.

A trainer may print a hundred megabytes a minute. Parsing then gets a fixed share of each turn, and when it falls too
far behind it skips to the end and says how much it left out: fresh numbers beat complete ones; `console.log` has all.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional

CHUNK = 32768
TURN_S = 0.04
"""CPU a turn may take; with ten turns a second at most two fifths of a core, and only under a flood."""
BEHIND_BYTES = 8 << 20
KEEP_BYTES = 1 << 18


class Follower:
    """Feeds the growth of one file to a parser.

    Parameters
    ----------
    offset: where this attempt's output begins.
    parser: has `feed(data, t) -> list of events` and `close(t) -> list of events`.
    """

    def __init__(self, path: str, offset: int, parser: Any) -> None:
        self._path = path
        self._offset = offset
        self._parser = parser
        self._handle: Optional[Any] = None
        self._align = False

    def turn(self, limit_s: float = TURN_S) -> List[Dict[str, Any]]:
        """Events of what was written since the last turn, or of as much of it as fits into `limit_s`."""
        events: List[Dict[str, Any]] = []
        size = self._size()
        if size < self._offset:
            self._offset = 0
        if size - self._offset > BEHIND_BYTES:
            events += self._skip(size)
        deadline = time.monotonic() + limit_s
        while self._offset < size and time.monotonic() < deadline:
            data = self._read(min(CHUNK, size - self._offset))
            if not data:
                break
            events += self._parser.feed(self._from_line_start(data), time.time())
        return events

    def close(self, limit_s: float) -> List[Dict[str, Any]]:
        """Events of the rest, for at most `limit_s`, and of a last line that never ended."""
        events = self.turn(limit_s)
        events += self._parser.close(time.time())
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        return events

    def _size(self) -> int:
        try:
            if self._handle is None:
                self._handle = open(self._path, "rb", buffering=0)
            return os.fstat(self._handle.fileno()).st_size
        except OSError:
            return self._offset

    def _read(self, count: int) -> bytes:
        try:
            data = os.pread(self._handle.fileno(), count, self._offset) if self._handle else b""
        except OSError:
            return b""
        self._offset += len(data)
        return data

    def _skip(self, size: int) -> List[Dict[str, Any]]:
        """Leave out what there is no time for; the line that is cut by it is dropped as well."""
        left_out = size - KEEP_BYTES - self._offset
        self._offset = size - KEEP_BYTES
        events = self._parser.feed(b"\n", time.time())
        self._align = True
        text = "{} bytes of console output came too fast to be parsed; console.log has them.".format(left_out)
        return [*events, {"t": time.time(), "k": "log", "level": "warning", "text": text}]

    def _from_line_start(self, data: bytes) -> bytes:
        if not self._align:
            return data
        ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
        self._align = not ends
        return data[min(ends) + 1 :] if ends else b""
