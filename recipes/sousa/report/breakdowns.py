"""The same scores over parts of the test: by skill, tempo, family and kit. Values in, values out.

Shapes: N clips, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..players import TIERS

MOST_PARTS = 20
"""Values that a breakdown may have; of more (a hundred soundfonts) a table is of no use."""
_WIDTHS_BPM = (5, 10, 20, 50, 100)
_MOST_BINS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """The clips of one tier, tempo, family or kit."""

    clips: int
    accuracy: float
    balanced_accuracy: float
    """Mean recall over the classes that this part holds."""


def by_value(values: Sequence[str | None], label_N: np.ndarray, answer_N: np.ndarray) -> dict[str, Part]:
    """One part for each different value, in order of first appearance; clips without a value are left out."""
    names = list(dict.fromkeys(value for value in values if value is not None))
    if len(names) > MOST_PARTS:
        return {}
    value_N = np.asarray([value or "" for value in values])
    return {name: part(label_N[value_N == name], answer_N[value_N == name]) for name in names}


def by_skill(tiers: Sequence[str], label_N: np.ndarray, answer_N: np.ndarray) -> dict[str, Part]:
    """From beginner to professional; tiers of other names after them."""
    parts = by_value(tiers, label_N, answer_N)
    known = [tier.name for tier in TIERS if tier.name in parts]
    return {name: parts[name] for name in [*known, *(name for name in parts if name not in known)]}


def by_tempo(tempo_N: np.ndarray, label_N: np.ndarray, answer_N: np.ndarray) -> dict[str, Part]:
    """Bins of round width from the slowest clip to the fastest, `60–80 BPM` holding 60 and not 80.

    `tempo_N` is in quarter notes per minute, NaN where it is not known.
    """
    known = tempo_N[np.isfinite(tempo_N)]
    if not len(known):
        return {}
    slowest, fastest = float(known.min()), float(known.max())
    width = next((width for width in _WIDTHS_BPM if _bins(slowest, fastest, width) <= _MOST_BINS), None)
    if width is None:
        return {}
    parts = {}
    for low in range(int(slowest // width) * width, math.floor(fastest) + 1, width):
        chosen = (tempo_N >= low) & (tempo_N < low + width)
        if chosen.any():
            parts[f"{low}–{low + width} BPM"] = part(label_N[chosen], answer_N[chosen])
    return parts


def part(label_N: np.ndarray, answer_N: np.ndarray) -> Part:
    """The scores of some clips, at least one."""
    right_N = label_N == answer_N
    recalls = [right_N[label_N == label].mean() for label in np.unique(label_N)]
    return Part(len(label_N), float(right_N.mean()), float(np.mean(recalls)))


def _bins(slowest: float, fastest: float, width: int) -> int:
    return int(fastest // width) - int(slowest // width) + 1
