"""Which metric a run is judged by, and in which direction, when nobody said so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from .manifest import Headline

_HIGHER_WORDS = (
    "acc",
    "f1",
    "auc",
    "precision",
    "recall",
    "map",
    "snr",
    "sdr",
    "pesq",
    "stoi",
    "bleu",
    "score",
    "r2",
)
_NO_GOAL = re.compile(
    r"(^|[/_.])(lr|learning_rate|epoch|step|grad_norm|memory|gpu\d*|momentum|weight_decay|temperature)"
)
_PREFERRED = ("val/loss", "val_loss", "eval_loss", "eval/loss", "valid/loss", "validation_loss", "val/wer", "val_wer",
              "train/loss", "train_loss", "loss")  # fmt: skip


def direction_of(key: str) -> str:
    """`max` for accuracies and scores, `min` for everything else (losses, error rates, times)."""
    name = key.rsplit("/", 1)[-1].lower()
    if "loss" in name or "err" in name:
        return "min"
    parts = name.replace("-", "_").split("_")
    return "max" if any(part.startswith(word) for part in parts for word in _HIGHER_WORDS) else "min"


def goal_of(key: str) -> Literal["min", "max"] | None:
    """Which extreme of a metric is worth naming; None for settings (a learning rate) and machine readings."""
    if " " in key or _NO_GOAL.search(key.lower()):
        return None
    return "max" if direction_of(key) == "max" else "min"


def guess_headline(keys: Iterable[str]) -> Headline | None:
    """The likeliest headline among the metrics seen: a validation loss, any loss, a validation metric."""
    names = list(keys)
    for preferred in _PREFERRED:
        if preferred in names:
            return Headline(preferred, "min")
    for wanted in ("loss", "val", "eval"):
        for name in names:
            if wanted in name.lower():
                return Headline(name, direction_of(name))
    return None


def spark_key(keys: Iterable[str]) -> str | None:
    """The metric drawn as a sparkline: the first training loss, else the first loss, else the first metric."""
    names = list(keys)
    for wanted in ("train/loss", "train_loss", "loss"):
        if wanted in names:
            return wanted
    for name in names:
        if "loss" in name.lower():
            return name
    return names[0] if names else None
