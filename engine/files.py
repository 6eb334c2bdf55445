"""Atomic, durable writes: a reader sees the old file or the new one, never half of either."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to a temporary name beside `path`, fsync it, rename it, fsync the directory.

    `durable=False` skips both fsyncs: for caches that can be rebuilt.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def create_exclusive(path: Path, data: bytes) -> bool:
    """Create `path` whole, or return False when somebody else already did (the loser of a race)."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # exFAT, some network mounts: no hard links there
            return _create_plain(path, data)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def _create_plain(path: Path, data: bytes) -> bool:
    """`create_exclusive` without links: still one winner, but a crash midway can leave a short file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with open(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    sync_directory(path.parent)
    return True


def append_line(path: Path, line: bytes) -> None:
    """Append one line (given without its newline) and fsync it; the file is made when it is not there.

    A torn tail of a killed writer is closed first, so that it spoils itself only.

    Raises
    ------
    OSError: the disk is full or failing; what stands there then is a torn tail, which readers leave out.
    """
    created = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        data = line + b"\n"
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if created:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """fsync a directory, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
