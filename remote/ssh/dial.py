"""The bare line to a host: a TCP connection, with every address tried and every wait bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from ..daemon import in_daemon_thread

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_PER_ADDRESS_S = 3.0
_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


async def dial(host: str, port: int, family: str, silence_s: float) -> socket.socket:
    """A connected socket whose unacknowledged data end it after `silence_s`.

    Raises
    ------
    socket.gaierror: there is no such name. OSError: no address answers; it is the last one's error.
    """
    addresses = await _look_up(host, port, _FAMILIES.get(family, socket.AF_UNSPEC))
    last: OSError | None = None
    for index, (kind, address) in enumerate(addresses):
        # One address that swallows everything must not use up the time of those after it.
        limit = _PER_ADDRESS_S if index + 1 < len(addresses) else None
        line = socket.socket(kind, socket.SOCK_STREAM)
        try:
            line.setblocking(False)
            _give_up_after(line, silence_s)
            async with asyncio.timeout(limit):
                await asyncio.get_running_loop().sock_connect(line, address)
            return line
        except TimeoutError:
            line.close()
            last = last or OSError(110, "it does not answer")
        except OSError as error:
            line.close()
            last = error
        except BaseException:
            line.close()
            raise
    raise last or OSError("no address")


async def _look_up(host: str, port: int, family: socket.AddressFamily | int) -> list[_Address]:
    """Addresses in the order of the system. In a daemon thread: a name service that hangs must not hold up our exit."""

    def ask() -> list[_Address]:
        try:
            return [(row[0], row[4]) for row in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)]  # type: ignore[misc]
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "not a name") from None

    return await in_daemon_thread(ask, f"look up {host}")


def _give_up_after(line: socket.socket, silence_s: float) -> None:
    """Beside SSH's keepalive: data that is not acknowledged for that long ends the connection."""
    milliseconds = max(1000, round(silence_s * 1000))
    with contextlib.suppress(OSError):
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        elif sys.platform == "darwin":
            line.setsockopt(socket.IPPROTO_TCP, 0x80, max(1, milliseconds // 1000))  # TCP_RXT_CONNDROPTIME, seconds
