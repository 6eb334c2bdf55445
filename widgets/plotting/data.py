"""What a chart is given: frozen series and how to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...engine.series_stats import Goal
from ...engine.series_view import SeriesView, XAxis


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One line. Equal to another only if it shows the same frozen view, so a changed metric is an unequal value.

    `slot` picks colour and marker, so that a metric keeps its look wherever it is drawn; `goal` says which extreme is
    "best", None for a metric that has none (a learning rate).
    """

    label: str
    view: SeriesView
    slot: int = 0
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class ReferenceLine:
    """A level across the chart that is no measurement: what cannot be passed, or what somebody else has reached."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class ChartData:
    """A complete picture of what is known, replaced as a whole.

    `lines` are levels to draw across. `loaded` is how much of the history has been read, 0 to 1. `stale` is a sentence
    when no news can arrive (the host is unreachable), empty otherwise. `empty` is said while there are no points.
    """

    series: tuple[ChartSeries, ...] = ()
    loaded: float = 1.0
    stale: str = ""
    empty: str = "no metrics yet"
    lines: tuple[ReferenceLine, ...] = ()


def reference_lines(
    series: Sequence[ChartSeries], lines: Mapping[str, Mapping[str, float]]
) -> tuple[ReferenceLine, ...]:
    """The levels of the metrics on one chart; one that two of them share is drawn once."""
    found = {ReferenceLine(label, value) for line in series for label, value in lines.get(line.label, {}).items()}
    return tuple(sorted(found, key=lambda line: (line.label, line.value)))


@dataclass(frozen=True, slots=True)
class ChartOptions:
    """How to look at it. `smoothing` None chooses by length; `window` None is everything there is."""

    title: str = ""
    x_axis: XAxis = "step"
    log_x: bool = False
    log_y: bool = False
    smoothing: float | None = None
    full_range: bool = False
    window: tuple[float, float] | None = None
