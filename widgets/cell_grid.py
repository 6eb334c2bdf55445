"""A grid of cells with a colour number for the ink and one for the ground: what pictures of sound are painted on.

`plotting.canvas` gives each cell one style of few; here every cell may have any two colours of a palette, which is what
half blocks need. Rows become run-length segments, and a `CellStrip` knows how to draw a few of its cells only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
"""Added to a code."""
BOLD_STYLE = Style(bold=True)

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

    def codes(self, y: int) -> npt.NDArray[np.int32]:
        """The cells of a row as style numbers: ink, ground and weight in one integer."""
        code: npt.NDArray[np.int32] = (self.ink[y].astype(np.int32) << 8) | self.ground[y]
        return code | (self.bold[y].astype(np.int32) << 16)

    def row(self, y: int, styles: StyleTable) -> CellRow:
        """A row as one segment for each run of equal style."""
        if not self.width:
            return CellRow([], [], 0)
        codes = self.codes(y)
        text = self.chars[y].tobytes().decode("utf-32-le", "replace")
        starts = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist()]
        texts = [text[first:last] for first, last in zip(starts, [*starts[1:], self.width], strict=True)]
        segments = list(map(Segment, texts, map(styles.__getitem__, codes[starts].tolist())))
        return CellRow(segments, starts, self.width)


@dataclass(frozen=True, slots=True)
class CellRow:
    """Segments of one-cell characters, and the column that each begins at."""

    segments: list[Segment]
    starts: list[int]
    width: int

    def with_cell(self, x: int, cell: Segment) -> CellRow:
        """The same with another cell at column `x`, 0 <= x < width."""
        place = bisect_right(self.starts, x) - 1
        text, style, _ = self.segments[place]
        start = self.starts[place]
        new, at = [cell], [x]
        if x > start:
            new.insert(0, Segment(text[: x - start], style))
            at.insert(0, start)
        if x + 1 < start + len(text):
            new.append(Segment(text[x + 1 - start :], style))
            at.append(x + 1)
        segments = [*self.segments[:place], *new, *self.segments[place + 1 :]]
        return CellRow(segments, [*self.starts[:place], *at, *self.starts[place + 1 :]], self.width)

    def part(self, first: int, last: int) -> list[Segment]:
        """The cells `first` to `last`."""
        found = []
        for place in range(max(0, bisect_right(self.starts, first) - 1), len(self.segments)):
            start = self.starts[place]
            if start >= last:
                break
            text, style, _ = self.segments[place]
            found.append(Segment(text[max(0, first - start) : last - start], style))
        return found


class StyleTable(dict[int, Style]):
    """Rich styles by the codes of a grid, made when they are first used."""

    def __init__(self, palette: Bytes, filtered: Filter | None = None) -> None:
        """`palette`: uint8 of shape (colours, 3). `filtered`: what the app does to every style (NO_COLOR)."""
        super().__init__()
        self._colours = [RichColour.from_rgb(*rgb) for rgb in palette.tolist()]
        self._filtered = filtered

    def __missing__(self, code: int) -> Style:
        style = Style.from_color(self._colours[(code >> 8) & 255], self._colours[code & 255])
        if code & BOLD:
            style += BOLD_STYLE
        self[code] = style if self._filtered is None else self._filtered(style)
        return self[code]


class CellStrip(Strip):
    """A row of a picture in which only a few cells changed.

    Textual redraws a line from the left edge of its widget to the end of what changed. For a playhead over a
    spectrogram that would be hundreds of colours for two cells, on every row, many times a second. So where the end of
    a redraw is the end of a stretch named in `changed`, this strip steps over what stands before it (CSI n C, cursor
    forward).
    Every other cut of the strip is the ordinary one.
    """

    __slots__ = ("changed", "row")

    def __init__(self, row: CellRow, changed: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(row.segments, row.width)
        self.row = row
        self.changed: Sequence[tuple[int, int]] = changed

    def crop(self, start: int, end: int | None = None) -> Strip:
        """The cells from `start` to `end`; those of a changed stretch alone where exactly that was asked for."""
        if start == 0 and end is not None:
            for first, last in self.changed:
                if last == end and 0 < first < last:
                    return _Skipped(first, Strip(self.row.part(first, last), last - first))
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
    plain = "".join(
        char if " " <= char <= "~" or (char.isprintable() and cell_len(char) == 1) else "□" for char in text
    )
    if len(plain) <= width:
        return plain
    return plain[: width - 1] + "…" if width > 0 else ""
