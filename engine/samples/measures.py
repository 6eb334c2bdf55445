"""What is said about a track beside its picture: level, peaks, clipping, DC offset, silence, loudness.

Everything is measured on finite samples, with NaN and infinities as silence and counted, by blocks of any size, so that
a clip of two hours needs no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .loudness import LoudnessMeter

FloatArray = npt.NDArray[np.floating]
Block = npt.NDArray[np.float32]

FULL_SCALE = 32767 / 32768
"""From here on a sample is at full scale: the largest number of a 16-bit file."""
FLAT_SAMPLES = 3
"""So many samples at full scale in a row are a clipped peak; one alone is a clip that was normalised."""
SILENCE_DB = -60.0
SILENCE_WINDOW_S = 0.02
DUAL_MONO_LU = 10 * math.log10(2)
"""A mono clip is heard from two loudspeakers."""
BLOCK_FRAMES = 1 << 18
_OVERSAMPLING, _TAPS = 4, 12


@dataclass(frozen=True, slots=True)
class Measures:
    """Facts about a track; levels are -inf for silence.

    Parameters
    ----------
    rms_db: root mean square over all channels, dBFS (a full-scale sine has -3).
    peak_db: largest sample, dBFS. true_peak_db: of the signal between the samples, dBTP, at four times the rate.
    clipped: samples beyond full scale, or at full scale three or more in a row.
    dc_offset: mean of the channel where it is largest, linear.
    silence: share of 20 ms windows below -60 dBFS, 0 to 1.
    loudness_lufs: integrated loudness after BS.1770-4, as other meters show it.
    heard_lufs: loudness as played on two loudspeakers; this is what level matching needs, so clips under 400 ms have
        one too (`LoudnessMeter.level`).
    not_finite: samples that are NaN or infinite.
    """

    frames: int
    rate: int
    channels: int
    rms_db: float
    peak_db: float
    true_peak_db: float
    clipped: int
    dc_offset: float
    silence: float
    loudness_lufs: float
    heard_lufs: float
    not_finite: int


class Meter:
    """Takes a track in blocks of any size, then gives its `Measures`."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._channels = channels
        self._frames = self._not_finite = self._clipped = self._windows = self._silent = 0
        self._squares = 0.0
        self._sums = np.zeros(channels)
        self._peak = self._true_peak = 0.0
        self._window = max(1, round(SILENCE_WINDOW_S * rate))
        self._tail: Block = np.zeros((0, channels), np.float32)  # an incomplete window
        self._edge: Block = np.zeros((2 * _TAPS, channels), np.float32)
        self._flat = np.zeros(
            (channels, 2), np.int64
        )  # the run at full scale that is open: its length, and of it beyond
        self._loudness = LoudnessMeter(rate, channels)
        self._stereo = LoudnessMeter(rate, 2) if channels > 2 else None

    def add(self, block: FloatArray) -> None:
        """The next frames, shape (frames, channels)."""
        audio = np.asarray(block, dtype=np.float32)
        finite = np.isfinite(audio)
        if not finite.all():
            self._not_finite += int(audio.size - np.count_nonzero(finite))
            audio = np.where(finite, audio, np.float32(0))
        if not len(audio):
            return
        self._frames += len(audio)
        self._sums += audio.sum(axis=0, dtype=np.float64)
        self._add_peaks(audio)
        self._add_windows(audio)
        self._loudness.add(audio)
        if self._stereo:
            self._stereo.add(np.stack([audio[:, side::2].mean(axis=1) for side in (0, 1)], axis=1))

    def result(self) -> Measures:
        """The facts so far."""
        loudness = self._loudness.integrated()
        if self._stereo:
            heard = self._stereo.level()
        else:
            heard = self._loudness.level() + (DUAL_MONO_LU if self._channels == 1 else 0.0)
        means = self._sums / max(1, self._frames)
        return Measures(
            frames=self._frames,
            rate=self._rate,
            channels=self._channels,
            rms_db=decibels(math.sqrt(self._squares / max(1, self._frames * self._channels))),
            peak_db=decibels(self._peak),
            true_peak_db=decibels(max(self._peak, self._true_peak)),
            clipped=self._clipped + _clipped(self._flat[:, 0], self._flat[:, 1]),
            dc_offset=float(means[np.argmax(np.abs(means))]) if len(means) else 0.0,
            silence=self._silent / self._windows if self._windows else float(self._peak < 10 ** (SILENCE_DB / 20)),
            loudness_lufs=loudness,
            heard_lufs=heard,
            not_finite=self._not_finite,
        )

    def _add_peaks(self, audio: Block) -> None:
        size = np.abs(audio)
        self._peak = max(self._peak, float(size.max()))
        if size.max() >= FULL_SCALE or self._flat.any():
            for channel in range(self._channels):
                self._count_clipped(channel, size[:, channel])
        joined = np.concatenate((self._edge, audio))
        self._edge = joined[-2 * _TAPS :]
        for channel in joined.T:
            self._true_peak = max(self._true_peak, between_samples(channel, self._true_peak))

    def _count_clipped(self, channel: int, size: Block) -> None:
        """Long runs at full scale count whole, also over the edges of blocks; of others what is beyond full scale."""
        carried, carried_over = self._flat[channel]
        flat = np.concatenate(([False], np.ones(carried, bool), size >= FULL_SCALE, [False]))
        over = np.concatenate(([0], np.zeros(carried, np.int64), size > 1.0, [0])).cumsum()
        edges = np.flatnonzero(np.diff(flat.astype(np.int8)))  # runs are flat[begin + 1 : end + 1]
        begins, ends = edges[::2], edges[1::2]
        lengths, overs = ends - begins, over[ends] - over[begins]
        if carried:
            overs[0] += carried_over
        open_run = len(ends) > 0 and ends[-1] == len(flat) - 2
        self._flat[channel] = (lengths[-1], overs[-1]) if open_run else (0, 0)
        stop = len(ends) - open_run
        self._clipped += _clipped(lengths[:stop], overs[:stop])

    def _add_windows(self, audio: Block) -> None:
        joined = np.concatenate((self._tail, audio)) if len(self._tail) else audio
        squares = np.einsum("ij,ij->i", joined, joined, dtype=np.float64)
        self._squares += float(squares[len(self._tail) :].sum())
        whole = len(joined) // self._window * self._window
        means = squares[:whole].reshape(-1, self._window).mean(axis=1) / self._channels
        self._windows += len(means)
        self._silent += int(np.count_nonzero(means < 10 ** (SILENCE_DB / 10)))
        self._tail = joined[whole:]


