"""The foreground of `run` on a terminal: one live line that says where the training is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...engine import format as fmt
from ...engine.names import tail
from ...engine.state import RunState, describe_end

if TYPE_CHECKING:
    from ...engine.catalog import Catalog
    from ...engine.run_view import RunView
    from ...engine.rundir import RunDir
    from ...remote.provision.there import Progress

POLL_S = 0.25
NOT_INSTALLED = "No module named 'wavedeck'"
HOW_TO_INSTALL = (
    "The program's own Python has no Wavedeck, which `log` and `log_sample` need: `pip install wavedeck` in the "
    "environment it runs in (docs/samples.md)."
)


def watch(runs: Catalog, run: RunDir, tell: Callable[[], None] = lambda: None) -> RunView:
    """Follow a run until it has ended; returns its last view. Ctrl-C leaves the run alone and raises.

    `tell` is called at every turn: it narrates what becomes of the run's host.

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
        tell()
        time.sleep(POLL_S)
    if live:
        print(file=sys.stderr)
    end = describe_end(view.exit)
    if view.evaluated:
        print(f"{view.id} is evaluated; its training is {view.state}.", file=sys.stderr)
    elif view.state is not RunState.FINISHED:
        print(f"{view.id} {view.state}{f': {fmt.plain(end)}' if end else ''}", file=sys.stderr)
        for line in (view.exit.tail if view.exit else [])[-8:]:
            print(f"  {fmt.plain(line)}", file=sys.stderr)
        if any(NOT_INSTALLED in line for line in (view.exit.tail if view.exit else [])):
            print(HOW_TO_INSTALL, file=sys.stderr)
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


class Narration:
    """How far a launch on another host has come: one line rewritten on a terminal, a line for each change elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        """Whether one line is rewritten."""
        self._told = ""
        self._shown = 0.0

    def show(self, progress: Progress) -> None:
        """Say where it is; called from another thread, often."""
        share = (
            f" {fmt.percent(progress.done / progress.total)}" if progress.done is not None and progress.total else ""
        )
        if self.live:
            now = time.monotonic()
            if progress.text != self._told or now - self._shown > 0.1:
                self._told, self._shown = progress.text, now
                _rewrite(f"{fmt.plain(progress.text, 300)}{share}")
        elif progress.text != self._told:
            self._told = progress.text
            print(fmt.plain(progress.text, 300), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line to others."""
        if self.live and self._told:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
