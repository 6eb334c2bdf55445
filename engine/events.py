"""Event lines as values: what a journal holds, decoded strictly and forgivingly.

A line that is not an event (garbage, truncated by a crash, from a newer version with other types) is counted and
skipped; unknown kinds and fields are kept out of the way. Writing lives in `engine.logger`, which trainers import.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from .format import plain

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "nan": math.nan, "inf": math.inf}


Step = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""What a column of steps can hold; a line with another one is damaged."""
Time = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
"""Seconds or epochs: what `time.localtime`, a float32 and a rhythm of signs can take."""
Amount = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]


class Event(msgspec.Struct, frozen=True, gc=False):
    """One line of `events.jsonl`. Which fields are set depends on `k` (docs/architecture.md lists them)."""

    t: Time
    k: str
    step: Step | None = None
    epoch: Time | None = None
    v: dict[str, float | str | None] | None = None
    # progress
    done: Amount | None = None
    total: Amount | None = None
    unit: str | None = None
    description: str | None = None
    # phase, checkpoint, sample
    name: str | None = None
    # log, alert, end
    level: str | None = None
    text: str | None = None
    rule: str | None = None
    reason: str | None = None
    # start
    attempt: Step | None = None
    headline: str | None = None
    direction: str | None = None
    # about: whatever it holds is checked by `engine.about`, so that one odd value does not cost the line
    facts: Any = None
    numbers: Any = None
    lines: Any = None


_decoder = msgspec.json.Decoder(Event)


def decode_line(line: bytes | memoryview) -> Event | None:
    """One event, or None when the line is not one."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_lines(block: bytes) -> tuple[list[Event], int]:
    """All events of a block of whole lines, and how many lines were not events.

    The whole block is decoded in one call, which is twice as fast; only when that fails does each line stand alone.
    """
    try:
        return _decoder.decode_lines(block), 0
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    events: list[Event] = []
    bad = 0
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        event = decode_line(line)
        if event is None:
            bad += 1
        else:
            events.append(event)
    return events, bad


def as_float(value: float | str | None) -> float | None:
    """A metric's value as a float; the words of non-finite numbers are understood, other text is None."""
    if value is None:
        return None
    if isinstance(value, str):
        return _WORDS.get(value)
    return value


@dataclass(frozen=True, slots=True)
class Column:
    """N values of one metric in a batch of rows; `rows` are the numbers of the rows that have it, rising."""

    rows: Sequence[int]
    values: Sequence[float]


def columns_of(rows: Sequence[Event]) -> dict[str, Column]:
    """The metrics of a batch of rows as columns, in order of first appearance. What is no number is left out.

    Names are safe for a terminal (`safe_name`); of two that look the same then, the first in the batch is kept.

    Rows with the same metrics are turned over together, so that a long run costs no Python step per value: nearly all
    rows of a training carry the same few sets of metrics.
    """
    everything = [row.v or {} for row in rows]
    found: dict[str, list[Column]] = {}
    for members, values in _alike(everything):
        for name in values[0]:
            column = _numbers(members, list(map(itemgetter(name), values)))
            if column.values:
                found.setdefault(name, []).append(column)
    columns: dict[str, Column] = {}
    for name, parts in found.items():
        columns.setdefault(safe_name(name), parts[0] if len(parts) == 1 else _interleave(parts))
    return columns


@functools.lru_cache(maxsize=10_000)
def safe_name(name: str) -> str:
    """A metric's name without anything that could steer a terminal; the one place where names enter."""
    return plain(name, 120)


def _alike(rows: list[dict[str, Any]]) -> Iterator[tuple[Sequence[int], list[dict[str, Any]]]]:
    """Row numbers and rows, together where they have the same keys."""
    if not rows:
        return
    keys = rows[0].keys()
    if all(row.keys() == keys for row in rows):
        yield range(len(rows)), rows
        return
    kinds: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        kinds.setdefault(tuple(row), []).append(number)
    for members in kinds.values():
        yield members, [rows[number] for number in members]


def _numbers(rows: Sequence[int], raw: Sequence[Any]) -> Column:
    if set(map(type, raw)) == {float}:
        return Column(rows, raw)
    values = [as_float(value) for value in raw]
    known = [value is not None for value in values]
    return Column(list(compress(rows, known)), list(compress(values, known)))  # type: ignore[arg-type]


def _interleave(parts: list[Column]) -> Column:
    """One column of a metric that rows of several kinds carry."""
    pairs = [pair for part in parts for pair in zip(part.rows, part.values, strict=True)]
    pairs.sort(key=itemgetter(0))
    rows, values = zip(*pairs, strict=True)
    return Column(rows, values)


def json_number(value: float | None) -> float | str | None:
    """A value for strict JSON output: non-finite numbers as their words."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def json_numbers(values: Iterable[float]) -> list[Any]:
    """`json_number` over a column."""
    return [json_number(float(value)) for value in values]
