"""One run as a comparison sees it, and what its evaluation said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunDirError
from ..evaluation import Evaluation, read_evaluation
from ..manifest import Headline
from ..series_view import SeriesView
from ..state import RunState


@dataclass(frozen=True, slots=True)
class Measured:
    """A number, the step it is of (None: of the run as a whole), and its interval where one is known."""

    value: float
    step: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A run's evaluation, or why it cannot be read."""

    evaluation: Evaluation | None = None
    problem: str | None = None

    @property
    def metrics(self) -> dict[str, Measured]:
        """Its metrics by the names that the journal has for them: `test/accuracy`."""
        found = self.evaluation
        if found is None:
            return {}
        metrics = {}
        for name, value in found.metrics.items():
            interval = found.intervals.get(name)
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            metrics[f"{found.split}/{name}"] = Measured(value, found.step, low, high)
        return metrics

    @property
    def ceilings(self) -> dict[str, float]:
        """The most that a metric can reach, by the same names."""
        found = self.evaluation
        return {} if found is None else {f"{found.split}/{name}": one.value for name, one in found.ceilings.items()}


def read_judged(directory: Path) -> Judged:
    """The evaluation of a run; a damaged one becomes a sentence, for the other runs must show."""
    try:
        return Judged(read_evaluation(directory))
    except RunDirError as error:
        return Judged(problem=str(error))


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run at the place of comparison.

    `settings`: its configuration by dotted names, and `recipe`, `host` and `code` beside it. `metrics`: what was
    logged at `step`, and the test's numbers as `test/…`. `numbers`: of the run as a whole (parameters, seconds, GiB,
    money). `lines`: levels across the chart of a metric. `series`: all curves. `problem`: why there is nothing, or too
    little, to compare. `words`: what sets it apart from the runs beside it.
    """

    id: str
    label: str
    name: str
    what: str
    state: RunState
    path: Path
    batch: str | None = None
    problem: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    headline: Headline | None = None
    best: Measured | None = None
    step: int | None = None
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    judged: Judged = field(default_factory=Judged)
    lines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    series: Mapping[str, SeriesView] = field(default_factory=dict)
    words: str = ""

    @property
    def title(self) -> str:
        """What sets it apart and the two words that a command takes: `cnn ia3 · fair-tiger`."""
        return f"{self.words} · {self.label}" if self.words else self.label
