"""`SampleTable`: the items of a set, 100,000 of them as smooth as ten.

Rows are made when they come into view, straight from the set's columns. Order, filter and groups are arrays of row
numbers that the screen computes elsewhere (`engine.samples.order`); this file shows them and keeps its place in them.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from ..engine import format as fmt
from ..engine.samples.order import Group
from .live_table import GAP, Column, Row, VirtualTable
from .palette import Palette
from .sample_list import SampleList, cells_of, columns_of

Ints = npt.NDArray[np.int64]
_Place = tuple[Hashable | None, str | None]
"""Key of a line, and the group that it stands in."""
NARROW_LABEL = 12
"""What the two classes are cut to before one of them is left out: a mistake needs both."""
EMPTY = "no samples yet: they appear when the run evaluates"
WISHED_TEXT = 28
FOLDED, OPEN = "▸", "▾"
NO_GROUP = {"label": "without a label", "predicted": "without a prediction", "tag": "without a tag"}


@dataclass(frozen=True, slots=True)
class GroupKey:
    """The key of a group's header line; None for items without a label."""

    name: str | None


class SampleTable(VirtualTable):
    """The list. Keys of `Highlighted` and `Chosen` are row numbers of the set, or a `GroupKey` on a header."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", show=False, id="samples.open", tooltip="Play the item; on a group, fold it"),
        Binding("left,right", "fold", "Fold", show=False, id="samples.fold", tooltip="Fold or unfold the group"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"sample-table--group"}
    DEFAULT_CSS = """
    SampleTable > .sample-table--group { background: $panel; text-style: bold; }
    """

    class SortWanted(Message):
        """A click on a header: sort by `key`, or turn the order round when it is sorted by it."""

        def __init__(self, table: SampleTable, key: str) -> None:
            super().__init__()
            self.table, self.key = table, key

        @property
        def control(self) -> SampleTable:
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        self._list = SampleList()
        self._keys, columns = columns_of(self._list)
        self._lines: Ints = np.empty(0, np.int64)
        self._groups: tuple[Group, ...] = ()
        self._folded: set[str | None] = set()
        super().__init__(columns, empty=EMPTY, id=id)

    # --- public verbs

    @property
    def samples(self) -> SampleList:
        """What is shown."""
        return self._list

    @property
    def row_count(self) -> int:
        """Lines, headers included."""
        return len(self._lines)

    @property
    def item_row(self) -> int | None:
        """The row number under the cursor; None on a header and in an empty table."""
        key = self.key
        return key if isinstance(key, int) else None

    @property
    def on_header(self) -> bool:
        """Whether the cursor stands on the header of a group."""
        return isinstance(self.key, GroupKey)

    def show_samples(self, samples: SampleList, words: str = EMPTY) -> None:
        """Replace what is shown; the cursor stays on its item, and the item on its line of the screen.

        `words` are said where there is nothing (loading, failed, no item fits the filter).
        """
        before, key, anchor = self._list, self._place_key(self.cursor), self._anchor()
        self._list, self.empty = samples, fmt.plain(words)
        self._groups = tuple(samples.groups)
        self._keys, columns = columns_of(samples)
        self.set_columns(columns)
        self._set_lines()
        self._return_to(before, key, anchor)

    def select_row(self, row: int) -> bool:
        """Put the cursor on a row number, unfolding its group; False when it is not listed."""
        here = self._group_at(self.cursor)
        place = self._place_of(row, here)
        if place is None:
            hidden = next((group for group in self._groups if row in group.rows), None)
            if hidden is None:
                return False
            self._folded.discard(hidden.name)
            self._set_lines()
            place = self._place_of(row, hidden.name)
        self.cursor = place or 0
        return place is not None

    # --- places

    def _set_lines(self) -> None:
        """Rows, and -1, -2 … for the header of the first, second … group."""
        if not self._groups:
            self._lines = np.asarray(self._list.rows, np.int64)
        else:
            parts: list[Ints] = []
            for number, group in enumerate(self._groups):
                parts.append(np.array([-1 - number], np.int64))
                if group.name not in self._folded:
                    parts.append(np.asarray(group.rows, np.int64))
            self._lines = np.concatenate(parts)
        self.virtual_size = Size(0, self.row_count + 1)

    def _place_of(self, row: int, group: str | None = None) -> int | None:
        """The line of a row: by tag it may stand in several groups, and the one in `group` is meant if there is one."""
        found = np.flatnonzero(self._lines == row)
        if not len(found):
            return None
        return next((place for place in found.tolist() if self._group_at(place) == group), int(found[0]))

    def _group_at(self, place: int) -> str | None:
        """The name of the group that a line belongs to; None without groups, and for items without a label."""
        headers = np.flatnonzero(self._lines[: place + 1] < 0)
        return self._groups[int(-1 - self._lines[headers[-1]])].name if len(headers) else None

    def _place_key(self, place: int) -> _Place:
        """What stands on a line, and in which group."""
        if not 0 <= place < self.row_count:
            return None, None
        return self.row_at(place).key, self._group_at(place)

    def _anchor(self) -> tuple[_Place, int]:
        """The line that is to stay where it is, as (key, lines below the top): the cursor's, if it is in view."""
        top = round(self.scroll_offset.y)
        below = self.cursor - top
        if not self.row_count or 0 <= below < max(1, self.size.height - 1):
            return self._place_key(self.cursor), max(0, below)
        return self._place_key(min(top, self.row_count - 1)), 0

    def _return_to(self, before: SampleList, key: _Place, anchor: tuple[_Place, int]) -> None:
        """The cursor on the same item: the same row, or the newest of its id, or its place."""
        place = self._find(before, key)
        if place is None:
            place = max(0, min(self.cursor, self.row_count - 1))
        self.set_reactive(VirtualTable.cursor, place)
        still, below = anchor
        line = place if still == key else self._find(before, still)
        if line is not None:
            self.scroll_to(y=max(0, line - below), animate=False, immediate=True, force=True)
        self.refresh()
        if self.key != key[0]:
            self.post_message(self.Highlighted(self, self.key))

    def _find(self, before: SampleList, wanted: _Place) -> int | None:
        columns, (key, group) = self._list.columns, wanted
        if isinstance(key, GroupKey):
            number = next((n for n, found in enumerate(self._groups) if found.name == key.name), None)
            return None if number is None else self._place_of(-1 - number)
        if not isinstance(key, int) or key >= len(before.columns):
            return None
        id = before.columns.ids[key]
        if key < len(columns) and columns.ids[key] == id:
            place = self._place_of(key, group)
            if place is not None:
                return place
            # The same item, evaluated again: its newest row takes the place of this one.
            items = self._lines >= 0
            same = np.zeros(len(self._lines), np.bool_)
            same[items] = columns.id_codes[self._lines[items]] == columns.id_codes[key]
            found = np.flatnonzero(same)
            same_group = [place for place in found.tolist() if self._group_at(place) == group]
            return int((same_group or found)[-1]) if len(found) else None
        row = columns.row_of(id)
        return None if row is None else self._place_of(row, group)

    # --- keys and mouse

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Folding exists only where there are groups."""
        return bool(self._groups) if action == "fold" else super().check_action(action, parameters)

    def action_fold(self) -> None:
        """Fold or unfold the group that the cursor is in."""
        if not self._groups or not self.row_count:
            return
        headers = np.flatnonzero(self._lines[: self.cursor + 1] < 0)
        self._folded ^= {self._group_at(self.cursor)}
        self._set_lines()
        self.cursor = int(headers[-1])
        self.refresh()

    def action_choose(self) -> None:
        """Open an item; fold or unfold a group."""
        if isinstance(self.key, GroupKey):
            self.action_fold()
        else:
            super().action_choose()

    def on_click(self, event: events.Click) -> None:
        """A click on the header asks for an order."""
        if event.y != 0:
            return
        event.prevent_default()
        x = 1
        for number, _, width in self._fit(self.size.width):
            if x <= event.x < x + width + GAP and self._keys[number]:
                self.post_message(self.SortWanted(self, self._keys[number]))
                return
            x += width + GAP

    # --- rendering

    def _fit(self, width: int) -> list[tuple[int, Column, int]]:
        """Narrower classes before one class only, and texts before lengths."""
        if self._layout.width == width:
            return self._layout.places
        places, kept = super()._fit(width), self.columns
        places = self._with_text(places)
        classes = {number for number, key in enumerate(self._keys) if key in ("label", "predicted")}
        if not classes <= {number for number, _, _ in places}:
            self.columns = tuple(
                replace(column, width=min(column.width, NARROW_LABEL)) if number in classes else column
                for number, column in enumerate(kept)
            )
            self._layout = type(self._layout)()
            places = super()._fit(width)
            self.columns = kept
        return places

    def _with_text(self, places: list[tuple[int, Column, int]]) -> list[tuple[int, Column, int]]:
        """A text that one can read is worth more than the length of the clip."""
        text = next((cells for _, column, cells in places if not column.width), WISHED_TEXT)
        lengths = [(number, cells) for number, _, cells in places if self._keys[number] == "seconds"]
        if text >= WISHED_TEXT or not lengths or self._list.sort == "seconds":
            return places
        gone, freed = lengths[0]
        kept = [
            (number, column, cells if column.width else cells + freed + GAP)
            for number, column, cells in places
            if number != gone
        ]
        self._layout.places = kept
        return kept

    def row_at(self, place: int) -> Row:
        """The line at `place`."""
        row = int(self._lines[place])
        if row < 0:
            return Row(GroupKey(self._groups[-1 - row].name), ())
        return Row(row, cells_of(self._list, row, self._keys, Palette.of(self.app)))

    def render_line(self, y: int) -> Strip:
        """Headers of groups go across the columns; everything else is the table's."""
        place = y - 1 + round(self.scroll_offset.y)
        if y > 0 and place < self.row_count and self._lines[place] < 0:
            return self._group_line(place)
        return super().render_line(y)

    def _group_line(self, place: int) -> Strip:
        group = self._groups[int(-1 - self._lines[place])]
        style = self.rich_style + self.get_component_rich_style("sample-table--group")
        if place == self.cursor:
            style += self.get_component_rich_style(f"live-table--cursor{'' if self.has_focus else '-blurred'}")
        fold = FOLDED if group.name in self._folded else OPEN
        nothing = NO_GROUP.get(self._list.grouped, NO_GROUP["label"])
        name = nothing if group.name is None else fmt.plain(group.name, 60)
        return Strip([Segment(f" {fold} {name}  {fmt.count(len(group.rows))}", style)]).adjust_cell_length(
            self.size.width, style
        )
