"""Value types of the console: styles, lines, pictures. Columns are terminal cells; a wide character takes two."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, TypeAlias

Colour: TypeAlias = int | tuple[int, int, int] | None
"""A palette number 0 to 255, (red, green, blue), or None for the terminal's own."""


class TextStyle(NamedTuple):
    """How a program asked for a stretch of text to look."""

    fg: Colour = None
    bg: Colour = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False
    strike: bool = False

    @property
    def shows_blanks(self) -> bool:
        """Whether a blank in this style can be seen."""
        return self.bg is not None or self.reverse or self.underline or self.strike


PLAIN = TextStyle()
Run: TypeAlias = tuple[str, TextStyle]
Line: TypeAlias = tuple[Run, ...]
"""Text without any control character, with its styles; never ends in invisible blanks."""

MAX_COLUMNS = 2000
CUT_MARK: Run = (" … line cut", TextStyle(dim=True, italic=True))


@dataclass(frozen=True, slots=True)
class ConsolePicture:
    """The console at one moment.

    Attributes
    ----------
    first: number of `lines[0]`, counted from the first line ever kept: lines keep their numbers when old ones go.
    settled: lines below this number will not change any more; the rest is what the cursor may still reach.
    missing: there is no console.log (yet).
    earlier_bytes: how much of the file lies before what was read of it.
    size: bytes of the file.
    """

    lines: tuple[Line, ...] = ()
    first: int = 0
    settled: int = 0
    missing: bool = False
    earlier_bytes: int = 0
    size: int = 0

    @property
    def end(self) -> int:
        """Number of the line after the last one."""
        return self.first + len(self.lines)


def plain(line: Line) -> str:
    """The text of a line."""
    return line[0][0] if len(line) == 1 else "".join(text for text, _ in line)


def plain_line(text: str) -> Line:
    """A line of unstyled text; cut, with a mark, when it is too long."""
    if len(text) > MAX_COLUMNS:
        return ((text[:MAX_COLUMNS], PLAIN), CUT_MARK)
    text = text.rstrip(" ")
    return ((text, PLAIN),) if text else ()


@lru_cache(maxsize=4096)
def char_width(char: str) -> int:
    """Cells a printable character takes: 0 for combining marks, 2 for wide ones, else 1."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _merged(runs: list[Run]) -> list[Run]:
    """Neighbours of the same style as one run."""
    if len(runs) < 2:
        return list(runs)
    return [("".join(text for text, _ in group), style) for style, group in groupby(runs, key=lambda run: run[1])]


class Cells:
    """One line that can still be written to, addressed by column.

    Three forms, each slower than the one before and taken up only when needed: runs, while text is appended; text with
    a style per column, once something is overwritten; a list of cells, where a wide character is followed by an empty
    one, with the first character that does not take exactly one cell.
    """

    __slots__ = ("_cells", "_length", "_runs", "_styles", "_text", "cut")

    def __init__(self) -> None:
        self.cut = False
        self._reset()

    def _reset(self) -> None:
        self._runs: list[Run] | None = []
        self._length = 0
        self._text = ""
        self._styles: list[TextStyle] = []
        self._cells: list[str] | None = None

    def __len__(self) -> int:
        if self._runs is not None:
            return self._length
        return len(self._text) if self._cells is None else len(self._cells)

    def write(self, column: int, text: str, style: TextStyle, simple: bool) -> int:
        """Overwrite from `column` on and return the column behind. `simple`: every character takes one cell."""
        if column + len(text) > MAX_COLUMNS:
            text = text[: max(0, MAX_COLUMNS - column)]
            self.cut = True
            if not text:
                return MAX_COLUMNS
        end = column + len(text)
        if simple and self._runs is not None and (column == self._length or (column == 0 and end >= self._length)):
            if column == 0:
                self._runs = []
            self._runs.append((text, style))
            self._length = end
            return end
        self._spread()
        if column > len(self):
            self._put(len(self), [" "] * (column - len(self)), PLAIN)
        if simple and self._cells is None:
            self._text = self._text[:column] + text + self._text[end:]
            self._styles[column:end] = [style] * len(text)
            return end
        return self._write_cells(column, text, style)

    def erase(self, start: int, end: int) -> None:
        """Blank the columns from `start` to `end` (excluded)."""
        self.cut = self.cut and end < MAX_COLUMNS
        if start == 0 and end >= len(self):
            self._reset()
            return
        self._spread()
        if end < len(self):
            self._put(start, [" "] * max(0, end - start), PLAIN)
            return
        self._split_wide(start)
        self._text = self._text[:start]
        del self._styles[start:]
        if self._cells is not None:
            del self._cells[start:]

    def freeze(self) -> Line:
        """The line as a value."""
        if self._runs is not None:
            runs = _merged(self._runs)
        else:
            cells: list[str] | str = self._text if self._cells is None else self._cells
            pairs = zip(cells, self._styles, strict=True)
            runs = [("".join(c for c, _ in group), style) for style, group in groupby(pairs, key=lambda pair: pair[1])]
        while runs and not runs[-1][1].shows_blanks:
            text = runs[-1][0].rstrip(" ")
            if text:
                runs[-1] = (text, runs[-1][1])
                break
            runs.pop()
        return (*runs, CUT_MARK) if self.cut else tuple(runs)

    def _spread(self) -> None:
        """Leave the form of runs."""
        if self._runs is None:
            return
        self._text = "".join(text for text, _ in self._runs)
        self._styles = [style for text, style in self._runs for _ in text]
        self._runs = None

    def _put(self, column: int, cells: list[str], style: TextStyle) -> None:
        """Overwrite whole cells, none of them half of a wide character."""
        end = column + len(cells)
        if self._cells is None:
            self._text = self._text[:column] + "".join(cells) + self._text[end:]
        else:
            self._split_wide(column)
            self._split_wide(end)
            self._cells[column:end] = cells
        self._styles[column:end] = [style] * len(cells)

    def _write_cells(self, column: int, text: str, style: TextStyle) -> int:
        if self._cells is None:
            self._cells, self._text = list(self._text), ""
        for char in text:
            width = char_width(char)
            if width == 0:
                self._attach(column, char)
                continue
            if column + width > MAX_COLUMNS:
                self.cut = True
                break
            self._put(column, [char, ""][:width] if width == 2 else [char], style)
            column += width
        return column

    def _attach(self, column: int, mark: str) -> None:
        """Put a combining mark onto the character before `column`; at most eight, whatever the text piles up.

        Format characters (direction overrides, joiners) are left out: they would change how the rest is shown.
        """
        if unicodedata.category(mark) == "Cf":
            return
        cells = self._cells or []
        at = column - 1
        if at > 0 and at < len(cells) and cells[at] == "":
            at -= 1
        if 0 <= at < len(cells) and len(cells[at]) < 9:
            cells[at] += mark

    def _split_wide(self, column: int) -> None:
        """A wide character of which only the right half would survive becomes two blanks."""
        if self._cells is not None and 0 < column < len(self._cells) and self._cells[column] == "":
            self._cells[column - 1 : column + 1] = [" ", " "]
