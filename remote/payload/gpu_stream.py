"""One long-lived `nvidia-smi -l`: far cheaper than a call per reading, which on some drivers takes seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any, Dict, List, Optional

from .nvidia_rows import FIELDS, GpuTable, explain, query_argv, without_refused

EVERY_S = 2.0
STALE_S = 10.0
RETRY_S = 60.0


class GpuStream:
    """One long-lived `nvidia-smi -l`, restarted when it ends; absent where there is none.

    A driver that refuses a field is asked again without it at once; any other end is retried after a minute.
    """

    def __init__(self) -> None:
        self._fields = list(FIELDS)
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._table = GpuTable(self._fields)
        self._next_start = 0.0
        self.error: Optional[str] = None
        """Why there are no readings, as a sentence; None while all is well and where there is no nvidia-smi."""

    def turn(self) -> None:
        """Read what has arrived, without waiting."""
        if self._process is None:
            if time.monotonic() >= self._next_start:
                self._start()
            return
        data = self._read()
        if data:
            self._table.feed(data, time.monotonic())
        elif data == b"":
            self._ended()

    def rows(self) -> List[Dict[str, Any]]:
        """Fresh rows only: a tool that hangs must not look like a GPU that works."""
        return self._table.rows(time.monotonic() - STALE_S)

    def close(self) -> None:
        """End the tool."""
        if self._process is not None:
            _kill(self._process)
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                pass  # not even a signal ends it while the driver hangs
            self._process = None

    def _start(self) -> None:
        self._table = GpuTable(self._fields)
        try:
            self._process = subprocess.Popen(
                query_argv(self._fields, int(EVERY_S)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._next_start = float("inf")
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def _read(self) -> Optional[bytes]:
        assert self._process is not None and self._process.stdout is not None
        try:
            return os.read(self._process.stdout.fileno(), 65536)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _ended(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.stdout.close()
        try:
            status: Optional[int] = self._process.wait(2)
        except subprocess.TimeoutExpired:
            _kill(self._process)
            status = None
        self._process = None
        self._table.close(time.monotonic())
        said = "\n".join(self._table.other)
        fewer = without_refused(self._fields, said)
        if fewer:
            self._fields = fewer
            return
        self.error = explain(said, status)
        self._next_start = time.monotonic() + RETRY_S


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With its group: where nvidia-smi is a wrapper script, the tool itself is a child of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
