"""One connection to a host, through as many others as it takes.

asyncssh reports a command whose connection broke as one that ended without a status; here that is always `HostLost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import asyncssh

from ...engine.rundir import Home
from ..host import CommandTimeout, Completed, HostLost, LinkDown, OutputTooLarge
from .keys import Secrets
from .login import Context, LoggedIn, Pulse, log_in
from .questions import Asker
from .target import Target

__all__ = ["Connection", "Pty", "Pulse", "connect"]

ClientSession = TypeVar("ClientSession", bound="asyncssh.SSHClientSession[bytes]")

OPEN_TIMEOUT_S = 15.0
OUTPUT_BYTES = 16 << 20
_CLOSE_S = 2.0
_PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Pty:
    """A terminal to run a command in."""

    term: str
    columns: int
    rows: int


class Connection:
    """A connection that is up, or was: `closed` says which, `why` says why not. It is never mended: make a new one."""

    def __init__(self, name: str, target: Target, hops: list[tuple[asyncssh.SSHClientConnection, LoggedIn]]) -> None:
        self.name = name
        self.target = target
        self.raw, self._client = hops[-1]
        self._hops = hops

    @property
    def closed(self) -> asyncio.Event:
        """Set when the connection has ended, for whatever reason."""
        return self._client.closed

    @property
    def why(self) -> str | None:
        """Why it ended, as words after a colon; None while it is up."""
        if not self.closed.is_set():
            return None
        for _, client in self._hops[:-1]:
            if client.closed.is_set() and client.why != _BY_US:
                return f"{client.target.place} on the way to it is gone: {client.why}"
        return self._client.why

    @property
    def latency(self) -> float | None:
        """Seconds it took to open the line: about one round trip, measured once."""
        return self._client.opened

    async def open(
        self, command: str, *, pty: Pty | None = None, window: int = 2 << 20
    ) -> asyncssh.SSHClientProcess[bytes]:
        """Start a command (a line for the login shell there) on a channel of its own; its streams carry bytes.

        Raises
        ------
        HostLost: the connection is gone. LinkDown: the host opens no channel.
        """
        terminal: dict[str, Any] = {"request_pty": False}
        if pty is not None:
            terminal = {"request_pty": "force", "term_type": pty.term, "term_size": (pty.columns, pty.rows)}
        async with self._opening(command):
            return await self.raw.create_process(command, encoding=None, window=window, **terminal)

    async def open_session(
        self, command: str, session: Callable[[], ClientSession], *, window: int, packet: int
    ) -> tuple[asyncssh.SSHClientChannel[bytes], ClientSession]:
        """As `open`, for much data: each piece is handed to a session of ours as it comes.

        Parameters
        ----------
        window: how many bytes may be on their way here. packet: how many of them come at once at most.

        Raises
        ------
        As `open`.
        """
        async with self._opening(command):
            channel, made = await self.raw.create_session(
                session, command, encoding=None, request_pty=False, window=window, max_pktsize=packet
            )
            return channel, cast(ClientSession, made)

    @contextlib.asynccontextmanager
    async def _opening(self, command: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                yield
        except asyncssh.ChannelOpenError as error:
            if self.closed.is_set() or self.raw.is_closed():
                raise self._lost(command) from error
            raise LinkDown(
                self.name, f"{self.name} opens no further channel ({error.reason}): are there too many sessions on it?"
            ) from error
        except TimeoutError as error:
            raise LinkDown(self.name, f"{self.name} did not start a command within {OPEN_TIMEOUT_S:g} s.") from error
        except (asyncssh.Error, OSError) as error:
            raise self._lost(command) from error

    async def run(self, command: str, timeout_s: float, stdin: bytes = b"", limit: int = OUTPUT_BYTES) -> Completed:
        """Run a command to its end, and never take a broken connection for one.

        Meant for what is asked before the agent is there. A command that is given up here may go on there: a channel
        signal does not reach it on every host.

        Raises
        ------
        HostLost: the connection broke, and whether the command ran to its end is not known. CommandTimeout,
        OutputTooLarge: it was given up. LinkDown: the host opens no channel.
        """
        argv = _argv(command)
        process = None
        work: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.timeout(timeout_s):
                process = await self.open(command)
                room = _Room(limit)
                work = [
                    asyncio.create_task(_drain(process.stdout, room)),
                    asyncio.create_task(_drain(process.stderr, room)),
                    asyncio.create_task(_feed(process, stdin)),
                ]
                out, err, _ = await asyncio.gather(*work)
                await process.wait_closed()
        except _Full as error:
            raise OutputTooLarge(self.name, argv, limit) from error
        except TimeoutError as error:
            raise CommandTimeout(self.name, argv, timeout_s) from error
        except (asyncssh.Error, OSError) as error:
            raise self._lost(command) from error
        finally:
            for task in work:
                task.cancel()
            if process is not None:
                process.close()
        if process.exit_status is None:
            raise self._lost(command)
        return Completed(self.name, argv, process.returncode or 0, out, err)

    async def close(self) -> None:
        """End the connection and those on the way; after two seconds without its consent."""
        for raw, client in reversed(self._hops):
            client.why = client.why or _BY_US
            raw.close()
            with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
                async with asyncio.timeout(_CLOSE_S):
                    await raw.wait_closed()
            raw.abort()

    def abort(self) -> None:
        """End the connection now; nothing is said to the host."""
        for raw, client in reversed(self._hops):
            client.why = client.why or _BY_US
            raw.abort()

    def _lost(self, command: str) -> HostLost:
        return HostLost(self.name, _argv(command)[:1], self.why or "the connection was lost")


_BY_US = "the connection was closed from here"


async def connect(
    name: str,
    target: Target,
    home: Home,
    asker: Asker,
    secrets: Secrets,
    pulse: Pulse = Pulse(),  # noqa: B008  frozen
) -> Connection:
    """Log in to a host, hop by hop, each with the same checks.

    `name` is what users call the host. `asker` is asked about keys that were never seen, passphrases and passwords;
    what it answers stays in `secrets`.

    Raises
    ------
    HostKeyUnknown, HostKeyChanged, AccessRefused, LinkDown: with one sentence that says what to do.
    """
    context = Context(name, home, asker, secrets, pulse)
    hops: list[tuple[asyncssh.SSHClientConnection, LoggedIn]] = []
    try:
        for hop in (*target.jump, target):
            via, label = (hops[-1][0], hops[-1][1].target.place) if hops else (None, None)
            hops.append(await log_in(context, hop, via, label))
    except BaseException:
        for raw, client in reversed(hops):
            client.why = _BY_US
            raw.abort()
        raise
    return Connection(name, target, hops)


class _Full(Exception):
    """More was printed than was allowed."""


class _Room:
    """How many bytes may still come, standard output and error together."""

    def __init__(self, left: int) -> None:
        self.left = left


async def _drain(reader: asyncssh.SSHReader[bytes], room: _Room) -> bytes:
    pieces: list[bytes] = []
    while piece := await reader.read(_PIECE):
        room.left -= len(piece)
        if room.left < 0:
            raise _Full
        pieces.append(piece)
    return b"".join(pieces)


async def _feed(process: asyncssh.SSHClientProcess[bytes], data: bytes) -> None:
    # A command may end without reading its input; its status tells whether that is a failure.
    with contextlib.suppress(OSError, asyncssh.Error):
        for start in range(0, len(data), _PIECE):
            process.stdin.write(data[start : start + _PIECE])
            await process.stdin.drain()
        process.stdin.write_eof()


def _argv(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command)) or (command,)
    except ValueError:
        return (command,)
