"""One chart as a canvas: title, legend, plot, marks, axes; and the crosshair laid over it.

From top to bottom: title, legend, a row of `▲` for what lies above the range, the plot, a row of `▼` for what lies
below, a row of `×` under every column with a NaN or infinity, axis, labels. Rows give way in a fixed order as the
chart gets smaller, so that one of 1 x 1 is still a chart (of one cell).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engine.format import count, number
from ...engine.series_stats import non_finite
from .braille import BRAILLE_BLANK, encode
from .canvas import Canvas, plain_text, shorten
from .colours import ERROR, GRID, MUTED, STRONG, WARNING, bright, faint
from .data import ChartData, ChartOptions
from .hold import LEFT, axes_after, legend_room
from .layers import Layer, build_layer
from .legend import Entry, draw_legend, marker_of, rows_needed, summary_entries
from .levels import draw_levels, label_levels
from .ranges import Beyond, YView
from .scale import Scale, Tick, spaced_ticks, ticks

TICK_ROWS = 3
"""At most one y label in so many rows."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where things lie, in cells. A row that is not there is -1; `rows` of the plot may be 0."""

    left: int
    columns: int
    legend: int
    legend_rows: int
    above: int
    plot: int
    rows: int
    below: int
    bad: int
    axis: int
    labels: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A painted chart and what a crosshair needs to know about it. `x` is None when there is nothing to point at.

    `y_view`, `ground` (the axes alone) and `weights` (smoothing per series) serve the next picture (see `hold`).
    """

    canvas: Canvas
    data: ChartData
    options: ChartOptions
    frame: Frame
    x: Scale | None = None
    y: Scale | None = None
    y_view: YView | None = None
    ground: Canvas | None = None
    weights: tuple[float, ...] = ()

    def column_of(self, x: float) -> int | None:
        """Canvas column of an x value, None outside the window."""
        if self.x is None or not self.frame.columns:
            return None
        unit = float(self.x.unit(x))
        if not 0 <= unit <= 1:
            return None
        return self.frame.left + min(int(unit * self.frame.columns), self.frame.columns - 1)

    def x_at(self, column: int) -> float | None:
        """X in the middle of a canvas column, None when there is no axis. Columns outside the plot give its edge."""
        if self.x is None or not self.frame.columns:
            return None
        cell = min(max(column - self.frame.left, 0), self.frame.columns - 1)
        return float(self.x.value((cell + 0.5) / self.frame.columns))


def paint(data: ChartData, options: ChartOptions, width: int, height: int, before: Picture | None = None) -> Picture:
    """Draw `data` into `width` x `height` cells; style numbers are those of `colours`.

    `before` is what was drawn last: if `data` only adds points to it, its axes hold as long as they can.
    """
    x, y, weights = axes_after(before, data, options)
    entries = summary_entries(data)
    frame = _frame(width, height, entries, y, bad=x is not None and _any_bad(data, options, x))
    canvas = _ground(before, data, frame, x, y, width, height, time=options.x_axis == "time")
    ground = canvas.copy()
    layers: list[Layer] = []
    if x is not None and y is not None and frame.columns and frame.rows:
        layers = [
            build_layer(series, options, x, y.scale, frame.rows, frame.columns, weight)
            for series, weight in zip(data.series, weights or [None] * len(data.series), strict=True)
        ]
    if frame.legend > 0:
        _title(canvas, data, options, layers, y)
    if frame.legend_rows:
        draw_legend(canvas, frame.legend, frame.legend_rows, LEFT, entries)
    if x is None or y is None:
        _say(canvas, frame, _nothing(data, options))
        return Picture(canvas, data, options, frame)
    if layers:
        _plot(canvas, frame, layers)
        label_levels(canvas, frame, y.scale, data)
    picture = Picture(canvas, data, options, frame, x, y.scale, y, ground, tuple(la.weight for la in layers))
    _marks(picture, y, layers)
    if y.hidden:
        _say(canvas, frame, y.hidden)
    return picture


def _ground(
    before: Picture | None,
    data: ChartData,
    frame: Frame,
    x: Scale | None,
    y: YView | None,
    width: int,
    height: int,
    *,
    time: bool,
) -> Canvas:
    """The axes and levels, to draw on; those of `before` where they are the same."""
    if before is not None and before.ground is not None and y is not None and before.data.lines == data.lines:
        ground = before.ground
        if (before.frame, before.x, before.y, ground.width, ground.height) == (frame, x, y.scale, width, height):
            return ground.copy()
    canvas = Canvas(width, height)
    if x is not None and y is not None:
        _axes(canvas, frame, x, y.scale, time=time)
        draw_levels(canvas, frame, y.scale, data)
    return canvas


def _any_bad(data: ChartData, options: ChartOptions, x: Scale) -> bool:
    return any(
        non_finite(series.view).first is not None and series.view.window(options.x_axis, x.low, x.high, 1).bad[0]
        for series in data.series
    )


def _nothing(data: ChartData, options: ChartOptions) -> str:
    if data.loaded < 1:
        return f"loading… {data.loaded:.0%}"
    if any(len(series.view) for series in data.series):
        axis = options.x_axis
        return f"no {axis} above 0 to draw" if options.log_x else f"no {axis} was logged (x: another axis)"
    return data.empty


def _frame(width: int, height: int, entries: list[Entry], y: YView | None, *, bad: bool) -> Frame:
    """Give rows to title, legend, marks and axes in order of importance, and what is left to the plot."""
    title = int(height >= 6)
    legend_rows = rows_needed(entries, *legend_room(width, height)) if entries and height >= 5 else 0
    above = int(height >= 5 and y is not None and y.above.count > 0)
    below = int(height >= 5 and y is not None and y.below.count > 0)
    bad_row = int(height >= 3 and bad)
    labels = int(height >= 4 and y is not None)
    axis = int(height >= 10 and y is not None)
    top = title + legend_rows + above
    rows = max(0, height - top - below - bad_row - axis - labels)
    at = top + rows
    gutter = _gutter(y.scale, rows, width) if y is not None else 0
    return Frame(
        left=gutter,
        columns=max(0, width - gutter - int(gutter > 0)),
        legend=title,
        legend_rows=legend_rows,
        above=top - 1 if above else -1,
        plot=top,
        rows=rows,
        below=at if below else -1,
        bad=at + below if bad_row else -1,
        axis=at + below + bad_row if axis else -1,
        labels=at + below + bad_row + axis if labels else -1,
    )


def _y_ticks(scale: Scale, rows: int) -> list[Tick]:
    """Ticks thin enough for one label in `TICK_ROWS` rows, at least the two that give a scale."""
    wanted = max(2, rows // TICK_ROWS)
    if rows < 2:
        return []
    found = ticks(scale, wanted)
    return found if len(found) >= 2 else ticks(scale, wanted + 2) or [_end(scale, 0.0), _end(scale, 1.0)]


def _end(scale: Scale, unit: float) -> Tick:
    value = float(scale.value(unit))
    return Tick(value, unit, number(value))


def _gutter(scale: Scale, rows: int, width: int) -> int:
    """Cells left of the plot: the widest label and the axis; none where the chart is too narrow for it."""
    widest = max((len(tick.label) for tick in _y_ticks(scale, rows)), default=0)
    return widest + 2 if widest and widest + 2 <= width // 3 else 0


def _row_of(frame: Frame, unit: float) -> int:
    """Canvas row of a height in [0, 1]; the same arithmetic as the dots'."""
    return frame.plot + int((1.0 - unit) * (4 * frame.rows - 1) / 4)


