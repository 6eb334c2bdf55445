"""Verbs that act on a run: stop, attach, rm."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ...engine.errors import ExitCode, UsageError, WavedeckError
from .common import JsonOption, RunArgument, find, print_json, say


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
    import asyncio

    from ...engine.state import RunState, describe_end
    from ...remote import operations

    runs, directory = find(run)
    view = runs.view(directory)
    if not view.state.active and view.state is not RunState.UNREADABLE:  # stopping needs no manifest
        raise UsageError(f"{view.id} is not running: it is {view.state}.")
    operations.request_stop(directory)
    say(f"asked {view.id} to save and stop.")
    if wait:
        asyncio.run(operations.wait_ended(directory))
        view = runs.view(directory)
        say(f"{view.id} {view.state}{f' ({describe_end(view.exit)})' if view.exit else ''}.")
    if as_json:
        print_json(view.to_json())


def attach(run: RunArgument) -> None:
    """The run's own terminal (tmux); `ctrl+b d` detaches, the run goes on."""
    from ...remote import operations

    _, directory = find(run)
    argv = operations.attach_argv(directory)
    if not sys.stdin.isatty():
        raise WavedeckError("attach needs a terminal; `wavedeck logs -f` follows without one.")
    os.execvp(argv[0], argv)


def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to delete.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete runs for good: metrics, console, checkpoints, samples."""
    import asyncio

    from ...remote import operations

    found = [find(word) for word in runs]
    for catalog, directory in found:
        view = catalog.view(directory)
        if view.state.active:
            raise UsageError(f"{view.id} is {view.state}: stop it first with `wavedeck stop {view.id}`.")
    ids = [directory.id for _, directory in found]
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("deleting needs a yes: add --yes.")
        if not typer.confirm(f"Delete {', '.join(ids)} for good?", err=True):
            raise typer.Exit(ExitCode.FAILED)
    for catalog, directory in found:
        asyncio.run(operations.remove(catalog.home, directory))
        say(f"deleted {directory.id}.")
    if as_json:
        print_json({"deleted": ids})
