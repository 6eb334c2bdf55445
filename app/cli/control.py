"""Verbs that act on a run: stop, attach, rm."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import ExitCode, UsageError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home, RunDir
from .common import JsonOption, RunArgument, catalog, find, print_json, say
from .queueing import batch_named, members_to_remove, stop_batch

if TYPE_CHECKING:
    from ...remote.host import Host


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command()(stop)
    app.command()(attach)
    app.command()(rm)


def stop(
    run: RunArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return once it has ended.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to save and end: SIGINT, then SIGTERM, then SIGKILL, with grace in between."""
    from ...engine.queue import is_waiting
    from ...engine.state import RunState, describe_end
    from ...remote import operations
    from .places import at

    batch = batch_named(run)
    if batch is not None:
        stop_batch(batch, wait, as_json)
        return
    runs, directory = find(run)
    view = runs.view(directory)
    waits = view.state is RunState.QUEUED and is_waiting(directory)
    if not view.state.active and not waits and view.state is not RunState.UNREADABLE:  # stopping needs no manifest
        raise UsageError(f"{view.id} is not running: it is {view.state}.")
    with at(runs.home, view.host) as place:
        runs = catalog(place.far) if view.is_copy else runs
        place.do(lambda host: operations.request_stop(host, directory))
        if waits:
            say(f"took {view.id} out of the queue.")
        else:
            say(f"asked {view.id} to save and stop.")
        if wait:
            place.wait_ended(directory)
            view = runs.view(directory)
            say(f"{view.id} {view.state}{f' ({describe_end(view.exit)})' if view.exit else ''}.")
    if as_json:
        print_json(view.to_json())


def attach(run: RunArgument) -> None:
    """The run's own terminal (tmux), through SSH when it is elsewhere; `ctrl+b d` detaches, the run goes on."""
    from ...remote import operations

    runs, directory = find(run)
    host = runs.view(directory).host
    if host == LOCAL:
        argv = operations.attach_argv(directory)
        _needs_terminal()
        os.execvp(argv[0], argv)
    name = operations.session_of(directory)
    _needs_terminal()
    raise typer.Exit(asyncio.run(_attach_far(runs.home, host, name)))


async def _attach_far(home: Home, name: str, session: str) -> int:
    """In this very thread: only the main one hears of the terminal's size and of signals."""
    from ...engine.hosts import TmuxSession
    from ...remote import sessions
    from ...remote.fleet import open_host
    from ...remote.ssh_host import SshHost
    from .questions import TerminalAsker

    async with open_host(home, name, TerminalAsker(), mirrors=False) as host:
        assert isinstance(host, SshHost)
        wanted = TmuxSession(name=session)
        return await host.attach(sessions.attach_words(wanted, sessions.server_of(host, wanted)))


def _needs_terminal() -> None:
    if not sys.stdin.isatty():
        raise WavedeckError("attach needs a terminal; `wavedeck logs -f` follows without one.")


def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to delete.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Only the copy on this machine, whatever became of the run's host.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete runs for good, on their host and here: metrics, console, checkpoints, samples."""
    from ...remote import operations

    found = []
    for word in members_to_remove(runs):
        catalog_, directory = find(word)
        view = catalog_.view(directory)
        running = view.state.active and (not view.is_copy or (view.state != "unreachable" and not here))
        if running:  # of a run whose host was not asked yet its host decides
            raise UsageError(f"{view.id} is {view.state}: stop it first with `wavedeck stop {view.id}`.")
        found.append((catalog_, directory, view))
    ids = [directory.id for _, directory, _ in found]
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("deleting needs a yes: add --yes.")
        far = sorted({view.host for _, _, view in found if view.is_copy})
        where = " here" if here else ""
        if far and not here:
            where = f" here and on {', '.join(far)}, with the code that was pushed for it and all it wrote there,"
        if not typer.confirm(f"Delete {', '.join(ids)}{where} for good?", err=True):
            raise typer.Exit(ExitCode.FAILED)
    for catalog_, directory, view in found:
        home = catalog_.home
        if here and view.is_copy:
            asyncio.run(operations.remove_copy(home, directory))
        else:
            _remove_there(home, view.host, directory)
        say(f"deleted {directory.id}.")
    if as_json:
        print_json({"deleted": ids})


def _remove_there(home: Home, name: str, run: RunDir) -> None:
    from ...engine.errors import HostUnreachable
    from .places import at

    try:
        with at(home, name) as place:
            place.do(partial(_remove, home, run))
    except HostUnreachable as error:
        raise HostUnreachable(f"{error} `wavedeck rm --here {run.id}` deletes only the copy.") from error


async def _remove(home: Home, run: RunDir, host: Host) -> None:
    from ...remote import operations

    await operations.remove(home, host, run)
