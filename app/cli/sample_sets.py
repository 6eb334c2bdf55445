"""What the verbs about samples share: opening a set, listing it, saying what is wrong, telling it as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import UsageError
from ...engine.format import plain
from ...engine.rundir import Home, RunDir
from .places import at

if TYPE_CHECKING:
    from ...engine.run_view import RunView
    from ...engine.samples import SampleItem, SampleSet
    from ..listen.listing import Listing


def open_set(view: RunView, set_name: str | None, opener: Any = None) -> SampleSet:
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


def listing_of(view: RunView, found: SampleSet, sort: str | None, wanted: str, best: bool = False) -> Listing:
    from ...engine.samples.notes import SampleNotes
    from ...engine.samples.order import default_sort, is_descending
    from ..listen.listing import Wanted, arrange

    columns = found.checked()
    if sort and sort.startswith("-") and sort not in columns.metrics:
        sort, best = sort[1:], True
    key = sort or default_sort(columns, judged_by(view))
    order = not is_descending(key) if best and key else None
    notes = SampleNotes(found.run_dir).columns(columns, found.name)
    listing = arrange(columns, Wanted(filter=wanted, sort=key, descending=order), notes)
    if listing.problem:
        raise UsageError(listing.problem)
    return listing


def judged_by(view: RunView) -> list[str]:
    """The metrics that a run is judged by, the one that `ps` shows first."""
    from ...engine.headline import goal_of, guess_headline

    declared = [view.manifest.headline.metric] if view.manifest and view.manifest.headline else []
    best = [view.best[0]] if view.best else []
    others = [name for name in view.last or {} if goal_of(name)]
    likely = guess_headline(others)
    return [*declared, *best, *([likely.metric] if likely else []), *others]


def fault_of(view: RunView, found: SampleSet, listing: Listing, row: int) -> str | None:
    """What is wrong with an item of a list, in sentences: asked only of those that something is wrong with."""
    if not listing.columns.broken[row]:
        return None
    item = found.item(row)
    if not view.is_copy:
        return found.problem(item)
    looked = " ".join(item.problems)
    return looked or f"A track of it is empty, holds NaN or is cut short: `wavedeck listen {view.id} {item.id} --json`."


def find_item(view: RunView, found: SampleSet, id: str, step: int | None) -> SampleItem:
    one = found.find(id, step)
    if one is None:
        at_step = "" if step is None else f" at step {step}"
        raise UsageError(
            f"the set {found.name} has no item {plain(id, 80)!r}{at_step}: `wavedeck samples {view.id}` lists them."
        )
    return one


@contextlib.contextmanager
def opener_of(view: RunView) -> Iterator[Any]:
    """How sample files are opened: those of another host are fetched from there by ranges."""
    if not view.is_copy:
        yield None
        return
    from ...remote.far_samples import sample_opener

    home = Home.default()
    with at(home, view.host) as place:
        yield sample_opener(home, RunDir(Path(view.dir)), place.thread) if place.thread is not None else None


def sets_json(view: RunView) -> dict[str, Any]:
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
        "key": item.key,
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
