"""One run and its metrics printed with rich: what `show`, `metrics` and `--dry-run` write to stdout."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ...engine import format as fmt
from ...engine.state import RunState, describe_end
from .common import out
from .run_list import best_words, progress_words

if TYPE_CHECKING:
    from ...engine.manifest import Manifest
    from ...engine.run_view import RunView
    from ...engine.series_view import SeriesView

STATE_STYLES = {
    RunState.RUNNING: "bold green",
    RunState.STARTING: "green",
    RunState.STALLED: "bold yellow",
    RunState.UNREACHABLE: "yellow",
    RunState.QUEUED: "dim",
    RunState.FINISHED: "cyan",
    RunState.STOPPED: "",
    RunState.FAILED: "bold red",
    RunState.KILLED: "bold red",
    RunState.VANISHED: "red",
    RunState.UNREADABLE: "red",
}


def state_text(view: RunView) -> Text:
    """Mark and word of a state."""
    return Text(f"{view.state.mark} {view.state}", style=STATE_STYLES[view.state])


def print_run(view: RunView) -> None:
    """The page of `wavedeck show`."""
    console = out()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for label, value in _facts(view):
        facts.add_row(label, value)
    console.print(facts)
    if view.last:
        console.print()
        console.print(_metrics_table(view))
    if view.checkpoints:
        console.print()
        console.print(_checkpoint_table(view))
    if view.exit and view.exit.tail and view.state in (RunState.FAILED, RunState.KILLED):
        console.print("\nlast lines", style="dim")
        for line in view.exit.tail[-12:]:
            console.print(Text("  " + fmt.plain(line)))


def _facts(view: RunView) -> Iterable[tuple[str, Text | str]]:
    manifest = view.manifest
    yield "run", Text(view.id, style="bold")
    end = describe_end(view.exit)
    yield "state", state_text(view) + Text(f"  {fmt.plain(end)}" if end else "")
    if manifest is not None:
        preset = f" preset={manifest.preset}" if manifest.preset else ""
        yield "what", Text(fmt.plain(" ".join([view.what, *manifest.overrides]) + preset))
        yield "command", Text(fmt.plain(" ".join(manifest.command), 300))
        yield "host", Text(manifest.host)
        if manifest.tags:
            yield "tags", Text(fmt.plain(" ".join(manifest.tags), 300))
        if manifest.git:
            yield "git", f"{manifest.git.commit[:12]}{' + changes' if manifest.git.dirty else ''}"
    yield from _times(view)
    yield (
        "progress",
        f"{progress_words(view)}  {fmt.rate(view.rate, view.unit)}  ETA {fmt.duration(view.eta_s)}",
    )
    yield "best", best_words(view)
    if view.cost is not None:
        yield "cost", fmt.money(view.cost)
    for name, fact in view.facts.items():
        yield fmt.plain(name, 24), Text(fmt.plain(fact, 300))
    for name, value in view.numbers.items():
        yield fmt.plain(name, 24), fmt.amount(value)
    for notice in view.notices:
        yield fmt.plain(notice.level, 12), Text(fmt.plain(notice.text), style="yellow")
    if view.problem:
        yield "problem", Text(view.problem, style="red")
    yield "directory", Text(str(view.dir))


def _times(view: RunView) -> Iterable[tuple[str, str]]:
    """From the start of the first attempt to the end of the last that trained, and how long they all ran."""
    several = view.attempt is not None and view.attempt > 1
    if several:
        yield "attempt", str(view.attempt)
    times = [("started", fmt.clock(view.first_started or view.started)), ("ended", fmt.clock(view.ended))]
    if several and not view.evaluated:
        times.insert(1, ("this attempt", fmt.clock(view.started)))
    yield "time", "  ".join(f"{word} {when}" for word, when in times if when != fmt.MISSING) or fmt.MISSING
    if view.evaluated_at is not None:
        yield "evaluated", f"again at {fmt.clock(view.evaluated_at)}"
    if several and view.ran_s is not None:
        yield "ran for", f"{fmt.duration(view.ran_s)} in all attempts"
    elif view.started:
        yield "took", fmt.duration((view.ended or time.time()) - view.started)


def _metrics_table(view: RunView) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("METRIC")
    table.add_column("LAST", justify="right")
    table.add_column("NOT FINITE", justify="right")
    for name, value in (view.last or {}).items():
        bad = (view.nan_counts or {}).get(name, 0)
        table.add_row(Text(fmt.plain(name, 60)), fmt.number(value), str(bad) if bad else "")
    return table


def _checkpoint_table(view: RunView) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("CHECKPOINT", "STEP", "SIZE", "SHA256", "WRITTEN", ""):
        table.add_column(title)
    best = next((line.name for line in reversed(view.checkpoints) if line.best), None)
    for line in view.checkpoints:
        table.add_row(
            Text(fmt.plain(line.name)),
            fmt.count(line.step),
            fmt.size(line.bytes),
            line.sha256[:12],
            fmt.ago(line.t),
            "★ best" if line.name == best else "",
        )
    return table


def series_json(series: Mapping[str, SeriesView]) -> dict[str, Any]:
    """`{KEY: {step, t, value}}` with NaN and infinities as words."""
    import numpy as np

    from ...engine.events import json_numbers

    found = {}
    for name, view in series.items():
        rows = view.row_of(np.arange(len(view)))
        found[name] = {
            "step": view.step[rows].tolist(),
            "t": view.t[rows].tolist(),
            "value": json_numbers(view.values.tolist()),
        }
    return found


def print_csv(series: Mapping[str, SeriesView]) -> None:
    """Long-format CSV on stdout."""
    import numpy as np

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["step", "epoch", "t", "metric", "value"])
    for name, view in series.items():
        rows = view.row_of(np.arange(len(view)))
        columns = (
            view.step[rows].tolist(),
            view.epoch[rows].tolist(),
            view.t[rows].tolist(),
            view.values.tolist(),
        )
        for step, epoch, t, value in zip(*columns, strict=True):
            writer.writerow([step, "" if epoch != epoch else epoch, f"{t:.3f}", fmt.plain(name, 200), repr(value)])


def print_losses(view: RunView, series: Mapping[str, SeriesView], keys: list[str], last: int) -> None:
    """The loss table: best marked with ★, the change since the row before beside each value."""
    from ...engine.loss_table import build

    manifest = view.manifest
    wanted = list(series) if keys else (manifest.columns if manifest else [])
    losses = build(series, wanted, manifest.headline if manifest else None)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("EPOCH", justify="right")
    table.add_column("STEP", justify="right")
    for name in losses.columns:
        table.add_column(Text(fmt.plain(name, 60)), justify="right")
    for row in range(max(0, len(losses) - last), len(losses)):
        cells = [_loss_cell(losses, name, row) for name in losses.columns]
        table.add_row(
            fmt.number(float(losses.epoch[row])).replace("NaN", fmt.MISSING),
            fmt.count(int(losses.step[row])),
            *cells,
        )
    out().print(table)
    if len(losses) > last:
        print(f"{len(losses) - last} earlier rows: --last {len(losses)}", file=sys.stderr)


def _loss_cell(losses: Any, name: str, row: int) -> Text:
    if not losses.known[name][row]:
        return Text(fmt.MISSING, style="dim")
    value = float(losses.values[name][row])
    is_best = losses.best[name] == row
    cell = Text(f"{'★' if is_best else ''}{fmt.number(value)}", style="bold green" if is_best else "")
    return cell + Text(f" {fmt.change(value, losses.before(name, row)):>8}", style="dim")


def print_plan(plan: Any) -> None:
    """What `--dry-run` shows: the command, the resolved config, nothing started."""
    console = out()
    manifest = plan.manifest
    console.print(Text("would start ", style="dim") + Text(plan.command_line, style="bold"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("run", Text(manifest.id))
    facts.add_row("command", Text(" ".join(manifest.command)))
    facts.add_row("directory", Text(manifest.cwd or ""))
    if manifest.signature:
        facts.add_row("signature", manifest.signature)
    console.print(facts)
    if manifest.config:
        console.print()
        console.print(_settings_table(manifest))


def _settings_table(manifest: Manifest) -> Table:
    """The config in the words that `run` takes; what is not at its default stands first, beside that default."""
    from ...engine.config import describe, write_override
    from ...engine.recipe import load_recipe

    infos = {info.name: info for info in describe(load_recipe(manifest.recipe).config)} if manifest.recipe else {}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("FIELD")
    for title in ("VALUE", "DEFAULT"):
        table.add_column(title, overflow="fold")
    same: list[tuple[Text, Text]] = []
    for name, value in _flat(manifest.config, infos):
        text, info = write_override("", value)[1:], infos.get(name)
        default = fmt.MISSING if info is None or info.required else write_override("", info.default)[1:]
        if text == default:
            same.append((Text(name, style="dim"), Text(text)))
        else:
            table.add_row(Text(f"{name} ◂"), Text(text, style="bold"), Text(default, style="dim"))
    for cells in same:
        table.add_row(*cells)
    return table


def _flat(config: Mapping[str, Any], leaves: Container[str], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in leaves:
            yield from _flat(value, leaves, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
