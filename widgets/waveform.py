"""A waveform in character cells: minimum, maximum and level of every column, at eight steps to a cell.

A cell holds two colours, so the edge of the envelope is a block of eighths; inside, a second colour shows the RMS. What
is not known yet is dotted, samples that are no numbers are crossed, and peaks that clip are arrows as well as red.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..engine.samples.overview import Columns

Cells = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Characters, ink and ground, each of shape (rows, columns)."""
Whole = npt.NDArray[np.int64]
Ink = int | npt.NDArray[np.uint8]

LOWER = np.array([ord(char) for char in " ▁▂▃▄▅▆▇█"], np.uint32)
"""Blocks of 0 to 8 eighths from below."""
THIN, HIGH, HALF, LOW, UNKNOWN, BAD, UP, DOWN = (ord(char) for char in "─▔▀▁·×▲▼")
FULL_SCALE = 32767 / 32768


@dataclass(frozen=True, slots=True)
class WaveInk:
    """Palette numbers: `peak` of the envelope, `rms` of the level inside, `muted` for what is not known."""

    ground: int
    peak: int
    rms: int
    muted: int
    bad: int


def paint_wave(columns: Columns, channel: int | None, rows: int, ink: WaveInk, *, gain: float, clips: bool) -> Cells:
    """One lane of `rows` cells.

    Parameters
    ----------
    columns: the envelope, one entry a column, arrays of shape (columns, channels), NaN where not known.
    channel: which one; None draws all of them over each other.
    gain: linear; 1 lets full scale reach the edges.
    clips: the clip was found to clip, so columns that reach full scale are marked.
    """
    high, low, rms = _lane(columns, channel)
    known = ~(np.isnan(high) | np.isnan(low))
    chars = np.full((rows, len(high)), LOWER[0], np.uint32)
    inks = np.full(chars.shape, ink.peak, np.uint8)
    grounds = np.full(chars.shape, ink.ground, np.uint8)
    if not chars.size:
        return chars, inks, grounds
    top, bottom = _span(np.where(known, high, 0) * gain, np.where(known, low, 0) * gain, rows)
    level = np.where(known, np.nan_to_num(rms), 0) * gain
    inner_top, inner_bottom = _span(np.minimum(level, high * gain), np.maximum(-level, low * gain), rows)
    edge = 8 * np.arange(rows, dtype=np.int64)[:, None]
    outer = (np.clip(top - edge, 0, 8), np.clip(bottom - edge, 0, 8))
    inner = (np.clip(inner_top - edge, 0, 8), np.clip(inner_bottom - edge, 0, 8))
    cells = (chars, inks, grounds)
    _fill(cells, outer, inner, ink)
    chars[:, ~known], grounds[:, ~known] = LOWER[0], ink.ground
    _mark(cells, ~known, UNKNOWN, ink.muted, ink.ground)
    _mark(cells, known & columns.bad, BAD, ink.bad, ink.ground)
    if clips:
        _mark_clips(cells, known & (high >= FULL_SCALE), known & (low <= -FULL_SCALE), ink)
    return chars, inks, grounds


def _lane(columns: Columns, channel: int | None) -> tuple[npt.NDArray[np.float64], ...]:
    """Maximum, minimum and RMS of one channel, or of all of them together."""
    high, low, rms = (np.asarray(part, np.float64) for part in (columns.maximum, columns.minimum, columns.rms))
    if channel is not None:
        return high[:, channel], low[:, channel], rms[:, channel]
    if not high.shape[1]:
        nothing = np.full(len(high), np.nan)
        return nothing, nothing, nothing
    return high.max(axis=1), low.min(axis=1), np.sqrt((rms**2).mean(axis=1))


def _span(high: npt.NDArray[np.float64], low: npt.NDArray[np.float64], rows: int) -> tuple[Whole, Whole]:
    """The envelope in eighths of a cell from the top: first, and the one after the last; never empty."""
    height = 8 * rows
    top = np.floor((1 - np.clip(np.nan_to_num(high), -1, 1)) / 2 * height + 0.5).astype(np.int64)
    bottom = np.floor((1 - np.clip(np.nan_to_num(low), -1, 1)) / 2 * height + 0.5).astype(np.int64)
    top = np.minimum(top, height - 1)
    return top, np.maximum(bottom, top + 1)


def _fill(cells: Cells, outer: tuple[Whole, Whole], inner: tuple[Whole, Whole], ink: WaveInk) -> None:
    """Blocks for the envelope and the level in it.

    `outer`, `inner`: first and last eighth within each cell, shape (rows, columns), 0 to 8 from its top.
    """
    chars, inks, grounds = cells
    (top, bottom), (inner_top, inner_bottom) = outer, inner
    filled = bottom - top
    full = filled == 8
    # A cell that the edge runs through takes the colour that most of its filled part has.
    loud = 2 * np.minimum(filled, inner_bottom - inner_top) >= filled
    colour = np.where(loud, ink.rms, ink.peak).astype(np.uint8)
    _split(cells, (filled > 0) & (bottom == 8) & ~full, top, colour, ink.ground)
    hanging = (filled > 0) & (top == 0) & ~full
    _split(cells, hanging, bottom, ink.ground, colour)
    # Where there is a character for it, ink is better than ground: no hairline at the cell's other edges.
    for eighths, char in ((1, HIGH), (4, HALF)):
        exact = hanging & (bottom == eighths)
        chars[exact], inks[exact], grounds[exact] = char, colour[exact], ink.ground
    floating = (filled > 0) & (top > 0) & (bottom < 8)
    middle = top + bottom
    chars[floating] = np.where(middle < 5, HIGH, np.where(middle > 11, LOW, THIN))[floating]
    inks[floating] = colour[floating]
    tall = floating & (filled > 3)
    _split(cells, tall & (middle >= 8), top, colour, ink.ground)
    _split(cells, tall & (middle < 8), bottom, ink.ground, colour)
    # Inside: the level's own edge, or one colour.
    grounds[full] = ink.peak
    whole = full & (inner_top == 0) & (inner_bottom == 8)
    grounds[whole] = ink.rms
    inks[whole] = ink.rms
    _split(cells, full & (inner_bottom == 8) & (inner_top > 0) & (inner_top < 8), inner_top, ink.rms, ink.peak)
    _split(cells, full & (inner_top == 0) & (inner_bottom > 0) & (inner_bottom < 8), inner_bottom, ink.peak, ink.rms)


def _split(cells: Cells, where: npt.NDArray[np.bool_], at: Whole, below: Ink, above: Ink) -> None:
    """Cells cut in two `at` so many eighths from the top: ink `below`, ground `above`."""
    chars, inks, grounds = cells
    chars[where] = LOWER[8 - at[where]]
    inks[where] = below[where] if isinstance(below, np.ndarray) else below
    grounds[where] = above[where] if isinstance(above, np.ndarray) else above


def _mark(cells: Cells, columns: npt.NDArray[np.bool_], sign: int, colour: int, ground: int) -> None:
    """A sign on the middle line of some columns, in place of what is there."""
    chars, inks, grounds = cells
    row = (len(chars) - 1) // 2
    chars[row, columns], inks[row, columns], grounds[row, columns] = sign, colour, ground


def _mark_clips(cells: Cells, over: npt.NDArray[np.bool_], under: npt.NDArray[np.bool_], ink: WaveInk) -> None:
    """Arrows where the signal runs into the edge of what can be played."""
    chars, inks, _ = cells
    chars[0, over], inks[0, over] = UP, ink.bad
    chars[-1, under], inks[-1, under] = DOWN, ink.bad
