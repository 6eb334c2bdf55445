"""What comes over a channel: held until it is taken, no more of it than is bounded, and no faster than is allowed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import asyncssh

_GATHER, _GATHER_S = 1 << 20, 0.005
"""Less than this is not worth a write of its own: a moment is waited for more."""
_TELL_S = 0.25
_RATE_S = 3.0

Tell = Callable[[int, float], None]
"""Is told how many bytes are here, and bytes per second."""


class Incoming(asyncssh.SSHClientSession[bytes]):
    """Keeps what arrives, as it arrives, until it is taken; when that is much, the host is let wait."""

    def __init__(self, held_most: int) -> None:
        self._held_most = held_most
        self.status: int | None = None
        """How the command ended by itself."""
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._pieces: list[bytes] = []
        self._count = 0
        self._change = asyncio.Event()
        self._ended = False

    async def take(self) -> list[bytes]:
        """All that has come, waiting for some; nothing when no more will come."""
        await self._change.wait()
        if self._count < _GATHER and not self._ended:
            await asyncio.sleep(_GATHER_S)
        pieces, self._pieces, self._count = self._pieces, [], 0
        if not self._ended:
            self._change.clear()
        if self._channel is not None:
            self._channel.resume_reading()
        return pieces

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """The next piece; what the command says on standard error is nobody's business."""
        if datatype is None:
            self._pieces.append(data)
            self._count += len(data)
            if self._count >= self._held_most and self._channel is not None:
                self._channel.pause_reading()
            self._change.set()

    def exit_status_received(self, status: int) -> None:
        """It ended."""
        self.status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """It was killed there; the connection is up."""
        self.status = -1

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed, for whatever reason. Its end of file alone is not the end: the status comes later."""
        self._channel = None
        self._ended = True
        self._change.set()


class Pace:
    """Keeps to a limit, and tells how fast it goes."""

    def __init__(self, limit: int | None, done: int, tell: Tell) -> None:
        self._limit = limit
        self._tell = tell
        self._done = done
        self._told = 0.0
        self._free = time.monotonic()
        """When everything so far may have come."""
        self._marks: deque[tuple[float, int]] = deque([(self._free, done)])

    async def on(self, count: int) -> None:
        """So many bytes came; returns when more may."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            self._marks.append((now, self._done))
            while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_S:
                self._marks.popleft()
            since, before = self._marks[0]
            self._tell(self._done, (self._done - before) / max(now - since, 0.001))
        if self._limit is not None:
            self._free = max(self._free, now - 1.0) + count / self._limit
            if self._free > now:
                await asyncio.sleep(self._free - now)
