"""Pictures of a report as inline SVG: curves, parallel coordinates, confusion matrices.

Colours are classes of the page's style, so that they follow its light and dark look; dashes are the second signal.
Every text is escaped here, at the one place where it enters.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation import Evaluation
from ..format import number, plain
from ..series_view import SeriesView
from .parallel import Parallel

SLOTS = 8
DASHES = ("", "7 3", "2 3", "9 3 2 3", "", "7 3", "2 3", "9 3 2 3")
MOST_POINTS = 300
"""Points of a curve; of a longer one the extremes of each slice, so that no spike is lost."""
WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 24


def escape(text: str, limit: int = 200) -> str:
    """Text from a run for a page: no markup, no control characters."""
    return html.escape(plain(text, limit), quote=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. `slot` None: not among those that are brought forward."""

    title: str
    view: SeriesView
    slot: int | None


def points_of(view: SeriesView) -> list[tuple[float, float]]:
    """Steps and values; NaN in y where the curve is broken by what is not finite."""
    extent = view.x_range("step")
    if extent is None:
        return []
    if len(view) <= 2 * MOST_POINTS:
        xs, ys = view.points("step", extent[0], extent[1])
        return [(float(x), float(y) if math.isfinite(y) else math.nan) for x, y in zip(xs, ys, strict=True)]
    stats = view.window("step", extent[0], extent[1], MOST_POINTS)
    found: list[tuple[float, float]] = []
    for place in range(MOST_POINTS):
        x = float(stats.edges[place])
        if stats.count[place]:
            low, high = float(stats.minimum[place]), float(stats.maximum[place])
            found += [(x, low)] if low == high else [(x, low), (x, high)]
        elif stats.bad[place]:
            found.append((x, math.nan))
    return found


