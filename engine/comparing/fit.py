"""Which columns of a comparison fit side by side: whole ones, what matters most first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparison import Comparison
from .table import Column


@dataclass(frozen=True, slots=True)
class Fit:
    """`places`: the columns shown, by their place. `run`: cells of the first. `more`: columns to the right of them."""

    places: tuple[int, ...]
    run: int
    more: int = 0


def fit(
    comparison: Comparison,
    columns: Sequence[Column],
    widths: Sequence[int],
    room: int,
    *,
    gap: int = 2,
    skip: int = 0,
    keep: str = "",
) -> Fit:
    """Choose from columns that are `widths` cells wide, the run's first, for `room` cells.

    Where not all fit, choices that the run's own words tell go first, then columns from the right. Rather than the
    result, the tail of the run's words is cut.

    Parameters
    ----------
    skip: leave out so many columns after the run's, to look at those further right.
    keep: key of a column that is not left out for want of room: the one that the rows are sorted by.
    """
    if not columns or (_total(widths, range(len(columns)), gap) <= room and not skip):
        return Fit(tuple(range(len(columns))), widths[0] if columns else 0)
    rest = [
        place for place in range(1, len(columns)) if columns[place].key == keep or not told(comparison, columns[place])
    ]
    if _total(widths, range(len(columns)), gap) <= room:
        rest = list(range(1, len(columns)))
    rest = rest[min(skip, max(0, len(rest) - 1)) :]
    core = _core(columns, rest) if not skip else 1
    kept = [0, *rest]

    def pop() -> None:
        kept.remove(next((place for place in reversed(kept[1:]) if columns[place].key != keep), kept[-1]))

    while len(kept) > core + 1 and _total(widths, kept, gap) > room:
        pop()
    least = min(widths[0], max((len(run.words or run.label) for run in comparison.runs), default=1) + 1)
    while len(kept) > 1 and _total(widths, kept, gap) - widths[0] + least > room:
        pop()
    spare = room - (_total(widths, kept, gap) - widths[0])
    return Fit(tuple(kept), max(1, min(widths[0], spare)), len(rest) + 1 - len(kept))


def told(comparison: Comparison, column: Column) -> bool:
    """Whether the run's own words say what stands in a column."""
    runs = [run for run in comparison.runs if run.settings]
    return (
        column.kind == "setting"
        and bool(runs)
        and all(column.key in run.settings and column.words(run) in run.words.split() for run in runs)
    )


def _core(columns: Sequence[Column], rest: Sequence[int]) -> int:
    """How many of the columns are wanted more than the tail of the run's words: to the first number."""
    numbers = [order for order, place in enumerate(rest, 1) if columns[place].kind == "number"]
    return min(numbers[0] if numbers else len(rest), len(rest))


def _total(widths: Sequence[int], places: Sequence[int], gap: int) -> int:
    return sum(widths[place] for place in places) + gap * (len(places) - 1)
