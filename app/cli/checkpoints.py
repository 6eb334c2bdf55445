"""`wavedeck ckpt`: where each checkpoint of a run is; check, fetch, restore and delete them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine import format as fmt
from ...engine.errors import ExitCode, UsageError, suggestion
from ...engine.hosts import LOCAL
from ...engine.rundir import Home, RunDir
from .common import JsonOption, OfflineOption, RunArgument, look, print_json, say
from .hosts import YesOption, complete_host

if TYPE_CHECKING:
    from ...engine.run_view import RunView
    from ...remote.backup.pull import Moving
    from ...remote.fleet import Fleet
    from ...remote.host import Host
    from ...remote.provision.there import Progress

ACTIONS = ("ls", "verify", "pull", "restore", "rm")
PLACES = ("here", "second", "host")


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(ckpt)


def _complete_action(incomplete: str) -> list[str]:
    return [word for word in ACTIONS if word.startswith(incomplete)]


def ckpt(
    run: RunArgument,
    action: Annotated[
        str, typer.Argument(help="ls, verify, pull, restore or rm.", autocompletion=_complete_action)
    ] = "ls",
    name: Annotated[
        str | None, typer.Argument(metavar="[CHECKPOINT]", help="Its name, a step, `best` or `last`.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="restore: where to.", autocompletion=complete_host)] = None,
    into: Annotated[str | None, typer.Option("--to", metavar="DIR", help="restore: a directory there.")] = None,
    place: Annotated[str, typer.Option("--at", help="rm: here, second or host.")] = "here",
    offline: OfflineOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """List a run's checkpoints with the places they are at; hash them again, fetch, restore or delete one."""
    if action not in ACTIONS:
        raise UsageError(
            f"{fmt.plain(action, 40)!r} is not ls, verify, pull, restore or rm.{suggestion(action, ACTIONS)}"
        )
    if action in ("restore", "rm") and name is None:
        raise UsageError(f"name the checkpoint: `wavedeck ckpt {fmt.plain(run, 60)} {action} best`, for example.")
    if place not in PLACES:
        raise UsageError(f"--at {fmt.plain(place, 40)!r}: here, second or host.")
    view = look(run, offline)
    home = Home.default()
    if action == "ls":
        _ls(view, as_json)
    elif action == "verify":
        _verify(home, view, as_json)
    elif action == "pull":
        _pull(home, view, name, as_json)
    elif action == "restore":
        _restore(home, view, str(name), host, into, as_json)
    else:
        _rm(home, view, str(name), place, yes, as_json)


def _ls(view: RunView, as_json: bool) -> None:
    from ...engine.backup.places import places

    rows = places(view)
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(f"{view.id} has no checkpoint yet.")
        return
    from .backup_tables import print_checkpoints

    print_checkpoints(rows)


def _verify(home: Home, view: RunView, as_json: bool) -> None:
    from ...remote.backup.verify import verify_connected, verify_own

    run = RunDir(view.dir)
    with _line(view.id, "checking") as moving:
        told = asyncio.run(verify_connected(home, run, moving))
        if not view.is_copy:  # a run of this machine has its own files here, which no backup brought
            asyncio.run(verify_own(run, told, moving))
    right = [(copy.name, copy.place, "") for copy in told.right]
    bad = [(copy.name, copy.place, copy.text) for copy in told.bad]
    if as_json:
        rows = [{"name": name, "place": at, "right": True, "text": ""} for name, at, _ in right]
        rows += [{"name": name, "place": at, "right": False, "text": text} for name, at, text in bad]
        print_json({"copies": rows, "notes": told.notes})
    for note in told.notes:
        say(note)
    for name, at, text in bad:
        say(f"✗ {name} ({at}) {text}")
    if not as_json:
        again = ": the next backup fetches them again" if bad and view.is_copy else ""
        say(f"{len(right)} right, {len(bad)} damaged{again}.")
    if bad:
        raise typer.Exit(ExitCode.FAILED)


