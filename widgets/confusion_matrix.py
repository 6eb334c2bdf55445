"""`ConfusionMatrix`: targets down, predictions across, with a cursor; a cell opens its items.

A cell's shade is its share of its row, so that rare classes show too. Hits and misses differ in colour and by where
they stand, counts are written where there is room, and brackets stand around the cell under the cursor, which the line
below says in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.samples.alignment import Confusion
from .palette import BOLD, Palette
from .short_names import short_names

NAME_CELLS = 18
WIDEST, COUNTED, SHADED = 9, 4, 2
"""Most cells of a column, those from which a count is written and a name stands in one line, and the fewest."""
MOST_HEAD, LEAST_HEAD = 8, 3
"""Letters of a name that is written downwards, and of one that leaves its lines to the rows."""
SHADES = " ░▒▓█"
DOWN, ACROSS, BESIDE, BOTH = "target ↓", "predicted →", "  ← predicted", "target↓ predicted→"
TITLED_FROM = 6
"""Rows from which on a line can be spared for what goes across."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Cells of the name column, of one cell, of the head; how many rows and columns are visible.

    `titled`: the first line of the head says what goes across; without it that is said beside the names, if there is
    room.
    """

    left: int
    cell: int
    head: int
    rows: int
    columns: int
    titled: bool = False


class ConfusionMatrix(Widget, can_focus=True):
    """Shows `confusion`; None shows `words`.

    Reactives
    ---------
    confusion: counts by target (rows) and prediction (columns), names untrusted,
        replaced as a whole; the cursor stays on its pair of classes.
    cursor: (target, predicted) as places in the classes.
    """

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1,0)", "Up", show=False, id="confusion.up", tooltip="The target above"),
        Binding("down,j", "move(1,0)", "Down", show=False, id="confusion.down", tooltip="The target below"),
        Binding("left,h", "move(0,-1)", "Left", show=False, id="confusion.left", tooltip="The prediction to the left"),
        Binding("right,l", "move(0,1)", "Right", show=False, id="confusion.right", tooltip="The one to the right"),
        Binding("home,g", "worst", "Worst", show=False, id="confusion.worst", tooltip="The most frequent mistake"),
        Binding("enter", "choose", "Open", id="confusion.open", tooltip="List the items of this cell"),
    ]
    DEFAULT_CSS = "ConfusionMatrix { height: 1fr; background: $surface; color: $foreground; }"

    confusion: reactive[Confusion | None] = reactive[Confusion | None](None)
    cursor: reactive[tuple[int, int]] = reactive((0, 0))
    words: reactive[str] = reactive("no labels and predictions in this set")

    class CellChosen(Message):
        """The items with this target and this prediction are wanted."""

        def __init__(self, matrix: ConfusionMatrix, target: str, predicted: str) -> None:
            super().__init__()
            self.matrix, self.target, self.predicted = matrix, target, predicted

        @property
        def control(self) -> ConfusionMatrix:
            return self.matrix

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = self._first = 0
        self._shares = np.zeros((0, 0))
        self._names: tuple[str, ...] = ()

    # --- what there is

    @property
    def pair(self) -> tuple[str, str] | None:
        """Target and prediction under the cursor."""
        if self.confusion is None or not self.confusion.classes:
            return None
        target, predicted = self.cursor
        return self.confusion.classes[target], self.confusion.classes[predicted]

    def validate_cursor(self, cursor: tuple[int, int]) -> tuple[int, int]:
        """Keep it inside."""
        last = max(0, len(self.confusion.classes) - 1) if self.confusion is not None else 0
        return min(max(0, cursor[0]), last), min(max(0, cursor[1]), last)

    def watch_confusion(self, before: Confusion | None, after: Confusion | None) -> None:
        """Shares anew; the cursor stays with its classes."""
        counts = np.zeros((0, 0)) if after is None else np.asarray(after.counts, np.float64)
        totals = counts.sum(axis=1, keepdims=True) if counts.size else np.ones((0, 1))
        self._shares = counts / np.maximum(totals, 1)
        self._names = () if after is None else tuple(fmt.plain(name, 60) for name in after.classes)
        if after is None:
            return
        places = {name: place for place, name in enumerate(after.classes)}
        if before is None or not before.classes:
            self.action_worst()
        else:
            rows, columns = (min(place, len(before.classes) - 1) for place in self.cursor)
            self.cursor = places.get(before.classes[rows], 0), places.get(before.classes[columns], 0)

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    # --- keys and mouse

    def action_move(self, rows: int, columns: int) -> None:
        """Move by cells."""
        self.cursor = self.cursor[0] + rows, self.cursor[1] + columns

    def action_worst(self) -> None:
        """To the most frequent mistake."""
        if self.confusion is None or not self.confusion.classes:
            return
        counts = np.asarray(self.confusion.counts).copy()
        np.fill_diagonal(counts, -1)
        row, column = divmod(int(np.argmax(counts)), counts.shape[1])
        self.cursor = (row, column) if counts[row, column] > 0 else (0, 0)

    def action_choose(self) -> None:
        """Ask for the items of this cell."""
        if self.pair is not None:
            self.post_message(self.CellChosen(self, *self.pair))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        place = self._cell_at(event.x, event.y)
        if place is None:
            return
        if place == self.cursor and event.chain > 1:
            self.action_choose()
        self.cursor = place

    def _cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        layout = self._layout()
        row, column = y - layout.head, (x - layout.left) // layout.cell
        if not (0 <= row < layout.rows and 0 <= column < layout.columns):
            return None
        return self._top + row, self._first + column

    # --- rendering

    def _layout(self) -> _Layout:
        width, height = self.size
        names = self.confusion.classes if self.confusion is not None else ()
        longest = max((cell_len(fmt.plain(name, NAME_CELLS)) for name in names), default=0)
        left = min(max(longest, len(DOWN)), NAME_CELLS, max(0, width // 3)) + 1
        room = max(1, width - left)
        cell = min(WIDEST, max(SHADED, room // max(1, len(names))))
        columns = max(0, min(len(names), room // cell))
        spare = height - 1 - len(names)
        head = 1
        if cell < COUNTED:
            head = min(longest, MOST_HEAD if spare > MOST_HEAD else max(LEAST_HEAD, spare))
        head = max(0, min(head, height // 3))
        beside = room - columns * cell >= len(BESIDE)
        titled = not beside and height >= TITLED_FROM and (spare > head or left <= len(BOTH))
        head += titled
        rows = max(0, min(len(names), height - head - 1))
        return _Layout(left, cell, head, rows, columns, titled)

    def _scroll(self, layout: _Layout) -> None:
        """Bring the cursor into view."""
        count = len(self._shares)
        row, column = self.cursor
        self._top = min(max(self._top, row - layout.rows + 1, 0), row, max(0, count - layout.rows))
        self._first = min(max(self._first, column - layout.columns + 1, 0), column, max(0, count - layout.columns))

    def render_line(self, y: int) -> Strip:
        """Head, rows, and the cursor's cell in words."""
        width, base = self.size.width, self.rich_style
        palette = Palette.of(self.app)
        confusion = self.confusion
        if confusion is None or not confusion.classes:
            words = fmt.plain(self.words) if y == min(1, self.size.height - 1) else ""
            return Strip([Segment(f" {words}", base + palette.muted)]).adjust_cell_length(width, base)
        layout = self._layout()
        self._scroll(layout)
        if y < layout.head:
            segments = self._head(y, layout, base, palette)
        elif y < layout.head + layout.rows:
            segments = self._row(self._top + y - layout.head, layout, confusion, base, palette)
        elif y == self.size.height - 1:
            segments = [Segment(f" {self._said(confusion)}", base + palette.text)]
            segments.append(Segment(self._hidden(layout, confusion), base + palette.muted))
        else:
            segments = []
        return Strip(segments).adjust_cell_length(width, base)

    def _head(self, y: int, layout: _Layout, base: Style, palette: Palette) -> list[Segment]:
        """Names of the predictions: in one line where cells are wide, otherwise downwards, a letter a line."""
        if layout.titled and y == 0:
            return [Segment(" " * layout.left + ACROSS, base + palette.muted)]
        y, head = y - layout.titled, layout.head - layout.titled
        room = self.size.width - layout.left - layout.columns * layout.cell
        corner = ""
        if y == head - 1:
            both = not layout.titled and room < len(BESIDE) and layout.left > len(BOTH)
            corner = BOTH if both else DOWN[: max(0, layout.left - 1)]
        short = short_names(self._names, layout.cell - 1 if head == 1 else head)
        segments = [Segment(set_cell_size(corner, layout.left), base + palette.muted)]
        for place in range(self._first, self._first + layout.columns):
            style = base + (palette.accent + BOLD if place == self.cursor[1] else palette.muted)
            shown = short[place] if head == 1 else short[place].rjust(head)[y]
            segments.append(Segment(" " * (layout.cell - 1 - cell_len(shown)) + shown + " ", style))
        if not layout.titled and y == head - 1 and room >= len(BESIDE):
            segments.append(Segment(BESIDE, base + palette.muted))
        return segments

    def _row(self, row: int, layout: _Layout, confusion: Confusion, base: Style, palette: Palette) -> list[Segment]:
        here = row == self.cursor[0]
        name = set_cell_size(short_names(self._names, layout.left - 1)[row], layout.left)
        segments = [Segment(name, base + (palette.accent + BOLD if here else palette.text))]
        for column in range(self._first, self._first + layout.columns):
            count, share = int(confusion.counts[row, column]), float(self._shares[row, column])
            style = base + self._shade(share, row == column)
            chosen = here and column == self.cursor[1]
            if chosen:
                style = base + Style(reverse=True, bold=True)
            segments.append(Segment(_cell_text(count, share, layout.cell, chosen), style))
        return segments

    def _shade(self, share: float, hit: bool) -> Style:
        """Ground from the background to the theme's good or bad, and ink that can be read on it."""
        _, background = self.background_colors
        try:
            colour = Color.parse(self.app.theme_variables["success" if hit else "error"])
        except (KeyError, ColorParseError):
            colour = Color(90, 160, 120) if hit else Color(200, 80, 80)
        ground = background.blend(colour, min(1.0, share**0.6) * 0.85 if share > 0 else 0.0)
        ink = background.get_contrast_text(0.45) if share <= 0 else ground.get_contrast_text(0.95)
        ink = ground.blend(ink, ink.a, 1.0)
        return Style(color=ink.rich_color, bgcolor=ground.rich_color)

    def _hidden(self, layout: _Layout, confusion: Confusion) -> str:
        """How many rows and columns are further down or right than what is seen."""
        count = len(confusion.classes)
        rows, columns = count - self._top - layout.rows, count - self._first - layout.columns
        words = [f"↓ {rows} more"] if rows > 0 else []
        words += [f"→ {columns} more"] if columns > 0 else []
        return f"  {' '.join(words)}"

    def _said(self, confusion: Confusion) -> str:
        """The cursor's cell in words."""
        row, column = self.cursor
        count, total = int(confusion.counts[row, column]), int(np.sum(confusion.counts[row]))
        target, predicted = (fmt.plain(confusion.classes[place], 30) for place in (row, column))
        what = f"{target} taken for {predicted}" if row != column else f"{target} recognised"
        return f"{what}: {fmt.count(count)} of {fmt.count(total)} ({fmt.percent(count / total if total else None)})"


def _cell_text(count: int, share: float, cells: int, chosen: bool = False) -> str:
    """The count, right-aligned with a blank after it; a shade where there is no room for one. In brackets if chosen."""
    if chosen:
        inner = max(0, cells - 2)
        if cells < COUNTED:
            return f"[{SHADES[min(4, int(share * 4 + 0.999))] * inner}]"
        return f"[{'·' if count == 0 else short_count(count, inner)}]".rjust(cells)
    if cells < COUNTED:
        return SHADES[min(4, int(share * 4 + 0.999))] * (cells - 1) + " "
    text = "·" if count == 0 else short_count(count, cells - 1)
    return f"{text:>{cells - 1}} "


def short_count(count: int, cells: int) -> str:
    """A count in few cells: `999`, `1k`, `12k`, `1M`."""
    for divisor, suffix in ((1, ""), (10**3, "k"), (10**6, "M"), (10**9, "G")):
        text = f"{count // divisor}{suffix}"
        if len(text) <= cells:
            return text
    return "#" * cells