def _clipped(lengths: npt.NDArray[np.int64], beyond: npt.NDArray[np.int64]) -> int:
    """Clipped samples of runs at full scale, given how many of each run lie beyond it."""
    return int(np.where(lengths >= FLAT_SAMPLES, lengths, beyond).sum())


def between_samples(channel: Block, above: float = 0.0) -> float:
    """The largest absolute value at four times the rate, if it is larger than `above`; shape (frames,).

    Only where a peak may hide is looked: what the interpolator makes of some samples is at most `_MOST_RISE` times the
    largest of them. So blocks of any size find the same.
    """
    size = np.abs(channel)
    if len(size) < _TAPS or not size.any():
        return 0.0
    largest = np.maximum(size[:-1], size[1:])
    for shift in (2, 4, 4):  # of 4, 8 and 12 samples: _TAPS
        largest = np.maximum(largest[:-shift], largest[shift:])
    near = np.flatnonzero(largest * _MOST_RISE > max(above, float(size.max())))
    if not len(near):
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(channel, _TAPS)[near]
    return float(np.abs(windows @ _PHASES).max())


def _phases() -> npt.NDArray[np.float32]:
    """Windowed-sinc interpolators at 1/4, 1/2 and 3/4 between the two middle taps, shape (taps, 3)."""
    shifts = np.arange(1, _OVERSAMPLING) / _OVERSAMPLING
    at = np.arange(_TAPS)[:, None] - (_TAPS // 2 - 1) - shifts
    taps = np.sinc(at) * np.cos(np.pi * at / (_TAPS + 1)) ** 2
    return (taps / taps.sum(axis=0)).astype(np.float32)


_PHASES = _phases()
_MOST_RISE = float(np.abs(_PHASES).sum(axis=0).max()) * 1.0001


def decibels(amplitude: float) -> float:
    """20 log10; -inf for nothing."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def measure(audio: FloatArray, rate: int) -> Measures:
    """The measures of a whole track of shape (frames,) or (frames, channels)."""
    audio = audio[:, None] if audio.ndim == 1 else audio
    return measure_blocks(
        (audio[at : at + BLOCK_FRAMES] for at in range(0, len(audio), BLOCK_FRAMES)), rate, audio.shape[1]
    )


def measure_blocks(blocks: Iterable[FloatArray], rate: int, channels: int) -> Measures:
    """The measures of a track that is read by parts."""
    meter = Meter(rate, channels)
    for block in blocks:
        meter.add(block)
    return meter.result()
