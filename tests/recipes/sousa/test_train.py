"""The recipe's face, the training stage of every network, and going on after a crash."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from wavedeck.engine.checkpoints import read_checkpoints  # noqa: E402
from wavedeck.engine.config import compose, describe  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.engine.training.snapshot import CheckpointWriter, load_snapshot  # noqa: E402
from wavedeck.recipes.sousa.config import MODELS, STRATEGIES, SousaConfig, outdated  # noqa: E402
from wavedeck.recipes.sousa.evaluate import evaluate  # noqa: E402
from wavedeck.recipes.sousa.module import RudimentTrainer  # noqa: E402
from wavedeck.recipes.sousa.network import build_network, load_network  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402
from wavedeck.recipes.sousa.strategies import logits_of, read_card  # noqa: E402
from wavedeck.recipes.sousa.train import train  # noqa: E402

TINY = (
    "data.rudiments=[flam,drag,single_paradiddle]", "data.clips=48", "data.duration_s=1.0", "data.profiles=12",
    "model.size=debug", "model.channels=8", "model.blocks=3", "training.max_steps=4", "training.batch_size=8",
    "training.val_every=2", "training.save_every=1", "training.keep_last=10", "training.log_every=1",
)  # fmt: skip


def tiny(*more: str) -> SousaConfig:
    return compose(RECIPE, [*TINY, *more], "debug").config


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set of clips for all trainings here."""
    return tmp_path_factory.mktemp("data")


def context_in(run: Path, data_root: Path, **options: Any) -> Context:
    run.mkdir(exist_ok=True)
    return Context(RunDir(run), data_root, device="cpu", **options)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, (run / "events.jsonl").read_text().splitlines()) if event["k"] == kind]


