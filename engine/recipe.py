"""What a recipe shows of itself, and how recipes are found.

A recipe's face must import fast (no torch): the deck lists recipes and draws their forms from it. Its stages are named
by import path and loaded only in the run's own process.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from .errors import UsageError, suggestion
from .manifest import Headline

ENTRY_POINT_GROUP = "wavedeck.recipes"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a recipe: `function` is `module:name`, called as `function(config, context) -> None`.

    `is_done` is an optional `module:name` called as `is_done(config, home_data_dir) -> bool`: in the whole pipeline a
    stage that is done is skipped (data that exists is not made again).
    """

    name: str
    summary: str
    function: str
    is_done: str | None = None

    def load(self) -> Callable[[Any, Any], None]:
        """Import the stage's function; this is where torch enters the process."""
        return load_object(self.function)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The face of a trainable system.

    Parameters
    ----------
    config: the dataclass of the whole configuration; fields carry `metadata` with `help`, `unit`, `ge`, `gt`, `le`,
        `lt`, `choices` (see `engine.config.knob`).
    groups: `{group: {option: {dotted.field: value}}}`, chosen on the command line as `group=option`.
    presets: `{name: overrides}`: "the baseline, but".
    experiments: `{name: overrides}`, chosen as `experiment=name`; with lists (`model=ast,beats`) they are batches.
    stages: in pipeline order.
    headline: the metric it is judged by.
    columns: journal keys of the loss table.
    """

    name: str
    summary: str
    config: type
    stages: tuple[Stage, ...]
    headline: Headline
    columns: tuple[str, ...] = ()
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    presets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_preset: str | None = None
    experiments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`{name: overrides}`, `experiment=name`: put before what is typed; lists of values make a batch."""
    readme: str | None = None
    """Import path of the package that holds README.md."""
    items: str | None = None
    """`module:name`, called as `items(config) -> int | None`: what one epoch trains on, for estimates of time and cost.
    Torch-free."""

    check: str | None = None
    """`module:name`, called as `check(config, stage, here)` before a launch, with every key typed into the form: raises
    UsageError for what cannot work. `stage` is the only one to run or None, `here` whether that is on this machine, so
    that its paths can be looked at. Torch-free, and quick."""
    outdated: str | None = None
    """`module:name`, called as `outdated(resolved) -> str | None` with the config of a saved run: why a run of an
    earlier version of the recipe cannot go on, in a sentence; None when it can. Torch-free."""

    def stage(self, name: str) -> Stage:
        """The stage called `name`, or a sentence that names the nearest."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        hint = suggestion(name, names) or f" It has {', '.join(names)}."
        raise UsageError(f"{self.name} has no stage {name!r}.{hint}")


def load_object(path: str) -> Any:
    """The object at `module:name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def recipe_names() -> list[str]:
    """Names of all installed recipes, ours and third parties', without importing any."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def load_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises
    ------
    UsageError: no such recipe (nearest names suggested), or it does not import (its own error named).
    """
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            recipe = point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"recipe {name!r} ({point.value}) does not import: {reason}.") from error
        if not isinstance(recipe, Recipe):
            raise UsageError(f"recipe {name!r} ({point.value}) is a {type(recipe).__name__}, not a Recipe.")
        return recipe
    names = recipe_names()
    hint = suggestion(name, names) or f" There are: {', '.join(names)}."
    raise UsageError(f"there is no recipe {name!r}.{hint}")
