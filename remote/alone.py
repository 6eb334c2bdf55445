"""The right to do something alone, held by a process and gone with it, however that ends: a lock on a file.

The file says who holds it; nobody ever has to remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from ..engine.errors import WavedeckError

_RECORD_BYTES = 200


class AloneLock:
    """The lock of one file.

    Parameters
    ----------
    path: made where it is missing, its folder too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, record: bytes | None = None) -> bool:
        """Take it; False when another process has it.

        Parameters
        ----------
        record: what the file is to say of its holder; the number of this process when None.

        Raises
        ------
        WavedeckError: the file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WavedeckError(f"{self._path} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode() if record is None else record, 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let somebody else have it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def record_of(path: Path) -> bytes | None:
    """What the holder of a lock says of itself, empty while it has not said it; None when nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, _RECORD_BYTES, 0)
    finally:
        os.close(descriptor)
    return None


def pid_of(path: Path) -> int | None:
    """The process that holds a lock, 0 while it has not said who it is; None when nobody holds it."""
    record = record_of(path)
    if record is None:
        return None
    text = record.decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else 0
