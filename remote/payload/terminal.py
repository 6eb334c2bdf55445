"""The supervisor's own terminal, when it has one: what `attach` shows and where its keystrokes go.

It is a courtesy. A terminal that hangs up, stalls or vanishes must cost the training nothing, so it is written without
blocking from a bounded buffer, and every error simply closes it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from typing import Any, List, Optional

BUFFER_BYTES = 1 << 18
SKIPPED = b"\r\n[wavedeck: this terminal was too slow; console.log has everything]\r\n"


class Terminal:
    """Raw keystrokes in, raw bytes out, both optional.

    `input_fd` is None when standard input is no terminal (any more), `output_fd` likewise.
    """

    def __init__(self, input_fd: int = 0, output_fd: int = 1) -> None:
        self.input_fd: Optional[int] = input_fd if os.isatty(input_fd) else None
        self.output_fd: Optional[int] = _own_view(output_fd)
        self._saved: Optional[List[Any]] = None
        self._pending = bytearray()
        if self.input_fd is not None:
            self._make_raw(self.input_fd)

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the terminal to take them."""
        return bool(self._pending) and self.output_fd is not None

    def show(self, data: bytes) -> None:
        """Put bytes on the screen, now or at the next `flush`; what a stalled terminal cannot take is skipped."""
        if self.output_fd is None:
            return
        if len(self._pending) + len(data) > BUFFER_BYTES:
            self._pending[:] = SKIPPED
            data = data[-4096:]
        self._pending += data
        self.flush()

    def flush(self) -> None:
        """Write what the terminal takes without waiting."""
        if self.output_fd is None or not self._pending:
            return
        try:
            del self._pending[: os.write(self.output_fd, self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._drop_output()

    def read_keys(self) -> bytes:
        """Keystrokes that have arrived; a hung-up terminal gives none ever again."""
        if self.input_fd is None:
            return b""
        try:
            keys = os.read(self.input_fd, 4096)
        except OSError:
            keys = b""
        if not keys:
            self.input_fd = None
        return keys

    def size(self) -> Optional[bytes]:
        """The window size as the kernel packs it, or None."""
        if self.input_fd is None:
            return None
        try:
            packed = fcntl.ioctl(self.input_fd, termios.TIOCGWINSZ, b"\0" * 8)
        except OSError:
            return None
        rows, columns = struct.unpack("HHHH", packed)[:2]
        return packed if rows and columns else None

    def close(self) -> None:
        """Give the terminal back as it was."""
        self.flush()
        self._drop_output()
        if self._saved is not None and self.input_fd is not None:
            try:
                termios.tcsetattr(self.input_fd, termios.TCSANOW, self._saved)
            except (OSError, termios.error):
                self._saved = None

    def _make_raw(self, descriptor: int) -> None:
        try:
            self._saved = termios.tcgetattr(descriptor)
            tty.setraw(descriptor, termios.TCSANOW)
        except (OSError, termios.error):
            self.input_fd = None

    def _drop_output(self) -> None:
        if self.output_fd is not None:
            os.close(self.output_fd)
        self.output_fd = None
        self._pending.clear()


def _own_view(descriptor: int) -> Optional[int]:
    """The terminal behind `descriptor`, opened anew so that not blocking on it changes nothing for anybody else."""
    try:
        if not os.isatty(descriptor):
            return None
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def detach() -> None:
    """Leave the launcher: a session of our own, no terminal, and nothing of the launcher's held open."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
