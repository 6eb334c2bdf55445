"""Drives a real agent over pipes, started by the very command line and bytes that a connection would send."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from wavedeck.remote.bundle import agent_command, agent_input
from wavedeck.remote.frames import FrameReader, frame

NONCE = "n0nce"


class AgentDriver:
    """One agent, everything it has said so far, and copies of the files it sent."""

    def __init__(
        self,
        home: Path | str,
        *,
        options: Mapping[str, object] | None = None,
        shell: list[str] | None = None,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        acknowledge: bool = True,
    ) -> None:
        environ = {key: value for key, value in os.environ.items() if key != "TMUX"}
        environ |= {"WAVEDECK_HOME": str(home)} | dict(env or {})
        argv = [*(shell or ["sh", "-c"]), agent_command(python)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, cwd="/"
        )
        self.noise = b""
        self.said: list[tuple[dict[str, Any], bytes]] = []
        self.files: dict[tuple[str, str], bytearray] = {}
        self.gaps: list[str] = []
        self.unacknowledged = 0
        self._acknowledge = acknowledge
        self._ids = 0
        self._news = threading.Condition()
        self._lock = threading.Lock()
        self.send_bytes(agent_input(NONCE, options))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def send_bytes(self, data: bytes) -> None:
        """Write to it as it is."""
        assert self.process.stdin is not None
        with self._lock:
            try:
                self.process.stdin.write(data)
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError):
                return

    def send(self, op: str, data: bytes = b"", **fields: Any) -> None:
        """One frame."""
        self.send_bytes(frame(op, data, **fields))

    def begin(self, op: str, data: bytes = b"", **fields: Any) -> int:
        """Ask, without waiting for the answer."""
        self._ids += 1
        self.send(op, data, id=self._ids, **fields)
        return self._ids

    def ask(self, op: str, data: bytes = b"", **fields: Any) -> dict[str, Any]:
        """Ask and wait for the answer."""
        return self.answer(self.begin(op, data, **fields))

    def answer(self, key: int) -> dict[str, Any]:
        """The answer to a request."""
        return self.wait(lambda h: h.get("id") == key and h["op"] in ("done", "failed", "pong"), f"answer {key}")

    def output(self, key: int, fd: int = 1) -> bytes:
        """What a command has printed so far."""
        return b"".join(data for h, data in self.said if h["op"] == "piece" and h["id"] == key and h["fd"] == fd)

    def wait(
        self, wanted: Callable[[dict[str, Any]], bool], what: str, timeout: float = 20.0, since: int = 0
    ) -> dict[str, Any]:
        """The first frame from number `since` on that is wanted."""
        deadline = time.monotonic() + timeout
        at = since
        with self._news:
            while True:
                for header, _ in self.said[at:]:
                    at += 1
                    if wanted(header):
                        return header
                left = deadline - time.monotonic()
                if left <= 0:
                    heard = [h for h, _ in self.said if h["op"] != "reading"][-15:]
                    raise AssertionError(f"waited {timeout:.0f} s in vain for {what}; heard {heard}")
                self._news.wait(min(left, 0.5))

    def op(self, op: str, timeout: float = 20.0, since: int = 0, **fields: Any) -> dict[str, Any]:
        """The first frame of that kind with these values."""
        items = fields.items()
        return self.wait(
            lambda h: h["op"] == op and all(h.get(k) == v for k, v in items), f"{op} {fields}", timeout, since
        )

    def ops(self, run: str, *kinds: str) -> list[str]:
        """What it said of a run, in order: kinds of frames, with the file where there is one."""
        found = []
        for header, _ in list(self.said):
            if header.get("run") == run and (not kinds or header["op"] in kinds):
                found.append(f"{header['op']} {header['file']}" if "file" in header else header["op"])
        return found

    def record(self, run: str, name: str) -> bytes | None:
        """The newest content of a record that was sent."""
        found = [data for h, data in self.said if h["op"] == "record" and h["run"] == run and h["file"] == name]
        return found[-1] if found else None

    def copy(self, run: str, name: str) -> bytes:
        """The copy of a file as it is now."""
        return bytes(self.files.get((run, name), b""))

    def follow(
        self, run: str, have: Mapping[str, bytes] | None = None, records: Mapping[str, bytes] | None = None
    ) -> None:
        """Follow a run whose files are here already, as far as `have` and `records` say."""
        for name, data in (have or {}).items():
            self.files[run, name] = bytearray(data)
        sizes = {name: [len(data), digest(data[-4096:])] for name, data in (have or {}).items()}
        self.send("follow", run=run, have=sizes, records={name: digest(data) for name, data in (records or {}).items()})

    def end_input(self) -> None:
        """What the end of a connection looks like to it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        """End it, by force if needed."""
        try:
            self.end_input()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self._thread.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def stderr(self) -> str:
        """What it said on standard error, after it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def children(self) -> list[psutil.Process]:
        """Its child processes now."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        mark = f"WAVEDECK-AGENT {NONCE}\n".encode()
        reader, begun = FrameReader(), False
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            if not begun:
                self.noise += data
                before, found, data = self.noise.partition(mark)
                if not found:
                    continue
                self.noise, begun = before, True
            for header, payload in reader.feed(data):
                self._take(header, payload)

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        if header["op"] == "reset":
            self.files[header["run"], header["file"]] = bytearray()
        elif header["op"] == "data":
            file = self.files.setdefault((header["run"], header["file"]), bytearray())
            if header["offset"] != len(file):
                self.gaps.append(f"{header} at {len(file)}")
            file += payload
            self.unacknowledged += len(payload)
            if self._acknowledge:
                self.unacknowledged = 0
                self.send("ack", bytes=len(payload))
        with self._news:
            self.said.append((header, payload))
            self._news.notify_all()


def digest(data: bytes) -> str:
    """As the agent compares."""
    return hashlib.sha256(data).hexdigest()
