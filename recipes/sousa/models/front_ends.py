"""The front ends of the networks: each makes of a clip exactly what its network was trained on, and says what that is.

Shapes: S samples of a clip at `data.sample_rate`, M mel bands, F frames. A mismatch between the front end and what the
weights expect is silent and expensive: with AST's constants on another spectrogram, thirteen points of accuracy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ....engine.errors import WavedeckError
from ...audio.features import ClapMel, EfficientMel, KaldiMel, LogMel
from ...audio.torchaudio_guard import load_torchaudio
from .base import FrontEnd

AST_CONSTANTS = (-4.2677393, 4.5689974)
"""Mean and deviation of AudioSet under AST's filter bank."""
BEATS_CONSTANTS = (15.41663, 6.55582)
"""The same under BEATs', whose samples are scaled as 16-bit integers."""
EFFICIENT_CONSTANTS = (-4.5, 5.0)
"""What EfficientAT takes for them."""

_RESAMPLE_WIDTH = 16
"""Zero crossings of the resampling filter to each side."""


class LogMelEnd(FrontEnd):
    """`cnn`'s: log-mel without constants, because the network holds the training split's own."""

    def __init__(self, sample_rate: int, mels: int, hop_ms: float, window_ms: float) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate, hop_ms / 1000, window_ms / 1000, mels)
        self.sample_rate, self.hop_ms, self.mels = sample_rate, hop_ms, mels
        self.name = f"log-mel {mels} × {hop_ms:g} ms at {_khz(sample_rate)}"

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.log_mel(wave_S)

    def forward(self, wave_S: Tensor) -> Tensor:
        return self.raw(wave_S)

    @property
    def silence(self) -> float:
        return math.log(self.log_mel.floor)


class KaldiEnd(FrontEnd):
    """AST's: Kaldi's filter bank under a Hann window, (x - mean) / (2 deviations) with AudioSet's."""

    def __init__(self, data_rate: int, mels: int = 128, hop_ms: float = 10.0, window_ms: float = 25.0) -> None:
        super().__init__()
        self.sample_rate, self.hop_ms, self.mels = 16_000, hop_ms, mels
        self.expected = AST_CONSTANTS
        self.resample = resampler(data_rate, self.sample_rate)
        hop, window = _samples(hop_ms, self.sample_rate), _samples(window_ms, self.sample_rate)
        self.bank = KaldiMel(self.sample_rate, mels, hop, window, "hanning")
        self.name = f"Kaldi fbank {mels} × {hop_ms:g} ms at 16 kHz, {_normalisation(*self.expected, factor=2)}"

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.bank(self.resample(wave_S))

    def forward(self, wave_S: Tensor) -> Tensor:
        mean, deviation = AST_CONSTANTS
        return (self.raw(wave_S) - mean) / (2 * deviation)

    @property
    def silence(self) -> float:
        mean, deviation = AST_CONSTANTS
        return (math.log(self.bank.floor) - mean) / (2 * deviation)


class WaveformEnd(FrontEnd):
    """BEATs': the waveform at 16 kHz. The network computes its filter bank itself; `raw` is that bank.

    Parameters
    ----------
    bank: of the network's shape, an object of its own, because the network's moves to the device.
    """

    def __init__(self, data_rate: int, bank: KaldiMel, mels: int, hop_ms: float) -> None:
        super().__init__()
        self.sample_rate, self.hop_ms, self.mels = 16_000, hop_ms, 0
        self.expected = BEATS_CONSTANTS
        self.resample = resampler(data_rate, self.sample_rate)
        self.bank = bank
        constants = _normalisation(*self.expected, factor=2)
        self.name = f"waveform at 16 kHz; inside, Kaldi fbank {mels} × {hop_ms:g} ms, {constants}"

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.bank(self.resample(wave_S))

    def forward(self, wave_S: Tensor) -> Tensor:
        return self.resample(wave_S)

    @property
    def silence(self) -> float:
        return 0.0


class ClapEnd(FrontEnd):
    """HTS-AT's: CLAP's mel spectrogram in dB. It has no constants; the network's first batch norm does that work."""

    def __init__(self, data_rate: int, mels: int = 64, hop_ms: float = 10.0) -> None:
        super().__init__()
        self.sample_rate, self.hop_ms, self.mels = 48_000, hop_ms, mels
        self.resample = resampler(data_rate, self.sample_rate)
        self.mel = ClapMel(self.sample_rate, mels, _samples(hop_ms, self.sample_rate))
        self.name = f"CLAP mel {mels} × {hop_ms:g} ms at 48 kHz, 50 Hz to 14 kHz, dB"

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.mel(self.resample(wave_S))

    def forward(self, wave_S: Tensor) -> Tensor:
        return self.raw(wave_S)

    @property
    def silence(self) -> float:
        return -100.0


