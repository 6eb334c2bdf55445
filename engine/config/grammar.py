"""Hydra's override grammar: what is typed becomes a value, and a value becomes what could have been typed.

One value per field: sweeps (`a=1,2`), additions (`+a=1`) and deletions (`~a`) are understood well enough to be refused
in words. `hydra` is imported on first use only; it costs 0.2 to 0.5 s.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

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
    typed = typed.strip()
    _refuse_signs(typed)
    key, equals, text = typed.partition("=")
    shown = shorten(typed)
    if not equals:
        raise UsageError(f"'{shown}' has no '=value': write {shown}=value.")
    if not key.strip() or "@" in key:
        raise UsageError(f"'{shown}' does not name a field: write name=value.")
    return Override(key.strip(), _parse(typed, key.strip(), text.strip()), text.strip())


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
    from hydra.core.override_parser.types import Override as HydraOverride
    from hydra.errors import HydraException

    try:
        parsed: HydraOverride = _parser().parse_overrides([typed])[0]
    except (HydraException, ValueError, RecursionError):  # ValueError: a number of more digits than Python converts
        wrong = shorten(typed)
        raise UsageError(f"'{wrong}' cannot be read: put its value in quotes, like \"{key}='…'\".") from None
    if parsed.is_sweep_override():
        raise UsageError(
            f"'{shorten(typed)}' names several values, but {key} takes one: write a list as [a,b] and a text "
            "with a comma in quotes (several values are for `wavedeck sweep`)."
        )
    return parsed.value()


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
