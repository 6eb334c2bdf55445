"""The crosshair over a painted chart: a line, the readings instead of the legend, and its place on the axis."""

from __future__ import annotations

import numpy as np

from ...engine.format import count, number
from .canvas import Canvas
from .colours import CURSOR
from .hold import LEFT
from .legend import DASH, draw_legend, line_entries, reading_entry
from .picture import Picture
from .scale import clock_label, tick_labels


def with_crosshair(picture: Picture, x: float) -> Canvas:
    """The picture with a vertical line at `x`, its readings instead of the legend, and `x` itself on the axis."""
    column = picture.column_of(x)
    if column is None or picture.x is None:
        return picture.canvas
    canvas, frame, scale = picture.canvas.copy(), picture.frame, picture.x
    for row in range(frame.plot, frame.plot + frame.rows):
        if canvas.chars[row, column] in _BLANKS:
            canvas.text(column, row, "│", CURSOR)
    if frame.legend_rows:
        cell = column - frame.left
        low, high = (float(v) for v in scale.value(np.array([cell, cell + 1]) / frame.columns))
        axis = picture.options.x_axis
        entries = [reading_entry(s, axis, x, low, np.nextafter(high, -np.inf)) for s in picture.data.series]
        entries += line_entries(picture.data)
        draw_legend(canvas, frame.legend, frame.legend_rows, LEFT, entries)
    if frame.labels >= 0:
        label = _x_label(picture, x)
        start = max(frame.left, min(column - len(label) // 2, canvas.width - len(label)))
        _clear_words(canvas, frame.labels, start, start + len(label))
        canvas.text(start, frame.labels, label, CURSOR)
    return canvas


def _clear_words(canvas: Canvas, row: int, start: int, end: int) -> None:
    """Blank every word of a row that reaches into [start, end): half a tick label would be another number."""
    blank = canvas.chars[row] == ord(" ")
    while start > 0 and not blank[start - 1]:
        start -= 1
    while end < canvas.width and not blank[end]:
        end += 1
    canvas.text(start, row, " " * (end - start))


_BLANKS = (ord(" "), ord("┈"), ord(DASH))


def _x_label(picture: Picture, x: float) -> str:
    scale, columns = picture.x, picture.frame.columns
    if scale is None:
        return ""
    if picture.options.x_axis == "time":
        return f" {clock_label(x, 1.0)} "
    if picture.options.x_axis == "step":
        return f" {count(round(x))} "
    step = (scale.high - scale.low) / max(columns, 1)
    return f" {tick_labels([x], step)[0] if step > 0 else number(x)} "
