"""Batches and the queue: `run -m`, `queue`, and what the other verbs do when they are given a batch."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import ExitCode, UsageError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home
from .common import JsonOption, catalog, print_json, say

if TYPE_CHECKING:
    from ...engine.backup.policy import BackupPolicy
    from ...engine.batch_view import BatchView
    from ...engine.batches import BatchWish
    from ...engine.run_view import RunView
    from ...engine.rundir import RunDir

ACTIONS = ("ls", "start", "pause", "clear")
POLL_S = 0.25
ENSURE_S = 2.0
"""How often a verb that waits for a batch looks whether somebody starts its runs."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command()(queue)


def queue(
    action: Annotated[
        str,
        typer.Argument(
            metavar="[ls|start|pause|clear]",
            help="List what waits; start what waits again; start nothing more; take everything that waits out.",
            autocompletion=lambda: list(ACTIONS),
        ),
    ] = "ls",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before clearing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Runs that wait for their turn on this machine; they are started one after another."""
    from ...engine import queue as engine_queue
    from ...engine.errors import suggestion
    from ...remote.queue.lock import ensure_runner, runner_of

    if action not in ACTIONS:
        hint = suggestion(action, ACTIONS) or f" It knows {', '.join(ACTIONS)}."
        raise UsageError(f"`wavedeck queue` has no {action!r}.{hint}")
    home = Home.default()
    if action in ("start", "pause"):
        engine_queue.pause(home, action == "pause")
        say("the queue goes on." if action == "start" else "the queue is paused; what runs goes on.")
    elif action == "clear":
        _clear(home, yes)
    trouble = None if runner_of(home) is not None else engine_queue.last_trouble(home)
    ensure_runner(home)
    _print_queue(home, trouble, as_json)


def _clear(home: Home, yes: bool) -> None:
    from ...engine.queue import waiting

    runs = waiting(home)
    if not runs:
        say("nothing waits.")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{len(runs)} runs wait; clearing the queue needs a yes: add --yes.")
        if not typer.confirm(f"Take {len(runs)} waiting runs out of the queue? They never begin.", err=True):
            raise typer.Exit(ExitCode.FAILED)
    taken = asyncio.run(_take_out(home, runs))
    say(f"{taken} runs were taken out of the queue.")


async def _take_out(home: Home, runs: Sequence[RunDir]) -> int:
    """The last first, so that none of them is started meanwhile."""
    from ...remote.local import LocalHost
    from ...remote.queue.waiting import take_out

    host = LocalHost(home=home)
    return sum([await take_out(host, run) for run in reversed(runs)])


def _print_queue(home: Home, trouble: str | None, as_json: bool) -> None:
    """What runs and waits, and why what waits does; `trouble` is what a runner said that is not there any more."""
    from ...engine import format as fmt
    from ...engine.batch_view import batch_of
    from ...engine.queue import LOG_FILE, ordinal, queue_runs, read_settings, waiting
    from ...remote.queue.lock import runner_of
    from ...remote.queue.waiting import in_the_way

    runs, paused = catalog(home_far), read_settings(home).paused
    running = [view for view in map(runs.view, queue_runs(home)) if view.state.active]
    waits = waiting(home)
    queued = [runs.view(run) for run in waits]
    busy = in_the_way(home, waits[0]) if waits else None
    if as_json:
        print_json(
            {
                "paused": paused,
                "runner": runner_of(home),
                "trouble": trouble,
                "waits_for": busy.id if busy is not None else None,
                "running": [{"id": view.id, "name": view.name, "batch": batch_of(view)} for view in running],
                "waiting": [
                    {"id": view.id, "name": view.name, "batch": batch_of(view), "place": place}
                    for place, view in enumerate(queued, 1)
                ],
            }
        )
        return
    from .run_list import print_table

    marked = [(f"{view.state.mark} {view.state}", view) for view in running]
    marked += [(f"{view.state.mark} {ordinal(place)}", view) for place, view in enumerate(queued, 1)]
    rows = [(state, view.id, fmt.plain(view.name, 40), batch_of(view) or "") for state, view in marked]
    if rows:
        print_table(("STATE", "RUN", "NAME", "BATCH"), rows)
    else:
        say("nothing runs or waits in the queue: `wavedeck run RECIPE -m field=a,b` fills it.")
    if paused:
        say("the queue is paused: `wavedeck queue start` goes on.")
    elif busy is not None and busy.id not in {view.id for view in running}:
        say(f"the first waits for {busy.id} to end: it is not of the queue, and uses the same GPUs.")
    if trouble is not None and not paused:
        say(f"nobody started what waits. The last line of {home.root / LOG_FILE} is: {trouble}. It is tried again now.")


def home_far(host: str, run_id: str, attempt: int) -> tuple[bool | None, float | None]:
    """For a catalog of runs of this machine: nothing is known of others."""
    return None, None


# --- run -m


def run_batch(
    home: Home,
    wish: BatchWish,
    host: str,
    policy: BackupPolicy,
    *,
    restarts: int | None = None,
    detach: bool | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Queue a batch that passed its checks, and follow it unless told otherwise."""
    from ...engine.batches import ASK_ABOVE

    if host != LOCAL:
        raise UsageError("a batch waits in the queue of this machine: with --host start its trainings one by one.")
    if dry_run:
        _print_plan(home, wish, as_json)
        return
    count = len(wish.members)
    if count > ASK_ABOVE and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"that is {count} trainings: add --yes if it is meant, --dry-run lists them.")
        if not typer.confirm(f"Queue {count} trainings?", err=True):
            raise typer.Exit(ExitCode.FAILED)
    batch, runs = _enqueue(home, wish, policy, restarts)
    if detach:
        ids = [{"id": run.id, "dir": str(run.path)} for run in runs]
        print_json({"batch": batch, "runs": ids}) if as_json else print(batch)
        return
    follow_batch(home, batch, as_json)


