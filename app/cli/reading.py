"""Verbs that only look: ps, show, metrics, logs, wait, recipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.errors import ExitCode, UsageError
from ...engine.rundir import Home
from .common import (
    JsonOption,
    OfflineOption,
    RunArgument,
    catalog,
    complete_recipe,
    following,
    look,
    print_json,
    say,
)
from .queueing import batch_named, keep_queue_going, show_batch, wait_batch

if TYPE_CHECKING:
    from ...engine.run_view import RunView

SHOWN_BY_DEFAULT = 20
POLL_S = 0.25


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command()(ps)
    app.command()(show)
    app.command()(metrics)
    app.command()(logs)
    app.command()(wait)
    app.command()(recipes)


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All runs, not only the newest 20.")] = False,
    active: Annotated[bool, typer.Option("--active", help="Only runs that are alive.")] = False,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="BATCH", help="Only the runs of a batch; `last` is the newest.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="WORD", help="Only runs launched with this tag; may be repeated."),
    ] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """List runs: state, progress, best, age; the runs of a batch below its heading. JSON is a flat list of all."""
    views = catalog().views()
    wanted = members_of(views, batch) if batch is not None else None
    unknown = {view.host for view in views if view.is_copy and view.state == "unreachable"}
    if unknown and not offline:
        from .places import near

        with near(Home.default(), unknown) as place:
            views = catalog(place.far).views()
    keep_queue_going(views)
    here, everything = len(views), everything or batch is not None or bool(tag)
    if wanted is not None:
        views = [view for view in views if view.id in wanted]
    listed = views
    if tag:
        views = [view for view in views if view.manifest is not None and set(tag) <= set(view.manifest.tags)]
    if active:
        views = [view for view in views if view.state.active]
    if as_json:
        print_json([view.to_json() for view in views])
        return
    if not views:
        say(_nothing(here, listed, tag or [], active))
        return
    from .run_list import print_runs

    shown = views if everything else views[-SHOWN_BY_DEFAULT:]
    print_runs(shown, listed)
    if len(shown) < len(views):
        say(f"{len(views) - len(shown)} older runs are not shown: `wavedeck ps --all`.")


def members_of(views: Sequence[RunView], batch: str) -> set[str]:
    """Ids of the runs of the batch that `--batch` means: the same words as `compare --batch` takes.

    Raises
    ------
    UsageError: there is none of that name.
    """
    from ...engine.batch_view import batches
    from ..comparing import named_batch

    return {view.id for view in named_batch(batch, batches(views)).members}


def _nothing(here: int, listed: Sequence[RunView], tags: Sequence[str], active: bool) -> str:
    """Why the list is empty: there are no runs at all, or none that was asked for."""
    if not here:
        return "no runs yet: start one with `wavedeck run sousa preset=debug` or `wavedeck demo`."
    words = [f"tagged {' and '.join(tags)}"] if tags else []
    words += ["active"] if active else []
    which = "the only run is not" if len(listed) == 1 else f"none of {len(listed):,} runs is"
    return f"{which} {' and '.join(words)}: `wavedeck ps --all` lists what there is."


def show(run: RunArgument, offline: OfflineOption = False, as_json: JsonOption = False) -> None:
    """Everything about one run: state, progress, metrics, checkpoints, how it ended."""
    batch = batch_named(run)
    if batch is not None:
        show_batch(batch, as_json)
        return
    from .evaluations import evaluation_json, print_evaluation

    view = look(run, offline)
    keep_queue_going([view])
    if as_json:
        config = view.manifest.config if view.manifest is not None else {}
        print_json({**view.to_json(), "config": config, "evaluation": evaluation_json(view)})
        return
    from .tables import print_run

    print_run(view)
    print_evaluation(view)


def metrics(
    run: RunArgument,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY...", help="Only these metrics (a trailing * is allowed)."),
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="Rows of the table, newest last.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="step,epoch,t,metric,value of every point.")] = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """The loss table of a run, or every point of its series as JSON or CSV."""
    from ...engine.feed import read_metrics

    view = look(run, offline)
    from ...engine.rundir import RunDir

    chosen = _choose(read_metrics(RunDir(view.dir)), keys or [])
    if as_json:
        from .tables import series_json

        print_json({"run": view.id, "series": series_json(chosen)})
    elif as_csv:
        from .tables import print_csv

        print_csv(chosen)
    elif not chosen:
        say(f"{view.id} has logged no metrics yet.")
    else:
        from .tables import print_losses

        print_losses(view, chosen, keys or [], last)


def _choose(series: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """The series that `keys` name; an unknown key names the nearest."""
    if not keys:
        return series
    from fnmatch import fnmatchcase

    from ...engine.errors import suggestion

    chosen: dict[str, Any] = {}
    for key in keys:
        matches = {name: view for name, view in series.items() if fnmatchcase(name, key)}
        if not matches:
            hint = suggestion(key, series) or f" It has {', '.join(series) or 'none'}."
            raise UsageError(f"the run has no metric {key!r}.{hint}")
        chosen |= matches
    return chosen


def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Start with the last N lines; 0 is all.")] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they are, with every carriage return and escape.")
    ] = False,
    offline: OfflineOption = False,
) -> None:
    """What the run printed, as a terminal would show it (bars collapsed), or raw."""
    from .follow import follow_console

    with following(run, offline, long=follow) as (runs, directory, tell):
        follow_console(runs, directory, follow=follow, lines=lines, raw=raw, tell=tell)


def wait(
    run: RunArgument,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Give up after so many seconds.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until a run has ended. Exit code 0 when it finished, 4 when it ended in any other way, 1 on timeout."""
    from ...engine.state import RunState, describe_end

    batch = batch_named(run)
    if batch is not None:
        wait_batch(batch, timeout, as_json)
        return
    deadline = None if timeout is None else time.monotonic() + timeout
    with following(run, long=True) as (runs, directory, tell):
        keep_queue_going([runs.view(directory)])
        while True:
            view = runs.view(directory)
            if view.state is RunState.UNREADABLE:
                raise UsageError(f"{view.id}: {view.problem}")
            if not view.state.active and view.state is not RunState.QUEUED:
                break
            if deadline is not None and time.monotonic() >= deadline:
                say(f"{view.id} is still {view.state} after {timeout:g} s.")
                raise typer.Exit(ExitCode.FAILED)
            tell()
            time.sleep(POLL_S)
    if as_json:
        print_json(view.to_json())
    else:
        end = describe_end(view.exit)
        say(f"{view.id} {view.state}{f' ({end})' if end else ''}.")
    raise typer.Exit(ExitCode.OK if view.state is RunState.FINISHED else ExitCode.RUN_FAILED)


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One recipe in full.", autocompletion=complete_recipe),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What can be trained: recipes, or one recipe's stages, presets and config fields."""
    from ...engine.recipe import load_recipe, recipe_names
    from .recipe_pages import face_json, print_face, print_list

    if name is not None:
        recipe = load_recipe(name.split(".")[0])
        print_json(face_json(recipe)) if as_json else print_face(recipe)
        return
    faces = [load_recipe(known) for known in recipe_names()]
    if as_json:
        print_json([face_json(recipe) for recipe in faces])
    else:
        print_list(faces)
    sys.stdout.flush()
