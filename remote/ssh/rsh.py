"""A remote shell for rsync on a connection that is up already: no second login, no second question, the same checks.

rsync starts a small script (`rsh_client`) where it would start `ssh`; the script talks to a unix socket in a directory
that only this user can enter, and each such process gets a channel of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh

from ..host import LinkDown
from . import rsh_client
from .connection import Connection
from .rsh_client import ERR, EXIT, FAILED, HEAD, OUT

_PIECE = 256 << 10
_LONGEST_COMMAND = 256 << 10
_WINDOW = 8 << 20
"""Bytes in flight: what a channel may carry per round trip."""


@contextlib.asynccontextmanager
async def rsh(connection: Connection) -> AsyncIterator[tuple[str, ...]]:
    """The words for `rsync -e` (join them with `shlex.join`), for as long as the context lasts.

    Whatever still runs at its end is cut off.
    """
    place = Path(tempfile.mkdtemp(prefix="wavedeck-rsh-"))  # 0700
    path = place / "socket"
    work: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        work.add(task)
        try:
            await _Relay(connection, reader, writer).run()
        finally:
            work.discard(task)

    try:
        server = await asyncio.start_unix_server(serve, path, limit=_LONGEST_COMMAND)
        try:
            yield (sys.executable, "-I", str(Path(rsh_client.__file__).resolve()), str(path))
        finally:
            server.close()
            for task in list(work):
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Relay:
    """One rsync process and its channel."""

    def __init__(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """From the command to its exit status. It ends as well when the rsync here does."""
        process = None
        try:
            line = json.loads(await self._reader.readuntil(b"\n"))
            # As ssh does it: rsync has quoted the words for the shell over there.
            command = " ".join(line["command"])
            process = await self._connection.open(command, window=_WINDOW)
            await self._relay(process)
        except LinkDown as error:
            await self._fail(str(error))
        except (asyncssh.Error, OSError):
            await self._fail(self._gone())
        except (ValueError, TypeError, KeyError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # not our script, or it was killed before it said anything
        finally:
            if process is not None:
                process.close()
            self._writer.close()

    async def _relay(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        upward = asyncio.create_task(self._up(process))
        downward = [
            asyncio.create_task(self._down(process.stdout, OUT)),
            asyncio.create_task(self._down(process.stderr, ERR)),
        ]
        try:
            await asyncio.gather(*downward)
            await process.wait_closed()
        finally:
            for task in (upward, *downward):
                task.cancel()
            await asyncio.gather(upward, *downward, return_exceptions=True)
        status = process.returncode
        if process.exit_status is None or status is None:
            await self._fail(self._gone())
            return
        await self._send(EXIT, b"", status if status >= 0 else 128 - status)

    async def _up(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await self._reader.read(_PIECE):
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.write_eof()

    async def _down(self, reader: asyncssh.SSHReader[bytes], kind: int) -> None:
        while data := await reader.read(_PIECE):
            await self._send(kind, data, len(data))

    def _gone(self) -> str:
        return f"{self._connection.name} is out of reach: {self._connection.why or 'the connection was lost'}"

    async def _fail(self, reason: str) -> None:
        with contextlib.suppress(OSError):
            text = f"wavedeck: {reason}\n".encode()
            await self._send(ERR, text, len(text))
            await self._send(EXIT, b"", FAILED)

    async def _send(self, kind: int, data: bytes, number: int) -> None:
        async with self._turn:
            self._writer.write(HEAD.pack(kind, number) + data)
            await self._writer.drain()
