"""Writing the files of copies: open descriptors, whole frames, room on the disk, nothing outside a run's directory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from .mirror_files import Copy, OpenCopy

OLD_COPIES = 3
OPEN_FILES = 96
SAMPLE_SETS = 64
RUN_LIMIT = 8 << 30
"""Bytes of one run that are copied at most: a console without end must not fill this disk."""
FREE_FLOOR = 256 << 20


class Appended(Enum):
    """What became of bytes that were to be appended."""

    WRITTEN = "written"
    DROPPED = "dropped"
    """They are here already, or may not be written here."""
    GAP = "gap"
    """They do not follow on what is here."""
    OVER = "over"
    """The run has reached its limit."""


class CopyBytes:
    """The open files of one host's copies.

    Parameters
    ----------
    root: the directory whose disk is watched. free: bytes free for this user on the disk of a path.
    """

    def __init__(self, root: Path, free: Callable[[Path], int]) -> None:
        self.free = free
        self._root = root
        self._files: OrderedDict[tuple[str, str], OpenCopy] = OrderedDict()
        self._dirty: set[tuple[str, str]] = set()
        self._closed_dirty: list[int] = []
        self._looked = -1e9

    def append(self, copy: Copy, name: str, offset: int, data: bytes) -> Appended:
        """Append `data`, which stands at `offset` in the original: all of it or nothing.

        Raises
        ------
        OSError: ENOSPC when the disk is full or nearly so; nothing was written then.
        """
        self.check_room()
        if copy.over:
            return Appended.DROPPED
        file = self._open(copy, name)
        if file is None:
            return Appended.DROPPED
        if offset != file.size:
            beyond = offset > file.size or offset + len(data) > file.size
            return Appended.GAP if beyond else Appended.DROPPED
        if copy.total + len(data) > RUN_LIMIT:
            return Appended.OVER
        try:
            _write_all(file.descriptor, data)
        except OSError:
            os.ftruncate(file.descriptor, offset)  # it will be written again, from its beginning
            raise
        file.size += len(data)
        copy.total += len(data)
        self._dirty.add((copy.id, name))
        return Appended.WRITTEN

    def begin_anew(self, copy: Copy, name: str) -> None:
        """Keep what is here beside, and start from nothing."""
        self._close((copy.id, name))
        path = copy.path / name
        if path.exists():
            for number in range(OLD_COPIES, 1, -1):
                older = path.with_name(f"{path.name}.old-{number - 1}")
                if older.exists():
                    os.replace(older, path.with_name(f"{path.name}.old-{number}"))
            os.replace(path, path.with_name(f"{path.name}.old-1"))

    def check_room(self, *, afresh: bool = False) -> None:
        """Raise ENOSPC while the disk here is nearly full; looks once a second."""
        now = time.monotonic()
        if afresh or now - self._looked >= 1.0:
            self._looked = now
            if self.free(self._root) < FREE_FLOOR:
                self._looked = -1e9
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def sync(self) -> None:
        """Make what was written survive a power cut."""
        keys, self._dirty = self._dirty, set()
        descriptors, self._closed_dirty = self._closed_dirty, []
        for key in keys:
            file = self._files.get(key)
            if file is not None:
                descriptors.append(os.dup(file.descriptor))
        if descriptors:
            await asyncio.to_thread(_sync_all, descriptors)

    def forget(self, run_id: str) -> None:
        """Close the files of one run."""
        for key in [key for key in self._files if key[0] == run_id]:
            self._close(key)

    def close(self) -> None:
        """Close all files."""
        for key in list(self._files):
            self._close(key)
        self._dirty.clear()
        descriptors, self._closed_dirty = self._closed_dirty, []
        for descriptor in descriptors:
            os.close(descriptor)

    def _open(self, copy: Copy, name: str) -> OpenCopy | None:
        key = (copy.id, name)
        file = self._files.get(key)
        if file is not None:
            self._files.move_to_end(key)
            return file
        path = _place(copy.path, name)
        if path is None:
            return None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.EACCES, errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        file = OpenCopy(descriptor, os.fstat(descriptor).st_size)
        self._files[key] = file
        while len(self._files) > OPEN_FILES:
            self._close(next(iter(self._files)), keep_dirty=True)
        return file

    def _close(self, key: tuple[str, str], *, keep_dirty: bool = False) -> None:
        file = self._files.pop(key, None)
        if file is None:
            return
        if keep_dirty and key in self._dirty:
            self._closed_dirty.append(file.descriptor)
        else:
            with contextlib.suppress(OSError):
                os.close(file.descriptor)


def _place(root: Path, name: str) -> Path | None:
    """Where `name` belongs under `root`, its folders made; None when somebody made a link of one of them.

    `root` itself is never made: a copy that was deleted here stays deleted.
    """
    folder = root
    for part in name.split("/")[:-1]:
        if folder.name == "samples" and not (folder / part).exists() and len(list(folder.iterdir())) >= SAMPLE_SETS:
            return None
        folder = folder / part
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            return None
        if folder.is_symlink():
            return None
    return root / name


def _write_all(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        count = os.write(descriptor, data[written:] if written else data)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += count


def _sync_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        try:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Bytes free for this user; a path that cannot be asked is taken for one with room."""
    try:
        facts = os.statvfs(path)
    except OSError:
        return 1 << 62
    return facts.f_bavail * facts.f_frsize
