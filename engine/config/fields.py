"""`knob`, the documented config field, and `describe`, which lists a config's fields for forms, help and docs."""

from __future__ import annotations

import copy
import dataclasses
import functools
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar, overload

from .kinds import Kind, Misfit, kind_of, long_words, numbers_in, short_words, to_plain

T = TypeVar("T")
_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


@overload
def knob(
    default: T, help: str, *, unit: str | None = ..., ge: float | None = ..., gt: float | None = ...,
    le: float | None = ..., lt: float | None = ..., choices: typing.Iterable[Any] | None = ...,
) -> T: ...  # fmt: skip
@overload
def knob(
    default: Any = ..., help: str = ..., *, unit: str | None = ..., ge: float | None = ..., gt: float | None = ...,
    le: float | None = ..., lt: float | None = ..., choices: typing.Iterable[Any] | None = ...,
    default_factory: Callable[[], T],
) -> T: ...  # fmt: skip
def knob(
    default: Any = MISSING,
    help: str = "",
    *,
    unit: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: typing.Iterable[Any] | None = None,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A dataclass field that says what it is for.

    `lr: float = knob(1e-3, "peak learning rate", gt=0)`

    Parameters
    ----------
    default: may be a list or dict; each config gets its own copy.
    unit: what the number counts (`s`, `Hz`, `steps`, `dB`).
    ge, gt, le, lt: bounds; in a list they hold for each element.
    choices: the only values allowed, where a `Literal` or `Enum` would be too long.
    """
    metadata: dict[str, Any] = {"help": help, "unit": unit, "ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata["choices"] = tuple(choices) if choices is not None else None
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    if isinstance(default, (list, dict, set)):
        return dataclasses.field(default_factory=functools.partial(copy.deepcopy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One field of a config, its path flattened to a dotted name.

    `type` is a word for people (`number`, `list of texts`); `default` is a plain (JSON) value; `group` is the dotted
    name of the section the field stands in, empty at the top.
    """

    name: str
    type: str
    default: Any
    help: str
    unit: str | None
    group: str
    kind: Kind
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] | None = None
    required: bool = False
    """There is no default: it must be given."""

    @property
    def bounds(self) -> str:
        """`> 0 and ≤ 1`, or an empty string."""
        limits = [(sign, getattr(self, key)) for key, sign in _BOUNDS]
        return " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)

    @property
    def expected(self) -> str:
        """What the field takes, in words that end a sentence."""
        return long_words(self.kind, self.bounds, self.unit, self.choices)

    def check(self, given: Any, text: str | None = None) -> Any:
        """`given` as a plain value of this field.

        Raises
        ------
        Misfit: wrong type, not among the choices, or out of bounds.
        """
        plain = to_plain(self.kind, given, text)
        if plain is not None and self.choices is not None:
            items = plain if self.kind.word in ("list", "tuple") else [plain]
            if any(item not in self.choices for item in items):
                raise Misfit
        if self.kind.numeric and not all(map(self._within, numbers_in(plain))):
            raise Misfit
        return plain

    def _within(self, number: float) -> bool:
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )


def describe(config_type: type) -> list[FieldInfo]:
    """Every field of a config dataclass and of the dataclasses in it, in the order they are written.

    Raises
    ------
    TypeError: not a dataclass, or a field has a type that configs do not support.
    """
    return list(fields_of(config_type).values())


def fields_of(config_type: type) -> dict[str, FieldInfo]:
    """`describe` by dotted name; looked at for every key typed in a form, hence cached. Do not change it."""
    return _fields_of(config_type)


@functools.cache
def _fields_of(config_type: type) -> dict[str, FieldInfo]:
    if not dataclasses.is_dataclass(config_type):
        raise TypeError(f"{config_type!r} is not a dataclass")
    return {info.name: info for info in _walk(config_type, MISSING, "")}


@functools.cache
def sections_of(config_type: type) -> dict[str, type]:
    """The nested dataclasses by dotted name; the config itself is the empty name."""
    sections: dict[str, type] = {"": config_type}
    for name, annotation in annotations_of(config_type).items():
        if dataclasses.is_dataclass(annotation):
            for inner, kind in sections_of(typing.cast(type, annotation)).items():
                sections[f"{name}.{inner}".rstrip(".")] = kind
    return sections


def annotations_of(config_type: type) -> dict[str, Any]:
    """The resolved annotations of the fields that a config takes."""
    return _annotations_of(config_type)


@functools.cache
def _annotations_of(config_type: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type) if field.init}


def _walk(config_type: type, instance: Any, group: str) -> typing.Iterator[FieldInfo]:
    """The fields of one section; `instance` is its default value, MISSING where its own class says the defaults."""
    annotations = annotations_of(config_type)
    for field in dataclasses.fields(config_type):
        if field.name not in annotations:
            continue
        annotation = annotations[field.name]
        name = f"{group}.{field.name}" if group else field.name
        default = getattr(instance, field.name) if instance is not MISSING else _default(field)
        if dataclasses.is_dataclass(annotation):
            yield from _walk(typing.cast(type, annotation), default, name)
        else:
            yield _info(field, annotation, name, default, group)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _info(field: dataclasses.Field[Any], annotation: Any, name: str, default: Any, group: str) -> FieldInfo:
    data = field.metadata
    try:
        kind = kind_of(annotation)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    return FieldInfo(
        name=name,
        type=short_words(kind),
        default=None if default is MISSING else _plain_default(kind, default, name),
        help=data.get("help", ""),
        unit=data.get("unit"),
        group=group,
        kind=kind,
        choices=data.get("choices") or kind.choices or None,
        required=default is MISSING,
        **{key: data.get(key) for key, _ in _BOUNDS},
    )


def _plain_default(kind: Kind, default: Any, name: str) -> Any:
    try:
        return to_plain(kind, default)
    except Misfit:
        raise TypeError(f"{name}: its default {default!r} is no {short_words(kind)}") from None
