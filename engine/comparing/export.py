"""A comparison as JSON for scripts and as CSV for tables: every metric and number, not only what a screen shows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from ..events import json_number
from ..format import plain
from .clips import judged_alike
from .comparison import Comparison
from .differences import value_words
from .runs import ComparedRun, Measured
from .table import Column, columns_of

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def comparison_json(comparison: Comparison, runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """The stable keys of `compare --json`; `runs` in the order of the table."""
    headline = comparison.headline
    differ = comparison.differences
    return {
        "at": str(comparison.place.step if comparison.place.step is not None else comparison.place.kind),
        "headline": None if headline is None else {"metric": headline.metric, "direction": headline.direction},
        "judged_alike": judged_alike(runs),
        "differences": list(differ.names),
        "common": {name: json_value(value) for name, value in differ.common.items()},
        "runs": [_run_json(comparison, run) for run in runs],
    }


def _run_json(comparison: Comparison, run: ComparedRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "what": run.what,
        "state": str(run.state),
        "batch": run.batch,
        "problem": run.problem,
        "step": run.step,
        "settings": {
            name: json_value(run.settings[name]) for name in comparison.differences.names if name in run.settings
        },
        "best": None if run.best is None else measured_json(run.best) | {"metric": _metric(run)},
        "metrics": {name: measured_json(value) for name, value in run.metrics.items()},
        "numbers": {name: json_number(value) for name, value in run.numbers.items()},
        "ceilings": {name: json_number(value) for name, value in run.judged.ceilings.items()},
    }


def _metric(run: ComparedRun) -> str | None:
    return run.headline.metric if run.headline is not None else None


def measured_json(measured: Measured) -> dict[str, Any]:
    """`{value, step}`, and `low` and `high` where there is an interval."""
    told: dict[str, Any] = {"value": json_number(measured.value), "step": measured.step}
    if measured.low is not None and measured.high is not None:
        told |= {"low": json_number(measured.low), "high": json_number(measured.high)}
    return told


def json_value(value: Any) -> Any:
    """A setting for strict JSON."""
    if isinstance(value, float):
        return json_number(value)
    return value if isinstance(value, str | int | bool | None | list | dict) else value_words(value)


def comparison_csv(comparison: Comparison, runs: Sequence[ComparedRun]) -> str:
    """A row for each run: id, name, state, every setting that differs, every metric and number.

    An interval is two more columns. Texts that a spreadsheet would take for a formula get an apostrophe in front.
    """
    columns = [column for column in columns_of(comparison, everything=True) if column.kind != "run"]
    bounded = [column.key for column in columns if any(_interval(column, run) for run in runs)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    titles = [text_cell(_csv_title(column)) for column in columns]
    ends = [text_cell(f"{key} {end}") for key in bounded for end in ("low", "high")]
    writer.writerow(["run", "name", "batch", *titles, *ends, "problem"])
    for run in runs:
        cells = [_csv_cell(column, run) for column in columns]
        intervals = [run.metrics.get(key) for key in bounded]
        bounds = ["" if m is None or v is None else repr(v) for m in intervals for v in _ends(m)]
        start = [text_cell(run.id), text_cell(run.name), text_cell(run.batch or "")]
        writer.writerow([*start, *cells, *bounds, text_cell(run.problem or "")])
    return out.getvalue()


def _csv_title(column: Column) -> str:
    return column.title if column.kind in ("best", "state") else column.key


def _csv_cell(column: Column, run: ComparedRun) -> str:
    value = column.value(run)
    if value is None or (column.kind == "setting" and column.key not in run.settings):
        return "null" if column.kind == "setting" and column.key in run.settings else ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(json_number(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_cell(value_words(value, 200))


def _interval(column: Column, run: ComparedRun) -> bool:
    measured = column.measured(run)
    return measured is not None and measured.low is not None and measured.high is not None


def _ends(measured: Measured | None) -> tuple[float | None, float | None]:
    return (None, None) if measured is None else (measured.low, measured.high)


def text_cell(text: str) -> str:
    """A text that stays one in a spreadsheet."""
    clean = plain(text, 300)
    return f"'{clean}" if clean.startswith(_FORMULA) else clean
