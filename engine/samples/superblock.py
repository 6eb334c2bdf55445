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
from typing import BinaryIO

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIZE = 48
_FLAGS = 11
_END = slice(28, 36)
_CHECKSUM = slice(44, 48)
_MASK = 0xFFFFFFFF


class StandingFile(io.RawIOBase):
    """Read-only view of `source`; reading beyond its end raises EOFError instead of inventing samples."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._position = 0
        self.size = source.seek(0, io.SEEK_END)
        source.seek(0)
        self._head = settled(source.read(_SIZE), self.size)

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
            data = self._source.read(wanted - done)
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
