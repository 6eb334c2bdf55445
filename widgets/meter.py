"""Small bars in text: a meter with its number, and one block a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.style import Style
from rich.text import Text

from ..engine.machine import GpuReading
from .palette import Palette

BLOCKS = "▁▂▃▄▅▆▇█"
LOST = "×"
UNKNOWN = "·"
MOST_BLOCKS = 16


def meter(fraction: float | None, cells: int, style: Style, rest: Style) -> Text:
    """`━━━━╸───`: `fraction` of `cells`, to half a cell; dots where it is not known."""
    if fraction is None or fraction != fraction:
        return Text().append("┈" * cells, style=rest)
    halves = round(min(1.0, max(0.0, fraction)) * cells * 2)
    full, half = divmod(halves, 2)
    text = Text().append("━" * full + "╸" * half, style=style)
    return text.append("─" * (cells - full - half), style=rest)


def block(percent: float | None) -> str:
    """0 to 100 as one block; `·` for not known."""
    return UNKNOWN if percent is None else BLOCKS[min(7, max(0, int(percent / 12.5)))]


def gpu_blocks(gpus: Sequence[GpuReading], palette: Palette, *, stale: bool = False) -> Text:
    """One block a GPU by its utilisation, `×` for a lost one; the first ones of very many."""
    text = Text()
    for gpu in gpus[:MOST_BLOCKS]:
        if gpu.lost:
            text.append(LOST, style=palette.bad)
        else:
            text.append(block(gpu.utilization_pct), style=palette.muted if stale else palette.good)
    if len(gpus) > MOST_BLOCKS:
        text.append(f"+{len(gpus) - MOST_BLOCKS}", style=palette.muted)
    return text


def course(values: npt.NDArray[np.floating], width: int, top: float) -> str:
    """Values, oldest first, as blocks between 0 and `top`: unlike a sparkline it keeps its scale, so it can be read."""
    array = np.asarray(values, np.float64)
    if not len(array) or width < 1 or top <= 0:
        return ""
    cells = []
    for piece in np.array_split(array, min(width, len(array))):
        known = piece[np.isfinite(piece)]
        cells.append(block(100 * float(known.mean()) / top) if len(known) else UNKNOWN)
    return "".join(cells)
