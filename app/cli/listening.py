"""Verbs about evaluated samples: samples, listen, eval."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.errors import UsageError, WavedeckError
from ...engine.rundir import Home, RunDir
from .common import JsonOption, OfflineOption, RunArgument, find, look, print_json, say
from .launching import DetachOption, watch_run
from .places import at

if TYPE_CHECKING:
    from ...engine.run_view import RunView
    from ...engine.samples import SampleItem, SampleSet
    from ..listen.listing import Listing

SHOWN_BY_DEFAULT = 20

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
    sort: Annotated[str | None, typer.Option("--sort", help="A metric, worst first; or id, step, label, …")] = None,
    wanted: FilterOption = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many at most.")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """The items a run was evaluated on, worst first: numbers, texts, tracks. JSON lists all of them."""
    view = look(run, offline)
    found = _open(view, set_name)
    listing = _listing(view, found, sort, wanted)
    rows = listing.rows[: limit if limit is not None else None if as_json else SHOWN_BY_DEFAULT].tolist()
    if as_json:
        print_json([item_json(found.item(row)) for row in rows])
        return
    from .sample_list import print_samples

    print_samples(found, listing, rows)
    if len(rows) < len(listing):
        say(f"{len(listing) - len(rows):,} more are not shown: --limit {len(listing)}.")
    if found.bad_lines:
        say(f"{found.bad_lines:,} lines of the index are no items.")


def listen(
    run: RunArgument,
    item: Annotated[str | None, typer.Argument(metavar="[ID]", help="One item, or an unambiguous beginning.")] = None,
    set_name: SetOption = None,
    step: Annotated[int | None, typer.Option("--step", help="As it was evaluated at this step.")] = None,
    wanted: FilterOption = "",
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Write the sound and a table there instead.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="wav (float32 as it is) or flac (24 bits).")] = "wav",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Hear a run's samples in the deck, export them, or tell everything about one as JSON."""
    view = look(run, offline)
    if export is None and not as_json:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise WavedeckError(
                "listening needs a terminal: use --export DIR for the sound, --json or `wavedeck samples` for the rest."
            )
        if item is not None:
            _open(view, set_name)  # a set that is not there is said before the deck opens
        from .opening import open_deck

        open_deck(listen=(view.id, set_name, item))
        return
    if export is not None:
        _export(view, set_name, item, step, wanted, export, kind, as_json)
        return
    found = _open(view, set_name)
    if item is None:
        print_json(_sets_json(view))
        return
    one = _item(found, item, step)
    history = [found.item(row) for row in found.history(one.id)]
    more = {"problem": found.problem(one), "steps": [other.step for other in history]}
    print_json(item_json(one) | more)


def evaluate(
    run: RunArgument,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="best|last|STEP", help="Which checkpoint to judge.")
    ] = "best",
    detach: DetachOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a checkpoint of a recipe's run: its evaluate stage, as an attempt of its own."""
    from ...engine.checkpoints import read_checkpoints
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
    line = choose_checkpoint(read_checkpoints(directory.checkpoint_manifest), checkpoint, manifest.headline)
    plan = partial(plan_evaluation, stage=stage, checkpoint=line.name)
    with at(runs.home, view.host) as place:
        result = place.do(lambda host: operations.resume(runs.home, host, directory, plan=plan))
        say(f"{view.id}: attempt {result.attempt} evaluates {line.name}.")
        if result.notice:
            say(result.notice)
        if detach:
            print_json({"id": directory.id, "dir": str(directory.path)}) if as_json else print(directory.id)
            return
        watch_run(place, directory.id, as_json)


def _open(view: RunView, set_name: str | None, opener: Any = None) -> SampleSet:
    """The set that is meant, read whole.

    Raises
    ------
    UsageError: the run has no such set, or none at all.
    """
    from ...engine.errors import suggestion
    from ...engine.samples import SampleSet, sample_sets

    sets = sample_sets(Path(view.dir))
    if not sets:
        raise UsageError(f"{view.id} has no samples: they appear when it evaluates, or with wavedeck.log_sample.")
    name = set_name or ("val" if "val" in sets else sets[0])
    if name not in sets:
        hint = suggestion(name, sets) or f" It has {', '.join(sets)}."
        raise UsageError(f"{view.id} has no set {name!r}.{hint}")
    return SampleSet(Path(view.dir), name, opener).load()


