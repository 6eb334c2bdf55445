"""A grid of character cells with a colour number for the ink and one for the ground: what pictures of sound are painted on.

`plotting.canvas` gives each cell one style of few; here every cell may have any two colours of a palette, which is what
half blocks need. Rows become run-length segments, and a `CellStrip` knows how to draw a few of its cells only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.color import Color as RichColour
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

Bytes = npt.NDArray[np.uint8]
BOLD = 1 << 16

Filter = Callable[[Style], Style]


class CellGrid:
    """`height` x `width` cells: a character, ink and ground (numbers of a palette), bold or not.

    Writing outside is ignored, so that nothing is too small to be drawn on.
    """

    def __init__(self, width: int, height: int, ink: int = 1, ground: int = 0) -> None:
        self.width, self.height = width, height
        self.chars = np.full((height, width), ord(" "), np.uint32)
        self.ink = np.full((height, width), ink, np.uint8)
        self.ground = np.full((height, width), ground, np.uint8)
        self.bold = np.zeros((height, width), np.bool_)

    def text(self, x: int, y: int, text: str, ink: int, *, ground: int | None = None, bold: bool = False) -> int:
        """Write one row of one-cell characters; returns the x after it."""
        end = x + len(text)
        if 0 <= y < self.height and end > 0 and x < self.width:
            shown = text[max(0, -x) : self.width - x]
            place = slice(max(0, x), max(0, x) + len(shown))
            self.chars[y, place] = np.frombuffer(shown.encode("utf-32-le", "replace"), np.uint32)
            self.ink[y, place] = ink
            self.bold[y, place] = bold
            if ground is not None:
                self.ground[y, place] = ground
        return end

    def block(self, x: int, y: int, chars: npt.NDArray[np.uint32], ink: Bytes, ground: Bytes) -> None:
        """Copy cells of shape (rows, columns) that lie inside the grid."""
        rows, columns = chars.shape
        place = (slice(y, y + rows), slice(x, x + columns))
        self.chars[place], self.ink[place], self.ground[place] = chars, ink, ground

    def codes(self, y: int, start: int, end: int) -> npt.NDArray[np.int32]:
        """Cells of a row as style numbers: ink, ground and weight in one integer."""
        code = (self.ink[y, start:end].astype(np.int32) << 8) | self.ground[y, start:end]
        return code | np.where(self.bold[y, start:end], BOLD, 0)

    def segments(self, y: int, start: int, end: int, styles: StyleTable) -> list[Segment]:
        """Cells `start` to `end` of a row, one segment for each run of equal style."""
        if end <= start:
            return []
        codes = self.codes(y, start, end)
        text = self.chars[y, start:end].tobytes().decode("utf-32-le", "replace")
        cuts = (np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist()
        firsts = [0, *cuts]
        picked = codes[firsts].tolist()
        style_of = styles.style
        return [
            Segment(text[first:last], style_of(code))
            for code, first, last in zip(picked, firsts, [*cuts, end - start], strict=True)
        ]


class StyleTable:
    """Rich styles for the codes of a grid, made when they are first used."""

    def __init__(self, palette: Bytes, filtered: Filter = lambda style: style) -> None:
        """`palette`: uint8 of shape (colours, 3). `filtered`: what the app does to every style (NO_COLOR)."""
        self._colours = [RichColour.from_rgb(*rgb) for rgb in palette.tolist()]
        self._filtered = filtered
        self._styles: dict[int, Style] = {}

    def style(self, code: int) -> Style:
        """The style of a code."""
        found = self._styles.get(code)
        if found is None:
            bold = True if code & BOLD else None
            plain = Style(color=self._colours[(code >> 8) & 255], bgcolor=self._colours[code & 255], bold=bold)
            found = self._styles[code] = self._filtered(plain)
        return found


class CellStrip(Strip):
    """A row of a picture in which only a few cells changed.

    Textual redraws a line from the left edge of its widget to the end of what changed. For a playhead over a spectrogram
    that would be hundreds of colours for two cells, on every row, many times a second. So where the end of a redraw
    is the end of a stretch named in `changed`, this strip steps over what stands before it (CSI n C, cursor forward).
    Every other cut of the strip is the ordinary one.
    """

    __slots__ = ("changed",)

    def __init__(self, segments: Sequence[Segment], width: int, changed: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(segments, width)
        self.changed = tuple(changed)

    def crop(self, start: int, end: int | None = None) -> Strip:
        """The cells from `start` to `end`; those of a changed stretch alone where exactly that was asked for."""
        if start == 0 and end is not None:
            for first, last in self.changed:
                if last == end and 0 < first < last:
                    return _Skipped(first, super().crop(first, last))
        return super().crop(start, end)


class _Skipped(Strip):
    """Cells that are left as they are, then cells that are drawn."""

    __slots__ = ("skipped",)

    def __init__(self, skipped: int, drawn: Strip) -> None:
        super().__init__(drawn, drawn.cell_length)
        self.skipped = skipped

    def render(self, console: Console) -> str:
        """The way there and the cells."""
        return f"\x1b[{self.skipped}C{super().render(console)}"


def one_cell(text: str, width: int) -> str:
    """Text in characters of exactly one cell (others become `□`), at most `width` of them."""
    plain = "".join(char if " " <= char <= "~" or (char.isprintable() and cell_len(char) == 1) else "□" for char in text)
    if len(plain) <= width:
        return plain
    return plain[: width - 1] + "…" if width > 0 else ""
