"""`wavedeck hosts`: the machines that Wavedeck knows, whether they answer, and whether they are fit to train on."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine import format as fmt
from ...engine.errors import ExitCode, HostUnreachable, UsageError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home
from .common import JsonOption, print_json, say

if TYPE_CHECKING:
    from ...remote.findings import Finding

hosts = typer.Typer(
    name="hosts",
    help="The machines Wavedeck knows: add, look, check, trust, remove. Alone it lists them.",
    rich_markup_mode=None,
    no_args_is_help=False,
)


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(hosts)


def complete_host(incomplete: str) -> list[str]:
    """Host names for shell completion: this machine, hosts.toml, and aliases of the ssh configuration."""
    from ...remote.hosts_file import load_hosts
    from ...remote.ssh.aliases import config_aliases

    names = {LOCAL: None}
    for known in (lambda: load_hosts(Home.default()), config_aliases):
        try:
            names.update(dict.fromkeys(known()))
        except WavedeckError:
            continue  # a damaged file is told of by the verb itself
    return [name for name in names if name.startswith(incomplete)]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A host of hosts.toml, or an ssh alias.", autocompletion=complete_host)
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-fingerprint",
        metavar="SHA256:…",
        help="Accept this host key and no other, without asking. Repeat it for jump hosts.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@hosts.callback(invoke_without_command=True)
def hosts_alone(context: typer.Context) -> None:
    """List the machines Wavedeck knows."""
    if context.invoked_subcommand is None:
        ls(offline=False, as_json=False)


@hosts.command()
def ls(
    offline: Annotated[bool, typer.Option("--offline", help="Connect to nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the hosts and how they answer. Asks those that no deck is watching, for at most five seconds."""
    from .host_tables import print_hosts
    from .host_views import host_views

    views = host_views(Home.default(), offline=offline)
    if as_json:
        print_json([view.to_json() for view in views])
    elif views:
        print_hosts(views)
    else:
        say("no hosts yet: add one with `wavedeck hosts add NAME 'ssh -p 10648 root@HOST'`.")


@hosts.command(context_settings={"ignore_unknown_options": True})
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you will call it.")],
    ssh: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SSH…]", help="The ssh line the provider shows; without it NAME is an ssh alias."),
    ] = None,
    price: Annotated[float | None, typer.Option("--price", help="What an hour costs.")] = None,
    home: Annotated[str | None, typer.Option("--home", metavar="DIR", help="Wavedeck's home there.")] = None,
    python: Annotated[
        str | None, typer.Option("--python", help="Interpreter its trainings use; nothing is prepared there then.")
    ] = None,
    ends: Annotated[
        str | None, typer.Option("--ends", metavar="TIME", help="When it is taken back: 2026-11-22T10:00Z.")
    ] = None,
    accept: AcceptOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of the host of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a host and connect to it once: its key, its facts, its GPUs.

    A host that does not answer yet is kept all the same.
    """
    import asyncio

    from ...remote.hosts_file import HostEntry, add_host, valid_name
    from ...remote.ssh.target import parse_words, resolve

    if not ssh:
        words: tuple[str, ...] = (name,)
    else:
        words = parse_words(ssh[0] if len(ssh) == 1 else shlex.join(ssh))
    said = {"home": home, "python": python, "price_per_hour": price, "ends": _moment(ends)}
    entry = HostEntry(valid_name(name), words, **said)  # type: ignore[arg-type]
    target = resolve(words)
    where = Home.default()
    where.ensure_writable()
    add_host(where, entry, replace=replace)
    say(f"saved {name}: {target.label}")
    try:
        asyncio.run(_first_look(where, name, accept or [], as_json))
    except HostUnreachable as error:
        say(f"{name} is saved, but could not be looked at yet; `wavedeck hosts check {name}` tries again.")
        raise error
    except KeyboardInterrupt:
        say(f"{name} is saved.")
        raise


def _moment(text: str | None) -> float | None:
    from datetime import datetime

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{fmt.plain(text, 40)!r} is no time: write 2026-11-22T10:00Z.") from None


async def _first_look(home: Home, name: str, accept: list[str], as_json: bool) -> None:
    """Connect, and print who answered and what its GPUs do, with the time that took without the user's own."""
    from ...remote.fleet import open_host
    from .gpu_rows import rows_of_host
    from .host_tables import print_first_look
    from .questions import TerminalAsker

    asker = TerminalAsker(accept)
    began = time.monotonic()
    async with open_host(home, name, asker, mirrors=False) as host:
        connected = time.monotonic() - began - asker.waited_s
        rows = await rows_of_host(host, wait_for_processes=False)
        took = time.monotonic() - began - asker.waited_s
        facts = getattr(host, "facts", None)
    if as_json:
        import msgspec

        print_json(
            {
                "name": name,
                "connected_s": round(connected, 3),
                "first_reading_s": round(took, 3),
                "facts": msgspec.to_builtins(facts) if facts else None,
                "gpus": [row.to_json() for row in rows if row.index is not None],
            }
        )
        return
    print_first_look(facts, rows, connected, took)
    lacking = [program for program in ("tmux", "rsync") if facts is not None and not facts.programs.get(program)]
    if lacking:
        say(f"{' and '.join(lacking)} missing there: `wavedeck hosts check {name}` says how to install what is needed.")


