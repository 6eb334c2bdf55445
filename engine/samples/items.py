"""One evaluated item as a value: what an index line says, decoded forgivingly.

A line is untrusted: every name in it may hold slashes, markup or control characters (clean with `format.plain` before
drawing), every number may be absurd. A field that is not what it should be is left out and named in `problems`; only a
line that is no JSON object with an id is no item at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..events import as_float

MOST_FRAMES = 2**40
MOST_CHANNELS = 64
MOST_RATE = 1_000_000
TRACK_ORDER = ("target", "reference", "input", "mixture", "prediction", "output", "estimate")
"""Tracks with these names come first, in this order; others follow as the line has them."""


@dataclass(frozen=True, slots=True)
class TrackPlace:
    """Where a track's samples lie: `frames` rows from `start` on in the dataset of that name.

    `rate` in Hz, `start` and `frames` in frames (one frame = one sample of every channel). `not_finite` counts the
    NaN and infinite samples the writer saw.
    """

    rate: int
    channels: int
    start: int
    frames: int
    not_finite: int = 0

    @property
    def seconds(self) -> float:
        """How long the track is."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry of a parameter vector; either side may be missing (None) or NaN."""

    target: float | None = None
    predicted: float | None = None

    @property
    def error(self) -> float | None:
        """|predicted - target|, None when one side is missing."""
        if self.target is None or self.predicted is None:
            return None
        return abs(self.predicted - self.target)


@dataclass(frozen=True, slots=True)
class SampleItem:
    """One item of one evaluation. `row` is its place in the set's columns, stable until the index is rewound.

    `key`: what its user calls it, None where only its samples tell which it is. `step` None: logged without one.
    `probabilities` per class in 0…1 as the trainer gave them. `tracks` in the order in which to show them. `problems`:
    sentences about the line itself; `SampleSet.problem` also looks at the files.
    """

    id: str
    set: str = ""
    row: int = -1
    key: str | None = None
    step: int | None = None
    epoch: float | None = None
    t: float | None = None
    file: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    label: str | None = None
    predicted: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    tracks: Mapping[str, TrackPlace] = field(default_factory=dict)
    attachments: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """The longest track's length, None without tracks."""
        return max((place.seconds for place in self.tracks.values()), default=None)


class IndexLine(msgspec.Struct, gc=False):
    """A whole index line as the writer writes it; the quick way in. Unknown fields are ignored."""

    id: str
    key: str | int | float | None = None
    step: int | None = None
    epoch: float | None = None
    t: float | None = None
    file: str | None = None
    metrics: dict[str, float | str | None] = {}
    text: dict[str, str] = {}
    tags: list[str] = []
    label: str | None = None
    predicted: str | None = None
    probabilities: dict[str, float | str | None] | None = None
    parameters: dict[str, dict[str, float | str | None]] | None = None
    tracks: dict[str, dict[str, Any]] = {}
    attachments: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(IndexLine)
_MOST_STEP = 2**62
_MOST_TIME = 1e12
_MOST_ID = 200
MOST_KEY = 400
"""Characters of a key that are kept to be shown and found; the id is made of all of them."""


def decode_index_line(line: bytes) -> tuple[IndexLine, tuple[str, ...]] | None:
    """The line's fields and what is wrong with it; None when it is no object with an id."""
    problems: list[str] = []
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        loose = _decode_loosely(line)
        if loose is None:
            return None
        found, problems = loose
    if not found.id or len(found.id) > _MOST_ID:
        return None
    if found.step is not None and not -_MOST_STEP <= found.step <= _MOST_STEP:
        found.step = None
        problems.append("The step in the index line is absurd.")
    if found.key is not None:
        found.key = str(found.key)[:MOST_KEY] or None
    for name in ("epoch", "t"):
        value = getattr(found, name)
        if value is not None and not abs(value) <= _MOST_TIME:
            setattr(found, name, None)
    return found, tuple(problems)


def _decode_loosely(line: bytes) -> tuple[IndexLine, list[str]] | None:
    """Field by field, after the strict decoder refused the line as a whole."""
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
        return None
    found = IndexLine(raw["id"])
    problems = []
    for spec in msgspec.structs.fields(IndexLine):
        if spec.name == "id" or spec.name not in raw:
            continue
        value = raw[spec.name]
        try:
            setattr(found, spec.name, msgspec.convert(value, spec.type))
        except (msgspec.ValidationError, OverflowError):
            kept = _part_of(value, spec.type)
            if kept is not None:
                setattr(found, spec.name, kept)
            problems.append(f"The field {spec.name!r} of its index line is not what it should be.")
    return found, problems


def _part_of(value: Any, kind: Any) -> dict[str, Any] | None:
    """The entries of a mapping field that are as they should be: one bad metric must not cost the others."""
    if not isinstance(value, dict) or "dict" not in str(kind):
        return None
    kept: dict[str, Any] = {}
    for key, entry in value.items():
        try:
            kept |= msgspec.convert({key: entry}, kind)
        except (msgspec.ValidationError, OverflowError):
            continue
    return kept


def item_of(line: IndexLine, problems: tuple[str, ...] = (), *, set: str = "", row: int = -1) -> SampleItem:
    """The value that screens and verbs see."""
    wrong = list(problems)
    tracks: dict[str, TrackPlace] = {}
    for name in sorted(line.tracks, key=_track_rank):
        place = _place_of(line.tracks[name])
        if place is None:
            wrong.append(f"Track {name[:80]!r} has a rate, channel count or place that cannot be.")
        else:
            tracks[name] = place
    return SampleItem(
        id=line.id,
        set=set,
        row=row,
        key=None if line.key is None else str(line.key),
        step=line.step,
        epoch=line.epoch,
        t=line.t,
        file=line.file,
        metrics=numbers_of(line.metrics),
        text=line.text,
        tags=tuple(line.tags),
        label=line.label,
        predicted=line.predicted,
        probabilities=numbers_of(line.probabilities or {}),
        parameters={
            name: Parameter(as_float(sides.get("target")), as_float(sides.get("predicted")))
            for name, sides in (line.parameters or {}).items()
        },
        tracks=tracks,
        attachments=line.attachments or {},
        problems=tuple(wrong),
    )


def numbers_of(raw: Mapping[str, float | str | None]) -> dict[str, float]:
    """The entries that are numbers; the words of NaN and infinities are understood."""
    numbers = ((name, as_float(value)) for name, value in raw.items())
    return {name: value for name, value in numbers if value is not None}


def _track_rank(name: str) -> int:
    return TRACK_ORDER.index(name) if name in TRACK_ORDER else len(TRACK_ORDER)


def _place_of(raw: Mapping[str, Any]) -> TrackPlace | None:
    """A track's place when its numbers can be believed."""
    rate, channels = _whole(raw.get("rate"), 1, MOST_RATE), _whole(raw.get("channels"), 1, MOST_CHANNELS)
    start, frames = _whole(raw.get("start"), 0, MOST_FRAMES), _whole(raw.get("frames"), 0, MOST_FRAMES)
    if rate is None or channels is None or start is None or frames is None:
        return None
    return TrackPlace(rate, channels, start, frames, _whole(raw.get("not_finite"), 0, 2**62) or 0)


def _whole(value: object, least: int, most: int) -> int | None:
    """A whole number within its bounds, else None; 16000.0 is whole, True is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) and least <= value <= most else None