def _axes(canvas: Canvas, frame: Frame, x: Scale, y: Scale, *, time: bool) -> None:
    bar = frame.left - 1
    marked = {_row_of(frame, tick.unit): tick for tick in _y_ticks(y, frame.rows)} if frame.left else {}
    last = frame.axis if frame.axis >= 0 else max(frame.plot + frame.rows, frame.bad + 1, frame.below + 1)
    for row in range(frame.above if frame.above >= 0 else frame.plot, last if frame.left else 0):
        canvas.text(bar, row, "│", GRID)
    for row, tick in marked.items():
        canvas.text(bar - 1 - len(tick.label), row, tick.label, MUTED)
        canvas.text(bar, row, "┤", MUTED)
        canvas.text(frame.left, row, "┈" * frame.columns, GRID)
    if frame.axis >= 0:
        canvas.text(max(bar, 0), frame.axis, ("└" if frame.left else "") + "─" * frame.columns, GRID)
    for start, tick in spaced_ticks(x, frame.columns, time=time) if frame.labels >= 0 else []:
        canvas.text(frame.left + start, frame.labels, tick.label, MUTED)
        if frame.axis >= 0:
            canvas.text(frame.left + round(tick.unit * (frame.columns - 1)), frame.axis, "┬", MUTED)


def _plot(canvas: Canvas, frame: Frame, layers: list[Layer]) -> None:
    """Envelopes under lines under markers. A cell with a line shows the line's dots only, so that it stays thin."""
    area = np.s_[frame.plot : frame.plot + frame.rows, frame.left : frame.left + frame.columns]
    chars, styles = canvas.chars[area], canvas.styles[area]
    for masks in (
        [(layer.faint, faint(layer.slot)) for layer in layers],
        [(la.line, bright(la.slot)) for la in layers],
    ):
        codes = np.zeros((frame.rows, frame.columns), np.uint8)
        for mask, style in masks:
            own = encode(mask)
            codes |= own
            styles[own > 0] = style
        chars[codes > 0] = codes[codes > 0].astype(np.uint32) + BRAILLE_BLANK
    for layer in layers:
        _points(chars, styles, layer)


