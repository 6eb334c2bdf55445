"""Sixel: six rows of pixels to a character, one pass for each colour of a band (DEC VT330/VT340 manual, chapter 14)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.uint8]
FIRST = 63
BAND = 6
SHORT = 3
"""A run of this many equal characters is not longer than its count."""


def encode_sixel(image: Indices, palette: Indices) -> str:
    """The escape sequence that draws `image` at the cursor.

    Parameters
    ----------
    image: colour numbers, uint8 of shape (height, width).
    palette: uint8 of shape (colours, 3); sixel knows its colours in per cent.
    """
    height, width = image.shape
    used = np.unique(image)
    numbers = np.zeros(256, np.uint8)
    numbers[used] = np.arange(len(used))
    per_cent = np.rint(palette[used].astype(np.float64) * 100 / 255).astype(int)
    colours = "".join(f"#{n};2;{r};{g};{b}" for n, (r, g, b) in enumerate(per_cent.tolist()))
    small = numbers[image]
    bands = [_band(small[top : top + BAND]) for top in range(0, height, BAND)]
    return f'\x1bP0;1;0q"1;1;{width};{height}{colours}{"-".join(bands)}\x1b\\'


def _band(rows: Indices) -> str:
    """Up to six rows: for each of its colours the characters of the whole width, runs shortened."""
    present = np.unique(rows)
    weights = (1 << np.arange(len(rows), dtype=np.uint8))[None, :, None]
    bits = ((rows[None] == present[:, None, None]) * weights).sum(axis=1, dtype=np.uint8)
    passes = []
    for colour, line in zip(present.tolist(), bits, strict=True):
        starts = np.concatenate(([0], np.flatnonzero(line[1:] != line[:-1]) + 1))
        lengths = np.diff(np.append(starts, len(line))).tolist()
        values = line[starts].tolist()
        if not values[-1]:  # what is empty up to the end needs no saying
            values, lengths = values[:-1], lengths[:-1]
        passes.append(f"#{colour}" + "".join(map(_run, values, lengths)))
    return "$".join(passes)


def _run(value: int, length: int) -> str:
    char = chr(FIRST + value)
    return char * length if length <= SHORT else f"!{length}{char}"
