"""Whether a file looks whole, told from a few reads at its ends: most half-written checkpoints give themselves away.

A zip (`torch.save`) has its directory at its end, a safetensors file tells its own length, a tar (`.nemo`) ends in
zeros, a pickle ends in a full stop. Of other formats nothing can be told.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Optional

MAX_HEADER = 64 << 20
_END = b"PK\x05\x06"
_END_BYTES = 22
_LOCATOR = b"PK\x06\x07"
_END64 = b"PK\x06\x06"
_ENTRY = b"PK\x01\x02"
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that begins a file of `torch.save` before 1.6; the tensors follow the pickles there, without an end."""


def is_whole(descriptor: int, name: str, size: int) -> Optional[bool]:
    """True when its structure says so, False when it contradicts, None when nothing can be told. Raises OSError."""
    if size == 0:
        return False
    head = os.pread(descriptor, 512, 0)
    if name.lower().endswith(".safetensors"):
        return _safetensors(descriptor, head, size)
    if head[:4] in (b"PK\x03\x04", _END):
        return _zip(descriptor, size)
    if head[257:262] == b"ustar":
        return size % 512 == 0 and size >= 1536 and not any(os.pread(descriptor, 1024, size - 1024))
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if head[2 : 2 + len(_LEGACY)] == _LEGACY:
            return None
        return None if os.pread(descriptor, 1, size - 1) == b"." else False
    if not any(head):
        return False  # room that was made and not filled yet
    return None


def _safetensors(descriptor: int, head: bytes, size: int) -> bool:
    """Eight bytes with the length of a JSON object, the object, and as many bytes as it promises."""
    if len(head) < 8:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        return False
    try:
        header = json.loads(os.pread(descriptor, length, 8).decode("utf-8"))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return 8 + length + max([int(end) for end in ends] or [0]) == size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return False


def _zip(descriptor: int, size: int) -> bool:
    """The record at its very end, and the directory that it points to, inside the file."""
    count = min(size, 65535 + _END_BYTES)
    tail = os.pread(descriptor, count, size - count)
    at = tail.rfind(_END)
    while at >= 0:
        if len(tail) - at >= _END_BYTES:
            entries, length, start, comment = struct.unpack("<HIIH", tail[at + 10 : at + _END_BYTES])
            if at + _END_BYTES + comment == len(tail):
                end = size - count + at
                if 0xFFFFFFFF in (length, start) or entries == 0xFFFF:
                    return _zip64(descriptor, end)
                return _directory(descriptor, start, length, entries, end)
        at = tail.rfind(_END, 0, at)
    return False


def _zip64(descriptor: int, end: int) -> bool:
    locator = os.pread(descriptor, 20, end - 20) if end >= 20 else b""
    if len(locator) < 20 or locator[:4] != _LOCATOR:
        return False
    (where,) = struct.unpack("<Q", locator[8:16])
    if where > end - 76:
        return False
    record = os.pread(descriptor, 56, where)
    if len(record) < 56 or record[:4] != _END64:
        return False
    entries, length, start = struct.unpack("<QQQ", record[32:56])
    return _directory(descriptor, start, length, entries, where)


def _directory(descriptor: int, start: int, length: int, entries: int, end: int) -> bool:
    if start + length > end:
        return False
    return entries == 0 or os.pread(descriptor, 4, start) == _ENTRY
