"""`CompareTable`: compared runs as rows, what differs and what came out as columns; the best of each has a star."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from ..engine import format as fmt
from ..engine.comparing import Column as Compared
from ..engine.comparing import ComparedRun, Comparison
from ..engine.comparing.fit import fit
from ..engine.comparing.table import best_run
from .live_table import GAP, Column, LiveTable, Row
from .palette import Palette
from .plotting.canvas import plain_text

MOST_CELL = 44
EMPTY = "no runs to compare"


class CompareTable(LiveTable):
    """Shows a comparison sorted by one of its columns; columns that do not fit are further right, `→` goes there.

    Messages
    --------
    Fitted: other columns are shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "columns(1)", "Columns →", show=False, id="compared.right", tooltip="Columns further right"),
        Binding("left,h", "columns(-1)", "Columns ←", show=False, id="compared.left", tooltip="Columns further left"),
    ]

    class Fitted(Message):
        """Other columns are shown, or another number of them is not."""

        def __init__(self, table: CompareTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> CompareTable:
            """The table."""
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__((Column("RUN", 0),), id=id, empty=EMPTY)
        self._shown: tuple[Comparison, tuple[ComparedRun, ...], tuple[Compared, ...], str] | None = None
        self._skip = self._more = 0
        self._told = ""

    def show(
        self, comparison: Comparison, runs: Sequence[ComparedRun], columns: Sequence[Compared], sorted_by: str = ""
    ) -> None:
        """Replace what is shown: the runs in this order, these columns; `sorted_by` is the key of one."""
        if self._shown is None or [column.key for column in self._shown[2]] != [column.key for column in columns]:
            self._skip = 0
        self._shown = (comparison, tuple(runs), tuple(columns), sorted_by)
        self._rebuild()

    @property
    def more_words(self) -> str:
        """How many columns are not shown, and on which side; empty when all are."""
        left = f"← {self._skip} column{'s' * (self._skip != 1)}" if self._skip else ""
        right = f"→ {self._more} more column{'s' * (self._more != 1)}" if self._more else ""
        return " ".join(filter(None, (left, right)))

    def action_columns(self, columns: int) -> None:
        """Look further right or left; the run stays."""
        if columns < 0 or self._more:
            self._skip = max(0, self._skip + columns)
            self._rebuild()

    def on_resize(self) -> None:
        """Other columns fit now."""
        super().on_resize()
        self._rebuild()

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        super().notify_style_update()
        if self._shown is not None:
            self._rebuild()

    def _rebuild(self) -> None:
        if self._shown is None:
            return
        comparison, runs, columns, sorted_by = self._shown
        palette = Palette.of(self.app)
        stars = [best_run(comparison, column) for column in columns]
        words = [[fmt.plain(column.words(run), MOST_CELL) for column in columns] for run in runs]
        titles = [title_of(column, sorted_by) for column in columns]
        widths = [max(map(len, cells), default=0) for cells in zip(titles, *words, strict=True)]
        widths = [width + 2 * (star is not None) for width, star in zip(widths, stars, strict=True)]
        room = max(1, self.size.width - 2)
        found = fit(comparison, columns, widths, room, gap=GAP, skip=self._skip, keep=sorted_by)
        widths[:1], self._more = [found.run], found.more
        self.set_columns(
            [
                Column(titles[place], widths[place], right=columns[place].kind not in ("run", "state", "setting"))
                for place in found.places
            ]
        )
        self.show_rows(
            [
                Row(
                    run.id,
                    tuple(self._cell(run, columns[n], cells[n], stars[n], palette) for n in found.places),
                )
                for run, cells in zip(runs, words, strict=True)
            ]
        )
        if self.more_words != self._told:
            self._told = self.more_words
            self.post_message(self.Fitted(self))

    @staticmethod
    def _cell(run: ComparedRun, column: Compared, words: str, star: ComparedRun | None, palette: Palette) -> Text:
        if column.kind == "state":
            return Text(words, style=palette.state(run.state))
        if column.kind == "run":
            return Text(words, style=Style(bold=True))
        if words == fmt.MISSING:
            return Text(words, style=palette.muted)
        if star is not None and star.id == run.id:
            return Text(f"★ {words}", style=palette.good)
        return Text(words, style=palette.bad if words in ("NaN", "+Inf", "-Inf") else palette.text)


def title_of(column: Compared, sorted_by: str) -> str:
    """The head of a column; the one that the rows are sorted by has a triangle."""
    title = plain_text(column.title if "/" in column.title else column.title.upper())
    return f"▾{title}" if column.key == sorted_by else title
