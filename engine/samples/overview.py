"""The waveform of a clip as minimum, maximum and level per bucket, filled in any order.

A picture of a clip of an hour must not wait for an hour of samples: blocks are put in as they arrive, what is not there
yet is known to be missing, and a spike of one sample is never lost at any zoom. Columns narrower than a bucket are
drawn from samples (`columns_of`), which are few then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BUCKET = 256
"""Frames summarised at the finest level."""
FACTOR = 64
"""Fine buckets in a coarse one."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A waveform in C columns; arrays of shape (C, channels), NaN where nothing is known.

    `bad`, shape (C,): the column holds samples that are NaN or infinite (they count as silence otherwise).
    """

    minimum: Array
    maximum: Array
    rms: Array
    bad: Array


class Overview:
    """Summaries of a clip of `frames` frames."""

    def __init__(self, frames: int, channels: int) -> None:
        self.frames = frames
        self.channels = channels
        count = -(-frames // BUCKET)
        # The planes: minimum, maximum, mean square; coarse ones are always made of fine ones that are known.
        self._fine = np.full((3, count, channels), np.nan, np.float32)
        self._coarse = np.full((3, -(-count // FACTOR), channels), np.nan, np.float32)
        self._bad = np.zeros(count, bool)

    @property
    def known(self) -> float:
        """Share of the clip that was put in, 0 to 1."""
        fine = self._fine[0]
        return float(np.count_nonzero(~np.isnan(fine[:, 0]))) / len(fine) if fine.size else 1.0

    def missing(self, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """Stretches (start, end) in frames that were not put in yet, within a range."""
        first, last = start // BUCKET, -(-(self.frames if end is None else end) // BUCKET)
        unknown = np.isnan(self._fine[0, first:last, 0]) if self.channels else np.zeros(0, bool)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], unknown, [False])).astype(np.int8))) + first
        pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return [(begin * BUCKET, min(stop * BUCKET, self.frames)) for begin, stop in pairs]

    def put(self, start: int, block: Array) -> None:
        """Summarise frames from `start` on, shape (n, channels): `start` and, but for the clip's end, n in buckets."""
        whole = start + len(block) == self.frames or len(block) % BUCKET == 0
        if start % BUCKET or not whole or start + len(block) > self.frames:
            raise ValueError(f"frames {start} to {start + len(block)} are not whole buckets of {BUCKET}")
        if not len(block):
            return
        first = start // BUCKET
        planes, bad = _summary(np.asarray(block, dtype=np.float32), np.arange(0, len(block), BUCKET))
        last = first + planes.shape[1]
        self._fine[:, first:last], self._bad[first:last] = planes, bad
        for coarse in range(first // FACTOR, -(-last // FACTOR)):
            below = self._fine[:, coarse * FACTOR : (coarse + 1) * FACTOR]
            self._coarse[:, coarse] = _merged(below, np.array([0]))[:, 0]

    def columns(self, start: int, end: int, columns: int) -> Columns:
        """Frames `start` to `end` in `columns` columns; a bucket on a border belongs to both sides."""
        start, end = max(0, start), min(end, self.frames)
        if columns <= 0 or end <= start:
            nothing = np.full((max(0, columns), self.channels), np.nan, np.float32)
            return Columns(nothing, nothing, nothing, np.zeros(len(nothing), bool))
        coarse = (end - start) / columns >= 4 * BUCKET * FACTOR
        planes, bucket = (self._coarse, BUCKET * FACTOR) if coarse else (self._fine, BUCKET)
        borders = start + (end - start) * np.arange(columns + 1) / columns
        first = (borders[:-1] // bucket).astype(np.int64)
        last = np.maximum(np.ceil(borders[1:] / bucket).astype(np.int64), first + 1)
        minimum, maximum, square = _ranges(planes, first, last)
        fine_first, fine_last = first * (bucket // BUCKET), np.minimum(last * (bucket // BUCKET), len(self._bad))
        marks = np.concatenate(([0], np.cumsum(self._bad)))
        return Columns(minimum, maximum, np.sqrt(square), marks[fine_last] > marks[fine_first])


def columns_of(audio: Array, columns: int) -> Columns:
    """Samples of shape (frames, channels) in columns, each at least one sample wide."""
    audio = np.asarray(audio, dtype=np.float32)
    if not len(audio) or columns <= 0:
        nothing = np.full((max(0, columns), audio.shape[1]), np.nan, np.float32)
        return Columns(nothing, nothing, nothing, np.zeros(len(nothing), bool))
    starts = np.arange(columns) * len(audio) // columns
    (minimum, maximum, square), bad = _summary(audio, starts)
    return Columns(minimum, maximum, np.sqrt(square), bad)


def _summary(audio: Array, starts: Array) -> tuple[Array, Array]:
    """Planes (3, groups, channels) and bad marks of the groups that begin at `starts` (ascending, may repeat)."""
    finite = np.isfinite(audio)
    clean = audio if finite.all() else np.where(finite, audio, np.float32(0))
    lengths = np.maximum(1, np.diff(np.append(starts, len(audio))))[:, None]
    squares = np.add.reduceat(np.square(clean, dtype=np.float32), starts, axis=0) / lengths
    planes = np.stack((np.minimum.reduceat(clean, starts, axis=0), np.maximum.reduceat(clean, starts, axis=0), squares))
    return planes, np.logical_or.reduceat(~finite.all(axis=1), starts)


def _merged(planes: Array, starts: Array) -> Array:
    """Groups of buckets as one bucket each; a group with unknown buckets is what its known ones say."""
    minimum = np.fmin.reduceat(planes[0], starts, axis=0)
    maximum = np.fmax.reduceat(planes[1], starts, axis=0)
    known = ~np.isnan(planes[2])
    count = np.add.reduceat(known.astype(np.int64), starts, axis=0)
    total = np.add.reduceat(np.where(known, planes[2], 0), starts, axis=0)
    with np.errstate(invalid="ignore"):
        return np.stack((minimum, maximum, np.where(count > 0, total / np.maximum(count, 1), np.nan)))


def _ranges(planes: Array, first: Array, last: Array) -> Array:
    """Planes of the bucket ranges `first` to `last` (exclusive), which overlap by one bucket at most."""
    bounds = np.stack((first, np.minimum(last, planes.shape[1])), axis=1).ravel()
    # reduceat over (first0, last0, first1, last1, ...) gives each range at the even places; one bucket more at the end
    # lets `last` be the length.
    padded = np.concatenate((planes, np.full((3, 1, planes.shape[2]), np.nan, planes.dtype)), axis=1)
    return _merged(padded, bounds)[:, ::2]
