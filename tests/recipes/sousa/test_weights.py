"""Weights: whole files fit, others are refused with a count, and nothing is random that was to be pretrained."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import Tensor  # noqa: E402

from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.recipes.sousa.config import SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.models import build, weights  # noqa: E402
from wavedeck.recipes.sousa.models.base import HEAD, AudioClassifier  # noqa: E402

AST_NAMES = (
    (r"^norm", "classifier.layernorm"), (r"^backbone.layers", "audio_spectrogram_transformer.encoder.layer"),
    (r"^backbone", "audio_spectrogram_transformer"), (r"attention.q_proj", "attention.attention.query"),
    (r"attention.k_proj", "attention.attention.key"), (r"attention.v_proj", "attention.attention.value"),
    (r"attention.o_proj", "attention.output.dense"), (r"mlp.fc1", "intermediate.dense"), (r"mlp.fc2", "output.dense"),
)  # fmt: skip
"""From our names to those of the published file."""


def configured(model: str, strategy: str = "full_finetune", given: str = "random", size: str = "debug") -> SousaConfig:
    config = SousaConfig()
    config.model.name, config.model.size, config.model.weights = model, size, given
    config.strategy.name, config.data.duration_s = strategy, 1.0
    return config


def built(config: SousaConfig, classes: int = 5, seed: int = 0) -> tuple[AudioClassifier, list[str]]:
    said: list[str] = []
    torch.manual_seed(seed)
    net = build(config, classes, lambda text, level: said.append(f"{level}: {text}"))
    return net, said


def published(model: str) -> dict[str, Tensor]:
    """A small model's weights under the names of the published file, with its head and what else is in there."""
    own = {name: value for name, value in built(configured(model), seed=9)[0].state_dict().items() if HEAD not in name}
    old = {}
    for name, value in own.items():
        if model == "ast":
            for ours, theirs in AST_NAMES:
                name = re.sub(ours, theirs, name)
        elif model == "hts_at":
            name = name.replace("backbone.", "audio_model.")
        old[name.removeprefix("backbone.")] = value
    extra = {
        "ast": {"classifier.dense.weight": torch.zeros(527, 16), "classifier.dense.bias": torch.zeros(527)},
        "hts_at": {"text_model.embeddings.weight": torch.zeros(3), "logit_scale_a": torch.zeros(())},
        "beats": {
            "predictor.weight": torch.zeros(527, 16), "predictor.bias": torch.zeros(527),
            "encoder.layers.1.self_attn.relative_attention_bias.weight": torch.zeros(16, 2),
        },
        "efficient_at": {"classifier.5.weight": torch.zeros(527, 128), "classifier.5.bias": torch.zeros(527)},
    }  # fmt: skip
    return old | extra[model]


def save(path: Path, state: Any) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("model", ["ast", "hts_at", "beats", "efficient_at"])
def test_a_published_file_loads_whole_and_leaves_the_head_fresh(model: str, tmp_path: Path) -> None:
    state = published(model)
    whole = {"cfg": {"deep_norm": True}, "model": state} if model == "beats" else state
    file = save(tmp_path / "published.pt", whole)
    donor, _ = built(configured(model), seed=9)
    net, said = built(configured(model, given=file))
    for name, value in net.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]) or name.startswith(HEAD), name
    assert not torch.equal(net.head.weight, donor.head.weight)  # type: ignore[arg-type]
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert (net.facts.weights, net.facts.digest) == ("published.pt", digest)
    assert f"(sha256 {digest[:12]}); the head for 5 classes is fresh" in said[0]


def test_safetensors_load_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in published("ast").items()}, tmp_path / "ast.safetensors")
    assert built(configured("ast", given=str(tmp_path / "ast.safetensors")))[0].facts.weights == "ast.safetensors"


def test_asts_positions_are_fitted_to_the_length_of_the_clips(tmp_path: Path) -> None:
    config = configured("ast")
    config.data.duration_s = 2.0
    longer, _ = built(config)
    file = save(tmp_path / "longer.pt", {f"net.{name}": value for name, value in longer.state_dict().items()})
    net: Any = built(configured("ast", given=file))[0]
    positions: Any = longer.state_dict()["backbone.embeddings.position_embeddings"]
    assert net.backbone.embeddings.position_embeddings.shape[1] < positions.shape[1]


def test_an_own_checkpoint_keeps_its_head_and_its_statistics(tmp_path: Path) -> None:
    donor, _ = built(configured("cnn"), seed=4)
    donor.calibrate(-8.0, 3.0)
    model = {f"net.net.{name}": value for name, value in donor.state_dict().items()} | {"metrics.count": torch.ones(1)}
    file = save(tmp_path / "step-9.ckpt", {"format": 1, "model": model, "step": 9})
    net, said = built(configured("cnn", given=file))
    net.calibrate(0.0, 1.0)
    assert all(torch.equal(value, donor.state_dict()[name]) for name, value in net.state_dict().items())
    assert "with its head" in said[0]
    fewer, said = built(configured("cnn", given=file), classes=3)
    assert fewer.state_dict()["mean"].item() == -8.0 and "the head for 3 classes is fresh" in said[0]


def test_a_checkpoint_from_before_the_head_had_its_name(tmp_path: Path) -> None:
    state = {name.replace(HEAD, "head"): value for name, value in built(configured("cnn"))[0].state_dict().items()}
    file = save(tmp_path / "old.ckpt", {"format": 1, "model": {f"net.{name}": value for name, value in state.items()}})
    assert "with its head" in built(configured("cnn", given=file))[1][0]


