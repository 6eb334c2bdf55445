"""AST, the Audio Spectrogram Transformer (Gong, Chung and Glass 2021), from transformers, with a head of our own.

Shapes: B clips, M mel bands, F frames, D width, P patches (P = rows in frequency × columns in time), K classes.

Its patches of 16 frames, moved by 10, span 160 ms at the published 10 ms a frame. `features.hop_ms=5` halves that with
the same weights; the position embeddings are then fitted to the new grid.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import SousaConfig
from .base import AudioClassifier, checkpoint_layers, fit_frames
from .front_ends import KaldiEnd

if TYPE_CHECKING:
    from transformers import ASTConfig

_SPECIAL = 2
"""Tokens before the patches: class and distillation."""

_PUBLISHED_GRID = (12, 101)
"""Rows and columns of patches for 128 bands and 1024 frames."""

_RENAMED = (
    (r"^audio_spectrogram_transformer\.", "backbone."),
    (r"^classifier\.layernorm\.", "norm."),
    (r"\.encoder\.layer\.", ".layers."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
"""From the names in the published file to those of transformers 5, in this order."""


@dataclass(frozen=True, slots=True)
class AstSize:
    """Published: 128 bands, patches of 16 × 16 moved by 10, 12 layers of 768. In small, one patch is as high as all
    bands and moves by 24 ms, so that a clip is 160 tokens and the steps are those of a rhythm."""

    mels: int
    hop_ms: float
    patch: int
    stride_mels: int
    stride_frames: int
    width: int
    layers: int
    heads: int


SIZES = {
    "full": AstSize(128, 10.0, 16, 10, 10, 768, 12, 12),
    "small": AstSize(32, 4.0, 32, 32, 6, 128, 4, 4),
    "debug": AstSize(32, 10.0, 16, 16, 16, 16, 2, 2),
}


class AstNet(AudioClassifier):
    """`x_BMF` -> `logits_BK`: the mean of the two special tokens, a layer norm, and the head.

    Other lengths than the one it was built for are cut or filled with silence, because positions are learned.
    """

    input_kind = "spectrogram"

    def __init__(self, label: str, front_end: KaldiEnd, config: ASTConfig, classes: int, dropout: float) -> None:
        from transformers import ASTModel

        super().__init__(label, front_end)
        self.backbone = ASTModel(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.drop = nn.Dropout(dropout)
        self.rudiment_head = nn.Linear(config.hidden_size, classes)
        self.frames = int(config.max_length)
        self.rows, self.columns = self.backbone.embeddings.get_shape(config)

    def forward(self, x_BMF: Tensor) -> Tensor:
        x_BMF = fit_frames(x_BMF, self.frames, self.front_end.silence)
        pooled_BD = self.backbone(x_BMF.transpose(1, 2)).pooler_output
        logits_BK: Tensor = self.rudiment_head(self.drop(self.norm(pooled_BD)))
        return logits_BK

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        translated = {}
        for name, value in state.items():
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            if not name.startswith("classifier."):
                translated[name] = value
        positions = "backbone.embeddings.position_embeddings"
        if positions in translated:
            translated[positions] = fit_positions(translated[positions], self.rows, self.columns)
        return translated

    def checkpoint_activations(self) -> None:
        checkpoint_layers(self.backbone)


def fit_positions(position_1PD: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings for a grid of `rows` × `columns`, from ones learned on another.

    As the published code does it: of a longer grid the middle is taken, a shorter one is interpolated (bilinear), in
    time and in frequency alike. The special tokens stay. The grid it comes from is the published one or has as many
    rows; one of another kind is returned as it is, for the comparison of shapes to name.
    """
    patches = position_1PD.shape[1] - _SPECIAL
    if patches == rows * columns:
        return position_1PD
    own_rows = _PUBLISHED_GRID[0] if patches == math.prod(_PUBLISHED_GRID) else rows
    if patches % own_rows:
        return position_1PD
    special, grid = position_1PD[:, :_SPECIAL], position_1PD[:, _SPECIAL:]
    grid_1DRC = grid.transpose(1, 2).unflatten(2, (own_rows, patches // own_rows))
    for dim, wanted in ((2, rows), (3, columns)):
        spare = grid_1DRC.shape[dim] - wanted
        if spare > 0:
            grid_1DRC = grid_1DRC.narrow(dim, spare // 2, wanted)
    if grid_1DRC.shape[2:] != (rows, columns):
        grid_1DRC = nn.functional.interpolate(grid_1DRC.float(), (rows, columns), mode="bilinear").to(grid.dtype)
    return torch.cat([special, grid_1DRC.flatten(2).transpose(1, 2)], dim=1)


def build_ast(config: SousaConfig, classes: int) -> AstNet:
    """The network for clips of `data.duration_s`, with its front end."""
    from transformers import ASTConfig

    size = SIZES[config.model.size]
    hop_ms = size.hop_ms if config.features.hop_ms is None else config.features.hop_ms
    front_end = KaldiEnd(config.data.sample_rate, size.mels, hop_ms)
    frames = front_end.bank.frames(round(config.data.duration_s * front_end.sample_rate))
    made = ASTConfig(
        hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        intermediate_size=4 * size.width, patch_size=size.patch, frequency_stride=size.stride_mels,
        time_stride=size.stride_frames, max_length=max(frames, size.patch), num_mel_bins=size.mels,
    )  # fmt: skip
    label = "AST" if config.model.size == "full" else f"AST {config.model.size}"
    return AstNet(label, front_end, made, classes, config.model.dropout)
