"""One rsync as a child process: names over standard input, progress as it comes, nothing of it left behind.

Names are never words of its command line, so none is an option, a pattern or a shell's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .host import last_line

END_S = 5.0
_RECORD = re.compile(rb"\s*(\d[\d,.]*)\s+(\d{1,3})%\s+(\d[\d,.]*)([kMGTP]?)B/s(?:\s|$)")
_RECORD_MOST = 400
_SCALE = {b"": 1.0, b"k": 1e3, b"M": 1e6, b"G": 1e9, b"T": 1e12, b"P": 1e15}
_STDERR_MOST = 64 << 10


@dataclass(frozen=True, slots=True)
class RsyncProgress:
    """What rsync last said of itself."""

    bytes: int
    total: int
    """Of the whole project; files the host has already are not sent."""
    percent: int
    rate: float
    """Bytes per second."""


class ProgressParser:
    """Reads the output of `--info=progress2 --outbuf=L --no-h` as it comes; what is no such record is passed over.

    Parameters
    ----------
    total: bytes of the whole project.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._rest = b""

    def feed(self, data: bytes) -> list[RsyncProgress]:
        """The records that `data` completes: they end with a carriage return or a line feed."""
        *records, self._rest = re.split(rb"[\r\n]", self._rest + data)
        self._rest = self._rest[-_RECORD_MOST:]
        return [found for record in records if (found := self._record(record)) is not None]

    def _record(self, record: bytes) -> RsyncProgress | None:
        match = _RECORD.match(record[:_RECORD_MOST])
        if match is None:
            return None
        try:
            sent, percent = int(re.sub(rb"[,.]", b"", match[1])), int(match[2])
            rate = float(match[3].replace(b",", b".")) * _SCALE[match[4]]
        except ValueError:
            return None
        return RsyncProgress(sent, self._total, min(percent, 100), rate)


async def run_rsync(
    argv: Sequence[str | bytes],
    names: Iterable[bytes],
    total: int,
    tell: Callable[[RsyncProgress], None],
    hold: int | None = None,
) -> tuple[int, bytes]:
    """Run it to its end: its exit status, and the end of what it said on standard error.

    Parameters
    ----------
    names: for `--files-from=- --from0`. total: bytes that are to move, for progress.
    hold: an open descriptor (of a lock) that lives as long as any process of it.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
        pass_fds=() if hold is None else (hold,),
    )
    said = bytearray()
    tasks = [
        asyncio.create_task(_write(process, b"".join(name + b"\0" for name in names))),
        asyncio.create_task(_read(process, ProgressParser(total), tell)),
        asyncio.create_task(_keep(process, said)),
    ]
    try:
        await asyncio.gather(*tasks)
        return await process.wait(), bytes(said)
    finally:
        for task in tasks:
            task.cancel()
        await _end(process)


def said_by_rsync(status: int, stderr: bytes) -> str:
    """The line that tells most, without rsync's own summary."""
    telling = [line for line in stderr.splitlines() if line.strip() and not line.startswith(b"rsync error:")]
    return last_line(telling[-1]) if telling else f"exit status {status}"


def shell_prints(host: str) -> str:
    """Why rsync cannot speak through the login shell of a host (exit status 2)."""
    return (
        f"the login shell of {host} prints something when a program logs in, which breaks rsync: make its .bashrc "
        "silent for shells that are not interactive."
    )


async def _write(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read(
    process: asyncio.subprocess.Process, parser: ProgressParser, tell: Callable[[RsyncProgress], None]
) -> None:
    assert process.stdout is not None
    while data := await process.stdout.read(1 << 16):
        for record in parser.feed(data)[-1:]:
            tell(record)


async def _keep(process: asyncio.subprocess.Process, said: bytearray) -> None:
    assert process.stderr is not None
    while data := await process.stderr.read(1 << 16):
        said += data
        del said[:-_STDERR_MOST]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave nothing of it behind. A polite signal first: it saves what has arrived for the next try."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
                return
