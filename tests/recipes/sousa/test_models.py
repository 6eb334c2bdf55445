"""The five networks behind their face: shapes, sizes, gradients, and the arithmetic of the ones that are our own."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import Tensor, nn  # noqa: E402

from wavedeck.recipes.sousa.config import MODELS, SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.models import beats, build, efficient_at  # noqa: E402
from wavedeck.recipes.sousa.models.ast import build_ast, fit_positions  # noqa: E402
from wavedeck.recipes.sousa.models.base import HEAD, AudioClassifier, fit_frames  # noqa: E402
from wavedeck.recipes.sousa.models.hts_at import HtsAtNet, build_hts_at  # noqa: E402

CLASSES = 5


def configured(model: str, size: str = "debug", duration_s: float = 1.0, **features: Any) -> SousaConfig:
    config = SousaConfig()
    config.model.name, config.model.size, config.data.duration_s = model, size, duration_s
    for name, value in features.items():
        setattr(config.features, name, value)
    return config


def built(config: SousaConfig, classes: int = CLASSES) -> AudioClassifier:
    torch.manual_seed(0)
    return build(config, classes, lambda text, level: None)


def batch(net: AudioClassifier, clips: int = 3, seconds: float = 1.0) -> Tensor:
    waves_BS = 0.1 * torch.randn(clips, int(16_000 * seconds), generator=torch.Generator().manual_seed(1))
    return torch.stack([net.front_end(wave_S) for wave_S in waves_BS])


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    net(x).square().sum().backward()
    return {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("model", MODELS)
def test_the_face_of_every_network(model: str) -> None:
    net = built(configured(model))
    x = batch(net)
    assert net.input_kind == ("waveform" if x.ndim == 2 else "spectrogram")
    assert x.ndim == 2 or x.shape[1] == net.front_end.mels
    assert net(x).shape == (3, CLASSES)
    assert net.eval()(x[:1]).shape == (1, CLASSES)
    assert isinstance(getattr(net, HEAD), nn.Linear) and net.head is getattr(net, HEAD)
    assert net.facts.parameters == sum(weight.numel() for weight in net.parameters())
    assert (net.facts.weights, net.facts.digest) == ("random", None)
    assert "debug" in net.facts.name and net.front_end.name
    assert not any("front_end" in name for name, _ in net.named_modules())
    copied = copy.deepcopy(net)
    assert torch.equal(copied(x), net(x))


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_learns(model: str) -> None:
    """Also the biases of keys, whose gradient is zero in exact arithmetic: softmax ignores what all keys share."""
    net = built(configured(model))
    found = gradients(net, batch(net))
    assert found.keys() == {name for name, _ in net.named_parameters()}
    idle = {name for name, gradient in found.items() if not gradient.any()}
    assert all(name.endswith(("k_proj.bias", "key.bias")) for name in idle)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "cnn"])
def test_checkpointing_gives_equal_gradients_and_statistics(model: str) -> None:
    plain = built(configured(model))
    again = copy.deepcopy(plain)
    again.checkpoint_activations()
    results = []
    for net in (plain.train(), again.train()):
        torch.manual_seed(3)
        results.append(gradients(net, batch(net)))
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][name], atol=1e-5, rtol=1e-4), name
    statistics = (plain.state_dict(), again.state_dict())
    running = [name for name in statistics[0] if "running" in name]
    assert all(torch.allclose(statistics[0][name], statistics[1][name]) for name in running)


def test_the_cnn_keeps_the_statistics_of_its_clips() -> None:
    net = built(configured("cnn"))
    net.calibrate(-9.0, 2.0)
    assert (net.state_dict()["mean"].item(), net.state_dict()["deviation"].item()) == (-9.0, 2.0)
    config = configured("cnn", size="full")
    whole = built(config, 40)
    assert 200_000 < whole.facts.parameters < 320_000
    for frames in (167, 501, 668):
        assert whole(torch.zeros(2, 48, frames)).shape == (2, 40)
    assert whole.front_end.hop_ms == 6.0
    assert built(configured("cnn", hop_ms=3.0)).front_end(torch.zeros(16_000)).shape == (48, 334)


# --- the published sizes, on the meta device where that goes: shapes without memory


def published(model: str, classes: int, duration_s: float, rate: int) -> Any:
    """The full size; its own sample rate, because a resampler cannot be made without memory."""
    config = configured(model, "full", duration_s)
    config.data.sample_rate = rate
    builders = {"ast": build_ast, "hts_at": build_hts_at, "beats": beats.build_beats}
    with torch.device("cpu" if model == "hts_at" else "meta"):  # torchaudio looks at its filters' values
        return (builders | {"efficient_at": efficient_at.build_efficient_at})[model](config, classes)


def count(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def test_parameters_agree_with_the_published_counts() -> None:
    assert count(published("beats", 40, 10.0, 16_000)) == 90_342_552
    assert count(published("efficient_at", 527, 10.0, 32_000)) == pytest.approx(4.88e6, rel=0.002)
    assert count(published("hts_at", 40, 10.0, 48_000).backbone) == pytest.approx(27.53e6, rel=0.001)
    whole = published("ast", 527, 10.24, 16_000)
    assert 86.2e6 < count(whole) < 87e6
    assert (whole.rows, whole.columns) == (12, 101)


BEATS_SHAPES = {
    "post_extract_proj.weight": (768, 512), "post_extract_proj.bias": (768,),
    "patch_embedding.weight": (512, 1, 16, 16),
    "layer_norm.weight": (512,), "encoder.pos_conv.0.bias": (768,), "encoder.pos_conv.0.weight_g": (1, 1, 128),
    "encoder.pos_conv.0.weight_v": (768, 48, 128), "encoder.layer_norm.bias": (768,),
    "encoder.layers.0.self_attn.relative_attention_bias.weight": (320, 12),
    "encoder.layers.0.self_attn.grep_a": (1, 12, 1, 1), "encoder.layers.11.self_attn.grep_a": (1, 12, 1, 1),
    "encoder.layers.11.self_attn.grep_linear.weight": (8, 64), "encoder.layers.11.self_attn.grep_linear.bias": (8,),
    "encoder.layers.5.self_attn.k_proj.weight": (768, 768), "encoder.layers.5.self_attn.k_proj.bias": (768,),
    "encoder.layers.5.self_attn.v_proj.weight": (768, 768), "encoder.layers.5.self_attn.q_proj.bias": (768,),
    "encoder.layers.5.self_attn.out_proj.weight": (768, 768), "encoder.layers.5.self_attn_layer_norm.weight": (768,),
    "encoder.layers.5.fc1.weight": (3072, 768), "encoder.layers.5.fc2.weight": (768, 3072),
    "encoder.layers.5.fc2.bias": (768,), "encoder.layers.5.final_layer_norm.bias": (768,),
}  # fmt: skip
"""Read in the published code (unilm, beats/BEATs.py and backbone.py)."""

EFFICIENT_SHAPES = {
    "features.0.0.weight": (16, 1, 3, 3), "features.0.1.running_mean": (16,),
    "features.1.block.0.0.weight": (16, 1, 3, 3), "features.1.block.1.0.weight": (16, 16, 1, 1),
    "features.2.block.0.0.weight": (64, 16, 1, 1), "features.2.block.1.0.weight": (64, 1, 3, 3),
    "features.2.block.2.0.weight": (24, 64, 1, 1), "features.2.block.2.1.bias": (24,),
    "features.4.block.1.0.weight": (72, 1, 5, 5), "features.4.block.2.conc_se_layers.0.fc1.weight": (24, 72),
    "features.4.block.2.conc_se_layers.0.fc2.bias": (72,), "features.4.block.3.0.weight": (40, 72, 1, 1),
    "features.7.block.1.0.weight": (240, 1, 3, 3), "features.8.block.0.0.weight": (200, 80, 1, 1),
    "features.11.block.2.conc_se_layers.0.fc1.weight": (120, 480), "features.13.block.1.0.weight": (672, 1, 5, 5),
    "features.15.block.3.0.weight": (160, 960, 1, 1), "features.15.block.3.1.running_var": (160,),
    "features.16.0.weight": (960, 160, 1, 1), "features.16.1.weight": (960,),
    "classifier.2.weight": (1280, 960), "classifier.2.bias": (1280,),
}  # fmt: skip
"""Read in the published code (EfficientAT, models/mn)."""


@pytest.mark.parametrize(
    ("model", "shapes", "tensors"),
    # the published files repeat BEATs' table of biases in eleven more layers, and EfficientAT's hold its head (2)
    [("beats", BEATS_SHAPES, 250 - 11), ("efficient_at", EFFICIENT_SHAPES, 312 - 2)],
)
def test_names_and_shapes_are_the_published_ones(model: str, shapes: dict[str, tuple[int, ...]], tensors: int) -> None:
    net = published(model, 40, 4.0, 16_000 if model == "beats" else 32_000)
    own = {name: tuple(value.shape) for name, value in net.backbone.state_dict().items()}
    assert {name: own.get(name) for name in shapes} == shapes
    assert len(own) == tensors


def test_ast_answers_as_the_classifier_of_transformers() -> None:
    from transformers import ASTForAudioClassification

    net: Any = built(configured("ast")).eval()
    theirs = ASTForAudioClassification(copy.deepcopy(net.backbone.config)).eval()
    for name, weight in theirs.named_parameters():
        if "norm" in name or "embeddings" in name:
            nn.init.normal_(weight, std=0.5)
    net.load_state_dict(net.translate(theirs.state_dict()), strict=False)
    dense = net.rudiment_head = theirs.classifier.dense
    x = batch(net)
    assert dense.out_features == 2
    assert torch.allclose(net(x), theirs(x.transpose(1, 2)).logits, atol=1e-5)


# --- BEATs' own arithmetic


def test_relative_buckets() -> None:
    """T5's rule: 4 buckets for 0 to 3, then growing ones up to 16, then the last; the other half for later keys."""
    distances = torch.tensor([0, -1, -3, -4, -8, -16, -500, 1, 3, 4, 500])
    assert beats.buckets_of(distances, 16, 16).tolist() == [0, 1, 3, 4, 6, 7, 7, 9, 11, 12, 15]
    whole = beats.buckets_of(torch.arange(-900, 901), 320, 800)
    assert (whole.min().item(), whole.max().item()) == (0, 319)
    assert torch.equal(whole[:900].flip(0) + 160, whole[901:])


