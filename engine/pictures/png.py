"""A PNG file from an array of colours, with zlib alone: no image library where the deck or a recipe runs."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR_8 = (8, 2, 0, 0, 0)
"""Bit depth, colour type, and the only compression, filter and order there are (PNG specification, 11.2.2)."""


def encode(pixels_HW3: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file; `pixels_HW3` are red, green and blue, 0 to 255, from the top left.

    Raises
    ------
    ValueError: the array is empty or has another shape.
    """
    if pixels_HW3.ndim != 3 or pixels_HW3.shape[2] != 3 or not pixels_HW3.size:
        raise ValueError(f"a picture is (height, width, 3), not {pixels_HW3.shape}")
    height, width, _ = pixels_HW3.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter; 0 is none
    rows[:, 1:] = np.ascontiguousarray(pixels_HW3, np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, *_TRUECOLOUR_8)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
