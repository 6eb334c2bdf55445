"""The table of a comparison: its columns, its cells in words, its order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .. import format as fmt
from ..errors import UsageError, suggestion
from ..headline import goal_of
from ..state import RunState
from .clips import judged_alike
from .comparison import Comparison
from .differences import following, value_words
from .place import Place
from .runs import ComparedRun, Measured

SETTINGS_SHOWN = 6
"""Settings that differ and have a column of their own unless more are asked for."""
NUMBERS_FIRST = (
    "trainable_parameters",
    "train_s",
    "ran_s",
    "memory_gib",
    "parameters",
    "samples_per_s",
    "cost",
    "steps",
)
"""Numbers of a run that nearly every comparison is about, in this order; others follow as they come."""
_QUIET = frozenset({"steps", "evaluate_s"})
"""Numbers without a column unless they are asked for."""
NUMBERS_BESIDE = frozenset({"trainable_parameters", "train_s", "ran_s", "memory_gib"})
"""Numbers that stand before all further metrics."""
_LESS_IS_BETTER = ("_s", "_gib", "_bytes", "parameters")
Kind = Literal["run", "state", "setting", "best", "metric", "number"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `goal`: which end is good, None where neither is (a setting). `at`: the place that a metric is wanted of; a value
    of another step says which.
    """

    key: str
    kind: Kind
    title: str
    goal: Literal["min", "max"] | None = None
    at: Place | None = None

    def value(self, run: ComparedRun) -> Any:
        """What is sorted and exported: a number, a setting as it was set, a text; None where there is none."""
        if self.kind == "run":
            return run.id
        if self.kind == "state":
            return str(run.state)
        if self.kind == "setting":
            return run.settings.get(self.key)
        if self.kind == "number":
            return run.numbers.get(self.key)
        measured = self.measured(run)
        return None if measured is None else measured.value

    def measured(self, run: ComparedRun) -> Measured | None:
        """The number with its step and interval, for metrics."""
        return run.best if self.kind == "best" else run.metrics.get(self.key) if self.kind == "metric" else None

    def words(self, run: ComparedRun) -> str:
        """The cell; `–` where there is nothing."""
        value = self.value(run)
        if self.kind == "setting":
            return value_words(value) if self.key in run.settings else fmt.MISSING
        if self.kind == "number":
            return number_words(self.key, value)
        if self.kind == "run":
            return run.title
        if self.kind == "state":
            return f"{run.state.mark} {run.state}"
        measured = self.measured(run)
        if measured is None:
            return fmt.MISSING
        text = fmt.number(measured.value)
        if measured.low is not None and measured.high is not None:
            text += f" [{fmt.number(measured.low, 3)}, {fmt.number(measured.high, 3)}]"
        elsewhere = self.kind == "best" or (self.at is not None and measured.step != self.at.step)
        if elsewhere and measured.step is not None:
            text += f" @ {fmt.count(measured.step)}"
        return text

    def shown(self, value: float) -> str:
        """A number as a cell shows it: numbers that look alike are alike."""
        return number_words(self.key, value) if self.kind == "number" else fmt.number(value)


def number_words(key: str, value: float | None) -> str:
    """A number of a run in its unit, which its name tells."""
    if value is None or not math.isfinite(value):
        return fmt.number(value)
    if key == "cost":
        return fmt.money(value)
    if key.endswith("per_s"):
        return f"{fmt.number(value, 3)}/s"
    if key.endswith("_s"):
        return fmt.duration(value) if value >= 10 else f"{value:.2g}s"
    if key.endswith("_gib"):
        return f"{value:.2f} GiB" if value < 10 else f"{value:.1f} GiB"
    if key.endswith("parameters"):
        return compact(value)
    return fmt.number(value)


def compact(value: float) -> str:
    """A count in four characters or so: `90.2M`, `295K`."""
    for divisor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= divisor:
            return f"{value / divisor:.{0 if abs(value) >= 100 * divisor else 1}f}{suffix}"
    return f"{value:.0f}"