def about(run: Path, part: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for event in events(run, "about"):
        merged |= event.get(part, {})
    return merged


# --- the face


def test_the_face_imports_no_torch() -> None:
    code = "import sys, wavedeck.recipes.sousa.recipe; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_knob_is_documented_and_every_preset_composes() -> None:
    assert all(info.help for info in describe(SousaConfig))
    for preset in RECIPE.presets:
        assert compose(RECIPE, [], preset).config.data.clips >= 1000
    sizes = {name: compose(RECIPE, [f"data={name}"]).config.data.clips for name in RECIPE.groups["data"]}
    assert sizes == {"tiny": 1_000, "small": 10_000, "medium": 30_000, "full": 100_000}
    assert set(RECIPE.groups["model"]) == set(MODELS) and set(RECIPE.groups["strategy"]) == set(STRATEGIES)


def test_a_strategy_brings_its_learning_rate_and_what_is_typed_wins() -> None:
    def rate(*typed: str) -> float:
        return compose(RECIPE, typed).config.training.lr

    assert rate() == 4e-3 and rate("model=ast") == 1e-3
    assert rate("model=ast", "strategy=lora") == rate("strategy=lora", "model=ast") == 1e-3
    assert rate("strategy=full_finetune") == 5e-5
    assert rate("training.lr=2e-4", "strategy=lora", "model=hts_at") == 2e-4


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(WavedeckError, match="hts_at"):
        compose(RECIPE, ["model=htsat"])
    with pytest.raises(WavedeckError, match=r"training\.lr"):
        compose(RECIPE, ["training.lrr=1"])
    with pytest.raises(WavedeckError, match=r"strategy\.rank"):
        compose(RECIPE, ["strategy.rnak=4"])


def test_a_run_of_the_first_version_says_what_to_do(data_root: Path) -> None:
    saved = compose(RECIPE, []).resolved
    assert outdated(saved) is None
    old = {name: section for name, section in saved.items() if name != "strategy"}
    assert "Train it again" in (outdated(old) or "")


# --- training


@pytest.mark.parametrize(
    ("model", "strategy"),
    [
        ("cnn", "from_scratch"), ("ast", "lora"), ("hts_at", "ia3"), ("beats", "full_finetune"),
        ("efficient_at", "adalora"),
    ],
)  # fmt: skip
def test_a_network_is_trained_kept_judged_and_said(tmp_path: Path, data_root: Path, model: str, strategy: str) -> None:
    config = tiny(f"model={model}", f"strategy={strategy}")
    context = context_in(tmp_path, data_root)
    train(config, context)
    evaluate(config, context)
    facts, numbers = about(tmp_path, "facts"), about(tmp_path, "numbers")
    assert facts["weights"] == "random" and facts["front end"] and facts["strategy"] and facts["model"]
    assert 0 < numbers["trainable_parameters"] <= numbers["parameters"]
    assert (numbers["trainable_parameters"] == numbers["parameters"]) is (strategy in ("full_finetune", "from_scratch"))
    assert "val/balanced_accuracy" in about(tmp_path, "lines")
    assert json.loads((tmp_path / "classes.json").read_text()) == {"0": "flam", "1": "drag", "2": "single_paradiddle"}
    metrics = {key for event in events(tmp_path, "metrics") for key in event["v"]}
    wanted = ("balanced_accuracy", "accuracy", "top5", "macro_f1", "family_accuracy", "group_accuracy")
    assert {f"{split}/{name}" for split in ("val", "test") for name in wanted} <= metrics
    newest = read_checkpoints(tmp_path / "checkpoints/manifest.jsonl")[-1]
    kept = load_snapshot(tmp_path / "checkpoints" / newest.name)["model"]
    network = load_network(config, 3, 4, tmp_path / "checkpoints" / newest.name, lambda *said: None)
    assert (len(kept) < len(network.adapted.state_dict())) is (strategy in ("lora", "ia3", "adalora"))
    assert (tmp_path / "adapter").is_dir() is (strategy in ("lora", "ia3", "adalora"))
    if (tmp_path / "adapter").is_dir():
        assert read_card(tmp_path / "adapter").classes == ("flam", "drag", "single_paradiddle")


@pytest.mark.parametrize(("model", "strategy"), [("ast", "lora"), ("hts_at", "adalora")])
def test_an_adapter_that_crashed_goes_on_to_the_bit(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, model: str, strategy: str
) -> None:
    """Three steps, a crash, resume, three more: the same weights and rows as six without one, dropout and mixup on."""
    config = tiny(f"model={model}", f"strategy={strategy}", "training.max_steps=6", "augment.mixup=0.2")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(config, context_in(straight, data_root))

    def crash(self: RudimentTrainer, batch: Any, batch_idx: int) -> Any:
        if self._trainer is not None and self.global_step == 3:
            raise RuntimeError("the driver is gone")
        return ordinary(self, batch, batch_idx)

    ordinary = RudimentTrainer.training_step
    with monkeypatch.context() as patched:
        patched.setattr(RudimentTrainer, "training_step", crash)
        with pytest.raises(RuntimeError, match="the driver is gone"):
            train(config, context_in(broken, data_root))
    train(config, context_in(broken, data_root, resume=True, attempt=2))

    def rows(run: Path) -> dict[tuple[int, str], float]:
        return {(event["step"], key): value for event in events(run, "metrics") for key, value in event["v"].items()}

    assert rows(straight) == rows(broken)
    states = [load_snapshot(run / "checkpoints/step-00000006.ckpt")["model"] for run in (straight, broken)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_what_keeping_features_gained_is_said_after_two_whole_epochs(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 clips in batches of 8: two epochs are four steps, however often they are validated."""
    train(tiny("training.val_every=1", "training.max_steps=4"), context_in(tmp_path, data_root))
    assert capsys.readouterr().out.count("features are kept in memory") == 1
    told = [event for event in events(tmp_path, "about") if "feature_speedup" in event.get("numbers", {})]
    assert len(told) == 1 and told[0]["numbers"]["feature_speedup"] > 1
    rows = [event["step"] for event in events(tmp_path, "metrics") if event["t"] <= told[0]["t"]]
    assert max(rows) >= 3  # not after the second validation
    train(tiny("data.cache_below=0"), context_in(tmp_path / "none", data_root))
    assert "features are kept" not in capsys.readouterr().out


def test_a_last_checkpoint_that_was_not_written_accuses_nobody(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the last step: the adapter is that of the best checkpoint there is."""
    real = CheckpointWriter.save

    def full(self: CheckpointWriter, state: dict[str, Any], *rest: Any) -> Any:
        if state["step"] == 4:
            raise OSError(28, "No space left on device")
        return real(self, state, *rest)

    monkeypatch.setattr(CheckpointWriter, "save", full)
    train(tiny("model=ast", "strategy=lora"), context_in(tmp_path, data_root))
    assert (tmp_path / "adapter/adapter.json").is_file()
    assert [event["rule"] for event in events(tmp_path, "alert")][:1] == ["checkpoint-failed"]


def test_an_adapter_that_a_crash_kept_from_being_written_is_written_by_the_resume(
    tmp_path: Path, data_root: Path
) -> None:
    config = tiny("model=ast", "strategy=ia3", "training.max_steps=2")
    train(config, context_in(tmp_path, data_root))
    shutil.rmtree(tmp_path / "adapter")
    train(config, context_in(tmp_path, data_root, resume=True, attempt=2))
    assert (tmp_path / "adapter/adapter.json").is_file()


def test_an_adapter_on_other_weights_is_refused(tmp_path: Path, data_root: Path) -> None:
    config = tiny("model=ast", "strategy=lora", "training.max_steps=1")
    train(config, context_in(tmp_path, data_root))
    path = tmp_path / "checkpoints" / read_checkpoints(tmp_path / "checkpoints/manifest.jsonl")[-1].name
    other = tiny("model=ast", "strategy=lora", "training.max_steps=1", "seed=7")
    with pytest.raises(WavedeckError, match="an adapter on other weights"):
        load_network(other, 3, 1, path, lambda *said: None)
    with pytest.raises(WavedeckError, match="another model or other classes"):
        load_network(tiny("model=hts_at", "strategy=lora"), 3, 1, path, lambda *said: None)


def test_random_weights_are_the_same_whatever_was_drawn_before(data_root: Path) -> None:
    config = tiny("model=efficient_at", "strategy=ia3")
    first = build_network(config, 3, 4, lambda *said: None)
    torch.rand(17)
    second = build_network(config, 3, 4, lambda *said: None)
    x = torch.randn(2, *first.adapted.front_end(torch.zeros(16_000)).shape)
    assert first.base == second.base and torch.equal(logits_of(first.adapted, x), logits_of(second.adapted, x))


def test_pretrained_weights_that_cannot_be_had_are_never_silently_random(tmp_path: Path, data_root: Path) -> None:
    config = tiny("model=ast", "strategy=lora", "model.weights=auto")
    with pytest.raises(WavedeckError, match=r"model\.weights="):
        train(config, context_in(tmp_path, data_root))
    assert not read_checkpoints(tmp_path / "checkpoints/manifest.jsonl")


@pytest.mark.slow
def test_the_debug_preset_hears_held_out_players(tmp_path: Path) -> None:
    """About a minute of one core: make 1,600 clips of eight rudiments, train, and judge on players never heard.

    Measured 0.916; another processor rounds otherwise, and chance is 0.125.
    """
    context = context_in(tmp_path / "run", tmp_path / "data")
    config = compose(RECIPE, [], "debug").config
    for stage in RECIPE.stages:
        stage.load()(config, context)
    report = json.loads((context.run.path / "evaluation.json").read_text())
    assert report["clips"] >= 300
    assert report["metrics"]["balanced_accuracy"] >= 0.85
