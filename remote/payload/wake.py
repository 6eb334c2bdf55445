"""What wakes a loop that waits in `select`: a descriptor that becomes readable when a signal arrives."""

from __future__ import annotations

import os
import signal
from typing import Any


def wake_pipe() -> int:
    """A descriptor that becomes readable when a signal arrives, so that the loop need not poll for a child's death."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def empty(descriptor: int) -> None:
    """Take what has arrived."""
    try:
        while os.read(descriptor, 512):
            continue
    except OSError:
        return


def nothing(*_: Any) -> None:
    """A signal handler whose only use is to wake the loop."""