def test_gated_relative_attention_is_the_published_formula() -> None:
    torch.manual_seed(0)
    attention = beats.RelativeAttention(16, heads=2)
    attention.grep_a.data.uniform_(0.5, 2.0)
    x_BPD, bias_HPP = torch.randn(2, 5, 16), torch.randn(2, 5, 5)
    heads_out = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        query, key, value = (
            projection(x_BPD)[..., part] for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        gates = attention.grep_linear(query)
        update, reset = gates[..., :4].sum(-1).sigmoid(), gates[..., 4:].sum(-1).sigmoid()
        gate_BP = update * (reset * attention.grep_a[0, head, 0, 0] - 1.0) + 2.0
        scores = query @ key.mT / math.sqrt(8) + gate_BP[..., None] * bias_HPP[head]
        heads_out.append(scores.softmax(-1) @ value)
    expected = attention.out_proj(torch.cat(heads_out, dim=-1))
    assert torch.allclose(attention(x_BPD, bias_HPP), expected, atol=1e-5)


def test_position_convolution_is_weight_norm_over_all_but_the_taps() -> None:
    conv = beats.PositionConv(8, taps=6, groups=2)
    conv.weight_g.data.uniform_(0.5, 2.0)
    reference = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 6, padding=3, groups=2), dim=2)
    reference.parametrizations.weight.original0.data.copy_(conv.weight_g)
    reference.parametrizations.weight.original1.data.copy_(conv.weight_v)
    reference.bias.data.copy_(conv.bias)
    x = torch.randn(2, 8, 20)
    assert conv(x).shape == x.shape
    assert torch.allclose(conv(x), nn.functional.gelu(reference(x)[..., :-1]), atol=1e-5)


