"""BEATs (Chen et al. 2023, arXiv 2212.09058): an own module with the names and shapes of the published checkpoints.

Shapes: B clips, S samples at 16 kHz, M mel bands, F frames, P patches (frequency fastest), D width, H heads, E = D / H,
K classes.

A post-norm transformer under DeepNorm (Wang et al. 2022: residuals count (2N)^¼), with a convolution for absolute
positions and, for relative ones, a bias in logarithmic buckets that each query gates (as in WavLM, arXiv 2110.13900,
section 3.1). LayerDrop is left out: with it, a step leaves tensors without a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...audio.features import KaldiMel
from ..config import SousaConfig
from .base import AudioClassifier, recompute
from .front_ends import BEATS_CONSTANTS, WaveformEnd

_SCALE = 2.0**15
"""Kaldi's samples are 16-bit integers."""
_GATES = 8
"""Outputs of the gate's linear layer per head: two gates, each the sum of four."""


@dataclass(frozen=True, slots=True)
class BeatsSize:
    """Published: 128 bands, patches of 16 × 16, 12 layers of 768. In small, a patch is all bands × 32 ms."""

    mels: int
    hop_ms: float
    window_ms: float
    patch: int
    embedded: int
    width: int
    layers: int
    heads: int
    conv_width: int
    conv_groups: int
    buckets: int
    max_distance: int


SIZES = {
    "full": BeatsSize(128, 10.0, 25.0, 16, 512, 768, 12, 12, 128, 16, 320, 800),
    "small": BeatsSize(16, 2.0, 16.0, 16, 96, 96, 3, 4, 32, 8, 64, 160),
    "debug": BeatsSize(32, 10.0, 25.0, 16, 8, 16, 2, 2, 8, 2, 16, 40),
}


