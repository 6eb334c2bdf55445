"""An HDF5 file that somebody is still writing, has died writing, or has cut short, made readable as it stands.

HDF5 refuses a file whose writer did not close it, and one shorter than its superblock says. Both facts stand in the
first 48 bytes (HDF5 file format specification, superblock version 2 and 3). This file object hands those bytes out
with no writer and the true length. What was rejected: opening with `swmr=True`, which needs a real path (no ranges of a
remote file), takes locks that network file systems lack, fails while the same process writes, and still refuses a
truncated file. The order in which the writer flushes (SWMR) is what makes reading sound; `arrays` opens the file anew
whenever an item lies beyond what it saw.
"""

from __future__ import annotations

import io
from typing import BinaryIO, Protocol, cast

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIZE = 48
HEAD_BYTES = 64
"""Enough of a file for `stored_end`."""
_FLAGS = 11
_END = slice(28, 36)
_CHECKSUM = slice(44, 48)
_MASK = 0xFFFFFFFF


class Missing(Exception):
    """Bytes `offset` to `offset + count` of a file elsewhere are not here: `FarStream.bring` gets them."""

    def __init__(self, offset: int, count: int) -> None:
        super().__init__(f"{count:,} bytes at {offset:,} are not here yet")
        self.offset, self.count = offset, count


class Changed(OSError):
    """The file elsewhere is another one by now: open it again."""


class FarStream(Protocol):
    """What a stream of a file elsewhere has besides a stream's methods."""

    waits: bool
    """False: reading what is not here raises `Missing` instead of waiting for it."""

    def bring(self, offset: int, count: int) -> None:
        """Get these bytes here. May wait; OSError when they cannot be had, `Changed` when the file is another one."""

    def take_any_version(self) -> None:
        """From now on take the bytes as they are when they are asked for, and use none that were here before."""


class StandingFile(io.RawIOBase):
    """Read-only view of `source`; reading beyond its end raises EOFError instead of inventing samples.

    Once made, it never waits for another host: `missing` then says what the last reading lacked. HDF5 calls it while
    it holds a lock of the whole process, so that waiting here would stop everybody's sound.
    """

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._position = 0
        self.far = cast(FarStream, source) if hasattr(source, "bring") else None
        self.missing: Missing | None = None
        self.size = source.seek(0, io.SEEK_END)
        source.seek(0)
        self._head = settled(source.read(_SIZE), self.size)
        if self.far is not None:
            self.far.waits = False

    def bring(self, missing: Missing) -> None:
        """Get here what was missing. Waits for the other host, so: in no lock. Raises OSError, `Changed` among them."""
        assert self.far is not None
        self.far.bring(missing.offset, missing.count)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def, override]
        """Fill `buffer` whole: HDF5 asks for exactly what it needs."""
        view = memoryview(buffer).cast("B")
        begin, wanted = self._position, len(view)
        self._source.seek(begin)
        done = 0
        while done < wanted:
            try:
                data = self._source.read(wanted - done)
            except Missing as missing:  # kept here, since HDF5 makes something else of what is raised through it
                self.missing = missing
                raise
            if not data:
                raise EOFError("the file is cut short")
            view[done : done + len(data)] = data
            done += len(data)
        if begin < len(self._head):
            patch = self._head[begin : begin + wanted]
            view[: len(patch)] = patch
        self._position = begin + wanted
        return wanted

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def settled(head: bytes, size: int) -> bytes:
    """The first bytes of a file as if its writer had closed it at `size` bytes; other formats come back unchanged."""
    # Version 2 or 3, 8-byte offsets, no user block: what HDF5 1.8 and later write by default or under SWMR.
    if len(head) < _SIZE or not head.startswith(SIGNATURE) or head[8] not in (2, 3) or head[9] != 8 or any(head[12:20]):
        return head
    if int.from_bytes(head[_CHECKSUM], "little") != lookup3(head[:44]):
        return head
    changed = bytearray(head)
    if head[8] == 3:
        changed[_FLAGS] = 0
    changed[_END] = size.to_bytes(8, "little")
    changed[_CHECKSUM] = lookup3(bytes(changed[:44])).to_bytes(4, "little")
    return bytes(changed)


def stored_end(head: bytes) -> int | None:
    """How long the file was when its writer last said so; None where the first bytes do not tell.

    Versions 0 to 3 of the superblock with 8-byte offsets: those of our files and what h5py writes by default.
    """
    if len(head) < HEAD_BYTES or not head.startswith(SIGNATURE):
        return None
    place = {0: (13, slice(40, 48)), 1: (13, slice(44, 52)), 2: (9, _END), 3: (9, _END)}.get(head[8])
    if place is None or head[place[0]] != 8:
        return None
    end = int.from_bytes(head[place[1]], "little")
    return end if end < 2**63 else None


def lookup3(data: bytes) -> int:
    """Bob Jenkins' `hashlittle` with initial value 0, the checksum of HDF5 metadata (lookup3.c, public domain)."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    words = [int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little") for at in range(0, len(data), 4)]
    words += [0] * (-len(words) % 3)
    for at in range(0, len(words) - 3, 3):
        a, b, c = (a + words[at]) & _MASK, (b + words[at + 1]) & _MASK, (c + words[at + 2]) & _MASK
        a, b, c = _mix(a, b, c)
    if not data:
        return c
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    return _final(a, b, c)


def _turn(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a, c = (a - c) & _MASK ^ _turn(c, 4), (c + b) & _MASK
    b, a = (b - a) & _MASK ^ _turn(a, 6), (a + c) & _MASK
    c, b = (c - b) & _MASK ^ _turn(b, 8), (b + a) & _MASK
    a, c = (a - c) & _MASK ^ _turn(c, 16), (c + b) & _MASK
    b, a = (b - a) & _MASK ^ _turn(a, 19), (a + c) & _MASK
    c, b = (c - b) & _MASK ^ _turn(b, 4), (b + a) & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - _turn(b, 14)) & _MASK
    a = ((a ^ c) - _turn(c, 11)) & _MASK
    b = ((b ^ a) - _turn(a, 25)) & _MASK
    c = ((c ^ b) - _turn(b, 16)) & _MASK
    a = ((a ^ c) - _turn(c, 4)) & _MASK
    b = ((b ^ a) - _turn(a, 14)) & _MASK
    return ((c ^ b) - _turn(b, 24)) & _MASK
