"""What a trainer says about itself: facts, numbers and reference lines, bounded and safe for every screen.

`facts` are short texts (architecture, digest of the weights), `numbers` feed comparisons (parameters, seconds trained),
`lines` are levels drawn across the chart of a metric (a ceiling that no model can pass). Later events are merged by
key; a null takes a key back. What does not fit the bounds is left out, never the rest of the event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .events import as_float, safe_name
from .format import plain

MOST_FACTS = 32
MOST_NUMBERS = 64
MOST_LINES = 32
"""Metrics that may have reference lines."""
MOST_LABELS = 4
"""Reference lines of one metric."""
TEXT_LENGTH = 300
NAME_LENGTH = 60

Lines = dict[str, dict[str, float]]
"""`{metric: {label: value}}`"""


def merge_facts(known: dict[str, str], said: Any) -> None:
    """Take in texts by name; numbers and truth values are written out."""
    for name, value in _entries(said):
        if value is None:
            known.pop(name, None)
        elif isinstance(value, (str, int, float)):
            _keep(known, name, plain(str(value), TEXT_LENGTH), MOST_FACTS)


def merge_numbers(known: dict[str, float], said: Any, most: int = MOST_NUMBERS) -> None:
    """Take in finite numbers by name, `most` of them."""
    for name, value in _entries(said):
        number = finite(value)
        if number is not None:
            _keep(known, name, number, most)
        elif value is None:
            known.pop(name, None)


def merge_lines(known: Lines, said: Any) -> None:
    """Take in levels by metric and label; a metric's name is the one its chart has."""
    for metric, levels in said.items() if isinstance(said, Mapping) else ():
        if not isinstance(metric, str):
            continue
        key = safe_name(metric)
        if levels is None:
            known.pop(key, None)
            continue
        found = dict(known.get(key, {}))
        merge_numbers(found, levels, MOST_LABELS)
        if found:
            _keep(known, key, found, MOST_LINES)
        else:
            known.pop(key, None)


def number_of(value: Any) -> float | str | None:
    """A number for the journal from whatever holds one (a one-element tensor); None, which takes a name back, stays.

    What is no number becomes its text, and is left out by whoever reads it.
    """
    if value is None:
        return None
    item = getattr(value, "item", None)
    try:
        return float(item() if item is not None else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return str(value)


def finite(value: Any) -> float | None:
    """A finite number; None for everything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = as_float(value)
        number = math.nan if number is None else float(number)
    except OverflowError:  # a whole number beyond what a float holds
        return None
    return number if math.isfinite(number) else None


def _entries(said: Any) -> list[tuple[str, Any]]:
    if not isinstance(said, Mapping):
        return []
    return [(plain(name, NAME_LENGTH), value) for name, value in said.items() if isinstance(name, str) and name]


def _keep(known: dict[str, Any], name: str, value: Any, most: int) -> None:
    if name in known or len(known) < most:
        known[name] = value
