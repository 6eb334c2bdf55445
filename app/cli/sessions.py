"""`wavedeck tmux`: the tmux sessions of this machine and of hosts, Wavedeck's and one's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine import format as fmt
from ...engine.errors import ExitCode, UsageError, WavedeckError, suggestion
from ...engine.hosts import LOCAL, TmuxSession
from ...engine.rundir import Home
from .common import JsonOption, print_json, say
from .hosts import YesOption, complete_host, names_or_all
from .questions import TerminalAsker

if TYPE_CHECKING:
    from ...remote.host import Host

ACTIONS = ("ls", "attach", "kill", "rename", "new")


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(tmux)


def complete_first(incomplete: str) -> list[str]:
    """Hosts and what can be done, for shell completion."""
    return [*complete_host(incomplete), *(word for word in ACTIONS if word.startswith(incomplete))]


def tmux(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST] [ls | attach [SESSION] | kill SESSION | rename SESSION NEW | new NAME]",
            help="Without HOST it is this machine; `ls` alone lists all hosts.",
            autocompletion=complete_first,
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """List, attach to, end, rename and make tmux sessions. `ctrl+b d` comes back from one."""
    host, action, rest = understand(words or [])
    if action == "ls":
        asyncio.run(_ls(Home.default(), host, as_json))
    else:
        code = asyncio.run(_act(Home.default(), host or LOCAL, action, rest, yes, as_json))
        if code:
            raise typer.Exit(code)


def understand(words: Sequence[str]) -> tuple[str | None, str, list[str]]:
    """Host, action and the names after it. A first word that is an action is never taken for a host.

    Raises
    ------
    UsageError: it is no action, or has too few or too many names.
    """
    rest = list(words)
    host = rest.pop(0) if rest and rest[0] not in ACTIONS else None
    action = rest.pop(0) if rest else "ls"
    if action not in ACTIONS:
        raise UsageError(
            f"{fmt.plain(action, 40)!r} is not ls, attach, kill, rename or new.{suggestion(action, ACTIONS)}"
        )
    least, most, usage = {
        "ls": (0, 0, ""),
        "attach": (0, 1, " [SESSION]"),
        "kill": (1, 1, " SESSION"),
        "rename": (2, 2, " SESSION NEW"),
        "new": (1, 1, " NAME"),
    }[action]
    if not least <= len(rest) <= most:
        raise UsageError(f"write `wavedeck tmux {fmt.plain(host, 48) + ' ' if host else ''}{action}{usage}`.")
    return host, action, rest


async def _ls(home: Home, host: str | None, as_json: bool) -> None:
    names, asker = names_or_all(host), TerminalAsker()
    listed = await asyncio.gather(*(_sessions_of(home, name, asker, strict=host is not None) for name in names))
    pairs = list(zip(names, listed, strict=True))
    if as_json:
        print_json([row for name, found in pairs for row in _json_rows(name, found)])
        return
    from .host_tables import print_sessions

    print_sessions(pairs)


async def _sessions_of(home: Home, name: str, asker: TerminalAsker, *, strict: bool) -> tuple[TmuxSession, ...] | str:
    from ...remote.fleet import open_host
    from ...remote.sessions import look

    try:
        async with open_host(home, name, asker, mirrors=False) as host:
            listing = await look(host)
    except WavedeckError as error:
        if strict:
            raise
        return str(error)
    for problem in listing.problems:
        say(problem)
    return listing.sessions


def _json_rows(host: str, found: tuple[TmuxSession, ...] | str) -> list[dict[str, Any]]:
    keys = ("name", "id", "ours", "created", "activity", "attached", "windows")
    if isinstance(found, str):
        return [{"host": host, **dict.fromkeys(keys), "run": None, "error": found}]
    return [
        {"host": host, **{key: getattr(session, key) for key in keys}, "run": session.run_id, "error": None}
        for session in found
    ]


async def _act(home: Home, name: str, action: str, rest: list[str], yes: bool, as_json: bool) -> int:
    from ...remote.fleet import open_host

    if action == "attach" and not sys.stdin.isatty():
        raise WavedeckError("attach needs a terminal; `wavedeck logs -f` follows a run without one.")
    async with open_host(home, name, TerminalAsker(), mirrors=False) as host:
        if action == "attach":
            return await _attach(host, rest)
        if action == "new":
            return await _new(host, rest[0], as_json)
        return await _change(home, host, action, rest, yes, as_json)


async def _attach(host: Host, rest: list[str]) -> int:
    from ...remote import sessions

    listed = await sessions.list_sessions(host)
    if rest:
        session = sessions.pick(listed, rest[0], host.name)
    elif len(listed) == 1:
        session = listed[0]
    else:
        known = ", ".join(fmt.plain(one.name, 60) for one in listed[:8])
        raise UsageError(f"which session of {host.name}: {known}?" if listed else f"{host.name} has no tmux sessions.")
    words = sessions.attach_words(session, sessions.server_of(host, session))
    say(f"{fmt.plain(session.name, 80)} on {host.name}: ctrl+b d comes back.")
    if host.name == LOCAL:
        return await _here(words)
    from ...remote.ssh_host import SshHost

    assert isinstance(host, SshHost)
    return await host.attach(words)


async def _here(words: Sequence[str]) -> int:
    """A command of this machine on this very terminal; Ctrl-C is its own business meanwhile."""
    import signal

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    try:
        process = await asyncio.create_subprocess_exec(*words)
        return await process.wait()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _new(host: Host, name: str, as_json: bool) -> int:
    from ...remote import sessions

    session = await sessions.create(host, name)
    say(f"made {session.name} on {host.name}; `wavedeck tmux {host.name} attach {session.name}` shows it.")
    if as_json:
        print_json(_json_rows(host.name, (session,))[0])
    return ExitCode.OK


async def _change(home: Home, host: Host, action: str, rest: list[str], yes: bool, as_json: bool) -> int:
    from ...remote import sessions

    session = sessions.pick(await sessions.list_sessions(host), rest[0], host.name)
    shown = fmt.plain(session.name, 80)
    if action == "rename":
        await sessions.rename(host, session, rest[1])
        say(f"renamed {shown} on {host.name} to {rest[1]}.")
        told = {"host": host.name, "renamed": session.name, "name": rest[1]}
    else:
        if not yes and not await _sure(host.name, session, shown):
            return ExitCode.FAILED
        await sessions.kill(host, session)
        say(f"ended {shown} on {host.name}.")
        told = {"host": host.name, "killed": session.name}
    if as_json:
        print_json(told)
    return ExitCode.OK


async def _sure(host: str, session: TmuxSession, shown: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("ending a session needs a yes: add --yes.")
    goes = "its run goes on, but cannot be attached to any more" if session.run_id else "what runs in it ends"
    return await asyncio.to_thread(typer.confirm, f"End {shown} on {host}? ({goes})", err=True)
