"""The table of all runs: state, progress, rate, loss sparkline, best, age."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive

from ..engine import format as fmt
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.state import RunState
from .host_words import coarse
from .live_table import Column, LiveTable, Row
from .palette import Palette
from .sparkline import sparkline

PROGRESS_CELLS = 10
COST = 9
"""Which column has the money; there is none while no price is known."""


class RunsTable(LiveTable):
    """Shows `RunView`s, newest first; filters by plain words.

    Reactives
    ---------
    needle: words that must all occur in id, name, recipe, state, host or tags.
    """

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("STATE", 13),
        Column("RUN", 0, least=16),
        Column("WHAT", 12, rank=6),
        Column("STEP", 8, rank=5, right=True),
        Column("PROGRESS", PROGRESS_CELLS + 5, rank=1),
        Column("RATE", 11, rank=7, right=True),
        Column("ETA", 7, rank=2, right=True),
        Column("LOSS", 14, rank=3),
        Column("BEST", 24, rank=4),
        Column("COST", 7, rank=5, right=True),
        Column("HOST", 7, rank=10),
        Column("AGE", 7, rank=8, right=True),
    )

    needle: reactive[str] = reactive("", init=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty="no runs yet: press n to launch one, or run `wavedeck demo`")
        self._views: tuple[RunView, ...] = ()

    def show(self, views: Sequence[RunView]) -> None:
        """Replace what is shown; `views` are oldest first."""
        self._views = tuple(views)
        self._rebuild()

    def watch_needle(self) -> None:
        """Filter as it is typed."""
        self.empty = "no run fits the filter: esc clears it" if self.needle else self.EMPTY
        self._rebuild()
        self.refresh()

    EMPTY = "no runs yet: press n to launch one, or run `wavedeck demo`"

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        super().notify_style_update()
        if self._views:
            self._rebuild()

    def _rebuild(self) -> None:
        palette, now = Palette.of(self.app), time.time()
        words = self.needle.lower().split()
        self.set_columns(columns_for(self._views))
        rows = [_row(view, palette, now) for view in reversed(self._views)]
        if not priced(self._views):
            rows = [replace(row, cells=(*row.cells[:COST], *row.cells[COST + 1 :])) for row in rows]
        self.show_rows([row for row in rows if all(word in row.search for word in words)])


def priced(views: Sequence[RunView]) -> bool:
    """Whether the price of any run is known."""
    return any(view.cost is not None for view in views)


def columns_for(views: Sequence[RunView]) -> tuple[Column, ...]:
    """Room for the age of what cannot be reached; with runs of several machines the host is what tells them apart.

    Costs have a column where a price is known.
    """
    columns = list(RunsTable.COLUMNS)
    if priced(views):
        columns[COST] = replace(columns[COST], width=max(7, *(len(_cost(view)) for view in views)))
    else:
        del columns[COST]
    titles = [column.title for column in columns]
    if any(view.state is RunState.UNREACHABLE for view in views):
        columns[0] = replace(columns[0], width=17)
    if any(view.is_copy for view in views):
        place = titles.index("HOST")
        columns[place] = replace(columns[place], width=min(14, max(7, *(len(view.host) for view in views))), rank=2)
    return tuple(columns)


def _state(view: RunView, palette: Palette, now: float) -> Text:
    """Mark and word; `? unreachable 3m` tells how old the picture is."""
    if view.doubled:
        return Text("‼ runs twice", style=palette.bad)
    if view.moved_to is not None:
        return Text("⇢ moved", style=palette.muted)
    if view.fenced is not None:
        return Text("⊘ fenced", style=palette.warn)
    text = Text(f"{view.state.mark} {view.state}", style=palette.state(view.state))
    since = view.heard or view.last_sign
    if view.state is RunState.UNREACHABLE and since is not None:
        text.append(f" {coarse(now - since)}")
    return text


def _row(view: RunView, palette: Palette, now: float) -> Row:
    manifest = view.manifest
    tags = " ".join(manifest.tags) if manifest else ""
    moved = "moved" if view.moved_to else "fenced" if view.fenced else ""
    search = f"{view.id} {view.name} {view.what} {view.state} {moved} {view.host} {tags}".lower()
    name = Text(tail(view.id), style=Style(bold=True))
    if view.name and view.name != view.what.split(".")[0]:
        name.append(f" {fmt.plain(view.name, 40)}", style=palette.muted)
    return Row(
        view.id,
        (
            _state(view, palette, now),
            name,
            fmt.plain(view.what, 30),
            fmt.count(view.step),
            _progress(view, palette),
            fmt.rate(view.rate, view.unit),
            fmt.duration(view.eta_s),
            sparkline(view.spark, 14),
            _best(view),
            _cost(view),
            fmt.plain(view.host, 14),
            _age(view, now),
        ),
        search,
    )


def _cost(view: RunView) -> str:
    """`$4.10`, or `$4.10/$5` of its budget."""
    if view.cost is None:
        return ""
    budget = view.backup.budget if view.backup is not None else None
    if budget is None:
        return fmt.money(view.cost)
    return f"{fmt.money(view.cost)}/{fmt.money(budget).removesuffix('.00')}"


def _age(view: RunView, now: float) -> str:
    """Coarse, so that a table of finished runs does not change every second."""
    if view.created is None:
        return fmt.MISSING
    seconds = now - view.created
    return fmt.duration(seconds - seconds % 5 if seconds < 60 else seconds - seconds % 60).replace(" 00s", "")


def _progress(view: RunView, palette: Palette) -> Text | str:
    if view.state is RunState.UNREADABLE:
        return Text(fmt.plain(view.problem or "", 60), style=palette.bad)
    if view.done is None or not view.total:
        return fmt.count(view.done) if view.done else ""
    return bar(view.done / view.total, PROGRESS_CELLS, palette)


def bar(fraction: float, cells: int, palette: Palette) -> Text:
    """`━━━━╺─── 42%` in `cells` + 5 characters."""
    fraction = min(1.0, max(0.0, fraction))
    full = round(fraction * cells)
    text = Text("━" * full, style=palette.good)
    text.append("─" * (cells - full), style=palette.muted)
    text.append(f"{100 * fraction:4.0f}%")
    return text


def _best(view: RunView) -> str:
    if view.best is None:
        return ""
    metric, value, _ = view.best
    return f"{fmt.number(value)} {fmt.plain(metric.rsplit('/', 1)[-1], 20)}"
