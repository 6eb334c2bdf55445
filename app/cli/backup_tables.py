"""Copies, checkpoints and what is safe, as tables on stdout."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ...engine import format as fmt
from ...engine.backup.safety import HostSafety, RunSafety
from .common import out
from .host_tables import columns

if TYPE_CHECKING:
    from ...engine.backup.places import Where
    from ...engine.run_view import RunView
    from ...remote.backup.state import RunBackup


def print_backups(views: Sequence[RunView], doing: Mapping[str, RunBackup]) -> None:
    """`wavedeck backup`: each run with its newest verified step, what is still to come, and what is being done."""
    rows = columns("RUN", "HOST", ">STEP", ">VERIFIED", ">AGE", ">TO COME", "NOW")
    for view in views:
        backup, now = view.backup, doing.get(view.id)
        assert backup is not None
        rows.add_row(
            Text(view.id, style="bold"),
            view.host,
            fmt.count(view.step),
            fmt.count(backup.verified_step),
            fmt.MISSING if backup.verified_t is None else fmt.duration(max(0.0, time.time() - backup.verified_t)),
            f"{backup.outstanding} ({fmt.size(backup.bytes_outstanding)})" if backup.outstanding else "nothing",
            _doing(backup.bad, backup.enabled, now),
        )
    out().print(rows)


def _doing(bad: int, enabled: bool, now: RunBackup | None) -> Text:
    if not enabled:
        return Text("switched off", style="yellow")
    if now is not None and now.error:
        return Text(fmt.plain(now.error, 200), style="bold red")
    if now is not None and now.second_error:
        return Text(fmt.plain(now.second_error, 200), style="yellow")
    if now is not None and now.doing:
        share = fmt.percent(now.bytes / now.total) if now.total else ""
        rate = f" {fmt.size(now.rate)}/s" if now.rate else ""
        eta = f" {fmt.duration(now.eta_s)} left" if now.eta_s is not None else ""
        return Text(f"{fmt.plain(now.doing, 60)} {share}{rate}{eta}", style="green")
    return Text(f"{bad} damaged" if bad else fmt.MISSING, style="bold red" if bad else "dim")


def print_checkpoints(rows: Sequence[Where]) -> None:
    """`wavedeck ckpt RUN ls`, newest last."""
    shown = columns("CHECKPOINT", ">STEP", ">SIZE", "SHA256", "WRITTEN", "WHERE", "VERIFIED", "")
    for row in rows:
        marks = Text()
        if row["best"]:
            marks.append("★ best ", style="green")
        if row["latest"]:
            marks.append("newest ", style="cyan")
        for place in row["bad"]:
            marks.append(f"damaged {place} ", style="bold red")
        shown.add_row(
            Text(fmt.plain(row["path"] or row["name"], 80)),
            fmt.count(row["step"]),
            fmt.size(row["bytes"]),
            row["sha256"][:12],
            fmt.clock(row["t"]),
            ", ".join(fmt.plain(place, 60) for place in row["where"]) or "nowhere",
            fmt.MISSING if row["verified_at"] is None else fmt.clock(row["verified_at"]),
            marks,
        )
    out().print(shown)


def print_safety(hosts: Sequence[HostSafety]) -> None:
    """`wavedeck safe`: a verdict for each host, then what would be lost of each run, worst first."""
    console = out()
    for number, host in enumerate(hosts):
        if number:
            console.print()
        verdict = "safe to destroy: nothing would be lost" if host.safe else "NOT safe to destroy"
        console.print(Text.assemble((host.host, "bold"), "  ", (verdict, "bold green" if host.safe else "bold red")))
        facts = list(_facts(host))
        if facts:
            console.print(Text("  " + "   ".join(facts), style="dim"))
        for run in sorted(host.runs, key=lambda run: (run.safe, -run.minutes)):
            _print_run(run)
        for note in host.notes:
            console.print(Text(f"  · {fmt.plain(note, 300)}", style="dim"))


def _facts(host: HostSafety) -> Sequence[str]:
    found = []
    if host.minutes:
        found.append(f"{fmt.duration(60 * host.minutes)} of training")
    if host.bytes_outstanding:
        found.append(f"{fmt.size(host.bytes_outstanding)} not here")
    if host.price_per_hour is not None:
        found.append(f"{fmt.money(host.price_per_hour)} per hour")
    if host.spent is not None:
        found.append(f"{fmt.money(host.spent)} spent on its runs")
    if host.idle_gpu_minutes:
        found.append(f"GPUs idle for {fmt.duration(60 * host.idle_gpu_minutes)}")
    return found


def _print_run(run: RunSafety) -> None:
    console = out()
    mark = ("✓ ", "green") if run.safe else ("✗ ", "bold red")
    held = "no verified checkpoint" if run.verified_step is None else f"verified to step {fmt.count(run.verified_step)}"
    age = "" if run.age_s is None else f", {fmt.duration(run.age_s)} old"
    console.print(
        Text.assemble("  ", mark, (run.id, "bold"), f"  {held}{age}; newest step {fmt.count(run.newest_step)}")
    )
    for reason in run.reasons:
        console.print(Text(f"      {fmt.plain(reason, 400)}"))
