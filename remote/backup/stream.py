"""One large file, sent over a channel of the connection that is up, and hashed while it arrives.

rsync takes longer and more of both processors (docs/benchmarks.md): its bytes pass through four processes, and it finds
nothing to save in a checkpoint that was never here. rsync stays what moves everything else (see `fits`), and what moves
a file when a host cannot do this.

What has arrived is appended to the place where rsync leaves its parts, so each of the two goes on from what the other
has brought. The size of that part is the offset to go on from, whatever ended the try before; its bytes are hashed once
more first. Nothing in it is trusted: the sha256 of the whole decides, and what does not fit begins from zero.

What the digest vouches for is what was received and handed to the disk, every write whole, the size as it should be,
and an fsync of that very descriptor that went well. Reading the file back would ask the page cache, which proves
nothing more; `wavedeck ckpt verify` reads it later, when it may come from the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeGuard, runtime_checkable

import asyncssh

from ...engine.errors import WavedeckError
from ..provision.there import PAYLOAD, RemoteHost
from ..ssh.connection import ClientSession
from .arrival import SOURCE, Arrival, Sink
from .incoming import Incoming, Pace, Tell
from .there import SCRIPT, WORDS, Facts, Place
from .transfer import STALL_S, Cut, SourceGone, disk_full

STREAM_FROM = 4 << 20
"""Below it the time of starting anything is more than that of the bytes."""
WINDOW = 16 << 20
"""What may be on its way: 160 MB/s at a round trip of 100 ms."""
PACKET = 240 << 10
"""An SSH packet may have 256 KiB; each costs a handful of Python calls."""
_LEAST_WINDOW = 256 << 10
_HELD_MOST = 8 << 20
_HEAD_MOST = 64 << 10
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@runtime_checkable
class Channels(Protocol):
    """A host that gives a command a channel of its own."""

    async def channel(
        self, argv: Sequence[str], session: Callable[[], ClientSession], *, window: int, packet: int
    ) -> tuple[asyncssh.SSHClientChannel[bytes], ClientSession]: ...


class ChannelHost(RemoteHost, Channels, Protocol):
    """A host that files can be streamed from."""


class NoStream(WavedeckError):
    """The host's answer is none that a stream begins with; rsync may do."""


def fits(host: RemoteHost, name: str, found: Facts) -> TypeGuard[ChannelHost]:
    """Whether a file is streamed; the one place where that is decided.

    rsync is better at very many small files (one channel for all of them) and at holes (it does not send them); it
    alone pushes.
    """
    return found.size >= STREAM_FROM and not found.sparse and name != SOURCE and isinstance(host, Channels)


async def stream(host: ChannelHost, place: Place, found: Facts, arrival: Arrival, tell: Tell) -> str:
    """Bring a file that is as `found`; the sha256 of all that is here then, under its name in the staging folder.

    Raises
    ------
    Cut: the connection broke, or nothing came for a minute. SourceGone: the file is not there as it was.
    DiskFull: there is no room here. NoStream: the host does not answer as it should. WavedeckError: this disk fails.
    """
    sink = Sink(arrival, found)
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1, "arriving")
    try:
        offset = await loop.run_in_executor(pool, sink.begin)
        if offset < found.size:
            await _Receiver(host, place, found, arrival, tell).receive(offset, sink, pool)
        return await loop.run_in_executor(pool, sink.finish)
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full("this machine") from error
        raise WavedeckError(
            f"{arrival.name} cannot be written here ({error.strerror}): see whether that disk can be written."
        ) from error
    finally:
        sink.give_up()
        # Behind whatever it still does: the lock is kept until nothing writes any more.
        pool.submit(sink.close)
        pool.shutdown(wait=False)


class _Receiver:
    """One channel, from its first byte to its last."""

    def __init__(self, host: ChannelHost, place: Place, found: Facts, arrival: Arrival, tell: Tell) -> None:
        self._host = host
        self._place = place
        self._found = found
        self._limit = arrival.limit_kib_s * 1024 if arrival.limit_kib_s else None
        self._tell = tell

    async def receive(self, offset: int, sink: Sink, pool: ThreadPoolExecutor) -> None:
        """Everything from `offset` on goes to `sink`, in order, also what came before a cut."""
        code = (PAYLOAD / SCRIPT).read_bytes()
        token = secrets.token_hex(16)
        request = {
            "op": "send", "base": self._place.base, "name": self._place.name, "offset": offset,
            "size": self._found.size, "mtime_ns": self._found.mtime_ns, "token": token, "host": self._host.name,
        }  # fmt: skip
        boot = f'import sys;exec(compile(sys.stdin.buffer.read({len(code)}),"{SCRIPT}","exec"))'
        window = WINDOW if self._limit is None else min(WINDOW, max(_LEAST_WINDOW, self._limit // 4))  # no gusts
        argv = [self._host.python, "-I", "-c", boot]
        channel, incoming = await self._host.channel(
            argv, lambda: Incoming(min(_HELD_MOST, window)), window=window, packet=PACKET
        )
        try:
            channel.write(code + json.dumps(request).encode() + b"\n")
            first = await self._head(incoming, token.encode())
            await self._body(incoming, first, offset, sink, pool)
            with contextlib.suppress(OSError):
                channel.write_eof()  # the helper has waited for it
        finally:
            channel.close()

    async def _head(self, incoming: Incoming, token: bytes) -> bytes:
        """Pass over what a login shell may print, up to the helper's first line; what of the file came with it."""
        said = b""
        while True:
            pieces = await self._more(incoming)
            said += b"".join(pieces)
            _, mark, after = said.partition(token + b" ")
            answer, end, rest = after.partition(b"\n")
            if mark and end:
                break
            if not pieces or len(said) > _HEAD_MOST:
                raise NoStream(f"{self._host.name} cannot stream files.")
        why = _answer(answer)
        if why is not None:
            raise SourceGone(f"{self._place.file} {WORDS.get(why, WORDS['unreadable'])}.")
        return rest

    async def _body(self, incoming: Incoming, first: bytes, offset: int, sink: Sink, pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(self._limit, offset, self._tell)
        left = self._found.size - offset
        pieces = [first] if first else await self._more(incoming)
        while pieces:
            count = sum(map(len, pieces))
            if count > left:
                raise NoStream(f"{self._host.name} has sent more of {self._place.file} than there is.")
            left -= count
            await loop.run_in_executor(pool, sink.put, pieces)  # more arrives meanwhile
            if not left:
                return
            await pace.on(count)
            pieces = await self._more(incoming)
        raise SourceGone(f"{self._place.file} became shorter there while it was read.")

    async def _more(self, incoming: Incoming) -> list[bytes]:
        """What has arrived since; nothing when the command has ended by itself. A cut is told behind the last bytes."""
        name = self._host.name
        try:
            async with asyncio.timeout(STALL_S):
                pieces = await incoming.take()
        except TimeoutError as error:
            raise Cut(name, f"nothing has arrived from {name} for a while: it is tried again.") from error
        if not pieces and incoming.status is None:
            raise Cut(name, f"the connection to {name} broke while files were copied.")
        return pieces


def _answer(line: bytes) -> str | None:
    """Why the file does not come; None when it does."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "unreadable"
    if not isinstance(found, dict):
        return "unreadable"
    why = found.get("why")
    return None if why is None else str(why)
