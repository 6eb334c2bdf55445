"""The foreground of `run` on a terminal: one live line that says where the training is."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ...engine import format as fmt
from ...engine.names import tail
from ...engine.state import RunState, describe_end

if TYPE_CHECKING:
    from ...engine.catalog import Catalog
    from ...engine.run_view import RunView
    from ...engine.rundir import RunDir

POLL_S = 0.25


def watch(runs: Catalog, run: RunDir) -> RunView:
    """Follow a run until it has ended; returns its last view. Ctrl-C leaves the run alone and raises.

    On a terminal one line is rewritten; elsewhere a line is written for every phase and new best.
    """
    live = sys.stderr.isatty()
    told: tuple[object, ...] = ()
    while True:
        view = runs.view(run)
        ended = not view.state.active and view.state is not RunState.QUEUED
        if live:
            _rewrite(words(view))
        else:
            news = (view.phase, view.state if ended else None, view.best)
            if news != told:
                told = news
                print(words(view), file=sys.stderr, flush=True)
        if ended:
            break
        time.sleep(POLL_S)
    if live:
        print(file=sys.stderr)
    end = describe_end(view.exit)
    if view.state is not RunState.FINISHED:
        print(f"{view.id} {view.state}{f': {fmt.plain(end)}' if end else ''}", file=sys.stderr)
        for line in (view.exit.tail if view.exit else [])[-8:]:
            print(f"  {fmt.plain(line)}", file=sys.stderr)
    return view


def words(view: RunView) -> str:
    """`▶ running  brisk-heron  train  412/1,200 step (34%)  3.2 step/s  ETA 4m 02s  best val/loss 0.31 @ 400`."""
    parts = [f"{view.state.mark} {view.state}", tail(view.id)]
    if view.phase:
        parts.append(fmt.plain(view.phase, 20))
    if view.done is not None:
        total = (
            f"/{fmt.count(view.total)} {view.unit} ({fmt.percent(view.done / view.total)})"
            if view.total
            else f" {view.unit}"
        )
        parts.append(f"{fmt.count(view.done)}{total}")
    if view.rate:
        parts.append(fmt.rate(view.rate, view.unit))
    if view.eta_s is not None:
        parts.append(f"ETA {fmt.duration(view.eta_s)}")
    if view.best:
        metric, value, step = view.best
        parts.append(f"best {metric} {fmt.number(value)}" + (f" @ {fmt.count(step)}" if step is not None else ""))
    return "  ".join(parts)


def _rewrite(line: str) -> None:
    import shutil

    width = shutil.get_terminal_size().columns
    sys.stderr.write(f"\r\x1b[K{line[: width - 1]}")
    sys.stderr.flush()
