"""`wavedeck safe`: what would be lost if a machine were destroyed now. Exit code 0 only when nothing would be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import ExitCode, WavedeckError
from ...engine.rundir import Home
from .common import JsonOption, OfflineOption, catalog, print_json
from .hosts import complete_host

if TYPE_CHECKING:
    from ...engine.backup.safety import HostSafety
    from ...remote.fleet import Fleet

LOOK_S = 10.0


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(safe)


def safe(
    host: Annotated[
        str | None,
        typer.Argument(metavar="[HOST]", help="A host; all of hosts.toml by default.", autocompletion=complete_host),
    ] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Could this machine be destroyed now? Exit code 0 only when nothing would be lost."""
    from ...remote.hosts_file import load_hosts

    home = Home.default()
    names = [host] if host is not None else list(load_hosts(home))
    found = asyncio.run(_look(home, names, offline))
    if as_json:
        print_json(found[0].to_json() if host is not None else [one.to_json() for one in found])
    elif not found:
        print("there are no hosts: `wavedeck hosts add NAME 'ssh …'` adds one.")
    else:
        from .backup_tables import print_safety

        print_safety(found)
    if not all(one.safe for one in found):
        raise typer.Exit(ExitCode.FAILED)


async def _look(home: Home, names: list[str], offline: bool) -> list[HostSafety]:
    from ...engine.hosts import LOCAL
    from ...remote.backup.assess import assess
    from ...remote.far import far_sign
    from ...remote.fleet import Fleet
    from .questions import TerminalAsker

    fleet = Fleet(home, TerminalAsker())
    try:
        late: set[str] = set()
        if not offline:
            far = [name for name in names if name != LOCAL]
            in_time = await asyncio.gather(*(_reach(fleet, name) for name in far))
            late = {name for name, was in zip(far, in_time, strict=True) if not was}
        views = await asyncio.to_thread(lambda: catalog(far_sign(home, fleet)).views())
        return list(
            await asyncio.gather(*(assess(home, name, views, fleet, caught_up=name not in late) for name in names))
        )
    finally:
        await fleet.close()


async def _reach(fleet: Fleet, name: str) -> bool:
    """Connect, and wait until what is there is known here; whether it is. A host that does not answer is judged by
    what is known."""
    from ...remote.babysit_doing import caught_up

    link = fleet.watch(name)
    try:
        await link.ready(LOOK_S)
    except WavedeckError:
        return False
    return await caught_up(link, LOOK_S)