def test_another_architecture_is_refused_with_a_count(tmp_path: Path) -> None:
    other = save(tmp_path / "mn.pt", published("efficient_at"))
    with pytest.raises(
        WavedeckError, match=r"mn\.pt does not fit AST debug: \d+ tensors are missing, \d+ unknown and 0"
    ):
        built(configured("ast", given=other))
    state = published("beats")
    state["encoder.layer_norm.weight"] = torch.zeros(3)
    with pytest.raises(WavedeckError, match=r"1 of another shape, the first .*weight \(\[3\] instead of \[16"):
        built(configured("beats", given=save(tmp_path / "other.pt", state)))


def test_a_partial_file_is_refused_and_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    state = published("beats")
    del state["encoder.layers.0.fc1.weight"]
    file = save(tmp_path / "partial.pt", state)
    with pytest.raises(WavedeckError, match=r"1 tensors are missing, 0 unknown.*encoder\.layers\.0\.fc1\.weight"):
        built(configured("beats", given=file))


def test_settings_that_do_not_show_in_shapes_are_compared(tmp_path: Path) -> None:
    file = save(tmp_path / "pre_norm.pt", {"cfg": {"layer_norm_first": True}, "model": published("beats")})
    with pytest.raises(WavedeckError, match=r"trained with layer_norm_first=True, and BEATs debug computes with"):
        built(configured("beats", given=file))


@pytest.mark.parametrize("content", [b"", b"not a file of weights" * 20, None])
def test_damaged_files_are_refused_in_a_sentence(content: bytes | None, tmp_path: Path) -> None:
    for ending in (".pt", ".safetensors"):
        path = tmp_path / f"broken{ending}"
        if content is None:
            torch.save(published("beats"), path)
            path.write_bytes(path.read_bytes()[:2000])
        else:
            path.write_bytes(content)
        with pytest.raises(WavedeckError, match=rf"broken\{ending} cannot be read as weights"):
            built(configured("beats", given=str(path)))


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Runs:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (touched,)

    file = save(tmp_path / "evil.pt", {"model": Runs()})
    with pytest.raises(WavedeckError, match="cannot be read as weights"):
        built(configured("beats", given=file))
    assert not touched.exists()


def test_files_without_weights_and_adapters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WavedeckError, match="no such file"):
        built(configured("beats", given=str(tmp_path / "nowhere.pt")))
    with pytest.raises(WavedeckError, match="holds a list"):
        built(configured("beats", given=save(tmp_path / "list.pt", [1])))
    with pytest.raises(WavedeckError, match="holds no tensors"):
        built(configured("beats", given=save(tmp_path / "empty.pt", {"model": {}})))
    adapter = {"net.base_model.model.backbone.layers.0.lora_A.weight": torch.zeros(1)}
    with pytest.raises(WavedeckError, match="holds an adapter"):
        built(configured("beats", given=save(tmp_path / "adapter.ckpt", {"format": 1, "model": adapter})))


# --- what model.weights means


@pytest.mark.parametrize("strategy", ["lora", "adalora", "ia3", "full_finetune"])
@pytest.mark.parametrize("model", ["ast", "hts_at", "beats", "efficient_at", "cnn"])
def test_auto_is_never_silently_random(model: str, strategy: str) -> None:
    with pytest.raises(
        WavedeckError, match=r"no published weights for .* model\.weights=FILE or model\.weights=random"
    ):
        built(configured(model, strategy, "auto"))


def test_auto_from_scratch_is_random_and_from_scratch_takes_nothing_else(tmp_path: Path) -> None:
    net, said = built(configured("ast", "from_scratch", "auto"))
    assert net.facts.weights == "random" and not said
    for given in ("hub", str(tmp_path / "some.pt")):
        with pytest.raises(WavedeckError, match="choose strategy=full_finetune"):
            built(configured("ast", "from_scratch", given))


def test_random_weights_under_an_adapter_are_told() -> None:
    assert "warning: lora adapts random weights of AST debug" in built(configured("ast", "lora", "random"))[1][0]


@pytest.mark.parametrize(
    ("model", "file"), [("beats", "BEATs_iter3_plus_AS2M.pt"), ("efficient_at", "mn10_as_mAP_471.pt")]
)
def test_what_is_not_on_the_hub_is_named(model: str, file: str) -> None:
    with pytest.raises(WavedeckError, match=rf"download {file} .* model\.weights=FILE, or model\.weights=random"):
        weights.choose(configured(model, "lora", "auto", "full"), "label", lambda text, level: None)


@pytest.mark.parametrize("model", ["ast", "hts_at"])
def test_an_unreachable_hub_is_told(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        WavedeckError, match=rf"weights of {weights.HUB[model]} cannot be fetched .* model\.weights=FILE"
    ):
        weights.choose(configured(model, "lora", "auto", "full"), "label", lambda text, level: None)


def test_a_file_in_the_hubs_cache_is_taken_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    cached = tmp_path / "models--MIT--ast-finetuned-audioset-10-10-0.4593"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "snapshots" / "abc" / "pytorch_model.bin").write_bytes(b"weights")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = weights.choose(configured("ast", "lora", "auto", "full"), "AST", lambda text, level: None)
    assert source.path is not None and source.path.read_bytes() == b"weights"
    assert source.label == "hub MIT/ast-finetuned-audioset-10-10-0.4593"


def test_what_the_first_batch_norm_knows_becomes_the_expectation(tmp_path: Path) -> None:
    state = published("hts_at")
    state["audio_model.audio_encoder.batch_norm.running_mean"] = torch.linspace(-50, -30, 32)
    state["audio_model.audio_encoder.batch_norm.running_var"] = torch.full((32,), 100.0)
    net, _ = built(configured("hts_at", given=save(tmp_path / "clap.bin", state)))
    assert net.front_end.expected is not None
    mean, deviation = net.front_end.expected
    assert mean == pytest.approx(-40) and 10 < deviation < 13
