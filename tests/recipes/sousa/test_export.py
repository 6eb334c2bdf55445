"""A trained run as the start of another: its adapter by its directory, and its weights as one plain file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from torch import Tensor  # noqa: E402

from wavedeck.engine.checkpoints import read_checkpoints  # noqa: E402
from wavedeck.engine.config import compose, to_resolved  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.engine.manifest import Manifest  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.recipes.sousa.config import SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.export import export, main  # noqa: E402
from wavedeck.recipes.sousa.models import build  # noqa: E402
from wavedeck.recipes.sousa.models.base import AudioClassifier  # noqa: E402
from wavedeck.recipes.sousa.network import load_network  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402
from wavedeck.recipes.sousa.strategies import check_reload, logits_of  # noqa: E402
from wavedeck.recipes.sousa.train import train  # noqa: E402

TINY = (
    "data.rudiments=[flam,drag,single_paradiddle]", "data.clips=48", "data.duration_s=1.0", "data.profiles=12",
    "model.size=debug", "model.channels=8", "model.blocks=3", "training.max_steps=2", "training.batch_size=8",
    "training.val_every=2", "training.log_every=1", "training.workers=0", "training.lr=0.01", "seed=5",
)  # fmt: skip


def tiny(*more: str) -> SousaConfig:
    config: SousaConfig = compose(RECIPE, [*TINY, *more], "debug").config
    return config


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def trained(run: Path, data_root: Path, config: SousaConfig) -> tuple[Tensor, Tensor]:
    """Train `config` as the run in `run`; a clip of noise, and what its newest checkpoint answers."""
    run.mkdir()
    record = Manifest(id=run.name, name="sousa", created=0.0, recipe="sousa", config=to_resolved(config))
    (run / "manifest.json").write_bytes(msgspec.json.encode(record))
    train(config, Context(RunDir(run), data_root, device="cpu"))
    line = read_checkpoints(run / "checkpoints/manifest.jsonl")[-1]
    network = load_network(config, 3, 2, run / "checkpoints" / line.name, lambda *said: None)
    x = network.adapted.front_end(0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(2)))[None]
    return x, logits_of(network.adapted, x)


def begun(config: SousaConfig, weights: Path, **more: Any) -> tuple[AudioClassifier, list[str]]:
    """A network for full fine-tuning that begins with these weights; the generators are where they please."""
    said: list[str] = []
    model = replace(config.model, weights=str(weights), **more)
    config = replace(config, model=model, strategy=replace(config.strategy, name="full_finetune"), seed=99)
    torch.manual_seed(1234)
    net = build(config, len(config.data.rudiments), lambda text, level: said.append(f"{level}: {text}"))
    return net.eval(), said


@pytest.mark.parametrize(
    ("model", "strategy"),
    [("ast", "lora"), ("efficient_at", "ia3"), ("hts_at", "adalora"), ("cnn", "lora"), ("cnn", "from_scratch")],
)
def test_a_run_goes_out_as_one_file_and_comes_back_with_equal_logits(
    model: str, strategy: str, tmp_path: Path, data_root: Path
) -> None:
    config, run, out = tiny(f"model={model}", f"strategy={strategy}"), tmp_path / "run", tmp_path / "out.safetensors"
    x, answers = trained(run, data_root, config)
    assert main([str(run), str(out)]) == 0
    net, said = begun(config, out)
    check_reload(answers, logits_of(net, x))
    assert any("weights of out.safetensors" in line and "with its head" in line for line in said)
    if strategy == "from_scratch":
        return
    adapter = Path(shutil.move(run / "adapter", tmp_path / "adapter"))  # it needs nothing of its run
    shutil.rmtree(run)
    net, said = begun(config, adapter)
    check_reload(answers, logits_of(net, x))
    left = torch.random.get_rng_state()
    begun(config, out)
    assert torch.equal(left, torch.random.get_rng_state())  # building the adapter's network drew nothing
    assert net.facts.weights == "an adapter on random" and any("with its head" in line for line in said)
    other = replace(config, data=replace(config.data, rudiments=("flam", "drag", "flam_tap")))
    said = begun(other, adapter)[1]
    assert any("the head for 3 classes is fresh" in line for line in said)  # as many, but others


def test_an_adapter_on_an_adapter_and_on_a_file_that_has_changed(tmp_path: Path, data_root: Path) -> None:
    first = tiny("model=ast", "strategy=lora")
    trained(tmp_path / "a", data_root, first)
    second = tiny("model=ast", "strategy=ia3", f"model.weights={tmp_path / 'a/adapter'}", "seed=6")
    x, answers = trained(tmp_path / "b", data_root, second)
    net, _ = begun(second, tmp_path / "b/adapter")
    check_reload(answers, logits_of(net, x))
    card = tmp_path / "a/adapter/adapter.json"
    text = json.loads(card.read_text())
    text["config"]["seed"] = 77  # the random backbone is another one
    card.write_text(json.dumps(text))
    with pytest.raises(WavedeckError, match="belongs to another backbone"):
        begun(second, tmp_path / "b/adapter")
    text["config"] = None
    card.write_text(json.dumps(text))
    with pytest.raises(WavedeckError, match=r"recipes\.sousa\.export RUN OUT\.safetensors"):
        begun(second, tmp_path / "a/adapter")


def test_what_cannot_go_out_is_told_in_a_sentence(tmp_path: Path, data_root: Path, capsys: Any) -> None:
    run, out = tmp_path / "run", str(tmp_path / "out.safetensors")
    trained(run, data_root, tiny())
    assert main([str(run), str(tmp_path / "out.pt")]) == 2 and "end in .safetensors" in capsys.readouterr().err
    assert main([str(run), out, "--checkpoint", "77"]) == 2 and "no checkpoint '77'" in capsys.readouterr().err
    assert main([str(tmp_path), out]) == 1
    assert main([str(run), str(tmp_path / "no" / "where.safetensors")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    kept = run / "checkpoints" / read_checkpoints(run / "checkpoints/manifest.jsonl")[-1].name
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(WavedeckError, match="choose another with --checkpoint"):
        export(RunDir(run), Path(out))
    assert main([str(run), out]) == 1 and not Path(out).exists()
