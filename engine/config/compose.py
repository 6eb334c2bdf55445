"""Defaults, preset, group choices and overrides, laid over each other and checked as one.

Whatever the order on the command line: dataclass defaults < preset < group choices < `dotted.name=value`. Of two
groups that set the same field the one that the recipe lists later wins, as in Hydra's list of defaults; a group chosen
on the command line replaces the preset's choice of that group altogether.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, suggestion
from .build import build, flatten, from_resolved, nest, to_resolved
from .fields import FieldInfo, fields_of, sections_of
from .grammar import (
    Override,
    has_reference,
    parse_override,
    refuse_resolvers,
    resolve_references,
    shorten,
    write_override,
)
from .kinds import Misfit
from .signing import signature
from .unknown import unknown_field

if TYPE_CHECKING:
    from ..recipe import Recipe

__all__ = ["Composed", "check_field", "compose", "from_resolved", "to_resolved"]


@dataclass(frozen=True, slots=True)
class Composed:
    """A config that passed every check.

    Parameters
    ----------
    config: an instance of the recipe's config dataclass.
    resolved: the same as nested plain values, for the manifest.
    signature: hash of `resolved`.
    preset: the preset used, named or the recipe's default; None without one.
    overrides: group choices and overrides in normal form; with `preset` they reproduce this config.
    changed: dotted name to (default, value), for every field that is not at its dataclass default.
    """

    config: Any
    resolved: dict[str, Any]
    signature: str
    preset: str | None
    overrides: list[str]
    changed: dict[str, tuple[Any, Any]]

    @property
    def arguments(self) -> list[str]:
        """What follows `wavedeck run RECIPE` to get this config again, as an argv list."""
        return [*self.overrides, *(("--preset", self.preset) if self.preset else ())]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A value on its way into a field: where it came from matters once it is wrong."""

    given: Any
    text: str | None
    origin: str

    def shown(self, name: str) -> str:
        text = self.text if self.text is not None else write_override("", self.given)[1:]
        return self.origin + shorten(f"{name}={text}")


def compose(recipe: Recipe, overrides: Sequence[str], preset: str | None = None) -> Composed:
    """The config of `recipe` with a preset and overrides in Hydra's grammar (`data=tiny training.lr=2e-4`).

    `preset=NAME` among the overrides is the same as the argument.

    Raises
    ------
    UsageError: unknown field, group option or preset; wrong type, out of bounds; a line that is no override.
    """
    typed = [parse_override(text) for text in overrides]
    name = _preset_name(recipe, typed, preset)
    own_choices, own_fields = _split(recipe, typed, "")
    layers: dict[str, _Entry] = {}
    if name is not None:
        origin = f"in preset {name!r}, "
        choices, fields = _split(recipe, _preset_overrides(recipe, name), origin)
        layers.update(_chosen(recipe, {group: choices[group] for group in choices if group not in own_choices}))
        layers.update(fields)
    layers.update(_chosen(recipe, own_choices))
    layers.update(own_fields)

    values = _checked(recipe, layers)
    resolved = nest(values)
    lines = [f"{group}={option}" for group, option in own_choices.items()]
    lines += [write_override(field, _normal(entry, values[field])) for field, entry in own_fields.items()]
    infos = fields_of(recipe.config)
    changed = {
        field: (infos[field].default, value)
        for field, value in values.items()
        if infos[field].required or infos[field].default != value
    }
    return Composed(build(recipe.config, values), resolved, signature(resolved), name, lines, changed)


def check_field(recipe: Recipe, dotted: str, text: str) -> str | None:
    """What is wrong with `dotted=text`, in one sentence, or None; quick enough for every key typed in a form."""
    try:
        override = parse_override(f"{dotted}={text}")
        if dotted == "preset" or dotted in recipe.groups or has_reference(override.given):
            compose(recipe, [f"{dotted}={text}"])
            return None
        for name, entry in _expand(recipe, dotted, override.given, override.text, "").items():
            _check(fields_of(recipe.config)[name], entry)
    except UsageError as error:
        return str(error)
    return None


def _preset_name(recipe: Recipe, typed: Sequence[Override], preset: str | None) -> str | None:
    """The one preset that was asked for, or the recipe's default."""
    named = list(dict.fromkeys([*([preset] if preset else []), *(o.text for o in typed if o.key == "preset")]))
    if len(named) > 1:
        raise UsageError(f"two presets are named, {' and '.join(map(repr, named))}: a run has one.")
    name = named[0] if named else recipe.default_preset
    if name is not None and name not in recipe.presets:
        hint = suggestion(name, recipe.presets) or f" It has {', '.join(recipe.presets) or 'none'}."
        raise UsageError(f"{recipe.name} has no preset {name!r}.{hint}")
    return name


