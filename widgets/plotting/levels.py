"""Levels across a chart: a dashed line at its value with its name on it, or a mark at the edge that it lies behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...engine.format import number
from .canvas import Canvas, plain_text, shorten
from .colours import bright
from .data import ChartData
from .legend import DASH, line_slot
from .scale import Scale

if TYPE_CHECKING:
    from .picture import Frame

FREE = (ord(" "), ord("┈"), ord(DASH))
"""What a name may be written over: never a curve."""
LEAST_LABEL = 4


def draw_levels(canvas: Canvas, frame: Frame, y: Scale, data: ChartData) -> None:
    """The dashed lines of the levels that lie within the axis; curves are drawn over them."""
    for place, line in enumerate(data.lines):
        row = _row_of(frame, y, line.value)
        if row is not None:
            canvas.text(frame.left, row, DASH * frame.columns, bright(line_slot(place)))


def label_levels(canvas: Canvas, frame: Frame, y: Scale, data: ChartData) -> None:
    """Names on the lines, where the curves leave room; arrows to the levels outside. The legend has them all."""
    for place, line in enumerate(data.lines):
        row, label = _row_of(frame, y, line.value), f"{plain_text(line.label)} {number(line.value)}"
        if not frame.rows:
            continue
        if row is None:
            above = _is_above(y, line.value)
            row = frame.plot if above else frame.plot + frame.rows - 1
            label = f"{'↑' if above else '↓'} {label}"
        _write(canvas, frame, row, label, bright(line_slot(place)))


def _row_of(frame: Frame, y: Scale, value: float) -> int | None:
    """Canvas row of a value, by the same arithmetic as the dots'; None outside the axis."""
    if not frame.rows or (y.log and value <= 0):
        return None
    unit = float(y.unit(value))
    return frame.plot + int((1.0 - unit) * (4 * frame.rows - 1) / 4) if 0 <= unit <= 1 else None


def _is_above(y: Scale, value: float) -> bool:
    return value > y.high


def _write(canvas: Canvas, frame: Frame, row: int, label: str, style: int) -> None:
    """The label in the first free stretch from the right; shortened only where the chart is narrower than it."""
    text = f" {shorten(label, frame.columns - 2)} "
    if len(text) < LEAST_LABEL + 2:
        return
    free = np.isin(canvas.chars[row, frame.left : frame.left + frame.columns], FREE)
    for start in range(frame.columns - len(text), -1, -1):
        if free[start : start + len(text)].all():
            canvas.text(frame.left + start, row, text, style)
            return
