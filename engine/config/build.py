"""Between the shapes of a config: flat by dotted name, nested plain values, and the dataclass itself."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import UsageError
from .fields import annotations_of, fields_of
from .kinds import Misfit, to_plain, to_typed

T = TypeVar("T")


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of values by dotted name."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], leaves: Iterable[str]) -> dict[str, Any]:
    """Values by dotted name; `leaves` are the known fields, at which descending ends (a field may be a table).

    A name that leads to no known field is kept, so that the caller can say so.
    """
    known = frozenset(leaves)

    def walk(node: Mapping[str, Any], prefix: str) -> typing.Iterator[tuple[str, Any]]:
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name not in known and isinstance(value, Mapping):
                yield from walk(value, f"{name}.")
            else:
                yield name, value

    return dict(walk(tree, ""))


def build(config_type: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass instance of plain values by dotted name.

    Raises
    ------
    UsageError: the dataclass itself refuses (a `ValueError` of its `__post_init__`: fields that do not go together).
    """
    return _build(config_type, values, "")


def _build(config_type: type[T], values: Mapping[str, Any], prefix: str) -> T:
    arguments: dict[str, Any] = {}
    infos = fields_of(config_type)
    for field, annotation in annotations_of(config_type).items():
        name = f"{prefix}{field}"
        if dataclasses.is_dataclass(annotation):
            arguments[field] = _build(typing.cast(type, annotation), values, f"{name}.")
        else:
            arguments[field] = to_typed(infos[field].kind, values[name])
    try:
        return config_type(**arguments)
    except ValueError as error:
        where = f"{prefix.rstrip('.')}: " if prefix else ""
        raise UsageError(f"{where}{str(error).rstrip('.')}.") from error


def to_resolved(config: Any) -> dict[str, Any]:
    """The nested plain values of a config (or of one section: `signature(to_resolved(config.data))` names its data)."""
    values = {}
    for name, info in fields_of(type(config)).items():
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = to_plain(info.kind, value)
    return nest(values)


def from_resolved(config_type: type[T], resolved: Mapping[str, Any]) -> T:
    """The config of a saved run; fields that were added since then take their defaults.

    Raises
    ------
    UsageError: the saved config does not fit this version of the recipe.
    """
    infos = fields_of(config_type)
    saved = flatten(resolved, infos)
    for name in saved:
        if name not in infos:
            raise UsageError(f"the saved config has {name!r}, which this version of the recipe does not know.")
    values = {}
    for name, info in infos.items():
        if name not in saved and info.required:
            raise UsageError(f"the saved config lacks {name!r}, which this version of the recipe needs.")
        try:
            values[name] = info.check(saved[name]) if name in saved else info.default
        except Misfit:
            raise UsageError(f"in the saved config, {name}={saved[name]!r}: expected {info.expected}.") from None
    return build(config_type, values)
