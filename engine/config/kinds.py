"""What a type annotation allows: from annotation to words, from any value to a checked one, and back to Python.

Three views of one value: what was *given* (parsed text, or a Python value of a preset), the *plain* one (only JSON
types; this is what is saved and signed), and the *typed* one (what the dataclass holds: tuples, enums, paths).
"""

from __future__ import annotations

import enum
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_SCALARS = {bool: "bool", int: "int", float: "float", str: "str", Path: "path"}
_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "path": "a path"}
_SHORT = {"bool": "true/false", "int": "whole number", "float": "number", "str": "text", "path": "path"}
_PLURAL = {"bool": "true/false", "int": "whole numbers", "float": "numbers", "str": "texts", "path": "paths"}
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Misfit(Exception):
    """A value that its field does not take; the caller knows the field and says what it does take."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An annotation, taken apart.

    `word` is one of bool, int, float, str, path, choice, list, tuple, dict, union. `items` are the kinds inside (one
    for a list or dict, one each for a fixed tuple, the members of a union). `choices` are plain values.
    """

    word: str
    optional: bool = False
    items: tuple[Kind, ...] = ()
    choices: tuple[Any, ...] = ()
    enum: type[enum.Enum] | None = None
    variadic: bool = False

    @property
    def numeric(self) -> bool:
        """Whether bounds mean something for it, or for what is in it."""
        return self.word in ("int", "float") or any(item.numeric for item in self.items)


def kind_of(annotation: Any) -> Kind:
    """The kind of an annotation.

    Raises
    ------
    TypeError: a config field cannot have this type (a mistake in the recipe, not of its user).
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return Kind(_SCALARS[annotation])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Kind("choice", choices=tuple(_enum_word(member) for member in annotation), enum=annotation)
    if origin is Literal:
        return Kind("choice", choices=args)
    if origin in (Union, types.UnionType):
        return _union(args)
    if origin is list:
        return Kind("list", items=(kind_of(args[0]),))
    if origin is tuple:
        variadic = len(args) == 2 and args[1] is Ellipsis
        return Kind("tuple", items=tuple(kind_of(arg) for arg in (args[:1] if variadic else args)), variadic=variadic)
    if origin is dict and args[0] is str:
        return Kind("dict", items=(kind_of(args[1]),))
    raise TypeError(f"a config field cannot be of type {annotation!r}")


def _union(args: tuple[Any, ...]) -> Kind:
    members = [kind_of(arg) for arg in args if arg is not type(None)]
    optional = len(members) < len(args)
    if len(members) > 1:
        return Kind("union", optional=optional, items=tuple(members))
    only = members[0]
    return Kind(only.word, optional, only.items, only.choices, only.enum, only.variadic)


def _enum_word(member: enum.Enum) -> str:
    """What stands for an enum member outside Python: its value when that is text, else its name."""
    return member.value if isinstance(member.value, str) else member.name


def short_words(kind: Kind) -> str:
    """A type for a table's column: `number`, `list of texts or null`."""
    if kind.word in _SHORT:
        words = _SHORT[kind.word]
    elif kind.word == "choice":
        words = "choice"
    elif kind.word == "union":
        words = " or ".join(short_words(item) for item in kind.items)
    elif kind.word == "dict":
        words = f"{{name: {short_words(kind.items[0])}}}"
    elif kind.word == "tuple" and not kind.variadic:
        words = f"[{', '.join(short_words(item) for item in kind.items)}]"
    else:
        words = f"list of {_PLURAL.get(kind.items[0].word, short_words(kind.items[0]))}"
    return words + (" or null" if kind.optional else "")


def long_words(kind: Kind, bounds: str = "", unit: str | None = None, choices: tuple[Any, ...] | None = None) -> str:
    """What a field takes, to end the sentence "expected …": `a number > 0 (seconds), or null`."""
    allowed = choices or kind.choices
    if allowed:
        words = f"one of {', '.join(map(_show, allowed))}"
        if kind.word in ("list", "tuple"):
            words = f"a list of these: {', '.join(map(_show, allowed))}"
    elif kind.word in _WORDS:
        words = _WORDS[kind.word]
    elif kind.word == "union":
        words = ", or ".join(long_words(item) for item in kind.items)
    elif kind.word == "list" or kind.variadic:
        words = f"a {short_words(Kind(kind.word, items=kind.items, variadic=kind.variadic))}, written [a,b]"
    elif kind.word == "tuple":
        words = f"{len(kind.items)} values, written {short_words(Kind('tuple', items=kind.items))}"
    else:
        words = f"a table, written {{name:value}}, of {_PLURAL.get(kind.items[0].word, 'values')}"
    if bounds and not allowed:
        words += f" {bounds}" if kind.word in _WORDS else f", each {bounds}"
    if unit and not allowed:
        words += f" ({unit})"
    return words + (", or null" if kind.optional else "")


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def to_plain(kind: Kind, given: Any, text: str | None = None) -> Any:
    """`given` as the plain value of `kind`; `text` is how it was typed, for a text that looks like a number.

    Raises
    ------
    Misfit: it is none.
    """
    if given is None and kind.optional:
        return None
    if kind.word == "union":
        return _first_fit(kind, given, text)
    return _CONVERT[kind.word](kind, given, text)


