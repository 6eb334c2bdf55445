"""Where in their trainings runs are compared: each at its best, each at its end, or all at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..format import plain
from ..manifest import Headline
from ..series_stats import best
from ..series_view import Reading, SeriesView

FAR = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """`best`, `last`, or `step` with its number."""

    kind: str = "best"
    step: int | None = None

    def __str__(self) -> str:
        return f"step {self.step:,}" if self.step is not None else self.kind


def parse_place(text: str) -> Place:
    """`best`, `last` or the number of a step.

    Raises
    ------
    UsageError: it is none of them.
    """
    if text in ("best", "last"):
        return Place(text)
    digits = text.replace(",", "").replace("_", "")
    if digits.isascii() and digits.isdigit() and int(digits) < FAR:
        return Place("step", int(digits))
    raise UsageError(f"--at is best, last or the number of a step, not {plain(text, 40)!r}.")


def best_of(series: dict[str, SeriesView], headline: Headline | None) -> Reading | None:
    """The best finite value of the metric that a run is judged by."""
    view = series.get(headline.metric) if headline is not None else None
    if view is None or headline is None:
        return None
    return best(view, "max" if headline.direction == "max" else "min")


def step_of(place: Place, series: dict[str, SeriesView], top: Reading | None) -> int | None:
    """The step whose values are shown; None where the run has not come so far, or has logged nothing.

    A run that no headline judges is taken at its end.
    """
    newest = max((int(view.x_range("step")[1]) for view in series.values() if view.x_range("step")), default=None)  # type: ignore[index]
    if newest is None:
        return None
    if place.step is not None:
        return place.step if place.step <= newest else None
    return top.step if place.kind == "best" and top is not None else newest


def value_at(view: SeriesView, step: int) -> Reading | None:
    """The newest point that is not after `step`."""
    ordered = view.ordered("step")
    stretches = ordered.stretches["step"]
    if stretches is None or not stretches.starts:
        return None
    after = ordered.search("step", np.array([step, step], np.float64))[:, 1]
    found = [
        ordered.reading(int(index) - 1)
        for index, start in zip(after, stretches.starts, strict=True)
        if int(index) > start
    ]
    return max(found, key=lambda reading: (reading.step, reading.index), default=None)
