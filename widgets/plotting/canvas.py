"""A grid of characters and style numbers that turns into Strips.

Styles are small integers into a list, so that layers are painted with numpy and only the finished rows become
run-length `Segment`s: one style change, one segment. (One SGR code per character is what slows
ANSI-string charts down.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from .colours import PLAIN


def plain_text(text: str) -> str:
    """`text` in characters of exactly one cell: names come from logs and may hold controls or wide characters."""
    return "".join(_one_cell(char) for char in text)


def _one_cell(char: str) -> str:
    if " " <= char <= "~":
        return char
    if unicodedata.category(char)[0] in "CM" or cell_len(char) != 1:
        return "□"
    return char


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where something is missing."""
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if width > 0 else ""


class Canvas:
    """`height` x `width` cells. Everything outside is ignored, so that nothing is too small to draw on."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.chars = np.full((height, width), ord(" "), np.uint32)
        self.styles = np.zeros((height, width), np.int16)

    def copy(self) -> Canvas:
        """An independent copy, to lay a crosshair over."""
        other = Canvas(0, 0)
        other.width, other.height = self.width, self.height
        other.chars, other.styles = self.chars.copy(), self.styles.copy()
        return other

    def text(self, x: int, y: int, text: str, style: int = PLAIN) -> int:
        """Write one row of one-cell characters; returns the x after it."""
        end = x + len(text)
        if 0 <= y < self.height and end > 0 and x < self.width:
            shown = text[max(0, -x) : self.width - x]
            start = max(0, x)
            self.chars[y, start : start + len(shown)] = np.frombuffer(shown.encode("utf-32-le"), np.uint32)
            self.styles[y, start : start + len(shown)] = style
        return end

    def block(self, x: int, y: int, chars: npt.NDArray[np.uint32], styles: npt.NDArray[np.int16]) -> None:
        """Copy a block of cells that lies inside the canvas."""
        height, width = chars.shape
        self.chars[y : y + height, x : x + width] = chars
        self.styles[y : y + height, x : x + width] = styles

    def changes(self, before: Canvas) -> list[tuple[int, int, int]]:
        """(row, first column, column after the last) of what differs from a canvas of the same size."""
        differs = (self.chars != before.chars) | (self.styles != before.styles)
        found = []
        for y in np.flatnonzero(differs.any(axis=1)).tolist():
            columns = np.flatnonzero(differs[y])
            found.append((y, int(columns[0]), int(columns[-1]) + 1))
        return found

    def strip(self, y: int, styles: Sequence[Style]) -> Strip:
        """Row `y` as run-length segments."""
        row = self.styles[y]
        text = self.chars[y].tobytes().decode("utf-32-le", "replace")
        cuts = [0, *(np.flatnonzero(row[1:] != row[:-1]) + 1).tolist(), self.width]
        segments = [
            Segment(text[start:end], styles[row[start]])
            for start, end in zip(cuts, cuts[1:], strict=False)
            if end > start
        ]
        return Strip(segments, self.width)
