"""A real HTTP server on a loopback port that does what webhooks do: answer, fail, ask for patience, hang, hang up."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    t: float

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass
class HookServer:
    """What it is to do with the next requests (`plan`; then 200), and what came.

    A step is a status, a pair of status and headers, or a word: `hang` (no answer until the server ends), `drip` (one
    byte of an answer a second), `close` (the connection is closed without an answer), `reset`.
    """

    url: str = ""
    plan: deque[Any] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def titles(self) -> list[str]:
        """The titles of the generic alerts that came."""
        return [one.json["title"] for one in self.received]


@contextmanager
def hook_server(certificate: Path | None = None, key: Path | None = None) -> Iterator[HookServer]:
    """A server for as long as the block lasts; with a certificate it speaks HTTPS."""
    state = HookServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.received.append(Received(self.path, dict(self.headers.items()), body, time.time()))
            step = state.plan.popleft() if state.plan else 200
            self.close_connection = True
            if step == "hang":
                state.ended.wait(60)
            elif step == "drip":
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 100:
                    if state.ended.wait(0.2):
                        return
                    try:
                        self.connection.sendall(bytes([byte]))
                    except OSError:
                        return
            elif step == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.connection.close()
            elif step != "close":
                status, headers = step if isinstance(step, tuple) else (step, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    """A webhook server."""
    with hook_server() as server:
        yield server
