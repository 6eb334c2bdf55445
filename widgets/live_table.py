"""`VirtualTable` and `LiveTable`: tables for rows that change all the time.

Textual's own DataTable repaints its whole view for every changed cell (40 % of a core at 20 rows a second); this one
draws the visible lines only, keeps the cursor on its row by key when rows come and go, and drops the least important
columns where the terminal is narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` in cells, 0 takes what is left; columns with a larger `rank` are dropped first."""

    title: str
    width: int
    rank: int = 0
    right: bool = False
    least: int = 8
    """Smallest width of a column that takes what is left."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an identity that survives refreshes, the cells, and the plain text that the filter looks into."""

    key: Hashable
    cells: tuple[Text | str, ...]
    search: str = ""


@dataclass(slots=True)
class _Layout:
    width: int = -1
    places: list[tuple[int, Column, int]] = field(default_factory=list)
    """(cell number, column, width) of the columns that fit."""


class VirtualTable(ScrollView, can_focus=True):
    """Numbered rows under a fixed header, with a cursor; a subclass counts them and makes the visible ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "Up", show=False, id="table.up", tooltip="One row up"),
        Binding("down,j", "cursor(1)", "Down", show=False, id="table.down", tooltip="One row down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.pageup", tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.pagedown", tooltip="One page down"),
        Binding("home,g", "edge(-1)", "First", show=False, id="table.home", tooltip="First row"),
        Binding("end,G", "edge(1)", "Last", show=False, id="table.end", tooltip="Last row"),
        Binding("enter", "choose", "Open", id="table.open", tooltip="Open the row under the cursor"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "live-table--header",
        "live-table--cursor",
        "live-table--cursor-blurred",
        "live-table--empty",
    }
    DEFAULT_CSS = """
    VirtualTable { height: 1fr; background: $surface; overflow-x: hidden; scrollbar-size-vertical: 1; }
    VirtualTable > .live-table--header { color: $text-muted; text-style: bold; background: $surface; }
    VirtualTable > .live-table--cursor { background: $primary 45%; text-style: bold; }
    VirtualTable > .live-table--cursor-blurred { background: $primary 20%; }
    VirtualTable > .live-table--empty { color: $text-muted; }
    """

    OPENS: ClassVar[bool] = True
    """Whether a row can be opened; where not, enter is not offered."""

    cursor: reactive[int] = reactive(0, init=False)
    """Row under the cursor."""

    class Highlighted(Message):
        """The cursor stands on another row. `key` is None when the table is empty."""

        def __init__(self, table: VirtualTable, key: Hashable | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> VirtualTable:
            return self.table

    class Chosen(Message):
        """Enter or a second click on a row."""

        def __init__(self, table: VirtualTable, key: Hashable) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> VirtualTable:
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "nothing here yet",
        id: str | None = None,
        follow: bool = False,
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.empty = empty
        self.follow = follow
        """Keep the cursor on the last row while it stands there (a table that grows at the end)."""
        self._layout = _Layout()

    # --- for subclasses

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def row_at(self, place: int) -> Row:
        """The row at `place`, 0 <= place < row_count."""
        raise NotImplementedError

    # --- public verbs

    @property
    def key(self) -> Hashable | None:
        """Key of the row under the cursor."""
        return self.row_at(self.cursor).key if 0 <= self.cursor < self.row_count else None

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Replace the columns (the metrics of another run)."""
        if tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self._layout = _Layout()
            self.refresh()

    # --- watchers and actions

    def watch_cursor(self, before: int, after: int) -> None:
        """Repaint the two rows and tell."""
        self._refresh_row(before)
        self._refresh_row(after)
        self._show_cursor()
        self.post_message(self.Highlighted(self, self.key))

    def validate_cursor(self, value: int) -> int:
        """Keep it inside the table."""
        return max(0, min(value, self.row_count - 1))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter exists only where there is something to open."""
        return action != "choose" or self.OPENS

    def action_cursor(self, rows: int) -> None:
        """Move by rows."""
        self.cursor += rows

    def action_page(self, pages: int) -> None:
        """Move by pages."""
        self.cursor += pages * max(1, self.size.height - 2)

    def action_edge(self, side: int) -> None:
        """Move to the first or last row."""
        self.cursor = 0 if side < 0 else self.row_count - 1

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.key is not None:
            self.post_message(self.Chosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        place = event.y - 1 + self.scroll_offset.y
        if event.y < 1 or place >= self.row_count:
            return
        if place == self.cursor and event.chain > 1:
            self.action_choose()
        self.cursor = place

    def on_focus(self) -> None:
        """The cursor gets its bright look."""
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        """The cursor gets its faint look."""
        self._refresh_row(self.cursor)

    def on_resize(self) -> None:
        """Other columns may fit now."""
        self.virtual_size = Size(0, self.row_count + 1)

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    # --- rendering

    def _show_cursor(self) -> None:
        height = max(1, self.size.height - 1)
        top = round(self.scroll_offset.y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)

    def _refresh_row(self, place: int) -> None:
        y = place - round(self.scroll_offset.y) + 1
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _fit(self, width: int) -> list[tuple[int, Column, int]]:
        """Which columns fit into `width`, and how wide each is."""
        if self._layout.width == width:
            return self._layout.places
        kept = list(enumerate(self.columns))
        while len(kept) > 1 and sum((column.width or column.least) + GAP for _, column in kept) - GAP > width - 2:
            kept.remove(max(kept, key=lambda item: (item[1].rank, item[0])))
        flexible = sum(1 for _, column in kept if not column.width)
        spare = width - 2 - sum((column.width + GAP) if column.width else GAP for _, column in kept) + GAP
        share = max(1, spare // flexible) if flexible else 0
        self._layout = _Layout(width, [(number, column, column.width or share) for number, column in kept])
        return self._layout.places

    def render_line(self, y: int) -> Strip:
        """Header at the top, then the rows under the scroll offset."""
        width = self.size.width
        base = self.rich_style
        if y == 0:
            style = base + self.get_component_rich_style("live-table--header")
            return self._compose_line([column.title for column in self.columns], width, style)
        place = y - 1 + round(self.scroll_offset.y)
        if place < self.row_count:
            if place == self.cursor:
                name = "live-table--cursor" if self.has_focus else "live-table--cursor-blurred"
                base = base + self.get_component_rich_style(name)
            return self._compose_line(self.row_at(place).cells, width, base)
        if not self.row_count and y == 2:
            style = base + self.get_component_rich_style("live-table--empty")
            return Strip([Segment(f"  {self.empty}", style)]).adjust_cell_length(width, base)
        return Strip.blank(width, base)

    def _compose_line(self, cells: Sequence[Text | str], width: int, style: Style) -> Strip:
        segments: list[Segment] = [Segment(" ", style)]
        for order, (number, column, size) in enumerate(self._fit(width)):
            if order:
                segments.append(Segment(" " * GAP, style))
            cell = cells[number] if number < len(cells) else ""
            segments += _cell(cell, size, column.right, style)
        return Strip(segments).adjust_cell_length(width, style)


class LiveTable(VirtualTable):
    """A table of keyed rows: the cursor and the scroll position survive every refresh."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "nothing here yet",
        id: str | None = None,
        follow: bool = False,
    ) -> None:
        super().__init__(columns, empty=empty, id=id, follow=follow)
        self._rows: tuple[Row, ...] = ()

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def row_at(self, place: int) -> Row:
        """The row at `place`."""
        return self._rows[place]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows shown."""
        return self._rows

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Replace the rows; the cursor stays on its key, or near its place when that row is gone."""
        rows = tuple(rows)
        if rows == self._rows:
            return
        before, key = self._rows, self.key
        at_end = self.follow and (not before or self.cursor >= len(before) - 1)
        self._rows = rows
        self.virtual_size = Size(0, len(rows) + 1)
        keys = [row.key for row in rows]
        place = len(rows) - 1 if at_end else keys.index(key) if key in keys else min(self.cursor, len(rows) - 1)
        moved = place != self.cursor or at_end
        self.set_reactive(VirtualTable.cursor, max(0, place))
        if moved:
            self.call_after_refresh(self._show_cursor)  # the scrollable height follows with the next layout
        self._repaint(before)
        if self.key != key:
            self.post_message(self.Highlighted(self, self.key))

    def select(self, key: Hashable) -> bool:
        """Put the cursor on the row with `key`; False when there is none."""
        for place, row in enumerate(self._rows):
            if row.key == key:
                self.cursor = place
                return True
        return False

    def _repaint(self, before: tuple[Row, ...]) -> None:
        """Refresh only the visible rows that differ, unless most do."""
        top = round(self.scroll_offset.y)
        visible = range(top, top + self.size.height)
        old, new = before, self._rows
        changed = [
            place
            for place in visible
            if (old[place] if place < len(old) else None) != (new[place] if place < len(new) else None)
        ]
        if len(changed) > self.size.height // 2 or not new or not old:
            self.refresh()
            return
        for place in changed:
            self._refresh_row(place)


def _cell(cell: Text | str, width: int, right: bool, style: Style) -> list[Segment]:
    """One cell as segments, cut with an ellipsis and padded to `width`."""
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    text.truncate(width, overflow="ellipsis")
    padding = Segment(" " * max(0, width - text.cell_len), style)
    console_style = style + text.style if isinstance(text.style, Style) else _styled(style, text.style)
    pieces = _spans(text, console_style)
    return [padding, *pieces] if right else [*pieces, padding]


def _styled(base: Style, name: str) -> Style:
    return base + Style.parse(name) if name else base


def _spans(text: Text, base: Style) -> list[Segment]:
    """Segments of a text whose spans carry styles by name or value."""
    if not text.spans:
        return [Segment(text.plain, base)]
    edges = sorted({0, len(text.plain), *(edge for span in text.spans for edge in (span.start, span.end))})
    segments = []
    for start, end in zip(edges, edges[1:], strict=False):
        style = base
        for span in text.spans:
            if span.start <= start and span.end >= end:
                style = style + (span.style if isinstance(span.style, Style) else Style.parse(str(span.style)))
        segments.append(Segment(text.plain[start:end], style))
    return segments