def _points(chars: npt.NDArray[np.uint32], styles: npt.NDArray[np.int16], layer: Layer) -> None:
    """A marker at every point, where there are few."""
    rows, columns = chars.shape
    x, y = layer.points_xy
    known = ~(np.isnan(x) | np.isnan(y))
    column, row = np.rint(x[known]).astype(np.int64) // 2, np.rint(y[known]).astype(np.int64) // 4
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    chars[row[inside], column[inside]] = ord(marker_of(layer.slot))
    styles[row[inside], column[inside]] = bright(layer.slot)


def _marks(picture: Picture, y: YView, layers: list[Layer]) -> None:
    """The rows of triangles and crosses: one sign per column that has something, and a sentence."""
    frame = picture.frame
    for row, beyond, sign, word in ((frame.above, y.above, "▲", "above"), (frame.below, y.below, "▼", "below")):
        if row < 0:
            continue
        for layer in layers:
            stats = layer.columns
            hit = stats.maximum > _high(picture) if sign == "▲" else stats.minimum < _low(picture)
            _signs(picture, row, hit, sign, bright(layer.slot))
        _sentence(picture, row, beyond, f"{count(beyond.count)} {word}", WARNING)
    if frame.bad >= 0:
        for layer in layers:
            _signs(picture, frame.bad, layer.columns.bad > 0, "×", ERROR)
        _bad_sentence(picture, layers)


def _high(picture: Picture) -> float:
    """Upper end of the y axis."""
    return picture.y.high if picture.y else np.inf


def _low(picture: Picture) -> float:
    """Lower end of the y axis; on a log axis what is not positive is not "below" but not there."""
    return picture.y.low if picture.y else -np.inf


def _signs(picture: Picture, row: int, hit: npt.NDArray[np.bool_], sign: str, style: int) -> None:
    """`sign` in every cell one of whose two dot columns is hit."""
    frame = picture.frame
    cells = hit.reshape(-1, 2).any(axis=1)
    line = slice(frame.left, frame.left + frame.columns)
    picture.canvas.chars[row, line][cells] = ord(sign)
    picture.canvas.styles[row, line][cells] = style


