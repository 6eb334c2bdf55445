"""The loss table as a widget: best-so-far marked, the change since the row before beside each value."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.geometry import Size

from ..engine import format as fmt
from ..engine.loss_table import EMPTY, LossTable
from .live_table import Column, Row, VirtualTable
from .palette import Palette

VALUE_WIDTH = 19


class LossView(VirtualTable):
    """Rows of a `LossTable`; only the visible ones are ever formatted, so a million rows cost nothing."""

    OPENS: ClassVar[bool] = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__((), id=id, follow=True, empty="no metrics yet: rows appear with the first validation")
        self._table: LossTable = EMPTY
        self._palette: Palette | None = None

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self._table)

    def show(self, table: LossTable) -> None:
        """Replace the table; the cursor follows the newest row while it stands there."""
        if table is self._table:
            return
        at_end = not self.row_count or self.cursor >= self.row_count - 1
        self._table = table
        self.set_columns(_columns(table))
        self.virtual_size = Size(0, len(table) + 1)
        if at_end:
            self.set_reactive(VirtualTable.cursor, max(0, len(table) - 1))
            self.call_after_refresh(self._show_cursor)
        self.refresh()

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        self._palette = None
        super().notify_style_update()

    def row_at(self, place: int) -> Row:
        """One formatted row."""
        palette = self._palette = self._palette or Palette.of(self.app)
        table = self._table
        epoch = float(table.epoch[place])
        cells: list[Text | str] = [
            fmt.number(epoch, 3) if epoch == epoch else fmt.MISSING,
            fmt.count(int(table.step[place])),
            fmt.duration(float(table.t[place] - table.t[0])),
        ]
        cells += [self._value(name, place, palette) for name in table.columns]
        return Row(place, tuple(cells))

    def _value(self, name: str, place: int, palette: Palette) -> Text:
        table = self._table
        if not table.known[name][place]:
            return Text(fmt.MISSING, style=palette.muted)
        value = float(table.values[name][place])
        best, record = table.best[name] == place, bool(table.record[name][place])
        mark = "★" if best else "•" if record else " "
        style = palette.good + Style(bold=True) if best else palette.good if record else Style()
        if value != value:
            mark, style = "×", palette.bad + Style(bold=True)
        text = Text(f"{mark}{fmt.number(value)}", style=style)
        text.append(f" {fmt.change(value, table.before(name, place)):<8}", style=palette.muted)
        return text


def _columns(table: LossTable) -> tuple[Column, ...]:
    values = [Column(name, max(VALUE_WIDTH, len(name)), rank=5 + n, right=True) for n, name in enumerate(table.columns)]
    return (
        Column("EPOCH", 6, rank=2, right=True),
        Column("STEP", 9, right=True),
        Column("TIME", 8, rank=4, right=True),
        *values,
    )