def columns_of(
    comparison: Comparison,
    metrics: Sequence[str] = (),
    *,
    settings: int | None = SETTINGS_SHOWN,
    everything: bool = False,
) -> tuple[Column, ...]:
    """The columns to show, what matters most first: the run, what was chosen, what came out, what it cost.

    Of each run's best that is the headline and the test's; of its end or of a step, what was logged there. Settings
    that follow from the choices come last. The state has a column unless all runs are finished.

    Parameters
    ----------
    metrics: the ones wanted; by default those of the test that the headline has there, or else the loss table's.
    settings: at most so many settings; None is all that differ.
    everything: every metric and number.
    """
    columns = [Column("run", "run", "RUN")]
    if everything or any(run.state is not RunState.FINISHED for run in comparison.runs):
        columns.append(Column("state", "state", "STATE"))
    chosen, settled = _settings(comparison, None if everything else settings, everything)
    columns += map(setting_column, chosen)
    if any(run.best is not None for run in comparison.runs) and (everything or comparison.place.kind == "best"):
        columns.append(best_column(comparison))
    shown = list(metrics) or list(comparison.metric_names if everything else _usual_metrics(comparison))
    numbers = _numbers(comparison, everything)
    split = len(shown) if metrics or everything or comparison.place.kind != "best" else 1
    beside = sum(name in NUMBERS_BESIDE for name in numbers)
    columns += [placed_column(comparison, name) for name in shown[:split]]
    columns += map(number_column, numbers[:beside])
    columns += [placed_column(comparison, name) for name in shown[split:]]
    columns += map(number_column, numbers[beside:])
    columns += map(setting_column, settled)
    return tuple(columns)


def _settings(comparison: Comparison, most: int | None, everything: bool) -> tuple[list[str], list[str]]:
    """Names of settings with a column: those that were chosen, and those that follow from them."""
    differ = comparison.differences
    names = [name for name in differ.names if everything or name not in differ.partial] or list(differ.names)
    follow = following([run.settings for run in comparison.runs if run.settings], names) | {"host", "code"}
    if all(name in follow for name in names):
        follow = frozenset()
    names = sorted(names, key=lambda name: name in follow)[:most]
    return [name for name in names if name not in follow], [name for name in names if name in follow]


def _numbers(comparison: Comparison, everything: bool) -> list[str]:
    """Names of numbers with a column, the usual ones first."""
    rank = {name: place for place, name in enumerate(NUMBERS_FIRST)}
    numbers = sorted(comparison.number_names, key=lambda name: rank.get(name, len(rank)))
    if everything:
        return numbers
    numbers = [name for name in numbers if name in rank and name not in _QUIET]
    return [name for name in numbers if name != "ran_s"] if "train_s" in numbers else numbers


def setting_column(name: str) -> Column:
    """A setting by its dotted name; of a group's choice the group's name says enough: `model.name` is MODEL."""
    return Column(name, "setting", name.removesuffix(".name"))


def best_column(comparison: Comparison) -> Column:
    """The metric that the runs are judged by, each at its best."""
    headline = comparison.headline
    if headline is None:
        return Column("best", "best", "best")
    others = {run.headline.metric for run in comparison.runs if run.headline is not None} != {headline.metric}
    title = "best of its own" if others else f"best {headline.metric}"
    return Column("best", "best", title, "max" if headline.direction == "max" else "min")


def metric_column(name: str) -> Column:
    """A metric by its journal key."""
    return Column(name, "metric", name, goal_of(name))


def placed_column(comparison: Comparison, name: str) -> Column:
    """A metric at the place of comparison: where that is not each run's best, other steps are said."""
    column, place, headline = metric_column(name), comparison.place, comparison.headline
    if headline is not None and headline.metric == name:
        column = replace(column, goal="max" if headline.direction == "max" else "min")
    return column if place.kind == "best" else replace(column, at=place)


def number_column(name: str) -> Column:
    """A number of the run as a whole."""
    words = {"trainable_parameters": "trainable", "memory_gib": "memory", "train_s": "train", "ran_s": "took"}
    goal: Literal["min", "max"] | None = "max" if name.endswith("per_s") else None
    if goal is None and (name == "cost" or name.endswith(_LESS_IS_BETTER)):
        goal = "min"
    return Column(name, "number", words.get(name, name.removesuffix("_s").replace("_", " ")), goal)


