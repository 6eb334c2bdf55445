"""Verbs about evaluated samples: samples, listen, eval."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import HostUnreachable, UsageError, WavedeckError
from ...engine.format import plain
from .common import JsonOption, OfflineOption, RunArgument, find, look, print_json, say
from .launching import DetachOption, watch_run
from .places import at
from .sample_sets import fault_of, find_item, item_json, listing_of, open_set, opener_of, sets_json

if TYPE_CHECKING:
    from ...engine.run_view import RunView

SHOWN_BY_DEFAULT = 20
PROGRESS_S = 2.0

SetOption = Annotated[
    str | None, typer.Option("--set", help="Which evaluation; `val`, or the run's first set by default.")
]
FilterOption = Annotated[
    str, typer.Option("--filter", help="Only these, as `wer>0.3 label:flam* tag:hard text~word` (docs/samples.md).")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command()(samples)
    app.command()(listen)
    app.command(name="eval")(evaluate)


def samples(
    run: RunArgument,
    set_name: SetOption = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="A metric, worst first; `-wer` is best first; or id, step, label, …")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The other way round: best first.")] = False,
    wanted: FilterOption = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many at most.")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """The items a run was evaluated on, worst first: numbers, texts, tracks. JSON lists all of them."""
    view = look(run, offline)
    found = open_set(view, set_name)
    listing = listing_of(view, found, sort, wanted, best)
    rows = listing.rows[: limit if limit is not None else None if as_json else SHOWN_BY_DEFAULT].tolist()
    if as_json:
        print_json([item_json(found.item(row)) | {"problem": fault_of(view, found, listing, row)} for row in rows])
        return
    from .sample_list import print_samples

    if not rows and wanted:
        say(f"Nothing in {found.name} fits --filter {wanted!r}: it has {listing.total:,} items.")
        return
    print_samples(found, listing, rows, lambda row: fault_of(view, found, listing, row))
    if len(rows) < len(listing):
        say(f"{len(listing) - len(rows):,} more are not shown: --limit {len(listing)}.")
    if found.bad_lines:
        say(f"{found.bad_lines:,} lines of the index are no items.")


def listen(
    run: RunArgument,
    item: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One item: its key, id, or a beginning of it.")
    ] = None,
    set_name: SetOption = None,
    step: Annotated[int | None, typer.Option("--step", help="As it was evaluated at this step.")] = None,
    wanted: FilterOption = "",
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write sound and a table there, of one item its attachments too."),
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="wav (float32 as it is) or flac (24 bits).")] = "wav",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Hear a run's samples in the deck, export them, or tell everything about one as JSON."""
    _refuse_what_would_be_ignored(item, step, wanted, export is not None, as_json)
    if kind not in ("wav", "flac"):
        raise UsageError(f"--format is wav or flac, not {plain(kind, 20)!r}.")
    view = look(run, offline)
    if export is None and not as_json:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise WavedeckError(
                "listening needs a terminal: use --export DIR for the sound, --json or `wavedeck samples` for the rest."
            )
        if item is not None:
            open_set(view, set_name)  # a set that is not there is said before the deck opens
        from .opening import open_deck

        open_deck(listen=(view.id, set_name, item))
        return
    if export is not None:
        _export(view, set_name, item, step, wanted, export, kind, as_json, offline)
        return
    if item is None:
        open_set(view, set_name)
        print_json(sets_json(view))
        return
    with contextlib.ExitStack() as stack:
        try:
            opener, asked = (None, not view.is_copy) if offline else (stack.enter_context(opener_of(view)), True)
        except HostUnreachable:
            opener, asked = None, False
        found = open_set(view, set_name, opener)
        one = find_item(view, found, item, step)
        history = [found.item(row) for row in found.history(one.id)]
        places = {name: found.attachment_place(one, name) for name in one.attachments}
        unasked = " ".join([*one.problems, f"Its sound was not looked at: {view.host} was not asked."])
        problem = found.problem(one) if asked else unasked
        found.close()
    steps = [other.step for other in history]
    print_json(item_json(one) | {"problem": problem, "steps": steps, "attachment_places": places})