def _sentence(picture: Picture, row: int, beyond: Beyond, text: str, style: int) -> None:
    farthest = f"{'farthest ' if beyond.count > 1 else ''}{number(beyond.value)} at step {count(beyond.step)}"
    texts = (f" {text}, {farthest} ", f" {text} ", f" {count(beyond.count)} ")
    _beside(picture, row, picture.column_of(beyond.x), texts, style)


def _bad_sentence(picture: Picture, layers: list[Layer]) -> None:
    frame = picture.frame
    bad = sum((layer.columns.bad for layer in layers), np.zeros(2 * frame.columns, np.int64))
    if not bad.any():
        return
    nan = sum(int(layer.columns.nan.sum()) for layer in layers)
    named = " and ".join(f"{count(n)} {word}" for n, word in ((nan, "NaN"), (int(bad.sum()) - nan, "Inf")) if n)
    first = int(np.flatnonzero(bad)[0]) // 2 + frame.left
    _beside(picture, frame.bad, first, (f" {named} ",), ERROR)


def _beside(picture: Picture, row: int, column: int | None, texts: tuple[str, ...], style: int) -> None:
    """Write the first of `texts` that finds blank cells right or left of the sign in `column`."""
    if column is None:
        return
    frame, line = picture.frame, picture.canvas.chars[row]
    for text in texts:
        for start in (column + 1, column - len(text), frame.left, frame.left + frame.columns - len(text)):
            end = start + len(text)
            if start >= frame.left and end <= frame.left + frame.columns and (line[start:end] == ord(" ")).all():
                picture.canvas.text(start, row, text, style)
                return


def _title(canvas: Canvas, data: ChartData, options: ChartOptions, layers: list[Layer], y: YView | None) -> None:
    """Title on the left; on the right, how the data are shown, since that is part of what they mean."""
    notes: list[tuple[str, int]] = []
    if data.stale:
        notes.append((plain_text(data.stale), WARNING))
    elif data.loaded < 1 and layers:
        notes.append((f"loading {data.loaded:.0%}", WARNING))
    if y is not None and y.note:
        notes.append((y.note, WARNING))
    notes += [(text, MUTED) for text in _manner(options, layers)]
    end = canvas.text(LEFT, 0, shorten(plain_text(options.title), canvas.width - LEFT), STRONG)
    room = canvas.width - end - 3
    kept = []
    for text, style in notes:
        if len(text) + 2 <= room:
            kept.append((text, style))
            room -= len(text) + 2
    x = canvas.width - sum(len(text) + 2 for text, _ in kept) + 1
    for text, style in kept:
        x = canvas.text(x, 0, text, style) + 2


def _manner(options: ChartOptions, layers: list[Layer]) -> list[str]:
    """Short words for axis, scales, smoothing and reduction."""
    words = [f"log {axis}" for axis, on in (("x", options.log_x), ("y", options.log_y)) if on]
    words += ["full range"] if options.full_range else []
    words += ["zoomed"] if options.window else []
    weight = max((layer.weight for layer in layers), default=0.0)
    if weight > 0:
        words.append(f"smooth {'auto' if options.smoothing is None else f'{weight:g}'}")
    elif layers:
        words.append("raw")
    merged = max((la.columns.points / len(la.columns.count) for la in layers if la.reduced), default=0)
    words += [f"min–max of {count(merged)}/column"] if merged else []
    return [*words, f"by {options.x_axis}"]


def _say(canvas: Canvas, frame: Frame, text: str) -> None:
    """A sentence in the middle of the plot."""
    width = frame.columns or canvas.width
    text = shorten(text, width)
    row = frame.plot + max(0, frame.rows - 1) // 2
    canvas.text(frame.left + (width - len(text)) // 2, min(row, canvas.height - 1), text, MUTED)