def _usual_metrics(comparison: Comparison) -> list[str]:
    """The headline on the test; without a test, the losses. Away from the best, the headline and the losses there.

    The test's are of one checkpoint, so they are no metrics of another step.
    """
    names = comparison.metric_names
    headline = comparison.headline.metric if comparison.headline is not None else ""
    if comparison.place.kind != "best":
        logged = dict.fromkeys([headline, "train/loss", "val/loss", *(n for n in names if "loss" in n.lower())])
        known = {name for run in comparison.runs for name in run.series}
        return [name for name in logged if name in known and not name.startswith("test/")][:3]
    bare = headline.rsplit("/", 1)[-1]
    test = [name for name in names if name.startswith("test/")]
    if test:
        wanted = [f"test/{bare}", "test/accuracy"]
        return [name for name in wanted if name in test] or test[:2]
    return [name for name in names if name != headline and "loss" in name.lower()][:2]


def column_for(comparison: Comparison, key: str) -> Column:
    """The column that a user means by `key`: a metric, a number, a setting, `run`, `state` or `best`.

    Raises
    ------
    UsageError: no run has it; the nearest names are said.
    """
    if key in ("run", "state"):
        return Column(key, key, key.upper())  # type: ignore[arg-type]
    if key == "best":
        return best_column(comparison)
    settings = dict.fromkeys(name for run in comparison.runs for name in run.settings)
    for names, make in (
        (comparison.metric_names, lambda name: placed_column(comparison, name)),
        (comparison.number_names, number_column),
        (settings, setting_column),
    ):
        if key in names:
            return make(key)
        close = [name for name in names if name.rsplit("/", 1)[-1] == key or name.removesuffix(".name") == key]
        if close:
            return make(close[0])
    known = ["run", "state", "best", *comparison.metric_names, *comparison.number_names, *settings]
    raise UsageError(
        f"none of these runs has a {fmt.plain(key, 60)!r}."
        + (suggestion(key, known) or f" There are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}.")
    )


def default_column(comparison: Comparison) -> Column:
    """What a table is sorted by unless asked otherwise: the headline, there where runs are compared; else the ids."""
    headline = comparison.headline
    if comparison.place.kind != "best" and headline is not None:
        return placed_column(comparison, headline.metric)
    return best_column(comparison) if any(run.best for run in comparison.runs) else Column("run", "run", "RUN")


def sorted_runs(
    comparison: Comparison, column: Column | None = None, *, descending: bool | None = None
) -> tuple[ComparedRun, ...]:
    """The runs by a column, best first; runs that have no value come last, before them those whose value is NaN.

    `descending` None: the good end first, of a setting from low to high. Runs judged by another metric than the
    others have a best that cannot be compared and come after those that can.
    """
    column = column or default_column(comparison)
    down = column.goal == "max" if descending is None else descending

    def rank(run: ComparedRun) -> tuple[int, float, str]:
        value = column.value(run)
        if value is None and not (column.kind == "setting" and column.key in run.settings):
            return 9, 0.0, ""
        if column.kind == "best" and run.headline != comparison.headline:
            return 4, 0.0, ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return (3, 0.0, "") if math.isnan(value) else (0, -float(value) if down else float(value), "")
        return 1, 0.0, value_words(value).casefold()

    ordered = sorted(comparison.runs, key=rank)
    if not down:
        return tuple(ordered)
    words = [run for run in ordered if rank(run)[0] == 1]  # a text has no negative: turned round by itself
    turned = iter(sorted(words, key=lambda run: rank(run)[2], reverse=True))
    return tuple(next(turned) if rank(run)[0] == 1 else run for run in ordered)


def best_run(comparison: Comparison, column: Column) -> ComparedRun | None:
    """The run at the good end of a column.

    None where there is no good end, where several share it as far as a cell shows, and for metrics of different tests.
    """
    if column.goal is None:
        return None
    if column.kind == "metric" and column.key.startswith("test/") and not judged_alike(comparison.runs):
        return None
    values = [(column.value(run), run) for run in comparison.runs]
    if column.kind == "best":
        values = [(value, run) for value, run in values if run.headline == comparison.headline]
    finite = [(value, run) for value, run in values if value is not None and math.isfinite(value)]
    if len(finite) < 2:
        return None
    pick = max if column.goal == "max" else min
    top = pick(value for value, _ in finite)
    winners = [run for value, run in finite if value == top or column.shown(value) == column.shown(top)]
    return winners[0] if len(winners) == 1 else None
