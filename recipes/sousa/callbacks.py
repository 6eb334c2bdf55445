"""What a training of this recipe tells besides its metrics."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from ...engine.context import Context
from ...engine.format import duration
from .data import Batch, Clips


class TellCacheSpeed(L.Callback):
    """Says, once the second epoch is over, how much faster it was for features that were kept from the first.

    An epoch is as many clips as there are; the time of validations is not in it. Nothing is said of a training that
    goes on from the middle of one, or that keeps nothing.
    """

    def __init__(self, clips: Clips, context: Context) -> None:
        self.clips, self.context = clips, context
        self.epochs: list[float] = []
        """Seconds of each whole epoch so far."""
        self._seen = 0
        self._trained_s = 0.0
        self._mark = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained_s += time.monotonic() - self._mark

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._seen += len(batch.label)
        if len(self.epochs) == 2 or self._seen < (len(self.epochs) + 1) * len(self.clips):
            return
        now = time.monotonic()
        self.epochs.append(self._trained_s + now - self._mark)
        self._trained_s, self._mark = 0.0, now
        if len(self.epochs) == 2:
            self._tell()

    def _tell(self) -> None:
        speed = self.clips.speed
        if speed.factor is None or not len(self.clips.cache):
            return
        first, second = self.epochs
        made_ms, kept_ms = 1000 * speed.made_s / speed.made, 1000 * speed.kept_s / speed.kept
        self.context.say(
            f"features are kept in memory: {kept_ms:.2g} ms a clip instead of {made_ms:.2g} ms; the second epoch took "
            f"{duration(second)}, the first {duration(first)} ({first / max(second, 1e-9):.2f} times as long)."
        )
        self.context.about(numbers={"feature_speedup": round(speed.factor, 2)})
