"""Rasterising into braille dots: 2 x 4 to a character cell, a whole layer in a handful of numpy passes.

A mask is a bool array of shape (4*rows, 2*columns), row 0 on top. Coordinates are in dots, x to the right, y *down*,
NaN lifts the pen. Nothing here loops over points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

BRAILLE_BLANK = 0x2800
FAR = 1e9
"""Dots outside the picture beyond which it no longer matters how far."""
# Bit of each dot within its cell, rows from the top (Unicode chapter 21.1, Braille patterns).
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)


def blank(rows: int, columns: int) -> Mask:
    """An empty mask for `rows` x `columns` cells."""
    return np.zeros((4 * rows, 2 * columns), np.bool_)


def fill_spans(mask: Mask, top: FloatArray, bottom: FloatArray) -> None:
    """Set, in every dot column c, the dots from `top[c]` down to `bottom[c]` inclusive; NaN columns stay empty.

    Both arrays have one entry per dot column. A span that lies wholly outside is clamped to the edge it left by,
    so that data beyond the range still shows *somewhere*.
    """
    height = mask.shape[0]
    known = ~(np.isnan(top) | np.isnan(bottom))
    first = np.clip(np.where(known, np.rint(top), 0), 0, height - 1).astype(np.int64)
    last = np.clip(np.where(known, np.rint(bottom), 0), 0, height - 1).astype(np.int64)
    row = np.arange(height)[:, None]
    mask |= (row >= first) & (row <= last) & known


def draw_line(mask: Mask, x: FloatArray, y: FloatArray) -> None:
    """Connect consecutive points (x, y) with straight lines; a lone point is a dot.

    Lines are cut at the left and right edge where they cross it. In y they are clamped to one dot outside, after
    the cut: what leaves the range runs off the picture.
    """
    height, width = mask.shape
    if not len(x):
        return
    known = ~(np.isnan(x) | np.isnan(y))
    y = np.clip(y, -FAR, FAR)
    x0, y0, x1, y1 = _clip_x(*_segments(x, y, known), width)
    y0, y1 = np.clip(y0, -1.0, height), np.clip(y1, -1.0, height)
    flat = np.abs(x1 - x0) >= np.abs(y1 - y0)
    along, across = _march(
        np.where(flat, x0, y0), np.where(flat, y0, x0), np.where(flat, x1, y1), np.where(flat, y1, x1)
    )
    which = np.repeat(flat, _steps(np.where(flat, x0, y0), np.where(flat, x1, y1)))
    _set(mask, np.where(which, along, across), np.where(which, across, along))
    _set(mask, x[known], y[known])


def _steps(a0: FloatArray, a1: FloatArray) -> npt.NDArray[np.int64]:
    """Whole dots from one end to the other, both included."""
    return np.abs(np.rint(a1) - np.rint(a0)).astype(np.int64) + 1


def _march(a0: FloatArray, b0: FloatArray, a1: FloatArray, b1: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every whole dot along the longer side `a` of each segment, and where the segment is then on the other side."""
    counts = _steps(a0, a1)
    which = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(which), dtype=np.float64) - np.repeat(np.cumsum(counts) - counts, counts)
    along: FloatArray = np.rint(a0)[which] + np.sign(a1 - a0)[which] * within
    length = np.where(a1 == a0, 1.0, a1 - a0)
    part = np.clip((along - a0[which]) / length[which], 0.0, 1.0)
    return along, b0[which] + (b1 - b0)[which] * part


def _segments(x: FloatArray, y: FloatArray, known: Mask) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    both = np.flatnonzero(known[:-1] & known[1:])
    return x[both], y[both], x[both + 1], y[both + 1]


def _clip_x(
    x0: FloatArray, y0: FloatArray, x1: FloatArray, y1: FloatArray, width: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Cut segments to -0.5 <= x <= width - 0.5 and drop those that lie outside."""
    left, right = -0.5, width - 0.5
    touches = (np.maximum(x0, x1) >= left) & (np.minimum(x0, x1) <= right)
    x0, y0, x1, y1 = x0[touches], y0[touches], x1[touches], y1[touches]
    length = np.where(x1 == x0, 1.0, x1 - x0)
    cut0, cut1 = np.clip(x0, left, right), np.clip(x1, left, right)
    part0, part1 = (np.clip((cut - x0) / length, 0.0, 1.0) for cut in (cut0, cut1))
    part1 = np.where(x1 == x0, 1.0, part1)
    return cut0, y0 + (y1 - y0) * part0, cut1, y0 + (y1 - y0) * part1


def _set(mask: Mask, x: FloatArray, y: FloatArray) -> None:
    height, width = mask.shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    mask[np.rint(y[inside]).astype(np.int64), np.rint(x[inside]).astype(np.int64)] = True


def encode(mask: Mask) -> npt.NDArray[np.uint8]:
    """Dot pattern of each cell, shape (rows, columns); add `BRAILLE_BLANK` for the character."""
    coded = np.zeros((mask.shape[0] // 4, mask.shape[1] // 2), np.uint8)
    for row, bits in enumerate(BITS):
        for column, bit in enumerate(bits):
            coded |= mask[row::4, column::2] * bit
    return coded
