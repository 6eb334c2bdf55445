"""HTS-AT, the hierarchical token-semantic transformer (Chen et al. 2022), as CLAP's audio tower in transformers.

Shapes: B clips, M mel bands, F frames, D width after the last stage, K classes.

A Swin transformer on the spectrogram folded into a square: time is cut into pieces that are stacked in frequency. Its
square is fixed, so a shorter clip is repeated to fill it, as CLAP's own extractor does, and the rest is silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import SousaConfig
from .base import AudioClassifier, checkpoint_layers
from .front_ends import ClapEnd

if TYPE_CHECKING:
    from transformers import ClapAudioConfig


@dataclass(frozen=True, slots=True)
class HtsAtSize:
    """Published: 64 bands and 10 s folded into 256 × 256, patches of 4 × 4. In small, a patch is 8 bands × 32 ms and
    the square holds 4.1 s. `frames` is what a clip is filled up to; the network stretches it to `square`² / `mels`."""

    mels: int
    hop_ms: float
    square: int
    frames: int
    patch: tuple[int, int]
    window: int
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]


SIZES = {
    "full": HtsAtSize(64, 10.0, 256, 1001, (4, 4), 8, 96, (2, 2, 6, 2), (4, 8, 16, 32)),
    "small": HtsAtSize(64, 4.0, 256, 1024, (8, 8), 8, 32, (2, 2, 2), (2, 4, 8)),
    "debug": HtsAtSize(32, 10.0, 64, 128, (4, 4), 4, 16, (1, 1), (2, 4)),
}


class HtsAtNet(AudioClassifier):
    """`x_BMF` in dB -> `logits_BK`: the mean over all of the last stage's tokens, and the head."""

    input_kind = "spectrogram"

    def __init__(
        self, label: str, front_end: ClapEnd, config: ClapAudioConfig, frames: int, classes: int, dropout: float
    ) -> None:
        from transformers import ClapAudioModel

        super().__init__(label, front_end)
        self.frames = frames
        self.backbone = ClapAudioModel(config)
        self.drop = nn.Dropout(dropout)
        self.rudiment_head = nn.Linear(config.hidden_size, classes)

    def forward(self, x_BMF: Tensor) -> Tensor:
        pooled_BD = self.backbone(self.fill(x_BMF).transpose(1, 2).unsqueeze(1)).pooler_output
        logits_BK: Tensor = self.rudiment_head(self.drop(pooled_BD))
        return logits_BK

    @property
    def longest_s(self) -> float:
        """What its square holds of a clip, in seconds."""
        return self.frames * self.front_end.hop_ms / 1000

    def fill(self, x_BMF: Tensor) -> Tensor:
        """`frames` frames: the clip as often as it fits as a whole, then silence; of a longer one the beginning."""
        clip_frames = x_BMF.shape[-1]
        if clip_frames >= self.frames:
            return x_BMF[..., : self.frames]
        # the original repeats the sound, whose frames are centred: each copy's last frame is the next one's first
        copies = (self.frames - 1) // max(1, clip_frames - 1)
        whole = torch.cat([x_BMF[..., :-1].repeat(1, 1, copies), x_BMF[..., -1:]], dim=-1)
        return nn.functional.pad(whole, (0, self.frames - whole.shape[-1]), value=self.front_end.silence)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        tower = "audio_model.audio_encoder."
        if not any(name.startswith(tower) for name in state):
            return {_own(name): value for name, value in state.items()}
        others = ("text_model.", "text_projection.", "audio_projection.", "logit_scale")
        return {
            name.replace(tower, "backbone.audio_encoder.", 1): value
            for name, value in state.items()
            if not name.startswith(others)
        }

    def checkpoint_activations(self) -> None:
        checkpoint_layers(self.backbone)

    def loaded(self) -> None:
        """The first batch norm holds what the weights were trained on: mean and deviation over all bands, in dB."""
        norm = self.backbone.audio_encoder.batch_norm
        means_M, variances_M = norm.running_mean.double(), norm.running_var.double()
        deviation = math.sqrt(float(variances_M.mean() + means_M.var(unbiased=False)))
        self.front_end.expected = (float(means_M.mean()), deviation)


def _own(name: str) -> str:
    return f"backbone.{name}" if name.startswith("audio_encoder.") else name


def build_hts_at(config: SousaConfig, classes: int) -> HtsAtNet:
    """The network with its front end. A clip longer than its square (10 s at full size) loses its end."""
    from transformers import ClapAudioConfig

    size = SIZES[config.model.size]
    hop_ms = size.hop_ms if config.features.hop_ms is None else config.features.hop_ms
    made = ClapAudioConfig(
        window_size=size.window, num_mel_bins=size.mels, spec_size=size.square, patch_size=list(size.patch),
        patch_stride=list(size.patch), patch_embeds_hidden_size=size.width, depths=list(size.depths),
        num_attention_heads=list(size.heads), num_hidden_layers=len(size.depths),
        hidden_size=size.width * 2 ** (len(size.depths) - 1),
    )  # fmt: skip
    label = "HTS-AT" if config.model.size == "full" else f"HTS-AT {config.model.size}"
    front_end = ClapEnd(config.data.sample_rate, size.mels, hop_ms)
    return HtsAtNet(label, front_end, made, size.frames, classes, config.model.dropout)
