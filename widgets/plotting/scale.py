"""Scales and ticks: where a value lies on an axis, which round numbers to write beside it, and how briefly.

A `Scale` maps values to [0, 1]. Ticks are 1-2-5 steps (clock steps for time; decades, then 2 and 5, for logarithms)
and their labels are as short as keeps neighbours apart: the tick distance decides the decimals, not the value (which is
why they are not in `engine/format.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MAX_EXPONENT = 300.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`, `low < high`; both positive when `log`."""

    low: float
    high: float
    log: bool = False

    def unit(self, values: Any) -> FloatArray:
        """Position in [0, 1] (outside for values outside); NaN for NaN and, on a log axis, for values <= 0."""
        array = np.asarray(values, np.float64)
        if not self.log:
            # Halved, so that the width of the whole float range does not overflow.
            return (array / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            exponent = np.where(array > 0, np.log10(np.where(array > 0, array, 1.0)), np.nan)
        low, high = math.log10(self.low), math.log10(self.high)
        return (exponent - low) / (high - low)

    def value(self, unit: Any) -> FloatArray:
        """Inverse of `unit`."""
        array = np.asarray(unit, np.float64)
        if not self.log:
            return self.low * (1 - array) + self.high * array
        low, high = math.log10(self.low), math.log10(self.high)
        return np.power(10.0, np.clip(low + (high - low) * array, -MAX_EXPONENT, MAX_EXPONENT))

    def edges(self, columns: int) -> FloatArray:
        """The `columns + 1` values that cut the axis into equal cells, rising, ends exact."""
        edges = self.value(np.linspace(0.0, 1.0, columns + 1))
        edges[0], edges[-1] = self.low, self.high
        return np.maximum.accumulate(edges)


def fit(low: float, high: float, *, log: bool = False, pad: float = 0.0) -> Scale:
    """A usable scale for data from `low` to `high`, whatever they are.

    NaN (no data) becomes 0..1, equal ends are spread, `pad` adds that fraction of the height on both sides. For `log`
    both must be positive; the caller asks `positive` first and says so when there is nothing to show.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return Scale(1.0, 10.0, True) if log else Scale(0.0, 1.0)
    if log:
        bottom, top = (min(max(math.log10(v), 1 - MAX_EXPONENT), MAX_EXPONENT - 1) for v in (low, high))
        if top - bottom < 1e-6:
            bottom, top = bottom - 0.5, top + 0.5
        margin = pad * (top - bottom)
        bottom, top = max(bottom - margin, -MAX_EXPONENT), min(top + margin, MAX_EXPONENT)
        return Scale(10.0**bottom, 10.0**top, True)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        spread = abs(low) * 0.5 or 1.0
        return Scale(max(low - spread, -1e308), min(high + spread, 1.7e308))
    margin = min(pad * (high / 2 - low / 2) * 2, 1e306)
    # A loss never goes below zero; neither should its axis because of the margin.
    bottom = 0.0 if 0.0 <= low < margin else low - margin
    top = 0.0 if -margin < high <= 0.0 else high + margin
    return Scale(max(bottom, -1e308), min(top, 1e308))


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis, its place in [0, 1] and what is written there."""

    value: float
    unit: float
    label: str


def linear_values(low: float, high: float, count: int) -> tuple[list[float], float]:
    """Multiples of a 1-2-5 step in [low, high], at most about `count`, and the step."""
    if not (high > low) or count < 1 or not math.isfinite(high / 2 - low / 2):
        return [], 1.0
    raw = (high - low) / count
    if raw <= 0 or not math.isfinite(raw):
        return [], 1.0
    magnitude = 10.0 ** math.floor(math.log10(raw))
    if magnitude == 0.0:
        return [], 1.0
    step = next(magnitude * m for m in (1, 2, 5, 10) if magnitude * m >= raw * (1 - 1e-9))
    return _multiples(low, high, step), step


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first > 1000:
        return []
    return [k * step + 0.0 for k in range(first, last + 1)]


def time_values(low: float, high: float, count: int) -> tuple[list[float], float]:
    """Like `linear_values` in seconds with steps a clock would use."""
    raw = (high - low) / max(count, 1)
    if raw <= 1:
        return linear_values(low, high, count)
    step: float = next((s for s in TIME_STEPS_S if s >= raw), 0)
    if not step:
        days, step_days = linear_values(low / 86400, high / 86400, count)
        return [day * 86400 for day in days], step_days * 86400
    return _multiples(low, high, step), step


def log_values(low: float, high: float, count: int) -> list[float]:
    """Powers of ten in [low, high], thinned to `count`; with 2 and 5 when there is room; linear in a narrow range."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = list(range(first, last + 1))
    if len(decades) > count:
        stride = -(-len(decades) // count)
        return [10.0**d for d in decades if d % stride == 0]
    fine = [m * 10.0**d for d in range(first - 1, last + 1) for m in (1, 2, 5)]
    fine = [v for v in fine if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    if len(fine) < 2:
        return [v for v in linear_values(low, high, count)[0] if v > 0]
    return fine if len(fine) <= count else [10.0**d for d in decades]


def ticks(scale: Scale, count: int, *, time: bool = False) -> list[Tick]:
    """At most `count` or so ticks for `scale`, in rising order, labels distinct."""
    if count < 1:
        return []
    if scale.log:
        values = log_values(scale.low, scale.high, count)
        labels = [clock_label(v) if time else value_label(v) for v in values]
    elif time:
        values, step = time_values(scale.low, scale.high, count)
        labels = [clock_label(v, step) for v in values]
    else:
        values, step = linear_values(scale.low, scale.high, count)
        labels = tick_labels(values, step)
    units = scale.unit(values)
    return [Tick(v, float(u), text) for v, u, text in zip(values, units, labels, strict=True) if 0 <= u <= 1]


def spaced_ticks(scale: Scale, cells: int, *, time: bool = False, gap: int = 2) -> list[tuple[int, Tick]]:
    """Horizontal ticks whose centred labels fit into `cells` with `gap` blanks between: (first cell, tick) pairs."""
    for count in range(min(12, max(1, cells // 5)), 0, -1):
        placed = [(_start(tick, cells), tick) for tick in ticks(scale, count, time=time)]
        apart = all(
            left + len(tick.label) + gap <= right for (left, tick), (right, _) in zip(placed, placed[1:], strict=False)
        )
        if placed and apart and all(len(tick.label) <= cells for _, tick in placed):
            return placed
    return []


def _start(tick: Tick, cells: int) -> int:
    centre = round(tick.unit * (cells - 1))
    return max(0, min(cells - len(tick.label), centre - len(tick.label) // 2))


def tick_labels(values: list[float], step: float) -> list[str]:
    """Labels of a linear axis: one suffix, and as many decimals as tell neighbours apart."""
    if not values:
        return []
    largest = max(abs(v) for v in values)
    if largest >= 1e15 or (0 < largest < 1e-3):
        return [_exponent(v, largest, step) for v in values]
    divisor, suffix = next(((d, s) for d, s in SUFFIXES if largest >= d * 10 or step >= d), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / divisor) + 1e-9))
    if decimals > 9:
        return [f"{v:.12g}" for v in values]
    return ["0" if v == 0 else f"{v / divisor:.{decimals}f}{suffix}" for v in values]


def _exponent(value: float, largest: float, step: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, min(15, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9)))
    text = f"{value:.{digits}e}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}"


def value_label(value: float, digits: int = 4) -> str:
    """A value in few characters: 4 significant digits, suffixes from 10,000, exponents for the very small."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        mantissa, _, exponent = f"{value:.{digits - 2}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    for divisor, suffix in SUFFIXES:
        if size >= divisor and size >= 1e4:
            return f"{value / divisor:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def clock_label(seconds: float, step_s: float = 0.0) -> str:
    """Seconds as a clock would say them: `45s`, `12m`, `1h30`, `2d`; `step_s` is the distance to the next label."""
    if seconds < 0:
        return "-" + clock_label(-seconds, step_s)
    if seconds == 0:
        return "0"
    if seconds < 60 or (0 < step_s < 1):
        return f"{seconds:.{max(0, min(9, -math.floor(math.log10(step_s or 1))))}f}s" if step_s else f"{seconds:.3g}s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}m{rest:02d}" if rest else f"{minutes}m"
    if whole < 86400 or (step_s and step_s < 3600 and whole < 360_000):
        hours, minutes = divmod(whole // 60, 60)
        seconds_left = f":{whole % 60:02d}" if step_s and step_s < 60 else ""
        return f"{hours}h{minutes:02d}{seconds_left}" if minutes or seconds_left else f"{hours}h"
    days, hours = divmod(whole // 3600, 24)
    return f"{days}d{hours:02d}h" if hours else f"{days}d"
