"""Hydra's override grammar: what is typed becomes a value, and a value becomes what could have been typed.

One value per field: additions (`+a=1`) and deletions (`~a`) are understood well enough to be refused in words, and so
are several values (`a=1,2`) where one is due; `sweep.py` takes those apart. `hydra` is imported on first use only; it
costs 0.2 to 0.5 s.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..errors import UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as HydraOverride

MOST_VALUES = 1000
"""Of one sweep."""
_PLAIN_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*")
_RESERVED = frozenset({"true", "false", "null", "nan", "inf", "yes", "no", "on", "off"})
_REFERENCE = re.compile(r"\$\{[\w.\[\]]+\}")
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Override:
    """One `key=value`: the value as Python, and the text it was typed as."""

    key: str
    given: Any
    text: str

    @property
    def shown(self) -> str:
        """For an error sentence."""
        return shorten(f"{self.key}={self.text}")


def shorten(text: str) -> str:
    """At most 80 characters of something a user typed."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def parse_override(typed: str) -> Override:
    """Understand one `key=value`.

    Raises
    ------
    UsageError: not one value for one key; the sentence says what to write instead.
    """
    typed, key, text = _parts(typed)
    return Override(key, _parse(typed, key, text), text)


def parse_values(typed: str, options: Sequence[str] = ()) -> list[Override] | None:
    """The overrides that a `key=a,b`, `key=range(1,4)`, `key=choice(a,b)` or `key=glob(a*)` stands for, in order.

    None when it names one value only.

    Parameters
    ----------
    options: what `glob` chooses among.

    Raises
    ------
    UsageError: it names no value at all, more than can be run, or a range without steps.
    """
    typed, key, _ = _parts(typed)
    parsed = _read(typed, key)
    if not parsed.is_sweep_override():
        return None
    found = list(itertools.islice(_elements(parsed, key, typed, options), MOST_VALUES + 1))
    if not found:
        raise UsageError(f"'{shorten(typed)}' names no value at all.")
    if len(found) > MOST_VALUES:
        raise UsageError(f"'{shorten(typed)}' names more than {MOST_VALUES:,} values: name fewer.")
    values = [type(parsed)._convert_value(value) for value in found]
    return [Override(key, value, write_override(key, value).partition("=")[2]) for value in values]


def _elements(parsed: Any, key: str, typed: str, options: Sequence[str]) -> Iterator[Any]:
    from hydra.core.override_parser.types import Glob

    value = parsed.value()
    if isinstance(value, Glob):
        if not options:
            raise UsageError(f"'{shorten(typed)}': glob() chooses among a group's options, and {key} is no group.")
        return iter(value.filter(list(options)))
    if not parsed.is_discrete_sweep():
        raise UsageError(
            f"'{shorten(typed)}' has no steps: write {key}=range(from,to,step), or the values with commas between."
        )
    return iter(parsed.sweep_iterator())


def _parts(typed: str) -> tuple[str, str, str]:
    """What was typed, its key and its value's text."""
    typed = typed.strip()
    _refuse_signs(typed)
    key, equals, text = typed.partition("=")
    shown = shorten(typed)
    if not equals:
        raise UsageError(f"'{shown}' has no '=value': write {shown}=value.")
    if not key.strip() or "@" in key:
        raise UsageError(f"'{shown}' does not name a field: write name=value.")
    return typed, key.strip(), text.strip()


def parse_value(text: str) -> Any:
    """One value as the grammar reads it: number, true/false, null, list, table or text.

    Raises
    ------
    UsageError: it is no value, or several.
    """
    return _parse(f"value={text}", "value", text.strip())


def _refuse_signs(typed: str) -> None:
    shown = shorten(typed)
    if typed.startswith("~"):
        raise UsageError(f"'{shown}' deletes a field, but a recipe's fields are fixed: set it instead, name=value.")
    if typed.startswith("+"):
        write = shorten(typed.lstrip("+"))
        raise UsageError(f"'{shown}' adds a field, but a recipe's fields are fixed: write {write} for one it has.")


def _parse(typed: str, key: str, text: str) -> Any:
    parsed = _read(typed, key)
    if parsed.is_sweep_override():
        raise UsageError(
            f"'{shorten(typed)}' names several values, but {key} takes one: add -m to `wavedeck run` for one training "
            "with each, or write a list as [a,b] and a text with a comma in quotes."
        )
    return parsed.value()


def _read(typed: str, key: str) -> HydraOverride:
    from hydra.errors import HydraException

    try:
        return cast("HydraOverride", _parser().parse_overrides([typed])[0])
    except (HydraException, ValueError, RecursionError):  # ValueError: a number of more digits than Python converts
        wrong = shorten(typed)
        raise UsageError(f"'{wrong}' cannot be read: put its value in quotes, like \"{key}='…'\".") from None


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def write_override(name: str, plain: Any) -> str:
    """`name=value` in the grammar, such that parsing it gives `plain` again. (Quoting for a shell is the caller's.)"""
    return f"{name}={_write(plain)}"


def _write(plain: Any) -> str:
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, (int, float)):
        return repr(plain)
    if isinstance(plain, Mapping):
        return "{" + ",".join(f"{key}:{_write(item)}" for key, item in plain.items()) + "}"
    if isinstance(plain, (list, tuple)):
        return "[" + ",".join(map(_write, plain)) + "]"
    return _write_text(str(plain))


def _write_text(text: str) -> str:
    if _PLAIN_WORD.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=text, quote=Quote.single).with_quotes()


def strings_in(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_in(item)


def has_reference(value: Any) -> bool:
    """Whether a `${…}` stands anywhere in it."""
    return any("${" in text for text in strings_in(value))


def refuse_resolvers(value: Any, shown: str) -> None:
    """Allow `${training.lr}` and nothing else: a resolver like `oc.env` would write a secret into the manifest.

    Raises
    ------
    UsageError: some `${…}` is more than the name of a field.
    """
    for text in strings_in(value):
        while _REFERENCE.search(text):
            text = _REFERENCE.sub("x", text)
        if "${" in text:
            raise UsageError(
                f"'{shown}': ${{…}} may only name another field, like ${{training.lr}}; environment variables are "
                "refused because a config is saved with its run and must hold no secret."
            )


def resolve_references(tree: dict[str, Any]) -> dict[str, Any]:
    """The nested `tree` with every `${field}` replaced by that field's value.

    Raises
    ------
    UsageError: a reference leads nowhere or in a circle.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        name = getattr(error, "full_key", None)
        where = f"the reference in {name}" if name else "a reference ${…}"
        raise UsageError(f"{where} leads nowhere or in a circle: name another field in full.") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
