"""What training clips suffer, as a pure function of the clip and a generator that follows from (seed, epoch, clip).

Shapes: S samples, M mel bands, F frames, K bins of a short-time Fourier transform (complex `spectrum_KF`).

The pitch is never changed: a drum's pitch says which hand or drum it was, and a rudiment is its rhythm. Time masks stay
shorter than the distance of a grace note from its stroke, or they would make taps of flams.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ...audio.torchaudio_guard import load_torchaudio
from ..config import AugmentConfig

_WINDOW_S = 0.012
"""Of the waveform's transform. Longer ones blur a grace note into its stroke: on a marching drum, the level rises by
27 dB at a grace's onset with 12 ms and by 13 dB with 32 ms; shorter ones gain nothing and take longer."""


def augment_spectrogram(
    x_MF: Tensor, config: AugmentConfig, hop_ms: float, silence: float, per_db: float, rng: Generator
) -> Tensor:
    """Tempo, shift, level, then SpecAugment's masks (Park et al. 2019), which are filled with the clip's mean.

    Parameters
    ----------
    hop_ms: of one frame.
    silence: value of a silent frame; fills what a shift or a faster tempo uncovers, and is the floor of the level.
    per_db: how much all values rise with one decibel; 0 leaves the level alone.
    """
    rate, shift_ms, gain_db = _draw(config, rng)
    out_MF = _resample_time(x_MF, rate, shift_ms / hop_ms, silence)
    if gain_db and per_db:
        # A value at the floor is nothing, which stays nothing; bands above the clip's own half rate are all floor.
        out_MF = torch.where(out_MF > silence + per_db, out_MF + gain_db * per_db, out_MF).clamp_(min=silence)
    mels, frames = out_MF.shape
    fill = float(out_MF.mean())
    for start, stop in _time_masks(config, hop_ms, frames, rng):
        out_MF[:, start:stop] = fill
    start, stop = _band_mask(config, mels, rng)
    out_MF[start:stop] = fill
    return out_MF


def augment_wave(wave_S: Tensor, config: AugmentConfig, sample_rate: int, rng: Generator) -> Tensor:
    """The same for a waveform: tempo by a phase vocoder, and masks, in a short-time Fourier transform of 12-ms windows.

    Masks made there fade in and out with the windows; zeros cut into a waveform would click like strokes.
    """
    rate, shift_ms, gain_db = _draw(config, rng)
    out_S = wave_S
    if rate != 1.0 or config.time_masks or config.mel_mask:
        out_S = _through_spectrum(wave_S, rate, config, sample_rate, rng)
    return _shifted(out_S, round(shift_ms * sample_rate / 1000)) * 10.0 ** (gain_db / 20)


def _draw(config: AugmentConfig, rng: Generator) -> tuple[float, float, float]:
    """Tempo as a factor, shift in ms, level in dB."""
    rate = 1.0 + float(rng.uniform(-config.stretch, config.stretch))
    shift_ms = float(rng.uniform(-config.shift_ms, config.shift_ms))
    return rate, shift_ms, float(rng.uniform(-config.gain_db, config.gain_db))


def _resample_time(x_MF: Tensor, rate: float, shift: float, silence: float) -> Tensor:
    """`x` played `rate` times as fast and `shift` frames later; a copy in any case.

    Each frame is the nearest one of `x`. Between two of them would be more exact in time, by up to half a frame, but a
    mean of two logarithms blurs onsets, and with them the grace notes.
    """
    frames = x_MF.shape[1]
    place_F = torch.round((torch.arange(frames, dtype=torch.float64) - round(shift)) * rate).long()
    out_MF = x_MF[:, place_F.clamp(0, frames - 1)]
    out_MF[:, (place_F < 0) | (place_F > frames - 1)] = silence
    return out_MF


def _time_masks(config: AugmentConfig, hop_ms: float, frames: int, rng: Generator) -> list[tuple[int, int]]:
    """Where the time masks begin and end, in frames."""
    widest = int(config.time_mask_ms / hop_ms)
    masks = []
    for _ in range(config.time_masks if 0 < widest < frames else 0):
        width, start = int(rng.integers(0, widest + 1)), int(rng.integers(0, frames - widest))
        masks.append((start, start + width))
    return masks


def _band_mask(config: AugmentConfig, mels: int, rng: Generator) -> tuple[int, int]:
    """Where the mask of bands begins and ends."""
    width = int(rng.integers(0, int(config.mel_mask * mels) + 1))
    start = int(rng.integers(0, mels - width + 1))
    return start, start + width


def _through_spectrum(wave_S: Tensor, rate: float, config: AugmentConfig, sample_rate: int, rng: Generator) -> Tensor:
    window = 4 * round(_WINDOW_S * sample_rate / 4)
    hop, shape = window // 4, torch.hann_window(window)
    spectrum_KF = torch.stft(wave_S, window, hop, window=shape, return_complex=True)
    if rate != 1.0:
        advance_K1 = torch.linspace(0, math.pi * hop, spectrum_KF.shape[0])[:, None]
        spectrum_KF = load_torchaudio().module.functional.phase_vocoder(spectrum_KF, rate, advance_K1)
    for start, stop in _time_masks(config, 1000 * hop / sample_rate, spectrum_KF.shape[1], rng):
        spectrum_KF[:, start:stop] = 0
    low, high = _band_mask(config, 128, rng)
    spectrum_KF[_bin(low, sample_rate, window) : _bin(high, sample_rate, window)] = 0
    length = round(len(wave_S) / rate)
    stretched_S = torch.istft(spectrum_KF, window, hop, window=shape, length=length)
    out_S = torch.zeros_like(wave_S)
    out_S[: min(length, len(wave_S))] = stretched_S[: len(wave_S)]
    return out_S


def _bin(band: int, sample_rate: int, window: int) -> int:
    """The Fourier bin at which the mel band number `band` of 128 begins, so that low bands are narrow there too."""
    top = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (top * band / 128 / 2595.0) - 1.0)
    return round(hertz * window / sample_rate) + (band == 128)


def _shifted(wave_S: Tensor, shift: int) -> Tensor:
    out_S, length = torch.zeros_like(wave_S), wave_S.shape[0]
    kept = slice(max(0, -shift), length - max(0, shift))
    out_S[max(0, shift) : length + min(0, shift)] = wave_S[kept]
    return out_S