@hosts.command()
def rm(name: NameArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Forget a host. Nothing on it changes: runs there go on, and their copies here stay."""
    from ...remote.hosts_file import load_hosts, remove_host
    from .common import catalog

    home = Home.default()
    if name in load_hosts(home) and not yes:
        active = [view.id for view in catalog().views() if view.host == name and view.state.active]
        if active:
            listed = f"{', '.join(active[:3])}{' and more' if len(active) > 3 else ''}"
            if not sys.stdin.isatty():
                raise UsageError(f"runs are active on {name} ({listed}): add --yes to forget it all the same.")
            question = f"{listed}: active on {name}, and nothing of it is copied here any more. Forget {name}?"
            if not typer.confirm(question, err=True):
                raise typer.Exit(ExitCode.FAILED)
    remove_host(home, name)
    say(f"forgot {fmt.plain(name, 60)}; nothing on it was changed.")
    if as_json:
        print_json({"removed": name})


@hosts.command()
def check(name: NameArgument, accept: AcceptOption = None, as_json: JsonOption = False) -> None:
    """Look for everything that would spoil a training there, and say how to mend it. Changes nothing.

    Exit code 0 only when nothing is missing or bad.
    """
    import asyncio

    import msgspec

    from ...remote import preflight
    from .host_tables import print_findings

    findings = asyncio.run(_look(name, accept or []))
    if as_json:
        print_json([msgspec.to_builtins(finding) for finding in findings])
    else:
        print_findings(findings)
    if not preflight.fit(findings):
        raise typer.Exit(ExitCode.FAILED)


async def _look(name: str, accept: list[str]) -> list[Finding]:
    from ...remote import preflight
    from ...remote.local import LocalHost

    home = Home.default()
    if name == LOCAL:
        return await preflight.check(LocalHost(home=home), python=sys.executable)
    from ...remote.bare_host import bare_host
    from .questions import TerminalAsker

    say(f"looking at {fmt.plain(name, 60)}; importing torch there may take a minute.")
    async with bare_host(home, name, TerminalAsker(accept)) as host:
        return await preflight.check(host)


@hosts.command()
def trust(name: NameArgument, accept: AcceptOption = None) -> None:
    """Take a host's new key in place of the old one, after comparing both."""
    import asyncio

    from ...remote.host import HostKeyChanged
    from ...remote.trust import trust_again
    from .questions import TerminalAsker

    try:
        asyncio.run(trust_again(Home.default(), name, TerminalAsker(accept or [])))
    except HostKeyChanged as error:
        say(f"before: {error.known}\nnow:    {error.shown}")
        raise
    say(f"the key of {name} is the trusted one.")


def names_or_all(name: str | None) -> list[str]:
    """The host asked for, or this machine and all of hosts.toml."""
    from ...remote.hosts_file import load_hosts

    return [name] if name else [LOCAL, *load_hosts(Home.default())]
