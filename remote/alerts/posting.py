"""One POST over HTTP or HTTPS, done within ten seconds whatever the other side does, and silent about its address.

The address of a webhook is a password: errors name scheme and host, never the path, the query or a header. Standard
library only; certificates are checked; a redirect leads to the same server or nowhere.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import SplitResult, urljoin, urlsplit

CONNECT_S = 5.0
TOTAL_S = 10.0
MOST_REDIRECTS = 3
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 60.0
"""A server that asks for more patience is tried again after that all the same."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class PostFailed(Exception):
    """It was not delivered. `again`: trying again may help; `after_s`: not before."""

    def __init__(self, text: str, *, again: bool, after_s: float | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.after_s = after_s


def masked(url: str) -> str:
    """An address that may be printed: `https://hooks.example.com/…`."""
    parts = urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}/…"


def post(url: str, body: bytes, headers: Sequence[tuple[str, str]], *, total_s: float = TOTAL_S) -> int:
    """Post `body`; the status of the answer, which is a success.

    Raises
    ------
    PostFailed: everything else.
    """
    deadline = time.monotonic() + total_s
    where = urlsplit(url)
    for _ in range(MOST_REDIRECTS + 1):
        status, location, wait = _once(where, body, headers, deadline)
        if status not in (301, 302, 303, 307, 308):
            return _judged(status, wait, url)
        there = urlsplit(urljoin(where.geturl(), location or ""))
        if not location or _server(there) != _server(where):
            raise PostFailed(f"{masked(url)} sends us to another server, which is not followed.", again=False)
        where = there
    raise PostFailed(f"{masked(url)} redirects in a circle.", again=False)


def _judged(status: int, wait: float | None, url: str) -> int:
    if 200 <= status < 300:
        return status
    try:
        words = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = str(status)
    raise PostFailed(f"{masked(url)} answers {words}.", again=status in RETRY_STATUS, after_s=wait)


def _server(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _once(
    where: SplitResult, body: bytes, headers: Sequence[tuple[str, str]], deadline: float
) -> tuple[int, str | None, float | None]:
    """Status, Location and Retry-After of one request."""
    left = deadline - time.monotonic()
    connection = _connection(where, min(CONNECT_S, max(0.1, left)))
    shown = masked(where.geturl())
    late = threading.Event()
    guard: threading.Timer | None = None
    try:
        connection.connect()
        sock: socket.socket = connection.sock
        sock.settimeout(max(0.1, deadline - time.monotonic()))
        # A timeout counts from byte to byte: a server that sends one a second would hold us for ever without this.
        guard = threading.Timer(max(0.1, deadline - time.monotonic()), _cut_off, (sock, late))
        guard.daemon = True
        guard.start()
        path = (where.path or "/") + (f"?{where.query}" if where.query else "")
        connection.request("POST", path, body, {"User-Agent": "wavedeck", **dict(headers)})
        answer = connection.getresponse()  # its body is of no use, so nobody waits for it
        return answer.status, answer.headers.get("Location"), _retry_after(answer.headers.get("Retry-After"))
    except ssl.SSLCertVerificationError as error:
        text = f"the certificate of {shown} is not good ({error.verify_message})."
        raise PostFailed(text, again=False) from None
    except (TimeoutError, OSError, http.client.HTTPException) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise PostFailed(f"{shown} does not answer in time.", again=True) from None
        raise PostFailed(f"{shown} cannot be reached ({_reason(error)}).", again=True) from None
    finally:
        if guard is not None:
            guard.cancel()
        connection.close()


def _connection(where: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    """A connection, through the proxy of the environment where there is one for https."""
    host, port = where.hostname or "", where.port
    if where.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.create_default_context()
    proxy = _proxy(host)
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    through = http.client.HTTPSConnection(proxy.hostname or "", proxy.port or 80, timeout=timeout_s, context=context)
    through.set_tunnel(host, port or 443)
    return through


def _proxy(host: str) -> SplitResult | None:
    from urllib.request import proxy_bypass

    named = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if not named or host in _LOOPBACK or proxy_bypass(host):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    return proxy if proxy.hostname else None


def _cut_off(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's own, which is for one thread only


def _reason(error: Exception) -> str:
    """What the system says, without anything that the other side or the address put into it."""
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, http.client.HTTPException):
        return "it closed the connection" if isinstance(error, http.client.RemoteDisconnected) else "it speaks no HTTP"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if not isinstance(error, ssl.SSLError) else "no TLS there"
    return type(error).__name__


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header, as a number or as a date; None when there is none to be understood."""
    if not text:
        return None
    try:
        seconds = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT_S)
