"""Several trainings from one line: `model=ast,hts_at strategy=lora,ia3` is the product of its lists, in Hydra's order.

The last list varies fastest. A recipe's experiments are lines like that under a name; what is typed beside one wins
over what it says, group by group and field by field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError, suggestion
from .grammar import Override, parse_override, parse_values

if TYPE_CHECKING:
    from ..recipe import Recipe

EXPERIMENT = "experiment"
PRESET = "preset"
MOST = 10_000
"""Combinations that one line may have."""
_LABEL = 60


@dataclass(frozen=True, slots=True)
class Combination:
    """One training of a sweep.

    Parameters
    ----------
    overrides: all of its overrides, one value each.
    differences: those of them that tell it from the others, in the order they were typed.
    label: the same for people: `hts_at ia3`, `ast seed=2`.
    """

    overrides: tuple[str, ...]
    differences: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """What was typed, with an experiment's overrides in its place.

    `experiment` is its name, None without one; `several` whether some override names more than one value.
    """

    overrides: tuple[str, ...]
    experiment: str | None
    several: bool


def read_line(recipe: Recipe, overrides: Sequence[str], preset: str | None = None) -> Line:
    """Put an experiment's overrides before the user's, without those that the user's replace.

    Parameters
    ----------
    preset: the preset that was named otherwise; it replaces the experiment's.

    Raises
    ------
    UsageError: there is no such experiment, or two are named; or a line that is no override.
    """
    own = [text for text in overrides if _key(text) != EXPERIMENT or _is_own_key(recipe, EXPERIMENT)]
    named = list(dict.fromkeys(_experiment(text) for text in overrides if text not in own))
    if len(named) > 1:
        raise UsageError(f"two experiments are named, {' and '.join(named)}: run one after the other.")
    if not named:
        return Line(tuple(own), None, _any_several(recipe, own))
    name = named[0]
    if name not in recipe.experiments:
        known = ", ".join(recipe.experiments)
        hint = suggestion(name, recipe.experiments) or (f" It has {known}." if known else " It has none.")
        raise UsageError(f"{recipe.name} has no experiment {name!r}.{hint}")
    replaced = _replaced(recipe, own, preset)
    kept = [text for text in recipe.experiments[name] if not _covers(replaced, _key(text))]
    line = [*kept, *own]
    return Line(tuple(line), name, _any_several(recipe, line))


def expand(recipe: Recipe, overrides: Sequence[str]) -> tuple[Combination, ...]:
    """Every combination of the values that `overrides` name, in the order of Hydra's own sweeps.

    Of two overrides of one key the later counts, as for a single run. Equal values count once.

    Raises
    ------
    UsageError: a line that is no override, names no value, or stands for more trainings than anybody runs.
    """
    axes: dict[str, list[Override]] = {}
    for text in overrides:
        values = parse_values(text, _options(recipe, _key(text)))
        found = [parse_override(text)] if values is None else list({value.text: value for value in values}.values())
        axes.pop(found[0].key, None)
        axes[found[0].key] = found
    swept = {key for key, values in axes.items() if len(values) > 1}
    total = math.prod(len(values) for values in axes.values())
    if total > MOST:
        raise UsageError(f"that is {total:,} trainings, and one batch takes at most {MOST:,}: name fewer values.")
    short = _short_names(recipe, swept)
    return tuple(_combination(chosen, swept, short) for chosen in itertools.product(*axes.values()))


def _combination(chosen: Iterable[Override], swept: set[str], short: dict[str, str]) -> Combination:
    chosen = tuple(chosen)
    different = [override for override in chosen if override.key in swept]
    words = [f"{short[override.key]}{override.text}" for override in different]
    label = " ".join(words)
    return Combination(
        tuple(f"{override.key}={override.text}" for override in chosen),
        tuple(f"{override.key}={override.text}" for override in different),
        label if len(label) <= _LABEL else label[: _LABEL - 1] + "…",
    )


def _short_names(recipe: Recipe, swept: Iterable[str]) -> dict[str, str]:
    """What stands before a value in a label: nothing for a group's option, else the field's last word and `=`."""
    keys = list(swept)
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {
        key: "" if key in recipe.groups or key == PRESET else f"{word if last.count(word) == 1 else key}="
        for key, word in zip(keys, last, strict=True)
    }


def _experiment(text: str) -> str:
    override = parse_values(text)
    if override is not None:
        raise UsageError("one experiment at a time: write experiment=name, and run the next one after it.")
    return parse_override(text).text


def _any_several(recipe: Recipe, overrides: Iterable[str]) -> bool:
    return any(parse_values(text, _options(recipe, _key(text))) is not None for text in overrides)


def _options(recipe: Recipe, key: str) -> list[str]:
    return list(recipe.presets if key == PRESET else recipe.groups.get(key, ()))


def _replaced(recipe: Recipe, own: Iterable[str], preset: str | None) -> set[str]:
    """Keys that the user's overrides decide: those named, and the fields of every option they may choose."""
    keys = {PRESET} if preset is not None else set()
    for text in own:
        key = _key(text)
        keys.add(key)
        values = parse_values(text, _options(recipe, key)) or [parse_override(text)]
        for value in values:
            keys |= set(recipe.groups.get(key, {}).get(value.text, ()))
    return keys


def _covers(replaced: set[str], key: str) -> bool:
    """Whether `key`, or a section that it is in, is decided elsewhere."""
    parts = key.split(".")
    return any(".".join(parts[:cut]) in replaced for cut in range(1, len(parts) + 1))


def _is_own_key(recipe: Recipe, key: str) -> bool:
    """Whether a recipe has a group or a field of that name, which then is meant."""
    from .fields import fields_of

    return key in recipe.groups or key in fields_of(recipe.config)


def _key(text: str) -> str:
    return text.partition("=")[0].strip()
