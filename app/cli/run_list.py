"""The table of `wavedeck ps`, in plain columns: importing rich's tables costs more than reading 200 runs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...engine import format as fmt
from ...engine.batch_view import BatchView, batches, grouped
from ...engine.queue import ordinal, places
from ...engine.state import RunState

if TYPE_CHECKING:
    from ...engine.run_view import RunView

TITLES = ("STATE", "RUN", "WHAT", "HOST", "PROGRESS", "RATE", "ETA", "BEST", "AGE")
HOST = TITLES.index("HOST")
GAP = "  "
_SGR = {
    RunState.RUNNING: "1;32",
    RunState.STARTING: "32",
    RunState.STALLED: "1;33",
    RunState.UNREACHABLE: "33",
    RunState.FINISHED: "36",
    RunState.FAILED: "1;31",
    RunState.KILLED: "1;31",
    RunState.VANISHED: "31",
    RunState.UNREADABLE: "31",
}


def progress_words(view: RunView) -> str:
    """`412/1,200 step (34%)`, or only what is known."""
    if view.done is None:
        return fmt.MISSING
    if view.total and view.unit != "step" and not view.state.active and view.state is not RunState.FINISHED:
        counted = f"{fmt.count(view.done)}/{fmt.count(view.total)} {view.unit}"  # no share: it is not the training's
        return f"{fmt.plain(view.activity, 30)} {counted}".strip()
    if view.total:
        return f"{fmt.count(view.done)}/{fmt.count(view.total)} {view.unit} ({fmt.percent(view.done / view.total)})"
    return f"{fmt.count(view.done)} {view.unit}"


def best_words(view: RunView) -> str:
    """`val/loss 0.312 @ 400`."""
    if view.best is None:
        return fmt.MISSING
    metric, value, step = view.best
    return f"{fmt.plain(metric, 40)} {fmt.number(value)}" + (f" @ {fmt.count(step)}" if step is not None else "")


def print_runs(views: Sequence[RunView], among: Sequence[RunView] | None = None) -> None:
    """All runs, newest last; on a terminal coloured and cut to its width. Hosts are named where there are others.

    The runs of a batch stand below its heading, which counts and judges all of them.

    Parameters
    ----------
    among: all runs, where `views` are only some: what headings and places in the queue are told from.
    """
    now, everything = time.time(), views if among is None else among
    known, turns = batches(everything), places(everything)
    several = len({view.what for view in views}) > 1
    rows: list[tuple[str, ...]] = []
    colours: list[str] = []
    for item in grouped(views):
        members = item.members if isinstance(item, BatchView) else (item,)
        if isinstance(item, BatchView):
            rows.append(_heading(known.get(item.id, item), now))
            colours.append("1")
        for view in members:
            cells = _cells(view, now, turns.get(view.id), several=several)
            rows.append((cells[0], f"  {view.id}", *cells[2:]) if isinstance(item, BatchView) else cells)
            colours.append(_SGR.get(view.state, ""))
    titles: tuple[str, ...] = TITLES
    if not any(view.is_copy for view in views):
        titles, rows = _without_host(titles), [_without_host(row) for row in rows]
    print_table(titles, rows, colours)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str] = ()) -> None:
    """Plain columns; on a terminal cut to its width, and the first cell of each row coloured (SGR codes)."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if live else 10_000
    colour = live and "NO_COLOR" not in os.environ
    print(_paint(_cut(_line(titles, widths), width), "2", colour))
    for place, row in enumerate(rows):
        line = _cut(_line(row, widths), width)
        mark = len(row[0])
        print(_paint(line[:mark], colours[place] if colours else "", colour) + line[mark:])


def _heading(batch: BatchView, now: float) -> tuple[str, ...]:
    """The line above the runs of a batch: how many have ended, which states they are in, the best so far."""
    best, what = batch.best, batch.members[0].what
    reached = f"{best_words(best)} {fmt.plain(best.name, 40)}" if best is not None else fmt.MISSING
    age = fmt.duration(now - batch.created if batch.created else None)
    ended = f"▤ {batch.ended}/{batch.total}"
    return (ended, batch.id, fmt.plain(what, 24), "", batch.words, fmt.MISSING, fmt.MISSING, reached, age)


def _state(view: RunView) -> str:
    """One that goes on elsewhere says so, whatever became of what was left of it."""
    if view.moved_to is None:
        return f"{view.state.mark} {view.state}"
    return f"‼ runs twice: {view.state}" if view.doubled else "→ moved"


def _what(view: RunView, several: bool) -> str:
    """What was chosen; the recipe is named where nothing was, and where `several` are listed."""
    words = f"{view.what} {view.choices}" if several or not view.choices else view.choices
    return fmt.plain(words.strip(), 40)


def _cells(view: RunView, now: float, place: int | None = None, *, several: bool = True) -> tuple[str, ...]:
    unreadable = view.state is RunState.UNREADABLE
    away = view.state is RunState.UNREACHABLE and view.moved_to is None
    silent = now - view.heard if away and view.heard is not None else None
    return (
        _state(view)
        + ("" if silent is None else f" {fmt.duration(silent)}")
        + ("" if place is None else f", {ordinal(place)}"),
        view.id,
        _what(view, several),
        fmt.plain(view.host, 24),
        fmt.plain(view.problem or "", 100) if unreadable else progress_words(view),
        fmt.rate(view.rate, view.unit),
        fmt.duration(view.eta_s),
        best_words(view),
        fmt.duration(now - view.created if view.created else None),
    )


def _cut(line: str, width: int) -> str:
    """A line that fits; one that was cut says so, since half a number is a wrong one."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _without_host(cells: tuple[str, ...]) -> tuple[str, ...]:
    return cells[:HOST] + cells[HOST + 1 :]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _paint(text: str, sgr: str, colour: bool) -> str:
    return f"\x1b[{sgr}m{text}\x1b[0m" if colour and sgr else text
