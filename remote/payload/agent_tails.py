"""One append-only file of a followed run: what is there, and what of it the deck has.

Nothing is held open: a look is one `lstat`, which sees growth, truncation and replacement alike, and the file is
opened only when there is something to send. So any number of runs costs no descriptor.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, Optional, Tuple

from .agent_files import open_inside

CHECK_BYTES = 4096
"""How much before the deck's end of a file is compared when it says what it has."""
SEAM = 32
"""How much of what was sent last is read again with the next bytes, to notice a file that was written anew in place."""
_ANOTHER = (-1, -1)


class Tail:
    """One file.

    Parameters
    ----------
    have: size and digest (of the last 4096 bytes of it) of what the deck has already.
    """

    __slots__ = (
        "_have",
        "_parts",
        "_path",
        "_refused",
        "_run_dir",
        "_seam",
        "_seen",
        "offset",
        "rel",
        "reset_due",
        "size",
        "there",
    )

    def __init__(self, run_dir: str, rel: str, have: Optional[Tuple[int, str]] = None) -> None:
        self.rel = rel
        self.offset = 0
        """Everything before it was sent, or was there already."""
        self.size = 0
        """What is there; the offset itself while there is no file."""
        self.reset_due = False
        """The deck must be told to begin again before more is sent."""
        self.there = False
        """Whether the last look found it."""
        self._run_dir = run_dir
        self._path = "{}/{}".format(run_dir, rel)
        self._parts = rel.split("/")
        self._have = have
        self._seen: Optional[Tuple[int, int]] = None
        self._seam = b""
        self._refused = False

    @property
    def unsent(self) -> int:
        """Bytes that the deck does not have yet."""
        return self.size - self.offset

    def look(self) -> bool:
        """See what is there now; whether it is more, less or another than before."""
        try:
            facts = os.lstat(self._path)
        except FileNotFoundError:
            if self._seen is not None:
                self._seen = _ANOTHER  # what comes next under this name may get the same inode
            return self._absent()
        except OSError:
            return self._absent()
        self.there = True
        if not stat.S_ISREG(facts.st_mode) or self._refused:
            return self._absent()
        seen = (facts.st_dev, facts.st_ino)
        if seen == self._seen and facts.st_size == self.size:
            return False
        if self._seen is None:
            self._first(facts.st_size)
        elif seen != self._seen or facts.st_size < self.offset:
            self._reset()
        self._seen, self.size = seen, facts.st_size
        return True

    def allow(self) -> None:
        """Try a file again that could not be opened."""
        self._refused = False

    def read(self, limit: int) -> Optional[Tuple[int, bytes]]:
        """Where the next bytes belong, and the bytes; None when the file is not what it was at the last look."""
        back = len(self._seam)
        try:
            descriptor = open_inside(self._run_dir, self._parts)
        except OSError:
            self._refused = True
            self._absent()
            return None
        try:
            facts = os.fstat(descriptor)
            if (facts.st_dev, facts.st_ino) != self._seen or not stat.S_ISREG(facts.st_mode):
                self.size = self.offset
                return None
            data = os.pread(descriptor, back + min(limit, self.unsent), self.offset - back)
        except OSError:
            data = self._seam
        finally:
            os.close(descriptor)
        if data[:back] != self._seam:
            self._reset()
            return None
        data, offset = data[back:], self.offset
        if not data:
            self.size = self.offset
            return None
        self.offset += len(data)
        self._seam = (self._seam + data[-SEAM:])[-SEAM:]
        return offset, data

    def _absent(self) -> bool:
        self.there = False
        changed = self.unsent != 0
        self.size = self.offset
        return changed

    def _first(self, size: int) -> None:
        """Go on where the deck's copy ends, if it is a copy of this file."""
        if self._have is None or not self._have[0]:
            return
        length, digest = self._have
        if length <= size:
            data = self._before(length)
            if data is not None and hashlib.sha256(data).hexdigest() == digest:
                self.offset, self._seam = length, data[-SEAM:]
                return
        self.reset_due = True

    def _before(self, end: int) -> Optional[bytes]:
        try:
            descriptor = open_inside(self._run_dir, self._parts)
        except OSError:
            return None
        start = max(0, end - CHECK_BYTES)
        try:
            return os.pread(descriptor, end - start, start)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _reset(self) -> None:
        self.reset_due = self.reset_due or self.offset > 0
        self.offset, self._seam = 0, b""


def have_of(value: Any) -> Optional[Tuple[int, str]]:
    """What the deck says it has of a file; None when that makes no sense, which means nothing."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    size, digest = value
    if isinstance(size, bool) or not isinstance(size, int) or size < 0 or not isinstance(digest, str):
        return None
    return size, digest
