"""The table of `wavedeck compare`, in plain columns, and what is below it: what all have in common, what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from ...engine import format as fmt
from ...engine.comparing import ComparedRun, Comparison, columns_of
from ...engine.comparing.clips import clips_words
from ...engine.comparing.differences import value_words
from ...engine.comparing.fit import Fit, fit
from ...engine.comparing.table import SETTINGS_SHOWN, best_run

GAP = "  "
MOST_CELL = 44
COMMON_SHOWN = 8
LABELS_SHOWN = 4
"""Runs that are named one by one where they have the same problem."""
UNCUT = 10**6


def print_comparison(
    comparison: Comparison, runs: Sequence[ComparedRun], metrics: Sequence[str] = (), *, everything: bool = False
) -> None:
    """The runs in the order given; the best of each column has a star. On a terminal only whole columns that fit."""
    columns = columns_of(comparison, metrics, everything=everything)
    stars = [best_run(comparison, column) for column in columns]
    rows = [
        tuple(
            ("★ " if star is not None and star.id == run.id else "") + fmt.plain(column.words(run), MOST_CELL)
            for column, star in zip(columns, stars, strict=True)
        )
        for run in runs
    ]
    titles = tuple(column.title.upper() if "/" not in column.title else column.title for column in columns)
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    texts = [column.kind in ("run", "state", "setting") for column in columns]
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if live and not everything else UNCUT
    shown = fit(comparison, columns, widths, width, gap=len(GAP))
    widths[0] = shown.run
    head = _line(titles, widths, texts, shown)
    print(f"\x1b[2m{head}\x1b[0m" if live and "NO_COLOR" not in os.environ else head)
    for row in rows:
        print(_line(row, widths, texts, shown))
    if shown.more:
        print(f"{shown.more} more column{'s' * (shown.more > 1)}: --all, --csv FILE or a wider terminal")
    for line in notes(comparison, runs, everything=everything):
        print(line)


def notes(comparison: Comparison, runs: Sequence[ComparedRun], *, everything: bool) -> list[str]:
    """What the table cannot say: where the numbers are from, what is the same, what is missing."""
    differ = comparison.differences
    lines = [""]
    lines.append(f"metrics: {_place_words(comparison)}; ★ is the best of its column.")
    hidden = len(differ.names) - SETTINGS_SHOWN
    if hidden > 0 and not everything:
        lines.append(f"{hidden} more settings differ: --all, --json.")
    if not differ.names and len(runs) > 1:
        lines.append("nothing was set differently.")
    common = {name: value for name, value in differ.common.items() if name not in ("host", "code")}
    if common and len(runs) > 1:
        some = [f"{name}={value_words(value, 24)}" for name, value in list(common.items())[:COMMON_SHOWN]]
        rest = f", and {len(common) - COMMON_SHOWN} more" if len(common) > COMMON_SHOWN else ""
        lines.append(f"the same in all: {', '.join(some)}{rest}.")
    lines += clips_words(runs)
    problems: dict[str, list[str]] = {}
    for run in runs:
        if run.problem:
            problems.setdefault(run.problem, []).append(run.label)
    for problem, labels in problems.items():
        whose = labels if len(labels) <= LABELS_SHOWN else [f"{len(labels)} of {len(runs)} runs"]
        lines += [f"{label}: {problem}." for label in whose]
    if len(runs) == 1:
        lines.append("one run alone: name another one, or a batch, to compare it with.")
    return lines


def _place_words(comparison: Comparison) -> str:
    place = comparison.place
    if place.step is not None:
        return f"at step {place.step:,}, or the newest before it (@)"
    return "at each run's end" if place.kind == "last" else "at the step of each run's best"


def _line(cells: Sequence[str], widths: Sequence[int], texts: Sequence[bool], shown: Fit) -> str:
    """The cells that fit; of the run's own words the tail may be cut, of numbers nothing."""
    wide = [(_cut(cells[place], widths[place]), widths[place], texts[place]) for place in shown.places]
    return GAP.join(cell.ljust(width) if text else cell.rjust(width) for cell, width, text in wide).rstrip()


def _cut(words: str, width: int) -> str:
    """Words that fit; that they were cut is seen."""
    return words if len(words) <= width else words[: max(0, width - 1)].rstrip(" ·") + "…"