def _enqueue(home: Home, wish: BatchWish, policy: BackupPolicy, restarts: int | None) -> tuple[str, list[RunDir]]:
    from ...engine.batches import plan_batch
    from ...engine.planning import with_restarts
    from ...engine.queue import read_settings
    from ...remote.local import LocalHost
    from ...remote.queue.lock import ensure_runner
    from ...remote.queue.waiting import enqueue

    plan = plan_batch(home, wish, taken=catalog().ids())
    plans = [with_restarts(one, restarts) for one in plan.plans]
    runs = asyncio.run(enqueue(home, LocalHost(home=home), plans, policy))
    ensure_runner(home)
    say(f"{plan.id}: {len(runs)} trainings are queued, one after another.")
    if read_settings(home).paused:
        say("the queue is paused: `wavedeck queue start` goes on.")
    return plan.id, runs


def _print_plan(home: Home, wish: BatchWish, as_json: bool) -> None:
    from ...engine.estimate import estimate_all, total

    guess = total(estimate_all(home, [member.wish for member in wish.members]))
    if as_json:
        runs = [
            {"name": member.label, "differences": list(member.combination.differences),
             "overrides": member.wish.composed.overrides, "config": member.wish.composed.resolved}
            for member in wish.members
        ]  # fmt: skip
        equal = list(wish.equivalent)
        print_json({"name": wish.label, "equivalent": equal, "runs": runs, "estimate": guess.to_json()})
        return
    from .run_list import print_table

    rows = [
        (str(place), member.label, " ".join(member.combination.differences))
        for place, member in enumerate(wish.members, 1)
    ]
    print_table(("#", "NAME", "WHAT DIFFERS"), rows)
    print(f"{len(rows)} trainings, one after another: {wish.command_line}")
    for line in guess.lines:
        print(line)


# --- batches that are there


def batch_named(word: str) -> str | None:
    """The batch that the user means, or None where they mean a run.

    Raises
    ------
    UsageError: it begins like a batch, and there is none of that name; or its two words mean a run as well.
    """
    from ...engine.batch_view import PREFIX, batch_ids, resolve_batch
    from ...engine.names import tail

    if not word.startswith(PREFIX) and word.count("-") != 1:
        return None
    batch = resolve_batch(word, batch_ids(Home.default()))
    if batch is None or word.startswith(PREFIX):
        return batch
    for run_id in reversed(catalog().ids()):
        if word in (tail(run_id), run_id.split("-", 2)[-1].rsplit("-", 2)[0]):
            raise UsageError(f"{word!r} is the batch {batch} and the run {run_id}: give the id of the one you mean.")
    return batch


