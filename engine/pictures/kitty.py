"""The kitty graphics protocol: pictures with a number, placed over cells, which stay until they are deleted.

https://sw.kovidgoyal.net/kitty/graphics-protocol/; also spoken by WezTerm, Ghostty and Konsole. `q=2` asks for no
answers, which nobody would read; `C=1` leaves the cursor where it is.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

CHUNK = 4096


def encode_kitty(rgb: npt.NDArray[np.uint8], number: int, columns: int, rows: int, *, above: int = 1) -> str:
    """The escape sequences that show `rgb` over `columns` x `rows` cells from the cursor on.

    `rgb` is uint8 of shape (height, width, 3), or 4 with opacity. `number` is the picture's own, from 1 on. `above`
    orders pictures over each other; all of them are over the text.
    """
    height, width, values = rgb.shape
    data = base64.standard_b64encode(zlib.compress(np.ascontiguousarray(rgb).tobytes(), 1)).decode("ascii")
    head = f"a=T,f={8 * values},o=z,s={width},v={height},i={number},p=1,c={columns},r={rows},z={above},C=1,q=2"
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    said = []
    for place, part in enumerate(parts):
        keys = head if place == 0 else "q=2"
        said.append(f"\x1b_G{keys},m={int(place < len(parts) - 1)};{part}\x1b\\")
    return "".join(said)


def place_kitty(number: int, columns: int, rows: int, *, above: int) -> str:
    """Show the picture `number`, which the terminal has, at the cursor instead of where it was."""
    return f"\x1b_Ga=p,i={number},p=1,c={columns},r={rows},z={above},C=1,q=2\x1b\\"


def delete_kitty(number: int) -> str:
    """Take a picture away and forget it."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"
