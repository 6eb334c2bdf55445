"""`wavedeck demo`: make tiny data, train on it, and watch; on the deck or as plain output."""

from __future__ import annotations

import asyncio
import sys

from ...engine.errors import ExitCode
from ...engine.rundir import Home, RunDir
from .common import catalog, say

RECIPE, PRESET = "sousa", "debug"


def tour(*, headless: bool) -> None:
    """Launch the debug preset and show it. An unfinished demo run is shown again instead of starting a second one."""
    home = Home.default()
    home.ensure_writable()
    run_id = _running_demo() or _launch(home)
    if headless:
        _plain_tour(run_id)
        return
    from .opening import open_deck

    say(f"{run_id} runs on by itself: closing the deck does not stop it.")
    open_deck(run_id, tour=True)


def _running_demo() -> str | None:
    views = catalog().views()
    return next((view.id for view in reversed(views) if view.state.active and view.name == "demo"), None)


def _launch(home: Home) -> str:
    from ...engine.planning import check_recipe, plan_recipe
    from ...engine.recipe import load_recipe
    from ...remote import operations
    from ...remote.local import LocalHost

    wish = check_recipe(load_recipe(RECIPE), preset=PRESET, name="demo")
    plan = plan_recipe(home, wish, taken=catalog().ids())
    say(f"$ {plan.command_line}")
    result = asyncio.run(operations.launch(home, LocalHost(), plan.manifest, plan.attempt))
    if result.notice:
        say(result.notice)
    return plan.run_id


def _plain_tour(run_id: str) -> None:
    """The same tour without a terminal: progress lines, then what `show` and `metrics` print."""
    from ...engine.feed import read_metrics
    from .live_line import watch
    from .tables import print_losses, print_run

    runs = catalog()
    directory = RunDir(runs.home.runs / run_id)
    view = watch(runs, directory)
    say("\n$ wavedeck metrics last")
    manifest = view.manifest
    series = read_metrics(directory)
    columns = [name for name in (manifest.columns if manifest else []) if name in series]
    print_losses(view, {name: series[name] for name in columns} or series, columns, 20)
    say("\n$ wavedeck show last")
    print_run(view)
    if view.state != "finished":
        sys.exit(int(ExitCode.RUN_FAILED))
    say("\n$ wavedeck samples last --limit 8")
    from .listening import samples

    samples(run_id, limit=8, offline=True)
    say(f"\nNext: `wavedeck listen {run_id}` plays them, `wavedeck` opens the deck.")
