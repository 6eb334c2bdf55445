"""The face of the SOUSA recipe: what it is called, its stages, groups and presets. Imports no torch."""

from __future__ import annotations

from ...engine.manifest import Headline
from ...engine.recipe import Recipe, Stage
from .config import EASY_EIGHT, MODELS, STRATEGIES, SousaConfig
from .platforms import PLATFORMS

_HERE = __package__ or "wavedeck.recipes.sousa"

_SCRATCH_LR = {"cnn": 4e-3, "ast": 1e-3, "hts_at": 1e-3, "beats": 1e-3, "efficient_at": 3e-3}
"""Peak learning rates from scratch; a strategy that adapts brings its own."""
_ADAPTED = {
    "lora": {"training.lr": 1e-3, "training.weight_decay": 0.01},
    "adalora": {"training.lr": 1e-3, "training.weight_decay": 0.01},
    "ia3": {"training.lr": 5e-3, "training.weight_decay": 0.0},
    "full_finetune": {"training.lr": 5e-5, "training.weight_decay": 0.1},
    "from_scratch": {},
}
"""Adapters take rates 20 to 100 times those of full fine-tuning (Cappellazzo et al. 2024 on AST: 5e-3 against 5e-5);
the seed's 1e-4 hardly moves them."""


def _debug() -> tuple[str, ...]:
    """The baseline, but eight easy classes, short clips, few epochs, small networks: a minute of one core for cnn."""
    return (
        f"data.rudiments=[{','.join(EASY_EIGHT)}]", "data.clips=1600", "data.duration_s=3.0", "data.profiles=40",
        "model.size=small", "model.weights=random", "model.channels=64", "model.blocks=5",
        "training.max_epochs=5", "training.batch_size=16", "augment.mixup=0",
    )  # fmt: skip


def _small() -> tuple[str, ...]:
    """The baseline, but 8,000 clips and networks that train on two cores; all forty classes."""
    return (
        "data.clips=8000", "model.size=small", "model.weights=random", "training.max_epochs=6",
        "training.batch_size=24", "augment.mixup=0",
    )  # fmt: skip


def _full() -> tuple[str, ...]:
    """The baseline, but 100,000 clips, early stopping and long training; for a GPU."""
    size = ("training.batch_size=32", "training.workers=8", "model.channels=160")
    return ("data=full", "training.max_epochs=50", "training.patience=10", *size)


RECIPE = Recipe(
    name="sousa",
    summary="which of the 40 drum rudiments is played: five networks, five training strategies, drums made here",
    config=SousaConfig,
    stages=(
        Stage(
            "generate", "make the clips: FLAC and tables, split by player",
            f"{_HERE}.generate:generate", is_done=f"{_HERE}.generate:is_done",
        ),
        Stage("train", "train the classifier", f"{_HERE}.train:train"),
        Stage("evaluate", "judge the best checkpoint on players it never heard", f"{_HERE}.evaluate:evaluate"),
    ),
    headline=Headline("val/balanced_accuracy", "max"),
    columns=("train/loss", "val/loss", "val/balanced_accuracy", "lr"),
    groups={
        "data": {
            "tiny": {"data.clips": 1_000},
            "small": {"data.clips": 10_000},
            "medium": {"data.clips": 30_000},
            "full": {"data.clips": 100_000},
        },
        "model": {name: {"model.name": name, "training.lr": _SCRATCH_LR[name]} for name in MODELS},
        "strategy": {name: {"strategy.name": name, **_ADAPTED[name]} for name in STRATEGIES},
        "platform": PLATFORMS,
    },
    presets={"debug": _debug(), "small": _small(), "full": _full()},
    experiments={
        "quick_test": ("data=tiny", "training.max_epochs=2"),
        "twelve": ("model=ast,hts_at,beats,efficient_at", "strategy=lora,adalora,ia3"),
        "twenty": ("model=ast,hts_at,beats,efficient_at", f"strategy={','.join(STRATEGIES)}"),
        "hands": ("synth.hand_timbre=0.0,1.0",),
    },
    outdated=f"{_HERE}.config:outdated",
    check=f"{_HERE}.preflight:check",
    readme=_HERE,
    items=f"{_HERE}.platforms:training_items",
)  # fmt: skip