def test_only_one_layer_holds_the_table_and_residuals_are_deep_norms() -> None:
    net = built(configured("beats"))
    assert sum("relative_attention_bias" in name for name in net.state_dict()) == 1
    layers: Any = net.backbone.encoder.layers  # type: ignore[union-attr]
    assert all(layer.alpha == pytest.approx((2 * len(layers)) ** 0.25) for layer in layers)


# --- EfficientAT's


def test_squeeze_and_excitation() -> None:
    squeeze = efficient_at.SqueezeExcitation(8)
    x_BCYT = torch.randn(2, 8, 3, 4)
    share_BC = torch.sigmoid(squeeze.fc2(torch.relu(squeeze.fc1(x_BCYT.mean(dim=(2, 3))))))
    assert torch.allclose(squeeze(x_BCYT), x_BCYT * share_BC[:, :, None, None])
    assert squeeze.fc1.weight.shape == (8, 8)


def test_channels_are_rounded_by_mobilenets_rule() -> None:
    assert [efficient_at.divisible(value) for value in (18, 72 / 4, 120 / 4, 6.4, 1.6, 64)] == [24, 24, 32, 8, 8, 64]


def test_residuals_and_activations_stand_where_the_paper_puts_them() -> None:
    features: Any = efficient_at.MobileNet(efficient_at.SIZES["full"]).features
    assert [block.residual for block in features[1:16]].count(True) == 10
    early = [module for module in features[2].modules() if isinstance(module, nn.ReLU | nn.Hardswish)]
    late = [module for module in features[9].modules() if isinstance(module, nn.ReLU | nn.Hardswish)]
    assert all(isinstance(module, nn.ReLU) for module in early) and len(early) == 2
    assert all(isinstance(module, nn.Hardswish) for module in late) and len(late) == 2


