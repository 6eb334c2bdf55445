"""Mel spectrograms as the audio models were trained on, each checked against the code that the model came with.

Shapes: B clips, S samples, M mel bands, F frames, N samples of a window, K bins of a spectrum. `wave_BS` -> `mel_BMF`;
one clip `wave_S` gives `mel_MF`. The models' ones compute in float32, also inside autocast: a power spectrum overflows
half precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .torchaudio_guard import load_torchaudio


class LogMel(nn.Module):
    """Power mel spectrogram in natural log, through torchaudio's transforms.

    Parameters
    ----------
    sample_rate: Hz.
    hop_s: seconds between frames; grace notes are 25 ms from their stroke, so 6 ms resolves them and 10 ms barely does.
    window_s: seconds of one analysis window.
    mels: mel bands from `low_hz` to half the sample rate.
    floor: added to the power before the logarithm; -70 dB of full scale, below which is room noise.
    """

    def __init__(
        self, sample_rate: int = 16000, hop_s: float = 0.006, window_s: float = 0.020, mels: int = 48,
        low_hz: float = 60.0, floor: float = 1e-7,
    ) -> None:  # fmt: skip
        super().__init__()
        window = round(window_s * sample_rate)
        self.hop = round(hop_s * sample_rate)
        self.floor = floor
        self.transform = load_torchaudio().module.transforms.MelSpectrogram(
            sample_rate, n_fft=1 << (window - 1).bit_length(), win_length=window, hop_length=self.hop,
            f_min=low_hz, f_max=sample_rate / 2, n_mels=mels, power=2.0, normalized="window",
        )  # fmt: skip

    def forward(self, wave_BS: Tensor) -> Tensor:
        """`mel_BMF` in nats, F = S // hop + 1; also takes one clip `wave_S` and gives `mel_MF`."""
        return torch.log(self.transform(wave_BS) + self.floor)


class KaldiMel(nn.Module):
    """Kaldi's log filter bank, for many clips at once; equals `torchaudio.compliance.kaldi.fbank` without dither.

    Parameters
    ----------
    sample_rate: Hz.
    mels: bands from 20 Hz to half the sample rate.
    hop, window: samples.
    shape: of the window, `hanning` or `povey` (a Hann window to the power 0.85).
    scale: what samples of -1…1 are multiplied with first; Kaldi itself works with 2^15.
    """

    filters_MK: Tensor
    window_N: Tensor

    def __init__(
        self, sample_rate: int = 16000, mels: int = 128, hop: int = 160, window: int = 400, shape: str = "povey",
        scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.hop, self.window, self.scale = hop, window, scale
        self.n_fft = 1 << (window - 1).bit_length()
        self.floor = torch.finfo(torch.float32).eps
        hann_N = torch.hann_window(window, periodic=False)
        self.register_buffer("window_N", hann_N.pow(0.85) if shape == "povey" else hann_N, persistent=False)
        self.register_buffer("filters_MK", _kaldi_filters(mels, self.n_fft, sample_rate, 20.0, 0.0), persistent=False)

    def frames(self, samples: int) -> int:
        """Frames of a clip; only whole windows count."""
        return max(0, 1 + (samples - self.window) // self.hop)

    def forward(self, wave_BS: Tensor) -> Tensor:
        """`mel_BMF` in nats of power."""
        with torch.autocast(wave_BS.device.type, enabled=False):
            frames_BFN = (wave_BS.float() * self.scale).unfold(-1, self.window, self.hop)
            frames_BFN = frames_BFN - frames_BFN.mean(dim=-1, keepdim=True)
            sharp_BFN = frames_BFN[..., 1:] - 0.97 * frames_BFN[..., :-1]
            first_BFN = 0.03 * frames_BFN[..., :1]  # its neighbour before is taken to be equal
            windowed_BFN = torch.cat([first_BFN, sharp_BFN], dim=-1) * self.window_N
            power_BFK = _power(torch.fft.rfft(windowed_BFN, n=self.n_fft))
            mel_BFM = power_BFK @ self.filters_MK.mT
            return mel_BFM.clamp(min=self.floor).log().transpose(-1, -2)


class ClapMel(nn.Module):
    """The mel spectrogram of CLAP's audio tower: Slaney's mel scale and areas, decibels above 1e-10.

    Parameters
    ----------
    sample_rate: Hz.
    mels: bands from 50 Hz to 14 kHz, or to half the sample rate where that is lower.
    hop, window: samples.
    """

    def __init__(self, sample_rate: int = 48000, mels: int = 64, hop: int = 480, window: int = 1024) -> None:
        super().__init__()
        self.transform = load_torchaudio().module.transforms.MelSpectrogram(
            sample_rate, n_fft=window, hop_length=hop, f_min=50.0, f_max=min(14000.0, sample_rate / 2), n_mels=mels,
            power=2.0, norm="slaney", mel_scale="slaney",
        )  # fmt: skip

    def forward(self, wave_BS: Tensor) -> Tensor:
        """`mel_BMF` in dB, F = S // hop + 1."""
        with torch.autocast(wave_BS.device.type, enabled=False):
            return 10 * torch.log10(self.transform(wave_BS.float()).clamp(min=1e-10))


class EfficientMel(nn.Module):
    """The mel spectrogram of EfficientAT: pre-emphasis, Kaldi's filters up to 15 kHz, nats above 1e-5.

    Parameters
    ----------
    sample_rate: Hz.
    mels: bands from 0 Hz to 1 kHz below half the sample rate.
    hop, window: samples.
    """

    filters_MK: Tensor
    window_N: Tensor

    def __init__(self, sample_rate: int = 32000, mels: int = 128, hop: int = 320, window: int = 800) -> None:
        super().__init__()
        self.hop, self.window = hop, window
        self.n_fft = 1 << (window - 1).bit_length()
        self.register_buffer("window_N", torch.hann_window(window, periodic=False), persistent=False)
        high = sample_rate / 2 - 1000
        self.register_buffer("filters_MK", _kaldi_filters(mels, self.n_fft, sample_rate, 0.0, high), persistent=False)

    def forward(self, wave_BS: Tensor) -> Tensor:
        """`mel_BMF` in nats, F = (S - 1) // hop + 1; the published normalisation is (mel + 4.5) / 5."""
        with torch.autocast(wave_BS.device.type, enabled=False):
            sharp_BS = wave_BS[..., 1:].float() - 0.97 * wave_BS[..., :-1].float()
            spectrum_BKF = torch.stft(
                sharp_BS, self.n_fft, self.hop, self.window, self.window_N, center=True, return_complex=True
            )
            return torch.log(self.filters_MK @ _power(spectrum_BKF) + 1e-5)


def _power(spectrum: Tensor) -> Tensor:
    """The squared magnitude; `abs` would take a root first, which costs five times as much."""
    return spectrum.real.square() + spectrum.imag.square()


def _kaldi_filters(mels: int, n_fft: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Kaldi's triangles over `n_fft // 2 + 1` bins, as `filters_MK`; `high_hz` 0 is half the sample rate."""
    kaldi = load_torchaudio().module.compliance.kaldi
    bank_MK, _ = kaldi.get_mel_banks(mels, n_fft, float(sample_rate), low_hz, high_hz, 100.0, -500.0, 1.0)
    return torch.nn.functional.pad(bank_MK, (0, 1))