def _first_fit(kind: Kind, given: Any, text: str | None) -> Any:
    for item in kind.items:
        try:
            return to_plain(item, given, text)
        except Misfit:
            continue
    raise Misfit


def _bool(kind: Kind, given: Any, text: str | None) -> bool:
    if isinstance(given, bool):
        return given
    word = str(given).lower() if isinstance(given, (str, int)) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise Misfit


def _int(kind: Kind, given: Any, text: str | None) -> int:
    """A whole number of at most 64 bits; `1e4` is one too, although the grammar reads it as a float."""
    whole = isinstance(given, int) or (isinstance(given, float) and given.is_integer())
    if isinstance(given, bool) or not whole or not -(2**63) <= given < 2**63:
        raise Misfit
    return int(given)


def _float(kind: Kind, given: Any, text: str | None) -> float:
    """A finite number: NaN passes every comparison by failing it, and neither NaN nor infinity is JSON."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise Misfit
    try:
        number = float(given)
    except OverflowError as error:
        raise Misfit from error
    if not math.isfinite(number):
        raise Misfit
    return number


def _text(kind: Kind, given: Any, text: str | None) -> str:
    """Text as typed: `name=1e3` is the text 1e3, not 1000.0."""
    if isinstance(given, (str, Path)):
        return str(given)
    if text is None or isinstance(given, (list, tuple, Mapping)):
        raise Misfit
    return text


def _choice(kind: Kind, given: Any, text: str | None) -> Any:
    if isinstance(given, enum.Enum):
        given = _enum_word(given)
    for choice in kind.choices:
        if type(choice) is type(given) and choice == given:
            return choice
    for choice in kind.choices:
        if isinstance(choice, str) and text is not None and choice == text:
            return choice
    if kind.enum is not None and isinstance(given, str) and given in kind.enum.__members__:
        return _enum_word(kind.enum[given])
    raise Misfit


def _list(kind: Kind, given: Any, text: str | None) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        raise Misfit
    if kind.word == "list" or kind.variadic:
        return [to_plain(kind.items[0], item) for item in given]
    if len(given) != len(kind.items):
        raise Misfit
    return [to_plain(item_kind, item) for item_kind, item in zip(kind.items, given, strict=True)]


def _dict(kind: Kind, given: Any, text: str | None) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise Misfit
    return {key: to_plain(kind.items[0], item) for key, item in given.items()}


_CONVERT = {
    "bool": _bool, "int": _int, "float": _float, "str": _text, "path": _text,
    "choice": _choice, "list": _list, "tuple": _list, "dict": _dict,
}  # fmt: skip


def to_typed(kind: Kind, plain: Any) -> Any:
    """The Python value of a plain one: what the dataclass field holds."""
    if plain is None:
        return None
    if kind.word == "path":
        return Path(plain)
    if kind.enum is not None:
        return next(member for member in kind.enum if _enum_word(member) == plain)
    if kind.word == "list":
        return [to_typed(kind.items[0], item) for item in plain]
    if kind.word == "tuple":
        kinds = kind.items * len(plain) if kind.variadic else kind.items
        return tuple(to_typed(item_kind, item) for item_kind, item in zip(kinds, plain, strict=True))
    if kind.word == "dict":
        return {key: to_typed(kind.items[0], item) for key, item in plain.items()}
    return plain


def numbers_in(plain: Any) -> list[float]:
    """Every number inside a plain value: bounds hold for each element of a list."""
    if isinstance(plain, Mapping):
        plain = list(plain.values())
    if isinstance(plain, list):
        return [number for item in plain for number in numbers_in(item)]
    return [plain] if isinstance(plain, (int, float)) and not isinstance(plain, bool) else []
