"""The deck's end of the sound process: starting it, waking it, hearing how it ended. No caller ever waits here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from ..format import plain
from .board import Board, create_memory
from .devices import Device, Opened, child_command, ending
from .model import Output

START_S = 15.0
"""Python, numpy and a sound server that is being started, on a busy machine."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class SoundProcess:
    """One sound process from start to end, followed by a thread.

    Parameters
    ----------
    on_ready, on_end: called from that thread with this object: once the device is open; and once, when the process is
        gone or could not be started, with the reason as a sentence.
    """

    def __init__(
        self,
        output: Output,
        on_ready: Callable[[SoundProcess, Opened], None],
        on_end: Callable[[SoundProcess, str], None],
    ) -> None:
        self._output = output
        self._on_ready = on_ready
        self._on_end = on_end
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._lock = threading.Lock()
        descriptor = create_memory()
        self.board = Board(descriptor)
        threading.Thread(target=self._follow, args=(descriptor,), name="wavedeck-sound", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Its process id, once there is one."""
        return self._process.pid if self._process else None

    def wake(self) -> None:
        """Have it look at the board. Where the pipe is full it is already awake, or past waking."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                os.write(self._process.stdin.fileno(), b"!")

    def close(self) -> None:
        """Have it end: cut its life line. It closes the device, or is gone half a second later all the same."""
        with self._lock:
            self._closing = True
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()

    def kill(self) -> None:
        """End it without asking, when it does not answer."""
        self.close()
        if self._process is not None:
            self._process.kill()

    def _follow(self, descriptor: int) -> None:
        reason = ""
        try:
            self._start(descriptor)
            reason = self._listen()
        except Exception as error:
            reason = f"The sound process could not be started ({plain(str(error), 120)}); press play to try again."
            self.kill()
        finally:
            self._on_end(self, self._reaped() or reason)

    def _start(self, descriptor: int) -> None:
        output = json.dumps(dataclasses.asdict(self._output))
        try:
            with self._lock:
                if self._closing:
                    return
                self._process = subprocess.Popen(
                    child_command("play", str(descriptor), output),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # ALSA and JACK chat there, over the deck's screen
                    pass_fds=[descriptor],
                    start_new_session=True,  # Ctrl-C in the terminal is for the deck
                    env={**os.environ, **ONE_THREAD},
                    bufsize=0,
                )
                os.set_blocking(self._process.stdin.fileno(), False)  # type: ignore[union-attr]
        finally:
            os.close(descriptor)

    def _listen(self) -> str:
        """Pass on what it tells until it is gone; the reason it gave, if any."""
        if self._process is None or self._process.stdout is None:
            return ""
        stdout = self._process.stdout
        if not select.select([stdout], [], [], START_S)[0]:
            self.kill()
            return f"The sound system did not answer within {START_S:.0f} s; press play to try again."
        reason = ""
        for line in stdout:
            message = _parsed(line)
            if "ready" in message:
                fields = message["ready"]
                device = Device(**fields.pop("device"))
                self._on_ready(self, Opened(device=device, **fields))
            reason = str(message.get("failed", reason))
        return reason

    def _reaped(self) -> str:
        """Wait for its end; a sentence when it was killed by others."""
        if self._process is None:
            return ""
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        with self._lock:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if self._closing or status == 0:
            return ""
        return ending(status)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
