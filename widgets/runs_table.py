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
from ..engine.batch_view import BatchView, batches, grouped
from ..engine.names import tail
from ..engine.queue import ordinal, places
from ..engine.run_view import RunView
from ..engine.state import RunState
from .batch_rows import heading
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
    needle: words that must all occur in id, name, recipe, choices of groups, state, host or tags.
    marked: ids of runs that are to be compared.

    The runs of a batch stand below a heading, whose key is the batch's id; `fold` hides them. A batch that is over when
    it is first seen is folded.
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
    marked: reactive[frozenset[str]] = reactive[frozenset[str]](frozenset(), init=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty="no runs yet: press n to launch one, or run `wavedeck demo`")
        self._views: tuple[RunView, ...] = ()
        self._batches: dict[str, BatchView] = {}
        self._folded: set[str] = set()

    @property
    def chosen_batch(self) -> BatchView | None:
        """The batch under the cursor, where that stands on a heading."""
        return self._batches.get(str(self.key))

    def fold(self, batch_id: str) -> None:
        """Hide the runs of a batch, or show them again."""
        self._folded ^= {batch_id}
        self._rebuild()

    def show(self, views: Sequence[RunView]) -> None:
        """Replace what is shown; `views` are oldest first."""
        self._views = tuple(views)
        known, self._batches = self._batches, batches(views)
        self._folded |= {batch.id for batch in self._batches.values() if batch.is_over and batch.id not in known}
        self._rebuild()

    def watch_needle(self) -> None:
        """Filter as it is typed."""
        self.empty = "no run fits the filter: esc clears it" if self.needle else self.EMPTY
        self._rebuild()
        self.refresh()

    def watch_marked(self) -> None:
        """Marks stand before the names."""
        self._rebuild()

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
        turns = places(self._views)
        rows: list[Row] = []
        for item in reversed(grouped(self._views)):
            if isinstance(item, BatchView):
                rows += self._batch_rows(item, palette, now, turns, words)
            else:
                rows.append(_row(item, palette, now, item.id in self.marked, turns.get(item.id)))
        if not priced(self._views):
            rows = [replace(row, cells=(*row.cells[:COST], *row.cells[COST + 1 :])) for row in rows]
        self.show_rows([row for row in rows if all(word in row.search for word in words)])

    def _batch_rows(
        self, batch: BatchView, palette: Palette, now: float, turns: dict[str, int], words: list[str]
    ) -> list[Row]:
        """The heading and, unless it is folded, its runs in the order of the queue. A filter looks into folded ones."""
        folded = batch.id in self._folded and not words
        progress = bar(batch.ended / batch.total, PROGRESS_CELLS, palette)
        rows = [heading(batch, palette, progress, folded, _age(batch.members[0], now))]
        if not folded:
            rows += [
                _row(view, palette, now, view.id in self.marked, turns.get(view.id), "  ") for view in batch.members
            ]
        return rows


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
    elif len(places(views)) > 9:
        columns[0] = replace(columns[0], width=14)
    if any(view.is_copy for view in views):
        place = titles.index("HOST")
        columns[place] = replace(columns[place], width=min(14, max(7, *(len(view.host) for view in views))), rank=2)
    return tuple(columns)


def _state(view: RunView, palette: Palette, now: float, place: int | None = None) -> Text:
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
    if place is not None:
        text.append(f", {ordinal(place)}")
    return text


def _row(
    view: RunView, palette: Palette, now: float, marked: bool = False, place: int | None = None, indent: str = ""
) -> Row:
    manifest = view.manifest
    tags = " ".join(manifest.tags) if manifest else ""
    moved = "moved" if view.moved_to else "fenced" if view.fenced else ""
    search = f"{view.id} {view.name} {view.what} {view.choices} {view.state} {moved} {view.host} {tags}".lower()
    name = Text(f"{indent}◉ " if marked else indent, style=palette.accent)
    name.append(tail(view.id), style=palette.text + Style(bold=True))
    if view.label:
        name.append(f" {fmt.plain(view.label, 60)}", style=palette.muted)
    return Row(
        view.id,
        (
            _state(view, palette, now, place),
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
    if broke_off(view) and view.unit != "step":  # a full bar would look like a training that came to its end
        counted = f"{fmt.count(view.done)}/{fmt.count(view.total)} {fmt.plain(view.unit, 20)}"
        return Text(counted, style=palette.state(view.state))
    return bar(view.done / view.total, PROGRESS_CELLS, palette, bar_style(view, palette))


def broke_off(view: RunView) -> bool:
    """Whether it ended before it was done."""
    return view.state in _BROKEN


def bar_style(view: RunView, palette: Palette) -> Style:
    """Of the bar: a run that ended before it was done has the colour of its state."""
    return palette.state(view.state) if broke_off(view) else palette.good


_BROKEN = frozenset({RunState.FAILED, RunState.STOPPED, RunState.KILLED, RunState.VANISHED})


def bar(fraction: float, cells: int, palette: Palette, style: Style | None = None) -> Text:
    """`━━━━╺─── 42%` in `cells` + 5 characters."""
    fraction = min(1.0, max(0.0, fraction))
    full = round(fraction * cells)
    text = Text("━" * full, style=palette.good if style is None else style)
    text.append("─" * (cells - full), style=palette.muted)
    text.append(f"{100 * fraction:4.0f}%")
    return text


def _best(view: RunView) -> str:
    if view.best is None:
        return ""
    metric, value, _ = view.best
    return f"{fmt.number(value)} {fmt.plain(metric.rsplit('/', 1)[-1], 20)}"
