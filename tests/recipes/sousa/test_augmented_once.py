"""A real training and evaluation through the loaders that the trainer makes: only training clips are augmented."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from wavedeck.engine.config import compose  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.engine.training.stream import ItemKey  # noqa: E402
from wavedeck.recipes.sousa.data import Batch, Clips  # noqa: E402
from wavedeck.recipes.sousa.evaluate import evaluate  # noqa: E402
from wavedeck.recipes.sousa.module import RudimentTrainer  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402
from wavedeck.recipes.sousa.train import train  # noqa: E402

TINY = (
    "data.rudiments=[flam,drag,single_paradiddle]", "data.clips=48", "data.duration_s=1.0", "data.profiles=12",
    "model.size=debug", "model.channels=8", "model.blocks=3", "training.max_steps=2", "training.batch_size=8",
    "training.val_every=1", "training.workers=0", "augment.mixup=0.4",
)  # fmt: skip


class Spy:
    """Which clips were heard and which of them augmented, by split, and what the two kinds of batches held."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.heard: Counter[str] = Counter()
        self.augmented: Counter[str] = Counter()
        self.shares: dict[str, list[float]] = {"train": [], "val": []}
        self.validated: list[bool] = []
        get, augment = Clips.__getitem__, Clips._augmented

        def heard(clips: Clips, key: Any) -> Any:
            self.heard[clips.samples[0].split] += 1
            return get(clips, key)

        def augmented(clips: Clips, x: torch.Tensor, key: ItemKey) -> torch.Tensor:
            self.augmented[clips.samples[key.item].split] += 1
            return augment(clips, x, key)

        patch.setattr(Clips, "__getitem__", heard)
        patch.setattr(Clips, "_augmented", augmented)
        self._watch(patch, "training_step", "train")
        self._watch(patch, "validation_step", "val")

    def _watch(self, patch: pytest.MonkeyPatch, name: str, split: str) -> None:
        ordinary = getattr(RudimentTrainer, name)

        def step(module: RudimentTrainer, batch: Batch, index: int) -> Any:
            self.shares[split] += batch.share.tolist()
            return ordinary(module, batch, index)

        patch.setattr(RudimentTrainer, name, step)


def test_a_run_augments_and_mixes_training_clips_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    config = compose(RECIPE, TINY, "debug").config
    context = Context(RunDir(tmp_path / "run"), tmp_path / "data", device="cpu")
    spy = Spy(monkeypatch)
    train(config, context)
    assert spy.augmented.keys() == {"train"} and spy.augmented["train"] >= 2 * 8
    assert spy.heard["val"] > 0 and spy.heard["train"] >= spy.augmented["train"]
    assert min(spy.shares["train"]) < 1 and set(spy.shares["val"]) == {1.0}
    before = Counter(spy.augmented)
    evaluate(config, context)
    assert spy.heard["test"] > 0 and spy.augmented == before
