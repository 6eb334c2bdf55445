"""Which metrics share a chart, and in which look and order.

`train/loss` and `val/loss` (or Lightning's `train_loss`, `val_loss`) are one chart "loss": the gap between them is what
one looks for. Only names of splits are taken off; `gen/loss` and `disc/loss` are different things and stay apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...engine.headline import goal_of
from ...engine.series_view import SeriesView
from .data import ChartSeries

SPLITS = {"train": 0, "training": 0, "tr": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "eval": 1, "test": 2}
_SPLIT = re.compile(rf"^({'|'.join(sorted(SPLITS, key=len, reverse=True))})[/_.](.+)$", re.IGNORECASE)
_SUFFIX = re.compile(r"_(step|epoch)$")
_LEADING = re.compile(r"loss|err|acc|f1|wer|cer")


@dataclass(frozen=True, slots=True)
class Group:
    """One chart: its title and its lines."""

    title: str
    series: tuple[ChartSeries, ...]


def split_of(name: str) -> tuple[str, int | None]:
    """What a metric measures and the slot of its split (None for a name without one)."""
    match = _SPLIT.match(name)
    if match is None:
        return name, None
    return match[2], SPLITS[match[1].lower()]


def group(series: Mapping[str, SeriesView], pattern: str = "") -> tuple[Group, ...]:
    """Charts for the metrics whose name matches `pattern`, those with losses and error rates first."""
    groups: dict[str, list[tuple[str, SeriesView, int | None]]] = {}
    matches = matcher(pattern)
    for name, view in series.items():
        measured, slot = split_of(name)
        if matches(name):
            groups.setdefault(_SUFFIX.sub("", measured), []).append((name, view, slot))
    made = [Group(title, _lines(members)) for title, members in groups.items()]
    return tuple(sorted(made, key=lambda g: not _LEADING.search(g.title.lower())))


def _lines(members: list[tuple[str, SeriesView, int | None]]) -> tuple[ChartSeries, ...]:
    """Slots by split, so that validation looks the same in every chart; a taken slot gives way to the next free one."""
    taken: set[int] = set()
    lines = []
    for name, view, slot in sorted(members, key=lambda member: 0 if member[2] is None else member[2]):
        wanted = slot or 0
        while wanted in taken:
            wanted += 1
        taken.add(wanted)
        lines.append(ChartSeries(name, view, wanted, goal_of(name)))
    return tuple(lines)


def matcher(pattern: str) -> Callable[[str], bool]:
    """A test of names: a regular expression anywhere in the name, or plain text while it is not a valid one."""
    try:
        regex = re.compile(pattern, re.IGNORECASE)
    except re.error:
        return lambda name: pattern.lower() in name.lower()
    return lambda name: regex.search(name) is not None
