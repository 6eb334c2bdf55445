"""A TCP line that can be slow, narrow, dead or cut, between a client and a real server. Runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine

_PIECE = 16384


class Proxy:
    """Forwards connections from `port` to `upstream`. A context manager; its controls work from any thread.

    `delay_ms` is added one way, to each direction; `rate` bounds each direction in bytes a second (None: no bound).
    `stall()` swallows everything and closes nothing, as a laptop that went through a tunnel; new connections are
    accepted and stay silent. `cut()` resets every connection now; `refuse()` closes the listener until `accept()`.
    """

    def __init__(self, upstream: tuple[str, int], port: int = 0) -> None:
        self.upstream = upstream
        self.port = port
        self.delay_ms = 0.0
        self.rate: float | None = None
        self.forwarded = 0
        """Bytes that passed, both directions."""
        self._stalled = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._writers) // 2

    def stall(self) -> None:
        """Swallow every byte from now on, without an end or a reset: the line is half open."""
        self._stalled = True

    def resume(self) -> None:
        """Let bytes pass again; what was swallowed is gone."""
        self._stalled = False

    def cut(self) -> None:
        """Reset all connections, both ways, now."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Reset all connections and listen no more."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._call(self._listen())

    def _call(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)
        for task in list(self._tasks):
            task.cancel()

    async def _end(self) -> None:
        await self._refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection(*self.upstream)
            self._writers.add(there)
            await asyncio.gather(self._pass_on(reader, there), self._pass_on(answers, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, there):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: a reader that stamps each piece and a writer that lets it go when its time has come."""
        pieces: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(256)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, pieces))
            group.create_task(self._give(pieces, writer))

    async def _take(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        free = 0.0
        while data := await reader.read(_PIECE):
            now = time.monotonic()
            due = now + self.delay_ms / 1000
            if self.rate:
                free = max(free, now) + len(data) / self.rate
                due = max(due, free)
            if not self._stalled:
                await pieces.put((due, data))
        if self._stalled:
            await asyncio.Event().wait()  # a dead line carries no end either
        await pieces.put(None)

    async def _give(self, pieces: asyncio.Queue[tuple[float, bytes] | None], writer: asyncio.StreamWriter) -> None:
        while (piece := await pieces.get()) is not None:
            due, data = piece
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self._stalled:
                continue
            writer.write(data)
            self.forwarded += len(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