def _preset_overrides(recipe: Recipe, name: str) -> list[Override]:
    try:
        overrides = [parse_override(text) for text in recipe.presets[name]]
    except UsageError as error:
        raise UsageError(f"in preset {name!r}, {error}") from None
    if any(override.key == "preset" for override in overrides):
        raise UsageError(f"preset {name!r} names another preset, which a preset cannot do.")
    return overrides


def _split(recipe: Recipe, overrides: Sequence[Override], origin: str) -> tuple[dict[str, str], dict[str, _Entry]]:
    """Group choices and field entries; of two values for one name the later counts."""
    choices: dict[str, str] = {}
    fields: dict[str, _Entry] = {}
    for override in overrides:
        if override.key == "preset":
            continue
        if override.key in recipe.groups and not isinstance(override.given, Mapping):
            choices[override.key] = _option(recipe, override, origin)
        else:
            fields |= _expand(recipe, override.key, override.given, override.text, origin)
    return choices, fields


def _option(recipe: Recipe, override: Override, origin: str) -> str:
    options = recipe.groups[override.key]
    option = override.given if isinstance(override.given, str) else override.text
    if option not in options:
        hint = suggestion(option, options)
        raise UsageError(f"{origin}{override.shown}: expected one of {', '.join(options)}.{hint}")
    return option


def _chosen(recipe: Recipe, choices: Mapping[str, str]) -> dict[str, _Entry]:
    """The fields of the chosen options, in the order in which the recipe lists its groups: a strategy's learning rate
    wins over its model's however the two were typed."""
    entries: dict[str, _Entry] = {}
    for group in recipe.groups:
        if group in choices:
            entries |= _option_entries(recipe, group, choices[group])
    return entries


def _option_entries(recipe: Recipe, group: str, option: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for name, value in recipe.groups[group][option].items():
        entries |= _expand(recipe, name, value, None, f"in {group}={option}, ")
    return entries


def _expand(recipe: Recipe, name: str, given: Any, text: str | None, origin: str) -> dict[str, _Entry]:
    """The entry of a field; a whole section given as a table is one entry for each field in it."""
    if name in fields_of(recipe.config):
        return {name: _Entry(given, text, origin)}
    if name and name in sections_of(recipe.config):
        if isinstance(given, Mapping):
            entries: dict[str, _Entry] = {}
            for key, value in given.items():
                entries |= _expand(recipe, f"{name}.{key}", value, None, origin)
            return entries
        first = next(field for field in fields_of(recipe.config) if field.startswith(f"{name}."))
        raise UsageError(f"{origin}{name} is a section of fields: set one of them, like {first}=value.")
    raise UsageError(f"{origin}{unknown_field(recipe, name)}")


def _checked(recipe: Recipe, entries: Mapping[str, _Entry]) -> dict[str, Any]:
    """Plain values of all fields by dotted name, defaults included, references resolved."""
    infos = fields_of(recipe.config)
    entries = _resolved(infos, entries)
    values: dict[str, Any] = {}
    for name, info in infos.items():
        if name not in entries and info.required:
            raise UsageError(f"{name} must be given: expected {info.expected}.")
        values[name] = _check(info, entries.get(name) or _Entry(info.default, None, "by default, "))
    return values


def _resolved(infos: Mapping[str, FieldInfo], entries: Mapping[str, _Entry]) -> Mapping[str, _Entry]:
    """The entries with `${field}` replaced, defaults that hold one included."""
    given = {name: info.default for name, info in infos.items()} | {name: e.given for name, e in entries.items()}
    referring = [name for name, value in given.items() if has_reference(value)]
    if not referring:
        return entries
    for name in referring:
        refuse_resolvers(given[name], entries[name].shown(name) if name in entries else name)
    flat = flatten(resolve_references(nest(given)), infos)
    done = dict(entries)
    for name in referring:
        origin = entries[name].origin if name in entries else "by default, "
        done[name] = _Entry(flat[name], write_override("", flat[name])[1:], origin)
    return done


def _check(info: FieldInfo, entry: _Entry) -> Any:
    try:
        return info.check(entry.given, entry.text)
    except Misfit:
        hint = suggestion(str(entry.given), map(str, info.choices)) if info.choices else ""
        raise UsageError(f"{entry.shown(info.name)}: expected {info.expected}.{hint}") from None


def _normal(entry: _Entry, value: Any) -> Any:
    """What to write for a field: its value, or the reference that was typed, which follows other overrides."""
    return entry.given if has_reference(entry.given) else value
