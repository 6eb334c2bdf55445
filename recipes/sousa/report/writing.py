"""The scores as files and as a table: `evaluation.json`, `confusion.csv`, and what the console prints."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.checkpoints import CheckpointLine
from ..identify import in_family_order
from .scores import Scores

_JSON_CONFUSIONS = 20
_WORDS = {
    "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "top5": "one of the first five",
    "macro_f1": "macro F1", "family_accuracy": "right family", "group_accuracy": "right or sounding the same",
    "calibration_error": "calibration error",
}  # fmt: skip


def report_json(scores: Scores, line: CheckpointLine, numbers: dict[str, float]) -> bytes:
    """`evaluation.json`: strict JSON, numbers that are missing or not to be trusted at all as null."""
    order = in_family_order(scores.classes)
    place = [scores.classes.index(slug) for slug in order]
    report: dict[str, Any] = {
        "checkpoint": line.name,
        "step": line.step,
        "sha256": line.sha256,
        "split": "test",
        "clips": scores.clips,
        "players": scores.players,
        "few": scores.few,
        "metrics": {name: _null(value) if scores.publishable else None for name, value in scores.metrics.items()},
        "intervals": {
            name: {"low": _null(one.low), "high": _null(one.high), "level": one.level, "method": one.method}
            for name, one in scores.intervals.items()
            if scores.publishable
        },
        "ceilings": {"balanced_accuracy": {"value": _null(scores.ceiling.value), "words": scores.ceiling.words}},
        "groups": scores.ceiling.groups,
        "breakdowns": {
            by: {
                name: {
                    "clips": part.clips, "accuracy": _null(part.accuracy),
                    "balanced_accuracy": _null(part.balanced_accuracy),
                }
                for name, part in parts.items()
            }
            for by, parts in scores.breakdowns.items()
        },
        "classes": {slug: _class(scores, index) for slug, index in zip(order, place, strict=True)},
        "confusions": scores.confusions(_JSON_CONFUSIONS),
        "order": order,
        "confusion": scores.confusion_KK[np.ix_(place, place)].tolist(),
        "numbers": numbers,
    }  # fmt: skip
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def classes_json(classes: Sequence[str]) -> bytes:
    """`classes.json`: label to slug, as the network's outputs are numbered."""
    return json.dumps({str(label): slug for label, slug in enumerate(classes)}, indent=2).encode() + b"\n"


def _class(scores: Scores, index: int) -> dict[str, Any]:
    return {
        "family": scores.families[scores.classes[index]],
        "clips": int(scores.confusion_KK[index].sum()),
        "recall": _null(scores.recall_K[index]),
        "precision": _null(scores.precision_K[index]),
        "f1": _null(scores.f1_K[index]),
    }


def write_confusion(path: Path, scores: Scores) -> None:
    """`confusion.csv`: a row for each truth, a column for each answer, both in the families' order."""
    order = in_family_order(scores.classes)
    place = [scores.classes.index(slug) for slug in order]
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["truth \\ answer", *order])
        rows = scores.confusion_KK[np.ix_(place, place)].tolist()
        writer.writerows([slug, *row] for slug, row in zip(order, rows, strict=True))


def table_text(scores: Scores) -> str:
    """The table for the console: the classes by family, the scores with interval and ceiling, parts, mistakes."""
    width = max(len(name) for name in scores.classes)
    lines = [f"{'rudiment':<{width}}  family   clips  recall  precision      f1"]
    for name in in_family_order(scores.classes):
        index = scores.classes.index(name)
        clips = int(scores.confusion_KK[index].sum())
        numbers = (scores.recall_K[index], scores.precision_K[index], scores.f1_K[index])
        recall, precision, f1 = ("–" if math.isnan(value) else f"{value:.3f}" for value in numbers)
        family = scores.families[name]
        lines.append(f"{name:<{width}}  {family:<7}  {clips:>5}  {recall:>6}  {precision:>9}  {f1:>6}")
    lines += ["", *_metric_lines(scores), "", *_part_lines(scores)]
    mistakes = [f"{truth} heard as {answer}: {clips}" for truth, answer, clips in scores.confusions(5)]
    return "\n".join([*lines, "commonest mistakes: " + ("; ".join(mistakes) or "none")])


def doubt(scores: Scores) -> str | None:
    """The sentence to say loudly when the test is too small, or None."""
    amount = f"{scores.clips} test {'clip' if scores.clips == 1 else 'clips'} of {scores.players} "
    amount += "player" if scores.players == 1 else "players"
    if not scores.publishable:
        return (
            f"{amount} are less than one clip for each of {len(scores.classes)} classes: the scores are not given out; "
            "raise data.clips or data.test_share."
        )
    if scores.few:
        return f"{amount} are few: the scores may be ten points off by chance; raise data.clips or data.profiles."
    return None


def _metric_lines(scores: Scores) -> list[str]:
    if not scores.publishable:
        return ["scores: not given out, too few clips"]
    lines = []
    for name, value in scores.metrics.items():
        text = f"{_WORDS.get(name, name):<27} {value:.4f}"
        one = scores.intervals.get(name)
        text += f"  {one.low:.4f} to {one.high:.4f}" if one is not None else ""
        lines.append(text)
    if scores.intervals:
        lines.append(f"intervals: 95 %, {next(iter(scores.intervals.values())).method}")
    return [*lines, f"ceiling of balanced accuracy {scores.ceiling.value:.4f}: {scores.ceiling.words}"]


def _part_lines(scores: Scores) -> list[str]:
    lines = []
    for by, parts in scores.breakdowns.items():
        width = max((len(name) for name in parts), default=0)
        lines += [
            f"{by:<7} {name:<{width}}  {part.clips:>6} clips  balanced accuracy {part.balanced_accuracy:.4f}"
            for name, part in parts.items()
        ]
        lines += [""] if parts else []
    return lines


def _null(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
