"""`wavedeck gpu`: every GPU of this machine and of all hosts, once or for as long as one looks."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import UsageError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home
from .common import JsonOption, print_json
from .hosts import complete_host, names_or_all

if TYPE_CHECKING:
    from ...remote.fleet import Fleet
    from .gpu_rows import GpuRow
    from .questions import TerminalAsker

EVERY_S = 2.0
ANSWER_S = 10.0
"""How long a host may take to answer before its row says that it does not."""
TICK_S = 0.02


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(gpu)


HostArgument = Annotated[
    str | None,
    typer.Argument(metavar="[HOST]", help="Only this host; without it all of them.", autocompletion=complete_host),
]


def gpu(
    host: HostArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, every two seconds, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The GPUs: how busy, how full, how hot, and which run has them. With -f --json one list a line."""
    if follow and not as_json and not sys.stdout.isatty():
        raise UsageError("-f redraws a terminal: without one use `wavedeck gpu -f --json`.")
    asyncio.run(_gpu(Home.default(), host, follow, as_json))


async def _gpu(home: Home, name: str | None, follow: bool, as_json: bool) -> None:
    from ...remote.fleet import Fleet
    from .questions import TerminalAsker

    asker = TerminalAsker()
    names = names_or_all(name)
    fleet = Fleet(home, asker, mirrors=False)
    try:
        for one in names:
            if one != LOCAL:
                fleet.watch(one)
        rows = await _rows(fleet, names, strict=name is not None)
        if not follow:
            _print(rows, as_json)
        elif as_json:
            await _stream(fleet, names, rows)
        else:
            await _live(fleet, names, rows, asker)
    finally:
        await fleet.close()


def _print(rows: list[GpuRow], as_json: bool) -> None:
    if as_json:
        print_json([row.to_json() for row in rows if row.index is not None or row.error != "no GPU"])
        return
    from .common import out
    from .host_tables import gpu_table

    out().print(gpu_table(rows))


async def _stream(fleet: Fleet, names: list[str], rows: list[GpuRow]) -> None:
    import msgspec

    while True:
        told = [row.to_json() for row in rows if row.index is not None or row.error != "no GPU"]
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()
        await asyncio.sleep(EVERY_S)
        rows = await _rows(fleet, names, wait_s=TICK_S)


async def _live(fleet: Fleet, names: list[str], rows: list[GpuRow], asker: TerminalAsker) -> None:
    from rich.live import Live

    from .common import out
    from .host_tables import gpu_table

    asker.quiet = True
    with Live(gpu_table(rows), console=out(), auto_refresh=False, transient=False) as live:
        while True:
            live.update(gpu_table(rows), refresh=True)
            await asyncio.sleep(EVERY_S)
            rows = await _rows(fleet, names, wait_s=TICK_S)


async def _rows(fleet: Fleet, names: list[str], *, strict: bool = False, wait_s: float = ANSWER_S) -> list[GpuRow]:
    """All hosts at once. With `strict` (asked for by name) a host that does not answer is an error, not a row."""
    found = await asyncio.gather(*(_rows_of(fleet, name, strict, wait_s) for name in names))
    return [row for rows in found for row in rows]


async def _rows_of(fleet: Fleet, name: str, strict: bool, wait_s: float) -> list[GpuRow]:
    from .gpu_rows import GpuRow, rows_of_host

    try:
        if name != LOCAL:
            await fleet.watch(name).ready(wait_s)
        return await rows_of_host(fleet.host(name))
    except WavedeckError as error:
        if strict:
            raise
        return [GpuRow(name, error=str(error))]
