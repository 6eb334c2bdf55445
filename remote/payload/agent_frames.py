"""Frames between the deck and its agent: one line of JSON, followed by as many raw bytes as its `n` says.

Both directions are bounded. What leaves is queued and written as the pipe takes it, so that a slow link never holds up
the loop: answers to pings first, then answers and readings, then the bytes of mirrored files.
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

MAX_LINE = 64 << 10
MAX_BYTES = 1 << 20
PIECE = 64 << 10
URGENT, ANSWER, MIRROR = 0, 1, 2
"""Lanes, in the order in which they are written. Frames of one lane keep their order."""
CROWDED = 1 << 20
"""Answers waiting to be written beyond which nobody produces more than he must."""
FLOODED = 64 << 20
"""A client that asks and never reads is left."""

Frame = Dict[str, Any]


class Rubbish(Exception):
    """What arrived is no frame: there is nothing to resynchronise on, the agent ends."""


class Refused(Exception):
    """A request that cannot be done; becomes a `failed` frame."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


class FrameReader:
    """Frames from a stream of bytes cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Optional[Frame] = None

    def feed(self, data: bytes) -> List[Tuple[Frame, bytes]]:
        """The frames that are whole now. Raises Rubbish."""
        self._buffer += data
        found: List[Tuple[Frame, bytes]] = []
        while True:
            if self._head is None:
                end = self._buffer.find(b"\n", 0, MAX_LINE)
                if end < 0:
                    if len(self._buffer) >= MAX_LINE:
                        raise Rubbish("a line is longer than {} bytes".format(MAX_LINE))
                    return found
                self._head = _head(bytes(self._buffer[:end]))
                del self._buffer[: end + 1]
            size = self._head.get("n", 0)
            if len(self._buffer) < size:
                return found
            found.append((self._head, bytes(self._buffer[:size])))
            del self._buffer[:size]
            self._head = None


def _head(line: bytes) -> Frame:
    try:
        head = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Rubbish("a line is no JSON") from None
    if not isinstance(head, dict) or not isinstance(head.get("op"), str):
        raise Rubbish("a line is no object with an `op`")
    size = head.get("n", 0)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_BYTES:
        raise Rubbish("`n` is no size up to {}".format(MAX_BYTES))
    return head


def encode(frame: Frame, payload: Optional[bytes] = None) -> bytes:
    """One frame as bytes; `n` is added when there is a payload. Text that is no Unicode is replaced."""
    if payload is not None:
        frame = dict(frame, n=len(payload))
    line = json.dumps(frame, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    if len(line) >= MAX_LINE:
        raise ValueError("a frame `{}` of {} bytes".format(frame.get("op"), len(line)))
    return line + b"\n" + (payload or b"")


class Output:
    """What waits to be written to a descriptor that does not block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lanes: Tuple[Deque[bytes], ...] = (deque(), deque(), deque())
        self._sizes = [0, 0, 0]
        self._current = memoryview(b"")
        self.written = 0
        """Bytes the descriptor has taken so far."""

    def put(self, frame: Frame, payload: Optional[bytes] = None, lane: int = ANSWER) -> None:
        """Queue one frame."""
        self.put_bytes(encode(frame, payload), lane)

    def put_bytes(self, data: bytes, lane: int) -> None:
        """Queue bytes that are whole frames."""
        self._lanes[lane].append(data)
        self._sizes[lane] += len(data)

    def waiting(self, lane: int) -> int:
        """Bytes queued in a lane."""
        return self._sizes[lane]

    @property
    def crowded(self) -> bool:
        """Whether producers that can wait should."""
        return self._sizes[ANSWER] > CROWDED

    @property
    def flooded(self) -> bool:
        """Whether the client does not read what it asks for."""
        return sum(self._sizes) > FLOODED

    @property
    def empty(self) -> bool:
        """Whether everything was written."""
        return not self._current and not any(self._lanes)

    def flush(self) -> None:
        """Write what the descriptor takes now. Raises OSError when nobody reads any more."""
        while self._next():
            try:
                count = os.write(self._descriptor, self._current[: 4 * PIECE])
            except BlockingIOError:
                return
            self.written += count
            self._current = self._current[count:]

    def _next(self) -> bool:
        if self._current:
            return True
        for lane, queue in enumerate(self._lanes):
            if queue:
                data = queue.popleft()
                self._sizes[lane] -= len(data)
                if len(data) < PIECE:
                    data = self._joined(data, lane)
                self._current = memoryview(data)
                return True
        return False

    def _joined(self, data: bytes, lane: int) -> bytes:
        """Small frames of one lane leave in one write."""
        parts, size, queue = [data], len(data), self._lanes[lane]
        while queue and size + len(queue[0]) <= PIECE:
            part = queue.popleft()
            self._sizes[lane] -= len(part)
            size += len(part)
            parts.append(part)
        return b"".join(parts)
