"""What `model.weights` means, and that what cannot work is refused before anything is launched or written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wavedeck.engine.batches import check_batch
from wavedeck.engine.errors import UsageError
from wavedeck.engine.planning import check_recipe
from wavedeck.recipes.sousa.config import MODELS, SousaConfig
from wavedeck.recipes.sousa.pretrained import CARD, HUB, PUBLISHED, TENSORS, title, wanted
from wavedeck.recipes.sousa.recipe import RECIPE

FILES = {
    "ast": "ast-finetuned-audioset-10-10-0.4593/model.safetensors",
    "hts_at": "clap-htsat-unfused.safetensors",
    "beats": "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1.pt",
    "efficient_at": "mn10_as_mAP_471.pt",
}


def configured(model: str, weights: str, strategy: str = "lora", size: str = "full") -> SousaConfig:
    config = SousaConfig()
    config.model.name, config.model.weights, config.model.size = model, weights, size
    config.strategy.name = strategy
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the published files of all four networks."""
    for name in FILES.values():
        (tmp_path / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / name).write_bytes(b"weights")
    return tmp_path / "weights"


def refusal(*typed: str, stage: str | None = None, host: str = "local", preset: str | None = None) -> str | None:
    try:
        check_recipe(RECIPE, typed, stage=stage, host=host, preset=preset)
    except UsageError as error:
        return str(error)
    return None


def test_one_directory_serves_the_whole_batch(folder: Path) -> None:
    wish = check_batch(RECIPE, ["experiment=twelve", f"model.weights={folder}"])
    assert len(wish.members) == 12
    for member in wish.members:
        config: SousaConfig = member.wish.composed.config
        found = wanted(config)
        assert found.kind == "file" and found.path == folder / FILES[config.model.name]
    assert len(check_batch(RECIPE, ["experiment=twenty", f"model.weights={folder}"]).members) == 20


def test_a_batch_that_cannot_work_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model=beats strategy=lora: .*model\.weights=DIRECTORY.*Nothing was queued"):
        check_batch(RECIPE, ["experiment=twelve"])
    (folder / FILES["efficient_at"]).unlink()
    with pytest.raises(UsageError, match=r"model=efficient_at .*holds no weights .*download mn10_as_mAP_471\.pt"):
        check_batch(RECIPE, ["experiment=twelve", f"model.weights={folder}"])


def test_what_a_directory_lacks_comes_from_the_hub_and_what_is_twice_there_is_refused(folder: Path) -> None:
    (folder / FILES["ast"]).unlink()
    assert wanted(configured("ast", str(folder))).kind == "hub"
    (folder / "BEATs_iter3_plus_AS2M_cpt2.pt").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"BEATs_iter3_plus_AS2M_cpt2\.pt, .*keep one of them"):
        wanted(configured("beats", str(folder)))
    (folder / "BEATs_iter3_plus_AS2M.pt").write_bytes(b"the one that is named everywhere")
    assert wanted(configured("beats", str(folder))).path == folder / "BEATs_iter3_plus_AS2M.pt"
    with pytest.raises(UsageError, match="no published weights for BEATs small"):
        wanted(configured("beats", str(folder), size="small"))
    with pytest.raises(UsageError, match="no published weights for CNN"):
        wanted(configured("cnn", str(folder)))
    assert set(PUBLISHED) == set(MODELS) - {"cnn"} and set(HUB) < set(PUBLISHED)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("model=ast", "strategy=lora", "model.size=small"), "no published weights for AST small"),
        (("model=hts_at", "strategy=ia3", "model.size=debug"), "no published weights for HTS-AT debug"),
        (("model=beats", "strategy=lora"), "download BEATs_iter3_plus_AS2M.pt"),
        (("model=efficient_at", "strategy=full_finetune", "model.weights=hub"), "download mn10_as_mAP_471.pt"),
        (("model=ast", "strategy=lora", "model.weights=/no/where.pt"), "there is no such file"),
        (("model=ast", "model.weights=hub"), "strategy=from_scratch begins with random weights"),
        (("strategy=lora",), "no published weights for CNN"),
    ],
)
def test_what_cannot_work_is_refused_before_the_launch(typed: tuple[str, ...], said: str) -> None:
    assert said in (refusal(*typed) or "")
    assert refusal(*typed, stage="generate") is None  # the clips are the same for every network


def test_what_can_work_is_not(folder: Path) -> None:
    assert refusal() is None and refusal("model=ast", "strategy=lora") is None
    assert refusal("model=beats", "strategy=lora", preset="debug") is None  # random, as the preset says
    assert refusal("model=ast", "strategy=lora", f"model.weights={folder / FILES['ast']}") is None


def test_files_of_another_machine_are_not_looked_for_here() -> None:
    typed = ("model=beats", "strategy=lora", "model.weights=/there/BEATs.pt")
    assert "no such file" in (refusal(*typed) or "") and refusal(*typed, host="gpu1") is None
    assert check_recipe(RECIPE, typed, here=False)
    assert refusal("model=beats", "model.weights=/there", host="gpu1") is None  # from scratch beside a directory
    assert "from_scratch" in (refusal("model=beats", "model.weights=/there/BEATs.pt", host="gpu1") or "")
    assert "download BEATs" in (refusal("model=beats", "strategy=lora", host="gpu1") or "")


def test_an_adapters_card_is_held_against_the_network(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps({"model": "AST debug"}))
    with pytest.raises(UsageError, match=r"no adapter\.safetensors: copy the adapter again"):
        wanted(configured("ast", str(tmp_path), size="debug"))
    (tmp_path / TENSORS).write_bytes(b"")
    assert wanted(configured("ast", str(tmp_path), size="debug")).kind == "adapter"
    with pytest.raises(UsageError, match="is one for AST debug, and this trains HTS-AT"):
        wanted(configured("hts_at", str(tmp_path)))
    with pytest.raises(UsageError, match="from_scratch begins"):
        wanted(configured("ast", str(tmp_path), "from_scratch", "debug"))
    (tmp_path / CARD).write_text("[]")
    with pytest.raises(UsageError, match="no adapter's card"):
        wanted(configured("ast", str(tmp_path), size="debug"))


def test_the_check_imports_no_torch() -> None:
    code = (
        "import sys; from wavedeck.engine.planning import check_recipe; "
        "from wavedeck.recipes.sousa.recipe import RECIPE; check_recipe(RECIPE, ['model=ast', 'strategy=lora']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("model", "size"), [*((model, "debug") for model in MODELS), ("cnn", "small"), ("cnn", "full"), ("beats", "small")]
)
def test_a_network_is_called_the_same_before_and_after_it_is_built(model: str, size: str) -> None:
    pytest.importorskip("torch")
    from wavedeck.recipes.sousa.models import _BUILDERS

    config = configured(model, "random", size=size)
    config.data.duration_s = 1.0
    assert _BUILDERS[model](config, 3).label == title(config)
