"""EfficientAT's mn10 (Schmid, Koutini and Widmer 2023): a MobileNetV3-Large on spectrograms, an own module.

Names and shapes are those of the published checkpoints, so that they load.

Shapes: B clips, M mel bands, F frames, C channels, Y bands and T frames after strides, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import SousaConfig
from .base import AudioClassifier, recompute
from .front_ends import EfficientEnd

_BLOCKS = (
    # kernel, expanded, out, squeeze, hard swish, which of the four strides (None: 1)
    (3, 16, 16, False, False, None),
    (3, 64, 24, False, False, 0),
    (3, 72, 24, False, False, None),
    (5, 72, 40, True, False, 1),
    (5, 120, 40, True, False, None),
    (5, 120, 40, True, False, None),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, None),
    (3, 184, 80, False, True, None),
    (3, 184, 80, False, True, None),
    (3, 480, 112, True, True, None),
    (3, 672, 112, True, True, None),
    (5, 672, 160, True, True, 3),
    (5, 960, 160, True, True, None),
    (5, 960, 160, True, True, None),
)
"""MobileNetV3-Large, table 1 of Howard et al. 2019, at width 1."""


@dataclass(frozen=True, slots=True)
class EfficientSize:
    """Published: width 1, 128 bands at 10 ms, all strides 2, batch norms that move by 1 %.

    That slow move is for trainings of a hundred thousand steps: in one of a few hundred, running statistics would still
    be those of the random weights. Smaller sizes move by 10 %.
    """

    width: float
    mels: int
    hop_ms: float
    strides: tuple[int, int, int, int]
    momentum: float


SIZES = {
    "full": EfficientSize(1.0, 128, 10.0, (2, 2, 2, 2), 0.01),
    "small": EfficientSize(0.4, 48, 6.0, (2, 2, 2, 1), 0.1),
    "debug": EfficientSize(0.1, 32, 10.0, (2, 2, 2, 2), 0.1),
}


class ConvNorm(nn.Sequential):
    """Convolution (0), batch norm (1), and an activation (2) unless None."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, momentum: float, stride: int = 1, groups: int = 1,
        activation: type[nn.Module] | None = nn.Hardswish,
    ) -> None:  # fmt: skip
        conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=momentum)
        super().__init__(conv, norm, *([] if activation is None else [activation()]))


class SqueezeExcitation(nn.Module):
    """Each channel times a share of 0…1 that follows from the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels // 4)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, x_BCYT: Tensor) -> Tensor:
        mean_BC = x_BCYT.mean(dim=(2, 3))
        share_BC = torch.sigmoid(self.fc2(torch.relu(self.fc1(mean_BC))))
        return x_BCYT * share_BC[:, :, None, None]


class ConcurrentSqueeze(nn.Module):
    """The published models' wrapper around squeeze-and-excitation; of its dimensions they use the channels only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([SqueezeExcitation(channels)])

    def forward(self, x_BCYT: Tensor) -> Tensor:
        out_BCYT: Tensor = self.conc_se_layers[0](x_BCYT)
        return out_BCYT


class InvertedResidual(nn.Module):
    """Widen (1 × 1), convolve each channel, squeeze, narrow (1 × 1); beside a residual where shapes allow."""

    def __init__(
        self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int, squeeze: bool, swish: bool,
        momentum: float,
    ) -> None:  # fmt: skip
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(ConvNorm(inputs, expanded, 1, momentum, activation=activation))
        layers.append(ConvNorm(expanded, expanded, kernel, momentum, stride, groups=expanded, activation=activation))
        if squeeze:
            layers.append(ConcurrentSqueeze(expanded))
        layers.append(ConvNorm(expanded, outputs, 1, momentum, activation=None))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x_BCYT: Tensor) -> Tensor:
        out_BCYT: Tensor = self.block(x_BCYT)
        return out_BCYT + x_BCYT if self.residual else out_BCYT


class MobileNet(nn.Module):
    """`x_BMF` -> `embedding_BC`; `checkpointing` computes its blocks again in the backward pass."""

    def __init__(self, size: EfficientSize) -> None:
        super().__init__()
        self.checkpointing = False
        inputs = divisible(16 * size.width)
        layers: list[nn.Module] = [ConvNorm(1, inputs, 3, size.momentum, stride=2)]
        for kernel, expanded, out, squeeze, swish, place in _BLOCKS:
            outputs, stride = divisible(out * size.width), 1 if place is None else size.strides[place]
            middle = divisible(expanded * size.width)
            layers.append(InvertedResidual(inputs, middle, outputs, kernel, stride, squeeze, swish, size.momentum))
            inputs = outputs
        layers.append(ConvNorm(inputs, 6 * inputs, 1, size.momentum))
        self.features = nn.Sequential(*layers)
        self.embedded = divisible(1280 * size.width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(6 * inputs, self.embedded), nn.Hardswish()
        )
        self.apply(_begin)

    def forward(self, x_BMF: Tensor) -> Tensor:
        x_BCYT = x_BMF.unsqueeze(1)
        for layer in self.features:
            x_BCYT = recompute(layer, x_BCYT) if self.checkpointing and self.training else layer(x_BCYT)
        embedding_BC: Tensor = self.classifier(x_BCYT)
        return embedding_BC


class EfficientAtNet(AudioClassifier):
    """`x_BMF` -> `logits_BK`."""

    input_kind = "spectrogram"

    def __init__(self, label: str, front_end: EfficientEnd, size: EfficientSize, classes: int, dropout: float) -> None:
        super().__init__(label, front_end)
        self.backbone = MobileNet(size)
        self.drop = nn.Dropout(dropout)
        self.rudiment_head = nn.Linear(self.backbone.embedded, classes)

    def forward(self, x_BMF: Tensor) -> Tensor:
        logits_BK: Tensor = self.rudiment_head(self.drop(self.backbone(x_BMF)))
        return logits_BK

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name if name.startswith(("backbone.", "rudiment_head.")) else f"backbone.{name}": value
            for name, value in state.items()
            if not name.startswith("classifier.5.")
        }

    def checkpoint_activations(self) -> None:
        self.backbone.checkpointing = True


def divisible(channels: float) -> int:
    """The nearest multiple of 8 that is at least 90 % of `channels`; MobileNet's rule for scaled widths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _begin(module: nn.Module) -> None:
    """As published: He's normal weights for convolutions, small ones for linear layers, zero biases."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def build_efficient_at(config: SousaConfig, classes: int) -> EfficientAtNet:
    """The network with its front end."""
    size = SIZES[config.model.size]
    hop_ms = size.hop_ms if config.features.hop_ms is None else config.features.hop_ms
    front_end = EfficientEnd(config.data.sample_rate, size.mels, hop_ms)
    label = "EfficientAT mn10" if config.model.size == "full" else f"EfficientAT {config.model.size}"
    return EfficientAtNet(label, front_end, size, classes, config.model.dropout)
