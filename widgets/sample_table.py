"""`SampleTable`: the items of a set, 100,000 of them as smooth as ten.

Rows are made when they come into view, straight from the set's columns. Order, filter and groups are arrays of row
numbers that the screen computes elsewhere (`engine.samples.order`); this file shows them and keeps its place in them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from ..engine import format as fmt
from ..engine.samples import NO_STEP, SampleColumns
from ..engine.samples.order import Group
from .cell_grid import one_cell
from .live_table import GAP, Column, Row, VirtualTable
from .palette import BOLD, Palette

Ints = npt.NDArray[np.int64]
ID_CELLS, LABEL_CELLS, METRIC_CELLS = 8, 20, 9
BEST = 5
EMPTY = "no samples yet: they appear when the run evaluates"
RISING, FALLING, FOLDED, OPEN = "▲", "▼", "▸", "▾"
NO_GROUP = "without a label"


@dataclass(frozen=True, slots=True)
class GroupKey:
    """The key of a group's header line; None for items without a label."""

    name: str | None


@dataclass(frozen=True, slots=True, eq=False)
class SampleList:
    """What the table shows; replaced as a whole.

    Parameters
    ----------
    columns: the set. rows: numbers into them, filtered and sorted.
    groups: the same rows under headers, or empty.
    metrics: which metrics get a column, in order.
    sort, descending: which column the rows are sorted by, for the arrow in the header.
    ratings: by row, 1…5 or NaN. faults: rows known to be broken beyond what their index line says.
    text_of: the beginning of a row's text as it was written; without it the searchable text is shown.
    steps: whether items of several steps are listed, so that a row says its step.
    """

    columns: SampleColumns = field(default_factory=SampleColumns)
    rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    groups: Sequence[Group] = ()
    metrics: tuple[str, ...] = ()
    sort: str = ""
    descending: bool = True
    ratings: npt.NDArray[np.float64] | None = None
    faults: frozenset[int] = frozenset()
    text_of: Callable[[int], str] | None = None
    steps: bool = False


