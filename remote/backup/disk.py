"""The few durable operations that the backup is made of, behind a protocol.

What a crash may take is decided by the order of these operations and by nothing else, so a test records them, ends the
world after each, and starts again from what was left.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Protocol

from ...engine.files import sync_directory


class Disk(Protocol):
    """What the backup does to this machine's disk where a crash matters."""

    def sync_file(self, path: Path) -> None:
        """Make the content of a file survive a power cut."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name; what had that name is replaced."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder survive a power cut."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file, which is created when it is not there. Not durable before `sync_file`."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file; none being there is fine."""
        ...


class RealDisk:
    """The disk itself."""

    def sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def sync_folder(self, path: Path) -> None:
        sync_directory(path)

    def append(self, path: Path, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o644)
        try:
            before = os.fstat(descriptor).st_size
            if before and os.pread(descriptor, 1, before - 1) != b"\n":
                data = b"\n" + data  # the torn line of a writer that was killed spoils itself only
            if os.write(descriptor, data) != len(data):
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise OSError(28, os.strerror(28), str(path))
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def append_durably(disk: Disk, path: Path, data: bytes) -> None:
    """Append whole lines that are there after a power cut once this returns.

    Raises
    ------
    OSError: the disk is full or failing.
    """
    created = not path.exists()
    disk.append(path, data)
    disk.sync_file(path)
    if created:
        disk.sync_folder(path.parent)