class PositionConv(nn.Module):
    """`x_BDP` -> its positions `x_BDP`: a grouped convolution whose weight has a learned length at each tap.

    `weight_g` and `weight_v` are parameters under their published names; torch's own weight norm would rename them.
    """

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__()
        self.groups, self.taps = groups, taps
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, taps) * math.sqrt(4 / (taps * width)))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_BDP: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        y_BDP = nn.functional.conv1d(x_BDP, weight, self.bias, padding=self.taps // 2, groups=self.groups)
        return nn.functional.gelu(y_BDP[..., : x_BDP.shape[-1]])


class RelativeAttention(nn.Module):
    """Self-attention with a gated relative bias; only the first layer holds the bias' table."""

    def __init__(self, width: int, heads: int, buckets: int = 0) -> None:
        super().__init__()
        self.heads = heads
        if buckets:
            self.relative_attention_bias = nn.Embedding(buckets, heads)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // heads, _GATES)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def gate(self, query_BHPE: Tensor) -> Tensor:
        """`gate_BHP1`: what each query multiplies its bias with; between 1 and 2 while `grep_a` is 1."""
        summed = self.grep_linear(query_BHPE).unflatten(-1, (2, _GATES // 2)).sum(dim=-1)
        update, reset = torch.sigmoid(summed).chunk(2, dim=-1)
        return update * (reset * self.grep_a - 1) + 2

    def forward(self, x_BPD: Tensor, bias_HPP: Tensor) -> Tensor:
        query, key, value = (
            projection(x_BPD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias_BHPP = (self.gate(query) * bias_HPP).to(query.dtype)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias_BHPP)
        mixed_BPD: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed_BPD


class BeatsLayer(nn.Module):
    """Post-norm: attention, then two linear layers, each beside a residual that counts `alpha`."""

    def __init__(self, width: int, heads: int, alpha: float, buckets: int = 0) -> None:
        super().__init__()
        self.alpha = alpha
        self.self_attn = RelativeAttention(width, heads, buckets)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x_BPD: Tensor, bias_HPP: Tensor) -> Tensor:
        x_BPD = self.self_attn_layer_norm(x_BPD * self.alpha + self.self_attn(x_BPD, bias_HPP))
        inner = self.fc2(nn.functional.gelu(self.fc1(x_BPD)))
        out_BPD: Tensor = self.final_layer_norm(x_BPD * self.alpha + inner)
        return out_BPD


class BeatsEncoder(nn.Module):
    """The transformer; `checkpointing` computes its layers again in the backward pass."""

    def __init__(self, size: BeatsSize) -> None:
        super().__init__()
        self.checkpointing = False
        self.buckets, self.max_distance = size.buckets, size.max_distance
        self.pos_conv = nn.Sequential(PositionConv(size.width, size.conv_width, size.conv_groups))
        alpha = (2 * size.layers) ** 0.25
        self.layers = nn.ModuleList(
            BeatsLayer(size.width, size.heads, alpha, size.buckets if first else 0)
            for first in (index == 0 for index in range(size.layers))
        )
        self.layer_norm = nn.LayerNorm(size.width)

    def bias(self, patches: int) -> Tensor:
        """`bias_HPP` of `patches` positions, from the first layer's table."""
        table: nn.Embedding = self.layers[0].self_attn.relative_attention_bias  # type: ignore[union-attr,assignment]
        place_P = torch.arange(patches, device=table.weight.device)
        bucket_PP = buckets_of(place_P[None, :] - place_P[:, None], self.buckets, self.max_distance)
        bias: Tensor = table(bucket_PP).permute(2, 0, 1)
        return bias

    def forward(self, x_BPD: Tensor) -> Tensor:
        x_BPD = self.layer_norm(x_BPD + self.pos_conv(x_BPD.transpose(1, 2)).transpose(1, 2))
        bias_HPP = self.bias(x_BPD.shape[1])
        for layer in self.layers:
            again = self.checkpointing and self.training
            x_BPD = recompute(layer, x_BPD, bias_HPP) if again else layer(x_BPD, bias_HPP)
        return x_BPD


class BeatsBackbone(nn.Module):
    """`mel_BMF` -> `x_BPD`: patches, a linear layer where widths differ, the encoder."""

    def __init__(self, size: BeatsSize) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(1, size.embedded, size.patch, stride=size.patch, bias=False)
        self.layer_norm = nn.LayerNorm(size.embedded)
        same = size.embedded == size.width
        self.post_extract_proj = nn.Identity() if same else nn.Linear(size.embedded, size.width)
        self.encoder = BeatsEncoder(size)
        self.apply(_begin)
        gain = (8 * size.layers) ** -0.25
        for layer in self.encoder.layers:
            for name, module in layer.named_modules():
                if isinstance(module, nn.Linear) and not name.endswith("grep_linear"):
                    nn.init.xavier_normal_(module.weight, 1.0 if name.endswith(("k_proj", "q_proj")) else gain)

    def forward(self, mel_BMF: Tensor) -> Tensor:
        patches_BDFM = self.patch_embedding(mel_BMF.transpose(1, 2).unsqueeze(1))
        x_BPD: Tensor = self.encoder(self.post_extract_proj(self.layer_norm(patches_BDFM.flatten(2).transpose(1, 2))))
        return x_BPD


class BeatsNet(AudioClassifier):
    """`wave_BS` at 16 kHz -> `logits_BK`: filter bank, backbone, the mean over patches, and the head."""

    input_kind = "waveform"
    gates = ("grep_linear",)

    def __init__(self, label: str, front_end: WaveformEnd, size: BeatsSize, classes: int, dropout: float) -> None:
        super().__init__(label, front_end)
        bank = front_end.bank
        self.bank = KaldiMel(front_end.sample_rate, size.mels, bank.hop, bank.window, "povey", _SCALE)
        self.backbone = BeatsBackbone(size)
        self.drop = nn.Dropout(dropout)
        self.rudiment_head = nn.Linear(size.width, classes)

    def forward(self, wave_BS: Tensor) -> Tensor:
        mean, deviation = BEATS_CONSTANTS
        mel_BMF = (self.bank(wave_BS) - mean) / (2 * deviation)
        logits_BK: Tensor = self.rudiment_head(self.drop(self.backbone(mel_BMF).mean(dim=1)))
        return logits_BK

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        translated = {}
        for name, value in state.items():
            own = name if name.startswith(("backbone.", "rudiment_head.")) else f"backbone.{name}"
            if own.startswith("backbone.predictor."):
                continue
            if "relative_attention_bias" in own and ".layers.0." not in own:
                continue  # the published file repeats the first layer's table in all
            translated[own] = value
        return translated

    def settings(self) -> dict[str, object]:
        encoder = self.backbone.encoder
        return {
            "deep_norm": True, "layer_norm_first": False, "activation_fn": "gelu", "gru_rel_pos": True,
            "relative_position_embedding": True, "num_buckets": encoder.buckets, "max_distance": encoder.max_distance,
        }  # fmt: skip

    def checkpoint_activations(self) -> None:
        self.backbone.encoder.checkpointing = True


def buckets_of(distance_PP: Tensor, buckets: int, max_distance: int) -> Tensor:
    """The bucket of each signed distance (key minus query), as in T5 (Raffel et al. 2020) but with these counts.

    Half of the buckets are for keys before the query, half for those after it. In each half the first half is of single
    distances; the others grow logarithmically up to `max_distance`, and the last one takes all that are farther.
    """
    half = buckets // 2
    exact = half // 2
    far_PP = distance_PP.abs()
    growth = torch.log(far_PP.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    logarithmic_PP = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far_PP < exact, far_PP, logarithmic_PP) + half * (distance_PP > 0).long()


def _begin(module: nn.Module) -> None:
    """As published: small normal weights, zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def build_beats(config: SousaConfig, classes: int) -> BeatsNet:
    """The network with its front end."""
    size = SIZES[config.model.size]
    hop_ms = size.hop_ms if config.features.hop_ms is None else config.features.hop_ms
    hop, window = round(16 * hop_ms), round(16 * size.window_ms)
    bank = KaldiMel(16_000, size.mels, hop, window, "povey", _SCALE)
    front_end = WaveformEnd(config.data.sample_rate, bank, size.mels, hop_ms)
    label = "BEATs" if config.model.size == "full" else f"BEATs {config.model.size}"
    return BeatsNet(label, front_end, size, classes, config.model.dropout)
