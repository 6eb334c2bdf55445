"""The metrics of validation and test on torchmetrics, so that both mean the same by a name.

Shapes: B clips of a batch, K classes; `confusion_KK[truth, answer]` counts clips.

One thing is done here and not there: a class without a clip is left out of every mean. torchmetrics counts it with
recall 0 as soon as one clip is mistaken for it, so that a small split looks worse than the model is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from ..identify import sound_groups
from ..notation import load_rudiments

NAMES = ("balanced_accuracy", "accuracy", "top5", "macro_f1", "family_accuracy", "group_accuracy")


class PerClass(NamedTuple):
    """Class by class; NaN where a class has no clip to say anything from."""

    clips_K: Tensor
    recall_K: Tensor
    precision_K: Tensor
    """0 for a class that was never answered, or only wrongly."""
    f1_K: Tensor
    confusion_KK: Tensor


class ValidationMetrics(nn.Module):
    """`update(logits_BK, label_B)` over a split, `compute()`, `reset()`. A submodule: it moves with the model.

    `family_accuracy` counts an answer of the right family (roll, diddle, flam, drag), `group_accuracy` one that sounds
    the same when both hands do (`identify.sound_groups`).
    """

    family_K: Tensor
    group_K: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        kinds = len(classes)
        plain = {"num_classes": kinds, "validate_args": False}
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(average="micro", **plain),
                "top5": MulticlassAccuracy(average="micro", top_k=min(5, kinds), **plain),
                "recall": MulticlassRecall(average="none", **plain),
                "precision": MulticlassPrecision(average="none", **plain),
                "f1": MulticlassF1Score(average="none", **plain),
                "confusion": MulticlassConfusionMatrix(**plain),
            }
        )
        self.register_buffer("family_K", torch.tensor(family_numbers(classes)), persistent=False)
        self.register_buffer("group_K", torch.tensor(group_numbers(classes)), persistent=False)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add a batch: `logits_BK` and `label_B`."""
        self.metrics.update(logits.float(), label)

    def compute(self) -> dict[str, Tensor]:
        """Every name of `NAMES` as a number, over all processes of a distributed run."""
        values = self.metrics.compute()
        seen = values["confusion"].sum(dim=1) > 0
        return {
            "balanced_accuracy": values["recall"][seen].mean(),
            "accuracy": values["accuracy"],
            "top5": values["top5"],
            "macro_f1": values["f1"][seen].mean(),
            "family_accuracy": _within(values["confusion"], self.family_K),
            "group_accuracy": _within(values["confusion"], self.group_K),
        }

    def per_class(self) -> PerClass:
        """The same clips class by class."""
        values = self.metrics.compute()
        clips_K, answers_K = values["confusion"].sum(dim=1), values["confusion"].sum(dim=0)
        nothing = clips_K == 0
        return PerClass(
            clips_K,
            values["recall"].masked_fill(nothing, torch.nan),
            values["precision"].masked_fill(nothing & (answers_K == 0), torch.nan),
            values["f1"].masked_fill(nothing, torch.nan),
            values["confusion"],
        )

    def reset(self) -> None:
        """Forget every clip."""
        self.metrics.reset()


def family_numbers(classes: Sequence[str]) -> list[int]:
    """For each class the number of its family."""
    families = [load_rudiments()[slug].family for slug in classes]
    order = list(dict.fromkeys(families))
    return [order.index(family) for family in families]


def group_numbers(classes: Sequence[str]) -> list[int]:
    """For each class the number of the group that sounds like it when both hands sound alike."""
    number = {slug: place for place, group in enumerate(sound_groups(tuple(classes))) for slug in group}
    return [number[slug] for slug in classes]


def _within(confusion_KK: Tensor, part_K: Tensor) -> Tensor:
    """Share of the clips whose answer lies in the same part as the truth."""
    return (confusion_KK * (part_K[:, None] == part_K[None, :])).sum() / confusion_KK.sum()