class EfficientEnd(FrontEnd):
    """EfficientAT's: pre-emphasised log-mel up to 15 kHz, (x + 4.5) / 5."""

    def __init__(self, data_rate: int, mels: int = 128, hop_ms: float = 10.0) -> None:
        super().__init__()
        self.sample_rate, self.hop_ms, self.mels = 32_000, hop_ms, mels
        self.expected = EFFICIENT_CONSTANTS
        self.resample = resampler(data_rate, self.sample_rate)
        self.mel = EfficientMel(self.sample_rate, mels, _samples(hop_ms, self.sample_rate))
        self.name = f"log-mel {mels} × {hop_ms:g} ms at 32 kHz up to 15 kHz, {_normalisation(*self.expected)}"

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.mel(self.resample(wave_S))

    def forward(self, wave_S: Tensor) -> Tensor:
        mean, deviation = EFFICIENT_CONSTANTS
        return (self.raw(wave_S) - mean) / deviation

    @property
    def silence(self) -> float:
        mean, deviation = EFFICIENT_CONSTANTS
        return (math.log(1e-5) - mean) / deviation


def resampler(data_rate: int, sample_rate: int) -> Callable[[Tensor], Tensor]:
    """What turns `wave_S` at `data_rate` into one at `sample_rate`; nothing where they are equal."""
    if data_rate == sample_rate:
        return nn.Identity()
    transforms = load_torchaudio().module.transforms
    made: Callable[[Tensor], Tensor] = transforms.Resample(data_rate, sample_rate, lowpass_filter_width=_RESAMPLE_WIDTH)
    return made


def measured(front_end: FrontEnd, waves: Iterable[Tensor]) -> tuple[float, float]:
    """Mean and standard deviation of `front_end.raw` over all values of the clips `wave_S`, before normalisation.

    Raises
    ------
    WavedeckError: there is no clip.
    """
    count, total, squares = 0, 0.0, 0.0
    with torch.inference_mode():
        for wave_S in waves:
            raw_MF = front_end.raw(wave_S).double()
            count += raw_MF.numel()
            total += float(raw_MF.sum())
            squares += float(raw_MF.square().sum())
    if not count:
        raise WavedeckError("the front end cannot be measured: there is no clip.")
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean * mean))


def mismatch(front_end: FrontEnd, found: tuple[float, float]) -> str | None:
    """A sentence where the measured mean and deviation are far from what the front end was made for, else None.

    Far is half an expected deviation for the mean, or half or double for the deviation.
    """
    if front_end.expected is None:
        return None
    (mean, deviation), (own_mean, own_deviation) = front_end.expected, found
    near = abs(own_mean - mean) <= deviation / 2
    if near and deviation / 2 <= own_deviation <= deviation * 2:
        return None
    return (
        f"the training clips have mean {own_mean:.2f} and deviation {own_deviation:.2f} under the front end "
        f"({front_end.name}), which was made for {mean:.2f} and {deviation:.2f}: published weights hear them off "
        "their scale. Look at the level of the clips."
    )


def empty_bands(front_end: FrontEnd, data_rate: int) -> str | None:
    """A sentence where the clips hold nothing in the upper bands that the front end listens to, else None."""
    top_hz = {48_000: 14_000, 32_000: 15_000}.get(front_end.sample_rate, 0)
    if data_rate / 2 >= top_hz:
        return None
    return (
        f"clips of {_khz(data_rate)} hold nothing above {_khz(data_rate // 2)}, and this model's front end listens up "
        f"to {_khz(top_hz)}: with published weights, data.sample_rate={front_end.sample_rate} is better."
    )


def _samples(milliseconds: float, sample_rate: int) -> int:
    return max(1, round(milliseconds * sample_rate / 1000))


def _khz(hertz: int) -> str:
    return f"{hertz / 1000:g} kHz"


@functools.cache
def _normalisation(mean: float, deviation: float, factor: int = 1) -> str:
    return f"(x {'-' if mean > 0 else '+'} {abs(mean):.4g}) / {factor * deviation:.4g}"