def _pull(home: Home, view: RunView, name: str | None, as_json: bool) -> None:
    from ...engine.backup.policy import read_policy
    from ...engine.planning import choose_checkpoint
    from ...remote.backup.disk import RealDisk
    from ...remote.backup.pull import pull
    from ...remote.ssh_host import SshHost

    if not view.is_copy:
        raise UsageError(f"{view.id} is a run of this machine: its checkpoints are in {view.dir / 'checkpoints'}.")
    run, manifest = RunDir(view.dir), view.manifest
    assert manifest is not None
    line = choose_checkpoint(view.checkpoints, name or "last", manifest.headline)

    async def fetch(host: Host) -> Any:
        assert isinstance(host, SshHost)
        return await pull(host, run, line, read_policy(home, run), moving, RealDisk())

    with _line(view.id, "fetching") as moving:
        told = asyncio.run(_on(home, view.host, fetch))
    if as_json:
        print_json(
            {"name": told.name, "event": told.event, "path": str(run.checkpoints / told.name), "text": told.text}
        )
    elif told.event == "verified":
        print(run.checkpoints / told.name)
    if told.event != "verified":
        say(f"{told.name}: {told.text}")
        raise typer.Exit(ExitCode.FAILED)


def _restore(home: Home, view: RunView, name: str, host: str | None, into: str | None, as_json: bool) -> None:
    from ...remote.failover.restore import restore

    target = host or view.host
    run = RunDir(view.dir)
    if view.state.active and target == view.host and into is None:
        raise UsageError(f"{view.id} is {view.state}: stop it first, or name a directory with --to.")
    with _narrated() as show:
        path = asyncio.run(_on(home, target, lambda there: restore(home, run, name, there, into, show)))
    if as_json:
        print_json({"host": target, "path": path})
    else:
        print(path)


def _rm(home: Home, view: RunView, name: str, place: str, yes: bool, as_json: bool) -> None:
    from ...engine.planning import choose_checkpoint
    from ...remote.backup.remove import consequences, remove

    run, manifest = RunDir(view.dir), view.manifest
    line = choose_checkpoint(view.checkpoints, name, manifest.headline if manifest else None)
    where = view.host if place == "host" else place
    for sentence in consequences(home, run, line.name, place):
        say(sentence)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("deleting needs a yes: add --yes.")
        if not typer.confirm(f"Delete {fmt.plain(line.name, 100)} ({where})?", err=True):
            raise typer.Exit(ExitCode.FAILED)
    asyncio.run(_connected(home, view, place, partial(remove, home, run, line.name, place)))
    if as_json:
        print_json({"deleted": line.name, "place": where})
    else:
        say(f"deleted {line.name} ({where}).")


# --- hosts and progress


async def _on(home: Home, name: str, work: Callable[[Host], Any]) -> Any:
    from ...remote.fleet import open_host
    from .questions import TerminalAsker

    async with open_host(home, name, TerminalAsker(), mirrors=False) as host:
        return await work(host)


async def _connected(home: Home, view: RunView, place: str, work: Callable[[Callable[[str], Host]], Any]) -> Any:
    """With the host that is needed, if one is."""
    from ...engine.backup.policy import read_policy

    second = read_policy(home, RunDir(view.dir)).second_host
    names = {"here": None, "host": view.host, "second": second}
    async with _fleet(home, names[place]) as fleet:
        return await work(fleet.host)


@contextlib.asynccontextmanager
async def _fleet(home: Home, name: str | None) -> AsyncIterator[Fleet]:
    from ...remote.fleet import Fleet
    from .questions import TerminalAsker

    fleet = Fleet(home, TerminalAsker(), mirrors=False)
    try:
        if name is not None and name != LOCAL:
            await fleet.watch(name).ready(30.0)
        yield fleet
    finally:
        await fleet.close()


@contextlib.contextmanager
def _narrated() -> Iterator[Callable[[Progress], None]]:
    from .live_line import Narration

    narration = Narration()
    try:
        yield narration.show
    finally:
        narration.close()


@contextlib.contextmanager
def _line(run_id: str, doing: str) -> Iterator[Callable[[Moving], None]]:
    from ...remote.provision.there import Progress

    with _narrated() as show:
        yield lambda now: show(Progress(doing, f"{doing} {now.name}", now.bytes, now.total or None))
