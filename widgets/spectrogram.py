"""A spectrogram in half blocks: two pixels to a cell, strongest value to a pixel, so that no onset is averaged away."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..engine.samples.spectrogram import FLOOR_DB, Spectrogram
from .time_axis import TimeWindow
from .waveform import Cells

RANGE_DB = 68.0
"""From the loudest pixel of an item down to the ground colour."""
LEAST_TOP_DB = -60.0
"""What is quieter than this stays dark: the hiss of a silent clip is no picture."""
GAMMA = 1.25
"""The strongest of several values makes noise floors look louder than they are; this takes that back."""
UPPER = ord("▀")
HERTZ = (
    (50, "50"),
    (100, "100"),
    (200, "200"),
    (500, "500"),
    (1000, "1k"),
    (2000, "2k"),
    (4000, "4k"),
    (8000, "8k"),
    (16000, "16k"),
    (32000, "32k"),
    (64000, "64k"),
)
SLACK = 1e-6
"""Rounding may not put a column into its neighbour."""
LABEL_ROWS = 2
"""Labels of the frequency axis stand at least so many rows apart."""


def loudest_db(view: Spectrogram) -> float:
    """The strongest value; -inf where there is only silence."""
    finite = view.db[np.isfinite(view.db) & (view.db > FLOOR_DB)]
    return float(finite.max()) if finite.size else -math.inf


def pixels(view: Spectrogram, rate: int, window: TimeWindow, columns: int, rows: int) -> npt.NDArray[np.float64]:
    """The strongest level of each pixel, shape (rows, columns), row 0 on top; NaN where the view has nothing.

    Best where the view was made for as many columns as it is shown in: then each of its columns is one here.
    """
    bands, frames = view.db.shape
    empty = np.full((rows, columns), np.nan)
    if not (frames and bands and rows and columns) or rate <= 0 or view.end <= view.start:
        return empty
    hop_s = (view.end - view.start) / rate / frames
    edges = (window.start - view.start / rate + window.length * np.arange(columns + 1) / columns) / hop_s
    first = np.floor(edges[:-1] + SLACK).astype(np.int64)
    last = np.maximum(np.ceil(edges[1:] - SLACK).astype(np.int64), first + 1)
    inside = (last > 0) & (first < frames)
    if not inside.any():
        return empty
    first, last = np.clip(first[inside], 0, frames - 1), np.clip(last[inside], 1, frames)
    origin, stop = int(first[0]), int(last[-1])
    part = np.asarray(view.db[:, origin:stop], np.float64).T
    by_band = _fold_bands(np.where(np.isfinite(part), part, FLOOR_DB), rows)
    # One row more, so that a stretch may end at the very end; every other group lies between two stretches.
    padded = np.concatenate((by_band, np.full((1, rows), FLOOR_DB)))
    bounds = np.stack((first - origin, last - origin), axis=1).ravel()
    empty[:, inside] = np.maximum.reduceat(padded, bounds, axis=0)[::2].T[::-1]
    return empty


def _fold_bands(levels: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.float64]:
    """Shape (frames, bands) to (frames, rows): the strongest of several bands, or straight lines between few."""
    bands = levels.shape[1]
    if rows <= bands:
        return np.maximum.reduceat(levels, np.arange(rows) * bands // rows, axis=1)
    at = np.clip((np.arange(rows) + 0.5) * bands / rows - 0.5, 0, bands - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, bands - 1)
    part = at - below
    return levels[:, below] * (1 - part) + levels[:, above] * part


def paint_spectrogram(
    levels: npt.NDArray[np.float64], top_db: float, first_colour: int, colours: int, ground: int
) -> Cells:
    """Cells for pixels of shape (2 * rows, columns); `top_db` is the brightest of `colours` palette numbers."""
    numbers = colour_numbers(levels, top_db, first_colour, colours, ground)
    upper, lower = numbers[0::2], numbers[1::2]
    chars = np.where(upper == lower, np.uint32(ord(" ")), np.uint32(UPPER)).astype(np.uint32)
    return chars, upper.copy(), lower.copy()


def colour_numbers(
    levels: npt.NDArray[np.float64], top_db: float, first_colour: int, colours: int, ground: int
) -> npt.NDArray[np.uint8]:
    """Palette numbers of pixels; `ground` where nothing is known."""
    top_db = max(top_db, LEAST_TOP_DB)
    unit = (levels - (top_db - RANGE_DB)) / RANGE_DB
    known = ~np.isnan(unit)
    heard = known & (levels > FLOOR_DB)
    unit = np.clip(np.where(heard, unit, 0), 0, 1) ** GAMMA
    steps = np.clip(unit * colours, 0, colours - 1).astype(np.uint8)
    return np.where(known, steps + np.uint8(first_colour), np.uint8(ground)).astype(np.uint8)


def frequency_labels(centres_hz: npt.NDArray[np.floating], rows: int) -> list[tuple[int, str]]:
    """(row, label) of round frequencies on an axis of `rows` cells, the highest on top, not too close."""
    if rows < 2 or not len(centres_hz) or not np.all(np.isfinite(centres_hz)):
        return []
    placed: list[tuple[int, str]] = []
    wanted = sorted(HERTZ, key=lambda pair: (pair[0] not in (1000, 4000, 200, 8000, 500), pair[0]))
    for hertz, label in wanted:
        if not centres_hz[0] <= hertz <= centres_hz[-1]:
            continue
        band = float(np.interp(hertz, centres_hz, np.arange(len(centres_hz))))
        row = rows - 1 - int((band + 0.5) / len(centres_hz) * rows)
        if 0 <= row < rows and all(abs(row - other) >= LABEL_ROWS for other, _ in placed):
            placed.append((row, label))
    return sorted(placed)
