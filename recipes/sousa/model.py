"""A small network on log-mel spectrograms: dilated convolutions in time, then attention over time.

Shapes: B clips, M mel bands, F frames (6 ms), C channels, T frames after the stem (12 ms), K classes.

Time resolution is what matters here: a flam's grace note stands 25 ms before its stroke, while a transformer with
160-ms patches blurs it. The stem and two blocks work at 12 ms, where graces are told from strokes; the blocks after
them look for the rhythm at 24 ms, which costs half and sees as far: 0.8 s to each side with the defaults.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ModelConfig

_FINE = 2
"""Blocks at full time resolution."""


class DilatedBlock(nn.Module):
    """Residual: dilated convolution in time (kernel 3), batch norm, GELU, a mix of channels."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.spread = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.mix = nn.Conv1d(channels, channels, 1)
        self.drop = nn.Dropout1d(dropout)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT + self.drop(self.mix(nn.functional.gelu(self.norm(self.spread(x_BCT)))))


class RudimentNet(nn.Module):
    """`mel_BMF` -> `logits_BK`.

    Parameters
    ----------
    mean, deviation: of the training split's log-mel values; kept with the weights, so that a checkpoint is whole.
    """

    def __init__(self, config: ModelConfig, mels: int, classes: int, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        channels = config.channels
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))
        self.stem = nn.Sequential(
            nn.Conv1d(mels, channels, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(channels), nn.GELU(),
            nn.Conv1d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels), nn.GELU(),
        )  # fmt: skip
        fine = [DilatedBlock(channels, 2**n, config.dropout) for n in range(min(_FINE, config.blocks))]
        coarse = [DilatedBlock(channels, 2 ** (n - 1), config.dropout) for n in range(_FINE, config.blocks)]
        self.blocks = nn.Sequential(*fine, nn.AvgPool1d(2), *coarse)
        self.norm = nn.BatchNorm1d(channels)
        self.attend = nn.Conv1d(channels, 4, 1)
        self.head = nn.Linear(5 * channels, classes)

    def forward(self, mel_BMF: Tensor) -> Tensor:
        """`logits_BK`: four attention-weighted means over time and the plain mean, then one linear layer."""
        x_BCT = self.stem((mel_BMF - self.mean) / self.deviation)
        x_BCT = nn.functional.gelu(self.norm(self.blocks(x_BCT)))
        weights_BHT = torch.softmax(self.attend(x_BCT), dim=-1)
        attended_BHC = torch.einsum("bht,bct->bhc", weights_BHT, x_BCT)
        pooled = torch.cat([attended_BHC.flatten(1), x_BCT.mean(dim=-1)], dim=1)
        return self.head(pooled)
