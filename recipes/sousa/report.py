"""Scores of a classifier over clips: numbers, JSON and a table. numpy only.

Shapes: N clips, K classes; `confusion_KK[truth, answer]` counts clips.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.checkpoints import CheckpointLine
from ...engine.events import json_number

# Sets of rudiments that sound the same when the hands do (hand_timbre=0): same rhythm and accents, other sticking.
TWINS = (
    ("single_stroke_roll", "triple_stroke_roll", "double_stroke_open_roll"),
    ("double_paradiddle", "paradiddle_diddle"),
    ("flam_accent", "swiss_army_triplet"),
    ("flam_tap", "inverted_flam_tap"),
    ("flam_paradiddle", "single_flammed_mill"),
)


@dataclass(frozen=True, slots=True)
class Scores:
    """What the test says. Classes without a test clip are NaN and left out of every mean."""

    classes: tuple[str, ...]
    confusion_KK: np.ndarray
    top5: float
    group_accuracy: float
    """Accuracy when rudiments that differ only in the hands count as one."""
    tiers: dict[str, float]
    """Accuracy by the players' skill."""

    @property
    def clips(self) -> int:
        """Test clips judged."""
        return int(self.confusion_KK.sum())

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(np.trace(self.confusion_KK) / self.clips)

    @property
    def recall_K(self) -> np.ndarray:
        """Per class: share of its clips found."""
        return _ratio(np.diag(self.confusion_KK), self.confusion_KK.sum(axis=1))

    @property
    def precision_K(self) -> np.ndarray:
        """Per class: share of its answers that are right; 0 when it was never answered but had clips."""
        answered = self.confusion_KK.sum(axis=0)
        precision = _ratio(np.diag(self.confusion_KK), answered)
        return np.where((answered == 0) & (self.confusion_KK.sum(axis=1) > 0), 0.0, precision)

    @property
    def f1_K(self) -> np.ndarray:
        """Per class: 2 right / (clips + answers), NaN for a class without clips."""
        clips, answered = self.confusion_KK.sum(axis=1), self.confusion_KK.sum(axis=0)
        return np.where(clips > 0, _ratio(2 * np.diag(self.confusion_KK), clips + answered), np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes."""
        return float(np.nanmean(self.recall_K))

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes."""
        return float(np.nanmean(self.f1_K))

    def metrics(self) -> dict[str, float]:
        """The journal row."""
        row = {
            "balanced_accuracy": self.balanced_accuracy, "accuracy": self.accuracy, "top5": self.top5,
            "macro_f1": self.macro_f1, "group_accuracy": self.group_accuracy,
        }  # fmt: skip
        return row | {f"accuracy_{tier}": value for tier, value in self.tiers.items()}

    def confusions(self, limit: int = 8) -> list[tuple[str, str, int]]:
        """The most frequent mistakes as (truth, answer, clips)."""
        wrong = self.confusion_KK - np.diag(np.diag(self.confusion_KK))
        order = np.argsort(wrong, axis=None, kind="stable")[::-1][:limit]
        pairs = [np.unravel_index(index, wrong.shape) for index in order]
        return [(self.classes[a], self.classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]


def score(label_N: np.ndarray, logits_NK: np.ndarray, tiers: Sequence[str], classes: Sequence[str]) -> Scores:
    """Scores of the answers `logits_NK` to the truths `label_N`."""
    kinds = len(classes)
    answer_N = logits_NK.argmax(axis=1)
    confusion_KK = np.zeros((kinds, kinds), dtype=np.int64)
    np.add.at(confusion_KK, (label_N, answer_N), 1)
    best_N5 = np.argsort(-logits_NK, axis=1)[:, :5]
    group_K = np.array([_group(slug) for slug in classes])
    by_tier = {}
    for tier in dict.fromkeys(tiers):
        chosen = np.array([name == tier for name in tiers])
        by_tier[tier] = float((answer_N[chosen] == label_N[chosen]).mean())
    return Scores(
        classes=tuple(classes),
        confusion_KK=confusion_KK,
        top5=float((best_N5 == label_N[:, None]).any(axis=1).mean()),
        group_accuracy=float((group_K[answer_N] == group_K[label_N]).mean()),
        tiers=by_tier,
    )


def report_json(scores: Scores, line: CheckpointLine) -> bytes:
    """`evaluation.json`: strict JSON, missing numbers as null."""
    per_class = {
        name: {
            "clips": int(scores.confusion_KK[index].sum()),
            "recall": _null(scores.recall_K[index]),
            "precision": _null(scores.precision_K[index]),
            "f1": _null(scores.f1_K[index]),
        }
        for index, name in enumerate(scores.classes)
    }
    report: dict[str, Any] = {
        "checkpoint": line.name,
        "step": line.step,
        "sha256": line.sha256,
        "split": "test",
        "clips": scores.clips,
        "metrics": {name: json_number(value) for name, value in scores.metrics().items()},
        "tiers": scores.tiers,
        "classes": per_class,
        "confusions": scores.confusions(20),
    }
    return json.dumps(report, indent=2, allow_nan=False).encode() + b"\n"


def table_text(scores: Scores) -> str:
    """The table for the console: per class, then the means, the tiers and the commonest mistakes."""
    width = max(len(name) for name in scores.classes)
    lines = [f"{'rudiment':<{width}}  clips  recall  precision      f1"]
    for index, name in enumerate(scores.classes):
        clips = int(scores.confusion_KK[index].sum())
        numbers = (scores.recall_K[index], scores.precision_K[index], scores.f1_K[index])
        recall, precision, f1 = ("–" if math.isnan(value) else f"{value:.3f}" for value in numbers)
        lines.append(f"{name:<{width}}  {clips:>5}  {recall:>6}  {precision:>9}  {f1:>6}")
    lines += ["", *(f"{name:<26} {value:.4f}" for name, value in scores.metrics().items())]
    mistakes = [f"{truth} heard as {answer}: {clips}" for truth, answer, clips in scores.confusions(5)]
    return "\n".join([*lines, "", "commonest mistakes: " + ("; ".join(mistakes) or "none")])


def _group(slug: str) -> str:
    return next((twins[0] for twins in TWINS if slug in twins), slug)


def _ratio(part_K: np.ndarray, whole_K: np.ndarray) -> np.ndarray:
    return np.divide(part_K, whole_K, out=np.full(len(part_K), np.nan), where=whole_K > 0)


def _null(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