def curves(title: str, lines: Sequence[Line], levels: Mapping[str, float] | None = None) -> str:
    """The curves of one metric over steps; the forward ones over the others, `levels` as dotted lines."""
    across = {label: value for label, value in (levels or {}).items() if math.isfinite(value)}
    drawn = [(line, points_of(line.view)) for line in lines]
    finite = [(x, y) for _, points in drawn for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ""
    xs, ys = np.array([x for x, _ in finite]), np.array([y for _, y in finite])
    low, high = _robust(ys, list(across.values()))
    x0, x1 = float(xs.min()), max(float(xs.max()), float(xs.min()) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        up = TOP + (high - min(max(y, low), high)) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return right, up

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps">']
    parts.append(_grid(low, high, x0, x1))
    for label, value in across.items():
        y = place(x0, value)[1]
        parts.append(f'<line class="ceiling" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(label, 60)} {number(value)}</text>'
        )
    for line, points in sorted(drawn, key=lambda pair: pair[0].slot is not None):
        path = _path([place(x, y) if math.isfinite(y) else None for x, y in points])
        dash = DASHES[line.slot % SLOTS] if line.slot is not None else ""
        look = f'class="curve s{line.slot % SLOTS}"' if line.slot is not None else 'class="rest"'
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<g class="run"><title>{escape(line.title)}</title><path {look}{dashes} d="{path}"/></g>')
    return "".join([*parts, "</svg>"])


def _robust(values: np.ndarray, also: Sequence[float]) -> tuple[float, float]:
    """The bulk of the values and a margin: one spike must not flatten all curves; it is drawn at the edge."""
    low, high = (
        (float(v) for v in np.quantile(values, [0.01, 0.99])) if len(values) > 50 else (values.min(), values.max())
    )
    low, high = min([float(low), *also]), max([float(high), *also])
    margin = 0.06 * (high - low) or abs(low) * 0.1 or 0.5
    return low - margin, high + margin


def _grid(low: float, high: float, x0: float, x1: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = TOP + share * (HEIGHT - TOP - BOTTOM)
        value = high - share * (high - low)
        parts.append(f'<line class="frame" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value, 3)}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{x0 + share * (x1 - x0):,.0f}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts, down = [], False
    for point in points:
        if point is None:
            down = False
            continue
        parts.append(f"{'L' if down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        down = True
    if len(parts) == 1:
        parts.append("h0.1")
    return "".join(parts)


def swatch(slot: int) -> str:
    """The look of a curve, for the legend."""
    dash = f' stroke-dasharray="{DASHES[slot % SLOTS]}"' if DASHES[slot % SLOTS] else ""
    return f'<svg viewBox="0 0 34 12"><path class="curve s{slot % SLOTS}"{dash} d="M1 6H33" stroke-width="2.5"/></svg>'


def coordinates(data: Parallel, slots: dict[str, int]) -> str:
    """Parallel coordinates; a run without a value somewhere goes through the row below that axis."""
    if len(data.axes) < 2 or not data.traces:
        return ""
    width, height, top, bottom, side = 1180, 380, 34, 36, 64
    xs = [side + place * (width - 2 * side) / (len(data.axes) - 1) for place in range(len(data.axes))]

    def up(place: float | None) -> float:
        return height - 10.0 if place is None else top + (1 - place) * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="parallel coordinates of the runs">']
    for trace in sorted(data.traces, key=lambda trace: trace.run in slots):
        slot = slots.get(trace.run)
        look = f'class="curve s{slot % SLOTS}"' if slot is not None else 'class="rest"'
        dash = f' stroke-dasharray="{DASHES[slot % SLOTS]}"' if slot is not None and DASHES[slot % SLOTS] else ""
        path = _path([(x, up(place)) for x, place in zip(xs, trace.places, strict=True)])
        said = ", ".join(f"{axis.title} {words}" for axis, words in zip(data.axes, trace.words, strict=True))
        title = f"<title>{escape(trace.title)}: {escape(said, 500)}</title>"
        parts.append(f'<g class="run">{title}<path {look}{dash} d="{path}"/></g>')
    for number_, (axis, x) in enumerate(zip(data.axes, xs, strict=True)):
        last = number_ == len(xs) - 1
        parts.append(f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
        scale = " (log)" if axis.log else ""
        parts.append(
            f'<text class="name" x="{x:.1f}" y="16" text-anchor="middle">{escape(axis.title, 40)}{scale}</text>'
        )
        for place, words in axis.ticks:
            anchor, at = ("end", x - 6) if last else ("start", x + 6)
            parts.append(
                f'<text x="{at:.1f}" y="{up(place) + 4:.1f}" text-anchor="{anchor}">{escape(words, 30)}</text>'
            )
    if data.gaps:
        parts.append(f'<text x="0" y="{height - 6}">no value</text>')
    return "".join([*parts, "</svg>"])


def confusion(judged: Evaluation) -> str:
    """Truths down, answers across; a cell's shade is its share of its row, and its title says the rest."""
    count = len(judged.confusion)
    if not count:
        return ""
    cell = max(6.0, min(18.0, 300 / count))
    left, top = 128, 4
    side = cell * count
    parts = [
        f'<svg viewBox="0 0 {left + side + 2:.0f} {top + side + 20:.0f}" role="img" aria-label="confusion matrix">',
        f'<rect class="frame" x="{left}" y="{top}" width="{side:.1f}" height="{side:.1f}"/>',
        f'<text x="{left + side:.0f}" y="{top + side + 14:.0f}" text-anchor="end">answer →</text>',
    ]
    size = min(10.0, cell)
    for row, (name, counts) in enumerate(zip(judged.order, judged.confusion, strict=True)):
        total = sum(counts)
        y = top + row * cell
        parts.append(
            f'<text x="{left - 4}" y="{y + cell * 0.8:.1f}" text-anchor="end" style="font-size:{size:.1f}px">'
            f"{escape(name, 26)}</text>"
        )
        for column, clips in enumerate(counts):
            if clips:
                colour = "--hit" if row == column else "--heat"
                said = f"{escape(name, 60)} heard as {escape(judged.order[column], 60)}: {clips:,} of {total:,}"
                parts.append(
                    f'<rect x="{left + column * cell:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                    f'fill="rgba(var({colour}),{0.12 + 0.88 * clips / total:.2f})"><title>{said}</title></rect>'
                )
    return "".join([*parts, "</svg>"])