# --- lengths


def test_positions_are_cut_from_the_middle_or_interpolated_in_frequency_and_time() -> None:
    special = torch.full((1, 2, 1), 7.0)
    grid = torch.arange(12.0)[:, None] * 100 + torch.arange(101.0)[None, :]
    position = torch.cat([special, grid.reshape(1, -1, 1)], dim=1)
    assert fit_positions(position, 12, 101) is position
    shorter = fit_positions(position, 12, 39)
    assert torch.equal(shorter[0, :2, 0], special[0, :, 0])
    assert torch.equal(shorter[0, 2:, 0].reshape(12, 39), grid[:, 31:70])
    longer = fit_positions(position, 12, 202)[0, 2:, 0].reshape(12, 202)
    assert torch.all(longer.diff(dim=1) >= 0) and (longer[0, 0], longer[0, -1]) == (0, 100)
    assert torch.allclose(longer[5, 1:-1].diff(), torch.tensor(0.5), atol=1e-3)
    assert fit_positions(position, 4, 101)[0, 2:, 0].reshape(4, 101)[0, 0] == 400
    unknown = torch.zeros(1, 2 + 7, 1)  # seven patches in twelve rows
    assert fit_positions(unknown, 12, 39) is unknown


def test_other_lengths_are_cut_or_filled() -> None:
    assert fit_frames(torch.ones(1, 2, 5), 3, -1.0).shape == (1, 2, 3)
    assert fit_frames(torch.ones(1, 2, 2), 3, -1.0)[0, 0].tolist() == [1, 1, -1]
    for model in ("ast", "hts_at", "efficient_at", "beats"):
        net = built(configured(model))
        for seconds in (0.8, 1.3):
            assert net(batch(net, 2, seconds)).shape == (2, CLASSES)


def test_a_short_clip_is_repeated_as_claps_extractor_does() -> None:
    net = built(configured("hts_at"))
    assert isinstance(net, HtsAtNet) and net.frames == 128
    filled = net.fill(torch.arange(50.0).expand(1, 32, 50))
    assert filled.shape == (1, 32, 128)
    # centred frames: the last one of a copy is the first of the next
    assert torch.equal(filled[0, 0, :49], filled[0, 0, 49:98]) and filled[0, 0, 98] == 49
    assert (filled[..., 99:] == -100).all()
    said: list[str] = []
    build(configured("hts_at", duration_s=2.0), CLASSES, lambda text, level: said.append(text))
    assert "hears the first 1.3 s of a clip" in said[0]


@pytest.mark.parametrize("model", [name for name in MODELS if name != "cnn"])
def test_a_finer_hop_makes_more_frames(model: str) -> None:
    coarse, fine = (built(configured(model, hop_ms=hop)) for hop in (10.0, 5.0))
    assert fine.front_end.hop_ms == 5.0 and "5 ms" in fine.front_end.name
    shapes = [net.front_end.raw(torch.zeros(16_000)).shape[-1] for net in (coarse, fine)]
    assert shapes[1] == pytest.approx(2 * shapes[0], rel=0.03)
    assert fine(batch(fine)).shape == (3, CLASSES)


def test_half_precision_leaves_the_filter_bank_alone() -> None:
    net = built(configured("beats")).eval()
    x = batch(net)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x)
    assert half.isfinite().all() and torch.allclose(half.float(), net(x), atol=0.1)
