"""Log-mel spectrograms.

Shapes: B clips, S samples, M mel bands, F frames. `wave_BS` -> `mel_BMF`.
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