def _refuse_what_would_be_ignored(item: str | None, step: int | None, wanted: str, export: bool, as_json: bool) -> None:
    """Options that this way of listening has no use for.

    Raises
    ------
    UsageError: one is given.
    """
    if export:
        if item is not None and wanted:
            raise UsageError("an ID names one item: leave --filter out, or the ID.")
        return
    if wanted:
        how = (
            "`wavedeck samples RUN --filter … --json` lists what fits"
            if as_json
            else "in the deck, press / and type it"
        )
        raise UsageError(f"--filter is for --export and for `wavedeck samples`: {how}.")
    if step is not None and not as_json:
        raise UsageError("--step is for --export and --json: in the deck, press s for the steps of an item.")
    if step is not None and item is None:
        raise UsageError("--step needs an ID, or --export: without one, --json lists the sets of the run.")


def evaluate(
    run: RunArgument,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="best|last|STEP", help="Which checkpoint to judge.")
    ] = "best",
    detach: DetachOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a checkpoint of a recipe's run: its evaluate stage, as an attempt of its own."""
    from ...engine.planning import choose_checkpoint, plan_evaluation
    from ...engine.recipe import load_recipe
    from ...engine.state import RunState
    from ...remote import operations

    runs, directory = find(run)
    view = runs.view(directory)
    manifest = view.manifest
    if manifest is None or view.state is RunState.UNREADABLE:
        raise UsageError(f"{view.id}: {view.problem}")
    if manifest.recipe is None:
        raise UsageError(f"{view.id} is a command, not a recipe: it evaluates itself, with wavedeck.log_sample.")
    if view.state.active:
        raise UsageError(f"{view.id} is {view.state}: evaluate it once it has ended, or after `wavedeck stop`.")
    recipe = load_recipe(manifest.recipe)
    stage = next((stage.name for stage in recipe.stages if stage.name == "evaluate"), None)
    if stage is None:
        raise UsageError(f"the recipe {recipe.name} has no evaluate stage.")
    line = choose_checkpoint(view.checkpoints, checkpoint, manifest.headline)
    plan = partial(plan_evaluation, stage=stage, checkpoint=line.name, after=str(view.state))
    with at(runs.home, view.host) as place:
        result = place.do(lambda host: operations.resume(runs.home, host, directory, plan=plan))
        say(f"{view.id}: attempt {result.attempt} evaluates {line.name}.")
        if result.notice:
            say(result.notice)
        if detach:
            print_json({"id": directory.id, "dir": str(directory.path)}) if as_json else print(directory.id)
            return
        watch_run(place, directory.id, as_json)


def _export(
    view: RunView,
    set_name: str | None,
    item: str | None,
    step: int | None,
    wanted: str,
    directory: Path,
    kind: str,
    as_json: bool,
    offline: bool,
) -> None:
    from ...engine.samples.export import export_set
    from ...engine.samples.notes import SampleNotes

    with contextlib.nullcontext() if offline else opener_of(view) as opener:
        found = open_set(view, set_name, opener)
        if item is not None:
            rows = [find_item(view, found, item, step).row]
        else:
            at_step = "" if step is None else f" step={step}"
            rows = listing_of(view, found, None, f"{wanted}{at_step}".strip()).rows.tolist()
            if not rows:
                raise WavedeckError(
                    f"nothing to export: no item of {found.name} fits {f'{wanted}{at_step}'.strip()!r}."
                )
        report = export_set(
            found,
            rows,
            directory,
            kind=kind,
            notes=SampleNotes(found.run_dir),
            progress=_progress() if len(rows) > 1 else None,
            attachments=item is not None,
        )
        found.close()
    for problem in report.problems:
        say(problem)
    if as_json:
        files = [{"path": str(file.path), "frames": file.frames} for file in report.files]
        attached = [str(path) for path in report.attachments]
        told = {"table": str(report.table), "files": files, "attachments": attached}
        print_json(told | {"problems": list(report.problems), "empty": list(report.empty)})
    else:
        print(report.table)
        attached_words = f" and {len(report.attachments):,} attachments" if report.attachments else ""
        say(f"{len(report.files):,} files{attached_words} of {len(rows):,} items in {directory}.")
    if report.empty:
        some = ", ".join(report.empty[:3]) + (", …" if len(report.empty) > 3 else "")
        raise WavedeckError(f"of {len(report.empty):,} of {len(rows):,} items nothing could be exported: {some}.")


def _progress() -> Callable[[int, int], None]:
    """Says now and then how far an export is; ctrl+c ends it between two files, with a table of what is there."""
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done < total and time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            say(f"{done:,} of {total:,} items")

    return progress
