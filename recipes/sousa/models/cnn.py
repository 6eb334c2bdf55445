"""A small network on log-mel spectrograms: dilated convolutions in time, then attention over time.

Shapes: B clips, M mel bands, F frames (6 ms), C channels, T frames after the stem (12 ms), H attention heads, K
classes.

Time resolution is what matters here: a flam's grace note stands 25 ms before its stroke, while a transformer with
160-ms patches blurs it. The stem and two blocks work at 12 ms, where graces are told from strokes; the blocks after
them look for the rhythm at 24 ms, which costs half and sees as far: 0.8 s to each side with the defaults.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelConfig, SousaConfig
from .base import AudioClassifier
from .front_ends import LogMelEnd

HOP_MS = 6.0
"""Its own time between frames."""

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


class RudimentNet(AudioClassifier):
    """`mel_BMF` -> `logits_BK`. Its size is `model.channels` and `model.blocks`; `model.size=debug` caps both.

    The buffers `mean` and `deviation` are of the training split's log-mel values; they are kept with the weights, so
    that a checkpoint is whole.
    """

    input_kind = "spectrogram"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ModelConfig, front_end: LogMelEnd, classes: int) -> None:
        super().__init__("CNN", front_end)
        channels, blocks = config.channels, config.blocks
        if config.size == "debug":
            self.label, channels, blocks = "CNN debug", min(channels, 16), min(blocks, 3)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))
        self.calibrated = False
        self.stem = nn.Sequential(
            nn.Conv1d(front_end.mels, channels, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(channels), nn.GELU(),
            nn.Conv1d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels), nn.GELU(),
        )  # fmt: skip
        fine = [DilatedBlock(channels, 2**n, config.dropout) for n in range(min(_FINE, blocks))]
        coarse = [DilatedBlock(channels, 2 ** (n - 1), config.dropout) for n in range(_FINE, blocks)]
        self.blocks = nn.Sequential(*fine, nn.AvgPool1d(2), *coarse)
        self.norm = nn.BatchNorm1d(channels)
        self.attend = nn.Conv1d(channels, 4, 1)
        self.rudiment_head = nn.Linear(5 * channels, classes)

    def forward(self, mel_BMF: Tensor) -> Tensor:
        """`logits_BK`: four attention-weighted means over time and the plain mean, then one linear layer."""
        x_BCT = self.stem((mel_BMF - self.mean) / self.deviation)
        x_BCT = nn.functional.gelu(self.norm(self.blocks(x_BCT)))
        weights_BHT = torch.softmax(self.attend(x_BCT), dim=-1)
        attended_BHC = torch.einsum("bht,bct->bhc", weights_BHT, x_BCT)
        pooled = torch.cat([attended_BHC.flatten(1), x_BCT.mean(dim=-1)], dim=1)
        logits_BK: Tensor = self.rudiment_head(pooled)
        return logits_BK

    def calibrate(self, mean: float, deviation: float) -> None:
        if not self.calibrated:
            self.mean.fill_(mean)
            self.deviation.fill_(max(deviation, 1e-3))

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calibrated = "mean" in state
        return {  # runs before there were other networks called the head so
            f"rudiment_{name}" if name.startswith("head.") else name: value for name, value in state.items()
        }

    def checkpoint_activations(self) -> None:
        """Nothing: a clip's activations take a few megabytes."""


def build_cnn(config: SousaConfig, classes: int) -> RudimentNet:
    """The network with its front end; `features.*` are its knobs."""
    features = config.features
    hop_ms = HOP_MS if features.hop_ms is None else features.hop_ms
    front_end = LogMelEnd(config.data.sample_rate, features.mels, hop_ms, features.window_ms)
    return RudimentNet(config.model, front_end, classes)