class SampleTable(VirtualTable):
    """The list. Keys of `Highlighted` and `Chosen` are row numbers of the set, or a `GroupKey` on a header."""

    BINDINGS: ClassVar[list[BindingType]] = [
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
        self._keys: tuple[str, ...] = ()
        self._lines: Ints = np.empty(0, np.int64)
        self._groups: tuple[Group, ...] = ()
        self._folded: set[str | None] = set()
        super().__init__(_columns(self._list)[1], empty=EMPTY, id=id)

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

    def show_samples(self, samples: SampleList, words: str = EMPTY) -> None:
        """Replace what is shown; the cursor stays on its item, and the item on its line of the screen.

        `words` are said where there is nothing (loading, failed, no item fits the filter).
        """
        before, key, anchor = self._list, self.key, self._anchor()
        self._list, self.empty = samples, fmt.plain(words)
        self._groups = tuple(samples.groups)
        self._keys, columns = _columns(samples)
        self.set_columns(columns)
        self._set_lines()
        self._return_to(before, key, anchor)

    def select_row(self, row: int) -> bool:
        """Put the cursor on a row number, unfolding its group; False when it is not listed."""
        place = self._place_of(row)
        if place is None:
            hidden = next((group for group in self._groups if row in group.rows), None)
            if hidden is None:
                return False
            self._folded.discard(hidden.name)
            self._set_lines()
            place = self._place_of(row)
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

    def _place_of(self, row: int) -> int | None:
        found = np.flatnonzero(self._lines == row)
        return int(found[0]) if len(found) else None

    def _anchor(self) -> tuple[Hashable | None, int]:
        """The line that is to stay where it is, as (key, lines below the top): the cursor's, if it is in view."""
        top = round(self.scroll_offset.y)
        below = self.cursor - top
        if not self.row_count or 0 <= below < max(1, self.size.height - 1):
            return self.key, max(0, below)
        return self.row_at(min(top, self.row_count - 1)).key, 0

    def _return_to(self, before: SampleList, key: Hashable | None, anchor: tuple[Hashable | None, int]) -> None:
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
        if self.key != key:
            self.post_message(self.Highlighted(self, self.key))

    def _find(self, before: SampleList, key: Hashable | None) -> int | None:
        columns = self._list.columns
        if isinstance(key, GroupKey):
            number = next((n for n, group in enumerate(self._groups) if group.name == key.name), None)
            return None if number is None else self._place_of(-1 - number)
        if not isinstance(key, int) or key >= len(before.columns):
            return None
        id = before.columns.ids[key]
        if key < len(columns) and columns.ids[key] == id:
            place = self._place_of(key)
            if place is not None:
                return place
            # The same item, evaluated again: its newest row takes the place of this one.
            items = self._lines >= 0
            same = np.zeros(len(self._lines), np.bool_)
            same[items] = columns.id_codes[self._lines[items]] == columns.id_codes[key]
            found = np.flatnonzero(same)
            return int(found[-1]) if len(found) else None
        row = columns.row_of(id)
        return None if row is None else self._place_of(row)

    # --- keys and mouse

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Folding exists only where there are groups."""
        return bool(self._groups) if action == "fold" else super().check_action(action, parameters)

    def action_fold(self) -> None:
        """Fold or unfold the group that the cursor is in."""
        if not self._groups or not self.row_count:
            return
        headers = np.flatnonzero(self._lines[: self.cursor + 1] < 0)
        name = self._groups[int(-1 - self._lines[headers[-1]])].name
        self._folded ^= {name}
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

    def row_at(self, place: int) -> Row:
        """The line at `place`."""
        row = int(self._lines[place])
        if row < 0:
            return Row(GroupKey(self._groups[-1 - row].name), ())
        return Row(row, _cells(self._list, row, self._keys, Palette.of(self.app)))

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
        name = NO_GROUP if group.name is None else fmt.plain(group.name, 60)
        return Strip([Segment(f" {fold} {name}  {fmt.count(len(group.rows))}", style)]).adjust_cell_length(
            self.size.width, style
        )


def _columns(samples: SampleList) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """Sort keys and columns; what the set does not have gets no column."""
    columns = samples.columns
    longest = max((cell_len(fmt.plain(name, LABEL_CELLS)) for name in columns.classes), default=0)
    label = max(9, longest)
    found: list[tuple[str, Column]] = [("", Column("", 1)), ("id", Column("ID", ID_CELLS, rank=4))]
    if samples.steps:
        found.append(("step", Column("STEP", 7, rank=5, right=True)))
    if len(columns) and (columns.label_codes >= 0).any():
        found.append(("label", Column("TARGET", label, rank=1)))
    if len(columns) and (columns.predicted_codes >= 0).any():
        found.append(("predicted", Column("PREDICTED", label + 2, rank=2)))
    for place, name in enumerate(samples.metrics):
        title = one_cell(fmt.plain(name).rsplit("/", 1)[-1].upper(), 12)
        rank = 0 if name == samples.sort else 6 + place
        found.append((name, Column(title, max(METRIC_CELLS, len(title) + 1), rank=rank, right=True)))
    found.append(("seconds", Column("LENGTH", 8, rank=20, right=True)))
    if samples.ratings is not None:
        found.append(("rating", Column("RATING", BEST + 1, rank=7)))
    found.append(("", Column("TEXT", 0, rank=8, least=12)))
    keys = tuple(key for key, _ in found)
    arrow = FALLING if samples.descending else RISING
    shown = [_with_arrow(column, arrow) if key and key == samples.sort else column for key, column in found]
    return keys, tuple(shown)


def _with_arrow(column: Column, arrow: str) -> Column:
    title = f"{column.title[: max(1, column.width - 1)]}{arrow}"
    return Column(title, column.width, column.rank, column.right, column.least)


def _cells(samples: SampleList, row: int, keys: Sequence[str], palette: Palette) -> tuple[Text | str, ...]:
    """The cells of a row, one for each column."""
    columns = samples.columns
    cells: list[Text | str] = []
    for place, key in enumerate(keys):
        if place == 0:
            broken = bool(columns.broken[row]) or row in samples.faults
            cells.append(Text("!", palette.bad + BOLD) if broken else "")
        elif key == "id":
            cells.append(Text(fmt.plain(columns.ids[row])[:ID_CELLS], palette.muted))
        elif key == "step":
            step = int(columns.steps[row])
            cells.append(fmt.MISSING if step == NO_STEP else str(step))
        elif key in ("label", "predicted"):
            cells.append(_class_cell(columns, row, key, palette))
        elif key == "seconds":
            cells.append(Text(_seconds(float(columns.seconds[row])), palette.muted))
        elif key == "rating":
            cells.append(_stars(samples.ratings, row, palette))
        elif key:
            cells.append(_metric(columns, row, key, palette))
        else:
            text = samples.text_of(row) if samples.text_of is not None else columns.texts[row]
            cells.append(Text(fmt.plain(text, 200), palette.muted))
    return tuple(cells)


def _class_cell(columns: SampleColumns, row: int, key: str, palette: Palette) -> Text:
    """The target's or the predicted class; a wrong prediction has a sign as well as a colour."""
    target, predicted = int(columns.label_codes[row]), int(columns.predicted_codes[row])
    code = target if key == "label" else predicted
    if code < 0:
        return Text(fmt.MISSING, palette.muted)
    name = fmt.plain(columns.classes[code], LABEL_CELLS)
    if key == "label" or target < 0:
        return Text(name, palette.text)
    return Text(f"✓ {name}", palette.good) if target == predicted else Text(f"✗ {name}", palette.bad)


def _metric(columns: SampleColumns, row: int, key: str, palette: Palette) -> Text:
    values = columns.metrics.get(key)
    if values is None or np.isnan(values[row]):
        return Text(fmt.MISSING, palette.muted)
    return Text(fmt.number(float(values[row])), palette.text)


def _stars(ratings: npt.NDArray[np.float64] | None, row: int, palette: Palette) -> Text:
    if ratings is None or row >= len(ratings) or np.isnan(ratings[row]):
        return Text("")
    count = int(min(max(ratings[row], 0), BEST))
    return Text("★" * count + "☆" * (BEST - count), palette.accent)


def _seconds(value: float) -> str:
    if np.isnan(value):
        return fmt.MISSING
    return f"{value:.2f}s" if value < 60 else fmt.duration(value)
