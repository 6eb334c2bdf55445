"""Hosts, GPUs, findings and sessions as tables on stdout. What came from a host is plain text before it gets here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ...engine import format as fmt
from ...engine.hosts import HostFacts, HostView, LinkState, TmuxSession
from .common import out

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...remote.findings import Finding
    from .gpu_rows import GpuRow

LINK_STYLES = {
    LinkState.CONNECTED: "bold green",
    LinkState.SLOW: "yellow",
    LinkState.PAUSED: "yellow",
    LinkState.RECONNECTING: "bold yellow",
    LinkState.REFUSED: "bold red",
    LinkState.KEY_UNKNOWN: "bold red",
    LinkState.KEY_CHANGED: "bold red",
    LinkState.OFF: "dim",
}
FINDING_STYLES = {"ok": "green", "warn": "yellow", "missing": "bold red", "bad": "bold red"}
BAR = 10


def columns(*titles: str) -> Table:
    """A table without a frame; a title that begins with `>` is of numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left", overflow="fold")
    return table


def print_hosts(views: Sequence[HostView]) -> None:
    """`hosts ls`."""
    table = columns("HOST", "LINK", ">LATENCY", ">SINCE", ">PER HOUR", ">TIME LEFT", "WHERE")
    now = time.time()
    for view in views:
        left = None if view.ends is None else max(0.0, view.ends - now)
        table.add_row(
            Text(fmt.plain(view.name, 48), style="bold"),
            Text(f"{view.link.mark} {view.link_words(now)}", style=LINK_STYLES.get(view.link, "")),
            fmt.MISSING if view.latency_ms is None else f"{view.latency_ms:.0f} ms",
            fmt.MISSING if view.since is None else fmt.duration(now - view.since),
            fmt.money(view.price_per_hour),
            fmt.duration(left),
            Text(fmt.plain(view.target, 120)),
        )
    console = out()
    console.print(table)
    for view in views:
        if view.reason:
            console.print(Text(f"{fmt.plain(view.name, 48)}: {fmt.plain(view.reason, 400)}", style="dim"))


def print_findings(findings: Sequence[Finding]) -> None:
    """`hosts check`: a mark and a word for how it stands, and below each what mends it."""
    table = columns("", "WHAT", "FOUND")
    for finding in findings:
        style = FINDING_STYLES[finding.state]
        found = Text(finding.found)
        if finding.fix:
            found.append(f"\n→ {finding.fix}", style="cyan")
        table.add_row(Text(f"{finding.state.mark} {finding.state}", style=style), Text(finding.what), found)
    out().print(table)


def print_first_look(facts: HostFacts | None, rows: Sequence[GpuRow], connected_s: float, took_s: float) -> None:
    """What a host that was just added says about itself."""
    console = out()
    if facts is not None:
        known = {name: version for name, version in facts.programs.items() if version}
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        table.add_row("connected", f"in {connected_s:.1f} s, first reading after {took_s:.1f} s")
        table.add_row("machine", Text(fmt.plain(f"{facts.hostname}  {facts.system}  {facts.cores or '?'} cores", 200)))
        table.add_row("user", Text(fmt.plain(facts.user, 80)))
        table.add_row("home", Text(fmt.plain(facts.home, 200)))
        table.add_row("python3", Text(fmt.plain(facts.python or fmt.MISSING, 40)))
        table.add_row("programs", Text(fmt.plain(", ".join(sorted(known)) or fmt.MISSING, 200)))
        console.print(table)
        console.print()
    console.print(gpu_table(rows))


def gpu_table(rows: Sequence[GpuRow]) -> RenderableType:
    """`gpu`."""
    table = columns("HOST", ">GPU", "NAME", "BUSY", "MEMORY", ">TEMP", ">POWER", "RUN")
    before = None
    for row in rows:
        host = Text(fmt.plain(row.host, 48), style="bold" if row.host != before else "dim")
        before = row.host
        if row.index is None:
            quiet = row.error == "no GPU"
            table.add_row(host, "", Text(fmt.plain(row.error or "", 300), style="dim" if quiet else "yellow"))
            continue
        table.add_row(
            host,
            str(row.index),
            Text(fmt.plain(row.name or fmt.MISSING, 40)),
            _meter(row.utilization_pct, f"{_whole(row.utilization_pct)}%"),
            _meter(_share(row.memory_used_mib, row.memory_total_mib), _memory(row)),
            fmt.MISSING if row.temperature_c is None else f"{row.temperature_c:.0f} °C",
            _power(row),
            Text(row.error, style="bold red") if row.error else Text(fmt.plain(row.run or fmt.MISSING, 80)),
        )
    return table


def _meter(percent: float | None, words: str) -> Text:
    if percent is None:
        return Text(fmt.MISSING, style="dim")
    full = max(0, min(BAR, round(percent / 100 * BAR)))
    style = "green" if percent < 85 else "yellow"
    return Text("█" * full, style=style) + Text("░" * (BAR - full), style="dim") + Text(f" {words}", style="")


def _whole(value: float | None) -> str:
    return fmt.MISSING if value is None else f"{value:.0f}"


def _share(used: float | None, total: float | None) -> float | None:
    return None if used is None or not total else 100 * used / total


def _memory(row: GpuRow) -> str:
    def gib(mib: float | None) -> str:
        return fmt.MISSING if mib is None else f"{mib / 1024:.1f}"

    return f"{gib(row.memory_used_mib)}/{gib(row.memory_total_mib)} GiB"


def _power(row: GpuRow) -> str:
    if row.power_w is None:
        return fmt.MISSING
    return f"{row.power_w:.0f} W" if row.power_limit_w is None else f"{row.power_w:.0f}/{row.power_limit_w:.0f} W"


def print_sessions(listed: Sequence[tuple[str, Sequence[TmuxSession] | str]]) -> None:
    """`tmux ls`: per host its sessions, or a sentence saying why there are none."""
    table = columns("HOST", "SESSION", "WHOSE", ">WINDOWS", "LOOKED AT", ">STARTED", ">LAST USED")
    now = time.time()
    for host, sessions in listed:
        name = Text(fmt.plain(host, 48), style="bold")
        if isinstance(sessions, str) or not sessions:
            words = sessions if isinstance(sessions, str) else "no sessions"
            table.add_row(name, Text(fmt.plain(words, 300), style="yellow" if isinstance(sessions, str) else "dim"))
            continue
        for session in sessions:
            table.add_row(
                name,
                Text(fmt.plain(session.name, 80)),
                "a run" if session.run_id else ("Wavedeck" if session.ours else "yours"),
                fmt.MISSING if session.windows is None else str(session.windows),
                "now" if session.attached else "",
                fmt.ago(session.created, now),
                fmt.ago(session.activity, now),
            )
    out().print(table)
