"""Scores of a classifier's answers to the test clips.

Shapes: N clips, K classes; `confusion_KK[truth, answer]` counts clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from ....engine.paired import Answer, Interval
from ..identify import Ceiling
from ..notation import load_rudiments
from .bootstrap import intervals
from .breakdowns import Part, by_skill, by_tempo, by_value
from .metrics import ValidationMetrics, family_numbers, group_numbers

FEW_CLIPS = 100
"""With fewer, an accuracy may be ten points off by chance alone (two standard errors at one half)."""
FEW_PLAYERS = 4
_CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network said to each clip of the test, and what is known of the clips."""

    classes: tuple[str, ...]
    """Slugs in the order of their labels."""
    label_N: np.ndarray
    logits_NK: np.ndarray
    sample_ids: Sequence[str]
    players: Sequence[str]
    tiers: Sequence[str]
    tempo_N: np.ndarray
    """Quarter notes per minute, NaN where unknown."""
    kits: Sequence[str | None] = ()

    @property
    def answer_N(self) -> np.ndarray:
        """The likeliest class of each clip."""
        return self.logits_NK.argmax(axis=1)

    @property
    def probability_NK(self) -> np.ndarray:
        """Softmax of the logits."""
        shifted_NK = np.exp(self.logits_NK - self.logits_NK.max(axis=1, keepdims=True))
        return shifted_NK / shifted_NK.sum(axis=1, keepdims=True)

    def rows(self) -> list[Answer]:
        """One row a clip, for the comparison with another run's."""
        answer_N, probability_N = self.answer_N, self.probability_NK.max(axis=1)
        return [
            Answer(*ids, self.classes[label], self.classes[answer], float(probability))
            for ids, label, answer, probability in zip(
                zip(self.sample_ids, self.players, strict=True), self.label_N, answer_N, probability_N, strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the test says. Classes without a test clip are NaN and left out of every mean."""

    classes: tuple[str, ...]
    confusion_KK: np.ndarray
    recall_K: np.ndarray
    precision_K: np.ndarray
    f1_K: np.ndarray
    metrics: dict[str, float]
    """The names of `metrics.NAMES`, and `calibration_error`."""
    intervals: dict[str, Interval]
    ceiling: Ceiling
    breakdowns: dict[str, dict[str, Part]]
    """By `skill`, `tempo`, `family` and, where there are several, `kit`."""
    players: int
    families: dict[str, str] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """Test clips judged."""
        return int(self.confusion_KK.sum())

    @property
    def few(self) -> bool:
        """Whether there are too few clips or players for the numbers to mean much."""
        return self.clips < FEW_CLIPS or self.players < FEW_PLAYERS

    @property
    def publishable(self) -> bool:
        """Whether there is one clip per class at least; below that an accuracy is an anecdote and is not given out."""
        return self.clips >= len(self.classes)

    def row(self) -> dict[str, float]:
        """The journal row: the metrics, and accuracy by skill. Empty when not publishable."""
        if not self.publishable:
            return {}
        return self.metrics | {f"accuracy_{tier}": part.accuracy for tier, part in self.breakdowns["skill"].items()}

    def confusions(self, limit: int = 8) -> list[tuple[str, str, int]]:
        """The most frequent mistakes as (truth, answer, clips)."""
        wrong = self.confusion_KK - np.diag(np.diag(self.confusion_KK))
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        pairs = [np.unravel_index(index, wrong.shape) for index in order]
        return [(self.classes[a], self.classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]


def score(answers: Answers, ceiling: Ceiling) -> Scores:
    """Scores of `answers`, at least one clip."""
    label_N, answer_N = answers.label_N, answers.answer_N
    judge = ValidationMetrics(answers.classes)
    judge.update(torch.from_numpy(answers.logits_NK), torch.from_numpy(label_N))
    metrics = {name: float(value) for name, value in judge.compute().items()}
    metrics["calibration_error"] = _calibration_error(answers)
    per_class = judge.per_class()
    families = {slug: load_rudiments()[slug].family for slug in answers.classes}
    parts = {
        "family_accuracy": np.array(family_numbers(answers.classes)),
        "group_accuracy": np.array(group_numbers(answers.classes)),
    }
    return Scores(
        classes=answers.classes,
        confusion_KK=per_class.confusion_KK.numpy(),
        recall_K=per_class.recall_K.numpy(),
        precision_K=per_class.precision_K.numpy(),
        f1_K=per_class.f1_K.numpy(),
        metrics=metrics,
        intervals=intervals(label_N, answer_N, answers.players, len(answers.classes), parts),
        ceiling=ceiling,
        breakdowns=_breakdowns(answers, families),
        players=len(set(answers.players)),
        families=families,
    )


def _breakdowns(answers: Answers, families: dict[str, str]) -> dict[str, dict[str, Part]]:
    label_N, answer_N = answers.label_N, answers.answer_N
    family_N = [families[answers.classes[label]] for label in label_N]
    ordered = by_value(family_N, label_N, answer_N)
    found = {
        "skill": by_skill(answers.tiers, label_N, answer_N),
        "tempo": by_tempo(answers.tempo_N, label_N, answer_N),
        "family": {name: ordered[name] for name in dict.fromkeys(_table_families()) if name in ordered},
    }
    kits = by_value(answers.kits, label_N, answer_N) if len(answers.kits) == len(label_N) else {}
    return found | ({"kit": dict(sorted(kits.items()))} if len(kits) > 1 else {})


def _table_families() -> list[str]:
    return [rudiment.family for rudiment in load_rudiments().values()]


def _calibration_error(answers: Answers) -> float:
    """Expected calibration error (Guo et al. 2017) over 15 bins of confidence; 0.1: ten points too sure or too shy."""
    return float(
        multiclass_calibration_error(
            torch.from_numpy(answers.probability_NK), torch.from_numpy(answers.label_N), len(answers.classes),
            n_bins=_CALIBRATION_BINS, norm="l1", validate_args=False,
        )
    )  # fmt: skip
