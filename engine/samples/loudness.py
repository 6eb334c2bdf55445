"""Integrated loudness after ITU-R BS.1770-4, by parts of any size, and the gains that make sources equally loud.

The two K-weighting biquads are applied through the spectrum, since numpy has no recursive filter: their impulse
response is shorter than `CONTEXT_S`, so each stretch is filtered together with so much of what came before and the rest
is exact. All channels count alike: what the channels of an 8-channel clip are is not known here, and surround's 1.41
would be a guess. Rejected: pyloudnorm, which loads scipy (0.9 s) for these two filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]

STEP_S = 0.1
"""Gating blocks of 400 ms overlap by three quarters: one begins every 100 ms."""
STEPS_PER_BLOCK = 4
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
CONTEXT_S = 0.4
STRETCH_S = 10.0
HEADROOM_DB = 0.1
MOST_GAIN_DB = 24.0
"""A nearly silent output is not blown up beyond this: its noise would be compared, not its sound."""


def k_weighting(frequencies: FloatArray, rate: float) -> npt.NDArray[np.complex128]:
    """Response of the K-weighting filter at `frequencies` in Hz, for a sample rate.

    The standard prints coefficients for 48 kHz only; these are the analogue prototypes behind them (high shelf at
    1682 Hz, high pass at 38 Hz) through the bilinear transform, which equal those coefficients at 48 kHz.
    """
    z = np.exp(-2j * np.pi * frequencies / rate)
    gain_db, quality, corner = 3.999843853973347, 0.7071752369554196, 1681.974450955533
    k = math.tan(math.pi * min(corner, 0.49 * rate) / rate)
    high = 10 ** (gain_db / 20)
    band = high**0.4996667741545416
    shelf = (high + band * k / quality + k * k) + 2 * (k * k - high) * z + (high - band * k / quality + k * k) * z**2
    shelf = shelf / ((1 + k / quality + k * k) + 2 * (k * k - 1) * z + (1 - k / quality + k * k) * z**2)
    quality, corner = 0.5003270373238773, 38.13547087602444
    k = math.tan(math.pi * corner / rate)
    top = (1 + k / quality + k * k) + 2 * (k * k - 1) * z + (1 - k / quality + k * k) * z**2
    return np.asarray(shelf * (1 - 2 * z + z**2) * (1 + k / quality + k * k) / top)


class LoudnessMeter:
    """Takes a clip in blocks of any size, then says how loud all of it is.

    Parameters
    ----------
    rate: samples a second. channels: of every block.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._step = max(1, round(STEP_S * rate))
        self._context = math.ceil(CONTEXT_S * rate)
        self._stretch = max(1, round(STRETCH_S / STEP_S)) * self._step
        self._before = np.zeros((self._context, channels), np.float32)
        self._waiting: list[npt.NDArray[np.float32]] = []
        self._waiting_frames = 0
        self._energies: list[npt.NDArray[np.float64]] = []
        self._short: list[npt.NDArray[np.float32]] | None = []
        self._frames = 0

    def add(self, block: FloatArray) -> None:
        """The next frames, shape (frames, channels), all finite."""
        audio = np.asarray(block, dtype=np.float32)
        self._frames += len(audio)
        if self._short is not None:
            self._short = [*self._short, audio] if self._frames < STEPS_PER_BLOCK * self._step else None
        self._waiting.append(audio)
        self._waiting_frames += len(block)
        if self._waiting_frames >= self._stretch:
            audio = np.concatenate(self._waiting)
            whole = len(audio) // self._stretch * self._stretch
            for start in range(0, whole, self._stretch):
                self._weigh(audio[start : start + self._stretch])
            self._waiting = [audio[whole:]]
            self._waiting_frames = len(audio) - whole

    def integrated(self) -> float:
        """Loudness so far in LUFS; -inf for silence and for clips shorter than one block of 400 ms."""
        self._rest()
        energies = np.concatenate(self._energies) if self._energies else np.empty(0)
        if len(energies) < STEPS_PER_BLOCK:
            return -math.inf
        sums = np.concatenate(([0.0], np.cumsum(energies)))
        blocks = (sums[STEPS_PER_BLOCK:] - sums[:-STEPS_PER_BLOCK]) / STEPS_PER_BLOCK
        return _gated(blocks)

    def level(self) -> float:
        """`integrated`, and for a clip shorter than a gating block what can be said of it, so that it can be matched.

        BS.1770 defines no gated loudness of less than 400 ms. This is its measure before any gating (Annex 1, equation
        2: -0.691 + 10 log10 of the K-weighted mean square) over the length of the clip; -inf below the absolute gate.
        """
        if not self._short or not self._frames:
            return self.integrated()
        audio = np.concatenate(self._short)
        power = float(self._weighted(np.concatenate((np.zeros_like(self._before), audio))).mean())
        return -0.691 + 10 * math.log10(power) if power > 10 ** ((ABSOLUTE_GATE_LUFS + 0.691) / 10) else -math.inf

    def _rest(self) -> None:
        """Weigh the whole steps that wait; the standard leaves an incomplete block at the end out."""
        if self._waiting_frames >= self._step:
            audio = np.concatenate(self._waiting)
            whole = len(audio) // self._step * self._step
            self._weigh(audio[:whole])
            self._waiting = [audio[whole:]]
            self._waiting_frames = len(audio) - whole

    def _weigh(self, audio: npt.NDArray[np.float32]) -> None:
        """Mean square of each step of whole steps, summed over channels."""
        joined = np.concatenate((self._before, audio))
        self._before = joined[-self._context :]
        self._energies.append(self._weighted(joined).reshape(-1, self._step).mean(axis=1))

    def _weighted(self, joined: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Squares of the K-weighted samples, summed over channels, of what follows the context."""
        size = _fast_length(len(joined) + self._context)
        response = k_weighting(np.fft.rfftfreq(size, 1 / self._rate), self._rate)
        power = np.zeros(len(joined) - self._context)
        for channel in joined.T:
            spectrum = np.fft.rfft(channel, size)
            power += np.fft.irfft(spectrum * response, size)[self._context : len(joined)] ** 2
        return power


def _gated(blocks: npt.NDArray[np.float64]) -> float:
    """Loudness of gating blocks given as mean squares: the absolute gate, then the relative one."""
    loud = blocks[blocks > 10 ** ((ABSOLUTE_GATE_LUFS + 0.691) / 10)]
    if not len(loud):
        return -math.inf
    gate = loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)
    return float(-0.691 + 10 * np.log10(loud[loud > gate].mean()))


def _fast_length(count: int) -> int:
    """The next length of the form 2^a, 3·2^a or 5·2^a, which transforms fast."""
    power = 1 << max(0, (count - 1).bit_length())
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= count)


def integrated_loudness(audio: FloatArray, rate: int) -> float:
    """Loudness in LUFS of audio of shape (frames,) or (frames, channels)."""
    audio = audio[:, None] if audio.ndim == 1 else audio
    meter = LoudnessMeter(rate, audio.shape[1])
    meter.add(audio)
    return meter.integrated()


def matching_gains(loudness: Sequence[float], peaks_db: Sequence[float]) -> list[float]:
    """Gains in dB that make all sources as loud as the first one that is not silent.

    Parameters
    ----------
    loudness: LUFS of each source as it is heard; -inf for silence, which keeps its level.
    peaks_db: true peak of each in dBFS. Where a louder source would clip, all come down together instead, so that they
        stay matched; clipping that a source brings along is not counted.
    """
    audible = [value for value in loudness if math.isfinite(value)]
    if not audible:
        return [0.0] * len(loudness)
    wanted = [min(audible[0] - value, MOST_GAIN_DB) if math.isfinite(value) else 0.0 for value in loudness]
    room = [max(0.0, -peak - HEADROOM_DB) if math.isfinite(peak) else 0.0 for peak in peaks_db]
    excess = max(0.0, *(gain - space for gain, space in zip(wanted, room, strict=True)))
    return [gain - excess if math.isfinite(value) else 0.0 for gain, value in zip(wanted, loudness, strict=True)]
