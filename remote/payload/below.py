"""Files below a directory, named by a relative path: no link on the way is followed, and no path leads out of it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from typing import Any, Iterable, List, Optional, Tuple

Stamp = Tuple[int, int, int, int, int]
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Outside(OSError):
    """That path leads elsewhere, or to no regular file."""


def stamp_of(facts: os.stat_result) -> Stamp:
    """Changes with every change of a file."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def open_file(root: str, path: str) -> int:
    """Open a regular file for reading; the caller closes it. Raises OSError."""
    folder, name = _folder_of(root, path)
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Outside("it is no regular file")
    return descriptor


def facts_of(root: str, path: str) -> os.stat_result:
    """What `lstat` says of a path. Raises OSError."""
    folder, name = _folder_of(root, path)
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def has_writer(descriptor: int) -> bool:
    """Whether any process has this file open for writing, or mapped so. False where the system does not tell.

    A read lease is given only on a file that nobody writes to. It is given back at once: whoever opens the file in
    between waits for some microseconds, and the signal about it is one that nobody minds.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _folder_of(root: str, path: str) -> Tuple[int, bytes]:
    parts = components(path)
    if parts is None:
        raise Outside("that path leads elsewhere")
    top = os.open(root, _ROOT)
    try:
        return open_below(top, parts[:-1]), parts[-1]
    finally:
        os.close(top)


def open_below(root: int, inner: Iterable[bytes]) -> int:
    """Open a directory below an open one, following no link on the way. The caller closes it. Raises OSError."""
    folder = os.dup(root)
    for part in inner:
        try:
            deeper = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = deeper
    return folder


def components(path: Any) -> Optional[List[bytes]]:
    """The words of a relative path, or None when it leads elsewhere or is none."""
    if not isinstance(path, str) or "\0" in path or not 0 < len(path) <= 4096:
        return None
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    try:
        return [part.encode("utf-8") for part in parts]
    except UnicodeEncodeError:
        return None
