"""Mel spectrograms for the screen: a picture of so many columns, from no more samples than it takes.

A column of a short stretch is the maximum over all windows in it, so that a click stays visible. Of a long stretch
(an hour in 160 columns) only some windows a column are read, spread evenly, and the picture says that it is sampled.
Levels are decibels of power in a band: 0 dB is a full-scale sine. Mel is Slaney's scale with triangles of peak 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Read = Callable[[int, int], npt.NDArray[np.floating]]

FLOOR_DB = -100.0
WINDOW_S = 0.043
"""2048 samples at 48 kHz: bands of speech and drums stay apart in time and in frequency."""
LEAST_FFT = 1024
READ_WHOLE_S = 60.0
"""Up to this length everything is read and every sample is seen."""
WINDOWS_PER_COLUMN = 4
BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """A picture.

    Parameters
    ----------
    db: shape (mels, columns), lowest band first, at least `FLOOR_DB`.
    centres_hz: middle of each band, shape (mels,).
    start, end: the frames shown.
    sampled: not every sample was looked at.
    """

    db: FloatArray
    centres_hz: npt.NDArray[np.float64]
    start: int
    end: int
    sampled: bool = False


def mel_spectrogram(audio: npt.NDArray[np.floating], rate: int, columns: int, mels: int = 80) -> Spectrogram:
    """The picture of samples of shape (frames,) or (frames, channels); channels are added up in power."""
    audio = audio[:, None] if audio.ndim == 1 else audio
    return read_spectrogram(lambda start, frames: audio[start : start + frames], 0, len(audio), rate, columns, mels)


def read_spectrogram(read: Read, start: int, end: int, rate: int, columns: int, mels: int = 80) -> Spectrogram:
    """The picture of frames `start` to `end` of a track, read by `read(start, frames)` as (frames, channels)."""
    columns = max(1, columns)
    weights, centres = mel_filters(rate, mels)
    frames = end - start
    if frames <= 0:
        return Spectrogram(np.full((mels, columns), FLOOR_DB, np.float32), centres, start, start)
    window = window_frames(rate)
    whole = frames <= READ_WHOLE_S * rate
    if whole:
        power = _whole(read, start, frames, window, columns, weights)
    else:
        power = _sampled(read, start, frames, window, columns, weights)
    db = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
    return Spectrogram(np.ascontiguousarray(db.T, dtype=np.float32), centres, start, end, sampled=not whole)


def window_frames(rate: int) -> int:
    """Samples of a window: a power of two near `WINDOW_S`."""
    return max(32, 1 << round(math.log2(WINDOW_S * max(1, rate))))


@lru_cache(maxsize=16)
def mel_filters(rate: int, mels: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Triangular filters (bins, mels) over the spectrum of a window, and their centres in Hz, up to half the rate.

    No triangle is narrower than two bins: the lowest bands overlap then instead of being empty.
    """
    size = max(LEAST_FFT, window_frames(rate))
    edges = mel_to_hz(np.linspace(0.0, hz_to_mel(np.array(rate / 2)), mels + 2))
    bins = np.fft.rfftfreq(size, 1 / rate)[:, None]
    centre = edges[1:-1]
    least = rate / size
    up = (bins - centre) / np.maximum(centre - edges[:-2], least)
    down = (centre - bins) / np.maximum(edges[2:] - centre, least)
    weights = np.maximum(0.0, 1 + np.minimum(up, down)).astype(np.float32)
    weights.setflags(write=False)
    return weights, centre


def hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Slaney's mel: linear below 1 kHz, logarithmic above."""
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / math.log(6.4))


def mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


def _whole(read: Read, start: int, frames: int, window: int, columns: int, weights: FloatArray) -> FloatArray:
    """Band powers, shape (columns, mels): the maximum of each column's windows."""
    # Windows overlap by half or more, and each column has one of its own: none falls between two windows.
    per_column = max(1, math.ceil(frames / columns / (window / 2)))
    count = columns * per_column
    audio = _clean(read(start, frames))
    padded = np.zeros((len(audio) + 2 * window, audio.shape[1]), np.float32)
    padded[window : window + len(audio)] = audio
    centres = ((np.arange(count) + 0.5) * frames / count).astype(np.int64)
    power = _powers(padded, centres + window - window // 2, window, weights)
    return np.asarray(power.reshape(columns, per_column, -1).max(axis=1), dtype=np.float32)


def _sampled(read: Read, start: int, frames: int, window: int, columns: int, weights: FloatArray) -> FloatArray:
    """As `_whole`, from `WINDOWS_PER_COLUMN` windows a column that are read one by one."""
    count = columns * WINDOWS_PER_COLUMN
    places = start + ((np.arange(count) + 0.5) * (frames - window) / count).astype(np.int64)
    pieces = [_clean(read(int(place), window)) for place in places]
    channels = max(piece.shape[1] for piece in pieces)
    audio = np.zeros((count, window, channels), np.float32)
    for row, piece in zip(audio, pieces, strict=True):
        row[: len(piece), : piece.shape[1]] = piece
    power = _powers(audio.reshape(-1, channels), np.arange(count) * window, window, weights)
    return np.asarray(power.reshape(columns, WINDOWS_PER_COLUMN, -1).max(axis=1), dtype=np.float32)


def _clean(audio: npt.NDArray[np.floating]) -> FloatArray:
    """(frames, channels) with NaN and infinities as silence."""
    audio = np.asarray(audio, dtype=np.float32)
    audio = audio[:, None] if audio.ndim == 1 else audio
    return audio if np.isfinite(audio).all() else np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)


def _powers(audio: FloatArray, starts: npt.NDArray[np.int64], window: int, weights: FloatArray) -> FloatArray:
    """Band powers (windows, mels) of the windows at `starts`, averaged over channels. A full-scale sine gives 1."""
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    size = max(LEAST_FFT, window)
    scale = np.float32(4 / (size * np.square(shape, dtype=np.float64).sum()))
    total = np.empty((len(starts), weights.shape[1]), np.float32)
    channels = [np.ascontiguousarray(channel) for channel in audio.T]
    views = [np.lib.stride_tricks.sliding_window_view(channel, window) for channel in _different(channels)]
    scale = scale / np.float32(len(views))
    for first in range(0, len(starts), BATCH):  # few enough that each step finds them in the processor's cache
        part = starts[first : first + BATCH]
        power = np.zeros((len(part), weights.shape[0]), np.float32)
        for view in views:
            windows = view[part]
            windows *= shape
            parts = np.fft.rfft(windows, size, axis=1).view(np.float32)
            np.square(parts, out=parts)
            power += parts[:, ::2]
            power += parts[:, 1::2]
        total[first : first + len(part)] = power @ weights
    total *= scale
    return total


def _different(channels: list[FloatArray]) -> list[FloatArray]:
    """The channels, or one of them when all are the same: a mono sound that was stored as stereo."""
    first = channels[0]
    return channels if any(not np.array_equal(first, other) for other in channels[1:]) else channels[:1]
