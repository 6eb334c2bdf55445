"""Stage `train`: the classifier under Lightning, judged after each epoch on held-out players."""

from __future__ import annotations

import math

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from ...engine.context import Context, default_threads
from ...engine.format import count
from ...engine.training.trainer import TrainingJob, fit, seed_everything
from .config import SousaConfig
from .data import Clips, split_samples
from .model import RudimentNet
from .recipe import RECIPE
from .tables import class_names


class RudimentTrainer(L.LightningModule):
    """Loss, metrics and optimizer of `RudimentNet`. A batch is (`mel_BMF`, `label_B`)."""

    def __init__(self, net: RudimentNet, config: SousaConfig, classes: int, steps: int) -> None:
        super().__init__()
        self.net, self.config, self.steps = net, config, steps
        self.balanced = MulticlassAccuracy(classes, average="macro")
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        mel_BMF, label_B = batch
        return cross_entropy(self.net(mel_BMF), label_B, label_smoothing=self.config.training.label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        mel_BMF, label_B = batch
        logits_BK = self.net(mel_BMF)
        self.balanced.update(logits_BK, label_B)
        self.accuracy.update(logits_BK, label_B)
        self.log("val/loss", cross_entropy(logits_BK, label_B), batch_size=len(label_B), sync_dist=True)
        self.log("val/balanced_accuracy", self.balanced)
        self.log("val/accuracy", self.accuracy)

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW with linear warm-up and a cosine to zero; weight decay spares biases and norms."""
        training = self.config.training
        matrices = [weight for weight in self.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.parameters() if weight.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=training.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """Share of the peak learning rate after `step` of `self.steps` steps."""
        rise = max(1, round(self.config.training.warmup * self.steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, self.steps - rise))))


def train(config: SousaConfig, context: Context) -> None:
    """Train from the start, or from the newest whole checkpoint when the run is resumed.

    Raises
    ------
    KeyboardInterrupt: a stop was asked for; the state is saved.
    WavedeckError: the data set is not usable, or the training diverged.
    """
    torch.set_num_threads(default_threads())
    classes = class_names(config)
    clips = Clips(split_samples(config, context, "train"), config, context, "spectrograms")
    held_out = Clips(split_samples(config, context, "val"), config, context, "spectrograms, validation")
    seed_everything(config.seed)
    net = RudimentNet(config.model, config.features.mels, len(classes), *clips.mean_and_deviation())
    weights = sum(weight.numel() for weight in net.parameters())
    context.say(
        f"{len(clips)} clips of {len(classes)} rudiments to train on, {len(held_out)} to validate; "
        f"{count(weights)} weights."
    )
    steps = config.training.total_steps(len(clips))
    result = fit(
        TrainingJob(
            RudimentTrainer(net, config, len(classes), steps), clips, len(clips), held_out, config.training,
            config.seed, context, RECIPE.headline, RECIPE.columns,
        )
    )  # fmt: skip
    if result.reason == "stopped":
        raise KeyboardInterrupt
