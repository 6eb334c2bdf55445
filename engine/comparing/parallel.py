"""Parallel coordinates: an axis for each thing that tells runs apart, a line for each run through its values.

Positions are in [0, 1], 0 at the bottom, so that a terminal and a picture draw the same. A value that is missing, or
not finite, has no position; drawers give it a place of its own below the axis and say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..format import number
from .clips import judged_alike
from .comparison import Comparison
from .differences import value_words
from .runs import ComparedRun
from .table import (
    Column,
    best_column,
    metric_column,
    number_column,
    number_words,
    placed_column,
    setting_column,
    sorted_runs,
)

LOG_FROM = 50.0
"""An axis of positive values is logarithmic when the largest is so many times the smallest."""
CHOICES = ("recipe", "model.name", "strategy.name")
MOST_SETTINGS = 3
MOST_WORDS = 12
"""Different settings beyond which an axis of words would be a list."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis. `ticks` are (position, words), from the bottom up."""

    title: str
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One run: its position on each axis (None: no value there) and what it has there in words."""

    run: str
    title: str
    places: tuple[float | None, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Axes from left to right, traces best first."""

    axes: tuple[Axis, ...] = ()
    traces: tuple[Trace, ...] = ()

    @property
    def gaps(self) -> bool:
        """Whether any run has no value somewhere."""
        return any(place is None for trace in self.traces for place in trace.places)


def parallel(comparison: Comparison) -> Parallel:
    """Model, strategy and what else was chosen, trainable parameters, memory, time, and the headline.

    An axis on which no run has a value is left out.
    """
    runs = sorted_runs(comparison)
    made = [(column, _axis(column, runs)) for column in axis_columns(comparison)]
    kept = [(column, axis, places) for column, (axis, places) in made if any(place is not None for place in places)]
    traces = tuple(
        Trace(
            run.id,
            comparison.title(run),
            tuple(places[number_] for _, _, places in kept),
            tuple(column.words(run) for column, _, _ in kept),
        )
        for number_, run in enumerate(runs)
    )
    return Parallel(tuple(axis for _, axis, _ in kept), traces)


def axis_columns(comparison: Comparison) -> list[Column]:
    """What the axes stand for, the result last."""
    differing = comparison.differences.names
    present = {name for run in comparison.runs for name in run.settings}
    chosen = [name for name in CHOICES if name in differing or (name in present and name != "recipe")]
    chosen += [name for name in differing if name not in chosen and _spread(comparison, name)]
    columns = [setting_column(name) for name in chosen[:MOST_SETTINGS]]
    numbers = comparison.number_names
    size = "trainable_parameters" if "trainable_parameters" in numbers else "parameters"
    time = "train_s" if "train_s" in numbers else "ran_s"
    columns += [number_column(name) for name in (size, "memory_gib", time) if name in numbers]
    return [*columns, result_column(comparison)]


def result_column(comparison: Comparison) -> Column:
    """The headline: on the test if all that ended were evaluated there, and alike; else at its best in validation.

    Of runs that are compared at a step or at their ends, what it was there.
    """
    headline = comparison.headline
    if headline is not None and comparison.place.kind != "best":
        return placed_column(comparison, headline.metric)
    if headline is not None and judged_alike(comparison.runs):
        test = f"test/{headline.metric.rsplit('/', 1)[-1]}"
        judged = [run for run in comparison.runs if test in run.metrics]
        if judged and all(test in run.metrics for run in comparison.runs if run.best is not None):
            return metric_column(test)
    return best_column(comparison)


def _spread(comparison: Comparison, name: str) -> bool:
    """Whether a setting is worth an axis: few different words, or numbers."""
    if name in comparison.differences.partial or name in ("host", "code", "command"):
        return False
    values = [run.settings[name] for run in comparison.runs if name in run.settings]
    return _all_numbers(values) or len({value_words(value) for value in values}) <= MOST_WORDS


def _all_numbers(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _axis(column: Column, runs: Sequence[ComparedRun]) -> tuple[Axis, list[float | None]]:
    """An axis and where each run lies on it."""
    values = [None if column.kind == "setting" and column.key not in r.settings else column.value(r) for r in runs]
    absent = [column.kind == "setting" and column.key not in run.settings for run in runs]
    known = [value for value, gone in zip(values, absent, strict=True) if not gone and value is not None]
    arrow = {"max": " ↑", "min": " ↓"}.get(column.goal or "", "") if column.kind in ("best", "metric") else ""
    title = column.title.removeprefix("best ") + (" best" if column.title.startswith("best ") else "") + arrow
    if column.kind != "setting" or (_all_numbers(known) and len(set(known)) > 1):
        return _of_numbers(column, title, [value if _is_number(value) else None for value in values])
    words = [None if gone else value_words(value, 24) for value, gone in zip(values, absent, strict=True)]
    return _of_words(title, words)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of_words(title: str, words: list[str | None]) -> tuple[Axis, list[float | None]]:
    names = sorted({word for word in words if word is not None}, key=str.casefold)
    places = {name: 0.5 if len(names) == 1 else place / (len(names) - 1) for place, name in enumerate(names)}
    ticks = tuple((place, name) for name, place in places.items())
    return Axis(title, ticks), [None if word is None else places[word] for word in words]


def _of_numbers(column: Column, title: str, values: list[float | None]) -> tuple[Axis, list[float | None]]:
    known = [value for value in values if value is not None]
    if not known:
        return Axis(title), [None] * len(values)
    low, high = min(known), max(known)
    log = low > 0 and high / low >= LOG_FROM
    if low == high:
        return Axis(title, ((0.5, _tick(column, low)),)), [None if value is None else 0.5 for value in values]

    def place(value: float) -> float:
        if log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return (value / 2 - low / 2) / (high / 2 - low / 2)

    middle = math.sqrt(low) * math.sqrt(high) if log else low / 2 + high / 2
    ticks = tuple((place(value), _tick(column, value)) for value in (low, middle, high))
    return Axis(title, ticks, log), [None if value is None else place(value) for value in values]


def _tick(column: Column, value: float) -> str:
    return number_words(column.key, value) if column.kind == "number" else number(value, 3)