def keep_queue_going(views: Iterable[RunView]) -> None:
    """Start the runner again where runs wait and it has died."""
    if any(view.state == "queued" and not view.is_copy for view in views):
        from ...remote.queue.lock import ensure_runner

        ensure_runner(Home.default())


def look_at(home: Home, batch: str) -> BatchView:
    """A batch as it is now."""
    from ...engine.batch_view import BatchView, batch_of

    runs = catalog()
    views = [view for view in runs.views() if batch_of(view) == batch]
    return BatchView(batch, tuple(views))


def follow_batch(home: Home, batch: str, as_json: bool) -> None:
    """Wait with a live line until a batch has ended, then print its table. Ctrl-C leaves it to the queue."""
    from .batch_line import print_batch, watch_batch

    say(f"{batch}: Ctrl-C leaves it running; `wavedeck stop {batch}` ends it.")
    try:
        view = watch_batch(home, batch)
    except KeyboardInterrupt:
        say(f"\n{batch} goes on: `wavedeck wait {batch}` waits for it, `wavedeck stop {batch}` ends it.")
        raise
    print_json(view.to_json()) if as_json else print_batch(view)
    raise typer.Exit(ExitCode.OK if view.all_finished else ExitCode.RUN_FAILED)


def wait_batch(batch: str, timeout: float | None, as_json: bool) -> None:
    """`wavedeck wait BATCH`: 0 when all of its runs finished, 4 when one ended otherwise, 1 on timeout."""
    from .batch_line import watch_batch

    home = Home.default()
    view = watch_batch(home, batch, timeout, quiet=True)
    if not view.is_over:
        say(f"{batch} has not ended after {timeout:g} s: {view.words}.")
        raise typer.Exit(ExitCode.FAILED)
    print_json(view.to_json()) if as_json else say(f"{batch}: {view.words}.")
    raise typer.Exit(ExitCode.OK if view.all_finished else ExitCode.RUN_FAILED)


def show_batch(batch: str, as_json: bool) -> None:
    """`wavedeck show BATCH`: its runs, the best first."""
    from ...remote.queue.lock import ensure_runner
    from .batch_line import print_batch

    home = Home.default()
    ensure_runner(home)
    view = look_at(home, batch)
    print_json(view.to_json()) if as_json else print_batch(view)


def stop_batch(batch: str, wait: bool, as_json: bool) -> None:
    """`wavedeck stop BATCH`: what waits never begins, what runs is asked to save and end."""
    from ...engine.rundir import RunDir
    from ...remote import operations
    from ...remote.local import LocalHost
    from ...remote.queue.stopping import stop_all

    home = Home.default()
    view = look_at(home, batch)
    if view.is_over:
        raise UsageError(f"{batch} has ended: {view.words}.")
    stopped = asyncio.run(stop_all(LocalHost(home=home), [RunDir(run.dir) for run in view.members]))
    say(f"{batch}: {stopped.words}.")
    for run in stopped.asked if wait else ():
        asyncio.run(operations.wait_ended(run))
    view = look_at(home, batch)
    say(f"{batch}: {view.words}.")
    if as_json:
        print_json(view.to_json())


def members_to_remove(words: Sequence[str]) -> list[str]:
    """`wavedeck rm`: batches among the words are replaced by the ids of their runs."""
    found: list[str] = []
    for word in words:
        batch = batch_named(word)
        if batch is None:
            found.append(word)
            continue
        home = Home.default()
        view = look_at(home, batch)
        if not view.is_over:
            raise UsageError(f"{batch} has not ended ({view.words}): stop it first with `wavedeck stop {batch}`.")
        found += [run.id for run in view.members]
    return list(dict.fromkeys(found))


def deadline_of(timeout: float | None) -> float | None:
    """When to give up, by the monotonic clock."""
    return None if timeout is None else time.monotonic() + timeout
