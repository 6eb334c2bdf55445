"""The comparison of some runs at one place of their trainings, as one frozen value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..batch_view import batch_of
from ..feed import read_metrics
from ..format import plain
from ..manifest import Headline
from ..names import tail
from ..run_view import RunView
from ..rundir import RunDir
from ..series_view import Reading, SeriesView
from ..state import RunState
from .differences import Differences, differences, settings_of, words_of
from .place import Place, best_of, step_of, value_at
from .runs import ComparedRun, Judged, Measured, read_judged


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the order in which they were asked for.

    `headline`: the metric that most of them are judged by; None where none of them is judged.
    """

    runs: tuple[ComparedRun, ...] = ()
    place: Place = field(default_factory=Place)
    differences: Differences = field(default_factory=Differences)
    headline: Headline | None = None

    def words(self, run: ComparedRun) -> str:
        """What sets a run apart from the others: `hts_at lora`."""
        return run.words

    def title(self, run: ComparedRun) -> str:
        """How its curve is called: by what sets it apart; where that is not enough, its two words as well."""
        words = self.words(run)
        if words and sum(self.words(other) == words for other in self.runs) == 1:
            return words
        return f"{run.label} {words}" if words else run.label

    def levels(self, metric: str) -> dict[str, float]:
        """Levels across the chart of a metric that mean the same for all runs which have it: the ceiling."""
        told = [run.lines.get(metric, {}) for run in self.runs if metric in run.series]
        return (
            {}
            if not told
            else {label: value for label, value in told[0].items() if all(one.get(label) == value for one in told)}
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Every metric of any run, the headline first, then those of the test, then in order of appearance."""
        names = dict.fromkeys(name for run in self.runs for name in run.metrics)
        first = self.headline.metric if self.headline is not None else None
        return tuple(sorted(names, key=lambda name: (name != first, not name.startswith("test/"))))

    @property
    def curve_names(self) -> tuple[str, ...]:
        """Every metric that any run has a curve of, the headline first."""
        names = dict.fromkeys(name for run in self.runs for name in run.series)
        first = self.headline.metric if self.headline is not None else None
        return tuple(sorted(names, key=lambda name: name != first))

    @property
    def number_names(self) -> tuple[str, ...]:
        """Every number of any run."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.numbers))


def compare(
    views: Sequence[RunView],
    series: Mapping[str, Mapping[str, SeriesView]],
    judged: Mapping[str, Judged],
    place: Place | None = None,
) -> Comparison:
    """Put runs beside each other.

    Parameters
    ----------
    series, judged: by run id; a run that is not in them has logged nothing, or was not evaluated.
    """
    place = place or Place()
    read = [_run(view, dict(series.get(view.id, {})), judged.get(view.id, Judged()), place) for view in views]
    differ = differences([run.settings for run in read if run.settings])
    runs = tuple(replace(run, words=words_of(differ.names, run.settings)) for run in read)
    return Comparison(runs, place, differ, _headline(runs))


def read_comparison(views: Sequence[RunView], place: Place | None = None) -> Comparison:
    """`compare` with everything read from the runs' directories, for verbs."""
    readable = [view for view in views if view.state is not RunState.UNREADABLE]
    series = {view.id: read_metrics(RunDir(view.dir)) for view in readable}
    return compare(views, series, {view.id: read_judged(view.dir) for view in readable}, place)


def _run(view: RunView, series: dict[str, SeriesView], judged: Judged, place: Place) -> ComparedRun:
    manifest = view.manifest
    headline = manifest.headline if manifest is not None else None
    top = best_of(series, headline)
    step = step_of(place, series, top)
    readings = {} if step is None else {name: value_at(one, step) for name, one in series.items()}
    metrics = {name: measured(reading) for name, reading in readings.items() if reading is not None}
    return ComparedRun(
        id=view.id,
        label=tail(view.id),
        name=plain(view.name, 60),
        what=plain(view.what, 40),
        state=view.state,
        path=view.dir,
        batch=plain(batch, 80) if (batch := batch_of(view)) is not None else None,
        problem=_problem(view, series, place, step) or judged.problem,
        settings=settings_of(manifest, view.host),
        headline=headline,
        best=None if top is None else measured(top),
        step=step,
        metrics=metrics | judged.metrics,
        numbers=_numbers(view, judged),
        judged=judged,
        lines=view.lines,
        series=series,
    )


def measured(reading: Reading) -> Measured:
    """A point of a curve."""
    return Measured(reading.value, reading.step)


def _numbers(view: RunView, judged: Judged) -> dict[str, float]:
    """What is one number for the whole run; what it told itself comes before what is concluded here."""
    numbers = dict(judged.evaluation.numbers if judged.evaluation is not None else {}) | view.numbers
    if view.ran_s is not None:
        numbers.setdefault("ran_s", view.ran_s)
    if view.cost is not None:
        numbers.setdefault("cost", view.cost)
    if view.step is not None:
        numbers.setdefault("steps", float(view.step))
    return numbers


def _problem(view: RunView, series: Mapping[str, SeriesView], place: Place, step: int | None) -> str | None:
    """Why a run shows less than the others."""
    if view.state is RunState.UNREADABLE:
        return plain(view.problem or "it cannot be read", 200)
    if not series:
        return "it waits for its turn" if view.state is RunState.QUEUED else "it has logged no metrics"
    if step is None:
        return f"it has not come to {place}"
    return None


def _headline(runs: Sequence[ComparedRun]) -> Headline | None:
    """What most runs are judged by; of equals, what the first is."""
    judged = [run.headline for run in runs if run.headline is not None]
    return Counter(judged).most_common(1)[0][0] if judged else None
