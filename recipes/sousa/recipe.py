"""The face of the SOUSA recipe: what it is called, its stages, groups and presets. Imports no torch."""

from __future__ import annotations

from ...engine.manifest import Headline
from ...engine.recipe import Recipe, Stage
from .config import EASY_EIGHT, SousaConfig

_HERE = __package__ or "wavedeck.recipes.sousa"


def _debug() -> tuple[str, ...]:
    """The baseline, but eight easy classes, short clips, few epochs: about a minute of one core."""
    return (
        f"data.rudiments=[{','.join(EASY_EIGHT)}]", "data.clips=1600", "data.duration_s=3.0", "data.profiles=40",
        "model.channels=64", "model.blocks=5", "training.max_epochs=5", "training.batch_size=16", "training.lr=5e-3",
    )  # fmt: skip


def _small() -> tuple[str, ...]:
    """The baseline, but 8,000 clips and ten minutes of one core; all forty classes."""
    return ("data.clips=8000", "training.max_epochs=6", "training.batch_size=24")


def _full() -> tuple[str, ...]:
    """The baseline, but 100,000 clips; for a GPU."""
    size = ("training.batch_size=128", "training.workers=8", "model.channels=160")
    return ("data=full", "training.max_epochs=30", *size)


RECIPE = Recipe(
    name="sousa",
    summary="which of the 40 drum rudiments is played: one small log-mel network, clips made by a drum synthesiser",
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
        }
    },
    presets={"debug": _debug(), "small": _small(), "full": _full()},
    readme=_HERE,
)  # fmt: skip