def _listing(view: RunView, found: SampleSet, sort: str | None, wanted: str) -> Listing:
    from ...engine.samples.notes import SampleNotes
    from ..listen.listing import Wanted, arrange

    headline = view.manifest.headline.metric if view.manifest and view.manifest.headline else None
    notes = SampleNotes(found.run_dir).columns(found.items, found.name)
    listing = arrange(found.items, Wanted(filter=wanted, sort=sort), notes, headline)
    if listing.problem:
        raise UsageError(listing.problem)
    return listing


def _item(found: SampleSet, id: str, step: int | None) -> SampleItem:
    one = found.find(id, step)
    if one is None:
        at_step = "" if step is None else f" at step {step}"
        raise UsageError(f"the set {found.name} has no item {id!r}{at_step}: `wavedeck samples` lists them.")
    return one


def _export(
    view: RunView,
    set_name: str | None,
    item: str | None,
    step: int | None,
    wanted: str,
    directory: Path,
    kind: str,
    as_json: bool,
) -> None:
    from ...engine.samples.export import export_set
    from ...engine.samples.notes import SampleNotes

    with _opener(view) as opener:
        found = _open(view, set_name, opener)
        if item is not None:
            rows = [_item(found, item, step).row]
        else:
            at_step = "" if step is None else f" step={step}"
            rows = _listing(view, found, None, f"{wanted}{at_step}".strip()).rows.tolist()
        report = export_set(found, rows, directory, kind=kind, notes=SampleNotes(found.run_dir))
        found.close()
    for problem in report.problems:
        say(problem)
    if as_json:
        files = [{"path": str(file.path), "frames": file.frames} for file in report.files]
        print_json({"table": str(report.table), "files": files, "problems": list(report.problems)})
    else:
        print(report.table)
        say(f"{len(report.files):,} files of {len(rows):,} items in {directory}.")


@contextlib.contextmanager
def _opener(view: RunView) -> Iterator[Any]:
    """How sample files are opened: those of another host are fetched from there by ranges."""
    if not view.is_copy:
        yield None
        return
    from ...remote.far_samples import sample_opener

    home = Home.default()
    with at(home, view.host) as place:
        yield sample_opener(home, RunDir(Path(view.dir)), place.thread) if place.thread is not None else None


def _sets_json(view: RunView) -> dict[str, Any]:
    from ...engine.samples import NO_STEP, SampleSet, sample_sets

    found = [SampleSet(Path(view.dir), name).load() for name in sample_sets(Path(view.dir))]
    return {
        "run": view.id,
        "sets": [
            {
                "set": one.name,
                "items": int(one.items.newest().sum()),
                "steps": [int(step) for step in one.items.all_steps() if step != NO_STEP],
                "metrics": list(one.items.metrics),
            }
            for one in found
        ],
    }


def item_json(item: SampleItem) -> dict[str, Any]:
    """An item as the verbs print it; keys are only ever added."""
    from ...engine.events import json_number

    return {
        "id": item.id,
        "set": item.set,
        "step": item.step,
        "epoch": item.epoch,
        "metrics": {name: json_number(value) for name, value in item.metrics.items()},
        "text": dict(item.text),
        "tags": list(item.tags),
        "label": item.label,
        "predicted": item.predicted,
        "probabilities": {name: json_number(value) for name, value in item.probabilities.items()},
        "parameters": {
            name: {"target": json_number(sides.target), "predicted": json_number(sides.predicted)}
            for name, sides in item.parameters.items()
        },
        "tracks": {
            name: {"rate": place.rate, "channels": place.channels, "frames": place.frames, "seconds": place.seconds}
            for name, place in item.tracks.items()
        },
        "attachments": dict(item.attachments),
        "problems": list(item.problems),
    }
