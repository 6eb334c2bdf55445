"""A metric's course in one line of text, for table cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.style import Style
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "×"


def sparkline(values: Sequence[float] | npt.NDArray[np.floating] | None, width: int = 16) -> str:
    """`values`, oldest first, in at most `width` cells; empty text for none.

    Many values share a cell by their mean. Values far outside the 5th to 95th percentile do not flatten the rest: they
    show as a full (or lowest) block in their cell. A cell with a NaN or infinity is `×`.
    """
    if values is None or width < 1:
        return ""
    array = np.asarray(values, np.float64)
    if not len(array):
        return ""
    finite = array[np.isfinite(array)]
    if not len(finite):
        return NOT_FINITE * min(width, len(array))
    low, high = _range(finite)
    cells = [_cell(piece, low, high) for piece in np.array_split(array, min(width, len(array)))]
    return "".join(cells)


def sparkline_text(
    values: Sequence[float] | npt.NDArray[np.floating] | None, width: int, style: Style, bad: Style
) -> Text:
    """`sparkline` with the crosses in a style of their own."""
    text = Text(sparkline(values, width), style, no_wrap=True, end="")
    text.highlight_regex(NOT_FINITE, bad)
    return text


def _range(finite: npt.NDArray[np.float64]) -> tuple[float, float]:
    p5, p95 = (float(p) for p in np.percentile(finite, (5, 95)))
    span = p95 - p5
    inside = finite[(finite >= p5 - 2 * span) & (finite <= p95 + 2 * span)]
    return float(inside.min()), float(inside.max())


def _cell(piece: npt.NDArray[np.float64], low: float, high: float) -> str:
    if not np.isfinite(piece).all():
        return NOT_FINITE
    value = float(piece.mean())
    if piece.max() > high:
        value = float(piece.max())
    elif piece.min() < low:
        value = float(piece.min())
    if high <= low:
        return BLOCKS[0] if value <= low else BLOCKS[-1]
    place = min(max((value - low) / (high - low), 0.0), 1.0)
    return BLOCKS[min(int(place * len(BLOCKS)), len(BLOCKS) - 1)]
