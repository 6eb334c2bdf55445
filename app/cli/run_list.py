"""The table of `wavedeck ps`, in plain columns: importing rich's tables costs more than reading 200 runs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...engine import format as fmt
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
    if view.total:
        return f"{fmt.count(view.done)}/{fmt.count(view.total)} {view.unit} ({fmt.percent(view.done / view.total)})"
    return f"{fmt.count(view.done)} {view.unit}"


def best_words(view: RunView) -> str:
    """`val/loss 0.312 @ 400`."""
    if view.best is None:
        return fmt.MISSING
    metric, value, step = view.best
    return f"{fmt.plain(metric, 40)} {fmt.number(value)}" + (f" @ {fmt.count(step)}" if step is not None else "")


def print_runs(views: Iterable[RunView]) -> None:
    """All runs, newest last; on a terminal coloured and cut to its width. Hosts are named where there are others."""
    shown, now = list(views), time.time()
    rows = [_cells(view, now) for view in shown]
    titles: tuple[str, ...] = TITLES
    if not any(view.is_copy for view in shown):
        titles, rows = _without_host(titles), [_without_host(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if live else 10_000
    colour = live and "NO_COLOR" not in os.environ
    print(_paint(_cut(_line(titles, widths), width), "2", colour))
    for view, row in zip(shown, rows, strict=True):
        line = _cut(_line(row, widths), width)
        mark = len(row[0])
        print(_paint(line[:mark], _SGR.get(view.state, ""), colour) + line[mark:])


def _state(view: RunView) -> str:
    """One that goes on elsewhere says so, whatever became of what was left of it."""
    if view.moved_to is None:
        return f"{view.state.mark} {view.state}"
    return f"‼ runs twice: {view.state}" if view.doubled else "→ moved"


def _cells(view: RunView, now: float) -> tuple[str, ...]:
    unreadable = view.state is RunState.UNREADABLE
    away = view.state is RunState.UNREACHABLE and view.moved_to is None
    silent = now - view.heard if away and view.heard is not None else None
    return (
        _state(view) + ("" if silent is None else f" {fmt.duration(silent)}"),
        view.id,
        fmt.plain(view.what, 24),
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
