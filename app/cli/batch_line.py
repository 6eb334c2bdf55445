"""A batch in the terminal: one live line while it runs, and the table of its results."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from ...engine import format as fmt
from ...engine.batch_view import BatchView, headline_value, is_over
from ...engine.queue import ordinal
from ...engine.run_view import RunView
from ...engine.rundir import Home, RunDir
from ...engine.state import describe_end
from .common import catalog
from .live_line import _rewrite, words
from .queueing import ENSURE_S, POLL_S, deadline_of, look_at
from .run_list import print_table


def watch_batch(home: Home, batch: str, timeout: float | None = None, *, quiet: bool = False) -> BatchView:
    """Follow a batch until its last run has ended, or time is up; its view then. Ctrl-C leaves it alone and raises.

    On a terminal one line is rewritten; elsewhere a line is written for each run that ends.
    """
    from ...remote.queue.lock import ensure_runner

    live, deadline = sys.stderr.isatty() and not quiet, deadline_of(timeout)
    runs, view = catalog(), look_at(home, batch)
    told = {run.id for run in view.members if is_over(run)} if quiet else set()
    ensured = 0.0
    while True:
        for run in view.members if not live and not quiet else ():
            if is_over(run) and run.id not in told:
                told.add(run.id)
                print(f"{len(told)}/{view.total} {ended_words(run)}", file=sys.stderr, flush=True)
        if live:
            _rewrite(batch_words(view))
        if view.is_over or (deadline is not None and time.monotonic() >= deadline):
            break
        if time.monotonic() - ensured > ENSURE_S:
            ensured = time.monotonic()
            ensure_runner(home)
        time.sleep(POLL_S)
        view = replace(
            view,
            members=tuple(run if is_over(run) else runs.view(RunDir(run.dir)) for run in view.members),
        )
        view = replace(view, members=tuple(run for run in view.members if run.dir.exists()))
    if live:
        print(file=sys.stderr)
    return view


def batch_words(view: BatchView) -> str:
    """`3/12 hts_at ia3  ▶ running  brisk-heron …  best 0.61 ast lora`."""
    current, best = view.current, view.best
    place = min(view.ended + 1, view.total)
    text = f"{place}/{view.total} "
    text += f"{fmt.plain(current.name, 40)}  {words(current)}" if current is not None else view.words
    if best is not None and (current is None or best.id != current.id):
        value = headline_value(best, view.headline)
        text += f"  best so far {fmt.number(value)} {fmt.plain(best.name, 40)}"
    return text


def ended_words(view: RunView) -> str:
    """`hts_at ia3 finished  val/balanced_accuracy 0.61`."""
    end = describe_end(view.exit)
    text = (
        f"{fmt.plain(view.name, 40)} {view.state}{f' ({fmt.plain(end)})' if end and view.state != 'finished' else ''}"
    )
    return text + (f"  {view.best[0]} {fmt.number(view.best[1])}" if view.best is not None else "")


def print_batch(view: BatchView) -> None:
    """The batch's runs, the best first, with what each reached."""
    headline = view.headline
    title = (headline.metric if headline else "best").upper()
    waiting = {run.id: place for place, run in enumerate((r for r in view.members if r.state == "queued"), 1)}
    rows = []
    for run in view.ranked:
        value = headline_value(run, headline)
        state = f"{run.state.mark} {run.state}"
        state += f", {ordinal(waiting[run.id])} of the batch" if run.id in waiting and view.ended < view.total else ""
        rows.append(
            (
                fmt.plain(run.name, 40),
                state,
                fmt.number(value) if value is not None else fmt.MISSING,
                fmt.count(run.best[2]) if value is not None and run.best is not None else fmt.MISSING,
                fmt.duration(run.ran_s),
                run.id,
            )
        )
    print(f"{view.id}: {view.words}")
    print_table(("NAME", "STATE", fmt.plain(title, 40), "STEP", "TOOK", "RUN"), rows)
