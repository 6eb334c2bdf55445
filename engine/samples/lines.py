"""The lines of an index that is still being written: bounded, forgiving, and able to find one line again.

Like `engine.journal`, which decodes events; here every line keeps its place, because an item is decoded anew whenever
it is looked at: 100,000 items in memory would be 300 MB, their places are 2 MB.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..journal import Budget

CHUNK_BYTES = 256 * 1024
MOST_LINE_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Lines:
    """What one poll found: whole lines with their byte offsets. See `engine.journal.Batch` for the flags."""

    lines: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    too_long: int = 0
    more: bool = False
    rewound: bool = False


class IndexReader:
    """Reads whole lines from `offset` on; `offset` always stands at the start of a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.inode: int | None = None
        self._skipping = False

    def poll(self, budget: Budget) -> Lines:
        """Read what is new. A missing file is empty; what is no regular file, or unreadable, raises OSError."""
        found = Lines()
        try:
            descriptor = open_regular(self.path)
        except FileNotFoundError:
            return found
        try:
            status = os.fstat(descriptor)
            if self.inode not in (None, status.st_ino) or status.st_size < self.offset:
                found.rewound = True
                self.offset, self._skipping = 0, False
            self.inode = status.st_ino
            if status.st_size > self.offset:
                self._read(descriptor, budget, found)
        finally:
            os.close(descriptor)
        return found

    def line_at(self, offset: int, length: int) -> bytes:
        """One line again; what stands there may be another one when the file was replaced meanwhile."""
        try:
            descriptor = open_regular(self.path)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, min(length, MOST_LINE_BYTES), offset)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, budget: Budget, found: Lines) -> None:
        deadline = time.monotonic() + budget.seconds
        carry = b""
        position = self.offset
        while True:
            data = os.pread(descriptor, CHUNK_BYTES, position)
            position += len(data)
            carry += data
            end = carry.rfind(b"\n") + 1
            if end:
                self._split(carry[:end], found)
                carry = carry[end:]
            elif len(carry) > MOST_LINE_BYTES:
                found.too_long += not self._skipping
                self._skipping = True
                self.offset += len(carry)
                carry = b""
            if len(data) < CHUNK_BYTES:
                return
            if len(found.lines) >= budget.records or time.monotonic() >= deadline:
                found.more = True
                return

    def _split(self, block: bytes, found: Lines) -> None:
        for line in block.splitlines(keepends=True) if b"\r" not in block else _at_newlines(block):
            if self._skipping:
                self._skipping = False
            elif line != b"\n":
                found.lines.append(line)
                found.offsets.append(self.offset)
            self.offset += len(line)


def _at_newlines(block: bytes) -> list[bytes]:
    """`splitlines` also splits at carriage returns; lines end at newlines only."""
    return [part + b"\n" for part in block[:-1].split(b"\n")]


def open_regular(path: Path) -> int:
    """A read-only descriptor of a regular file; a device, a pipe or a directory raises OSError instead of blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor
