"""`evaluation.json`: what a recipe's evaluation found, read forgivingly and believed only within bounds.

Recipes write it with strict JSON, missing numbers as null. Files of older versions hold fewer keys and those of newer
ones more, so every part is read by itself: what is missing or makes no sense is empty, and only a file that is no JSON
object is damaged. Names come from a run and are made safe for a terminal here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .about import finite
from .errors import RunDirError
from .format import count, plain

EVALUATION_FILE = "evaluation.json"
MOST_BYTES = 1 << 20
"""Also what the mirror brings of a record."""
MOST_CLASSES = 400
MOST_ENTRIES = 200
HEADLINE_ORDER = (
    "balanced_accuracy",
    "accuracy",
    "top5",
    "macro_f1",
    "family_accuracy",
    "group_accuracy",
)
"""Metrics that come first, where there are any of them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a metric lies with probability `level`; `method` says how that was found."""

    low: float
    high: float
    level: float | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that a metric can reach with these data, and why."""

    value: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the test by a property of its clips: `skill` = `beginner`. Missing numbers are None."""

    name: str
    clips: int | None = None
    accuracy: float | None = None
    balanced_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class. Numbers of a class without clips are None."""

    name: str
    family: str = ""
    clips: int | None = None
    recall: float | None = None
    precision: float | None = None
    f1: float | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """So many clips of `truth` were taken for `answer`."""

    truth: str
    answer: str
    clips: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of one checkpoint.

    Parameters
    ----------
    classes: in the order of the file, which is by family.
    order, confusion: names of rows and columns, and counts; rows are truths. Empty when the file has none.
    """

    checkpoint: str = ""
    step: int | None = None
    sha256: str = ""
    split: str = "test"
    clips: int | None = None
    players: int | None = None
    few: bool = False
    """Whether the recipe says that these are too few clips or players for the numbers to mean much."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    breakdowns: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    classes: tuple[ClassScore, ...] = ()
    confusions: tuple[Mistake, ...] = ()
    order: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_order(self) -> tuple[str, ...]:
        """Class names by family: the order of the confusion matrix, or else of the table."""
        return self.order or tuple(score.name for score in self.classes)


def read_evaluation(run_dir: Path) -> Evaluation | None:
    """The evaluation in a run directory; None when the run was not evaluated.

    Raises
    ------
    RunDirError: the file cannot be read, is larger than any evaluation, or is no JSON object.
    """
    raw = read_raw(run_dir)
    return None if raw is None else parse(raw)


def read_raw(run_dir: Path) -> dict[str, Any] | None:
    """The file's content as it is: at most 1 MiB, for `show --json`. Raises as `read_evaluation` does."""
    try:
        with open(run_dir / EVALUATION_FILE, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            data = handle.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunDirError(f"{EVALUATION_FILE} cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise RunDirError(f"{EVALUATION_FILE} has {size} bytes: no evaluation is that large; evaluate the run again.")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunDirError(f"{EVALUATION_FILE} is damaged ({error}): evaluate the run again.") from error
    if not isinstance(found, dict):
        raise RunDirError(f"{EVALUATION_FILE} holds no JSON object: evaluate the run again.")
    return found


def parse(raw: Mapping[str, Any]) -> Evaluation:
    """What a decoded file says; whatever makes no sense is left out."""
    order, confusion = _confusion(raw)
    return Evaluation(
        checkpoint=_text(raw.get("checkpoint")),
        step=_count(raw.get("step")),
        sha256=_text(raw.get("sha256"), 64),
        split=_text(raw.get("split"), 40) or "test",
        clips=_count(raw.get("clips")),
        players=_count(raw.get("players")),
        few=raw.get("few") is True,
        metrics=_numbers(raw.get("metrics")),
        intervals=_each(raw.get("intervals"), _interval),
        ceilings=_each(raw.get("ceilings"), _ceiling),
        breakdowns=_breakdowns(raw),
        classes=_classes(raw.get("classes")),
        confusions=_mistakes(raw.get("confusions")),
        order=order,
        confusion=confusion,
        numbers=_numbers(raw.get("numbers")),
    )


def judged_words(evaluation: Evaluation, *, digest: bool = True) -> str:
    """What was judged, on what: `test split · 1,520 clips of 40 classes, 19 players · checkpoint …`."""
    words = [f"{evaluation.split} split"]
    if evaluation.clips is not None:
        classes, players = len(evaluation.classes) or len(evaluation.order), evaluation.players
        words.append(
            f"{count(evaluation.clips)} clips"
            + (f" of {classes} classes" if classes else "")
            + (f", {players} {'player' if players == 1 else 'players'}" if players is not None else "")
        )
    if evaluation.checkpoint:
        words.append(f"checkpoint {evaluation.checkpoint}")
    elif evaluation.step is not None:
        words.append(f"step {count(evaluation.step)}")
    words += [f"sha256 {evaluation.sha256[:12]}"] if digest and evaluation.sha256 else []
    return " · ".join(words)


def doubt_words(evaluation: Evaluation) -> str:
    """That the numbers are not worth much, or were not given out at all; empty otherwise."""
    if not evaluation.metrics:
        return "No numbers were given out: there are too few clips for this many classes."
    return "Few clips or players: these numbers say little." if evaluation.few else ""


def metric_names(evaluation: Evaluation) -> list[str]:
    """Names of the metrics, the usual headline first, then as the file has them."""
    known = [name for name in HEADLINE_ORDER if name in evaluation.metrics]
    return known + [name for name in evaluation.metrics if name not in HEADLINE_ORDER]


def _breakdowns(raw: Mapping[str, Any]) -> dict[str, tuple[Part, ...]]:
    found = {}
    for name, parts in _pairs(raw.get("breakdowns"), 16):
        rows = tuple(part for label, value in _pairs(parts, 40) if (part := _part(label, value)) is not None)
        if rows:
            found[name] = rows
    if not found:  # files of the first version knew accuracies by skill tier only
        tiers = tuple(Part(name, accuracy=number) for name, number in _numbers(raw.get("tiers")).items())
        found = {"skill": tiers} if tiers else {}
    return found


def _part(name: str, value: Any) -> Part | None:
    if not isinstance(value, Mapping):
        return None
    accuracy, balanced = finite(value.get("accuracy")), finite(value.get("balanced_accuracy"))
    return Part(name, _count(value.get("clips")), accuracy, balanced)


def _classes(raw: Any) -> tuple[ClassScore, ...]:
    return tuple(
        ClassScore(
            name,
            _text(value.get("family"), 60),
            _count(value.get("clips")),
            finite(value.get("recall")),
            finite(value.get("precision")),
            finite(value.get("f1")),
        )
        for name, value in _pairs(raw, MOST_CLASSES)
        if isinstance(value, Mapping)
    )


def _mistakes(raw: Any) -> tuple[Mistake, ...]:
    found = []
    for row in raw[:MOST_ENTRIES] if isinstance(raw, list) else []:
        if not isinstance(row, list) or len(row) != 3:
            continue
        truth, answer, clips = _text(row[0]), _text(row[1]), _count(row[2])
        if truth and answer and clips:
            found.append(Mistake(truth, answer, clips))
    return tuple(found)


def _confusion(raw: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Names and counts of a square matrix; the names alone when the counts do not fit them."""
    names, rows = raw.get("order"), raw.get("confusion")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return (), ()
    order = tuple(_text(name) for name in names[:MOST_CLASSES])
    if len(set(order)) != len(names) or not isinstance(rows, list) or len(rows) != len(order):
        return (order if len(set(order)) == len(names) else ()), ()
    counts = []
    for row in rows:
        cells = [_count(cell) for cell in row] if isinstance(row, list) else []
        if len(cells) != len(order):
            return order, ()
        counts.append(tuple(cell or 0 for cell in cells))
    return order, tuple(counts)


def _interval(value: Any) -> Interval | None:
    if not isinstance(value, Mapping):
        return None
    low, high = finite(value.get("low")), finite(value.get("high"))
    if low is None or high is None:
        return None
    return Interval(low, high, finite(value.get("level")), _text(value.get("method"), 200))


def _ceiling(value: Any) -> Ceiling | None:
    number = finite(value.get("value")) if isinstance(value, Mapping) else finite(value)
    if number is None:
        return None
    return Ceiling(number, _text(value.get("words"), 300) if isinstance(value, Mapping) else "")


def _each(raw: Any, read: Any) -> dict[str, Any]:
    return {name: found for name, value in _pairs(raw) if (found := read(value)) is not None}


def _numbers(raw: Any) -> dict[str, float]:
    return {name: number for name, value in _pairs(raw) if (number := finite(value)) is not None}


def _pairs(raw: Any, most: int = MOST_ENTRIES) -> list[tuple[str, Any]]:
    """Names and values of an object, each name once, in its order."""
    if not isinstance(raw, Mapping):
        return []
    found: dict[str, Any] = {}
    for name, value in raw.items():
        if len(found) < most and isinstance(name, str):
            found.setdefault(_text(name), value)
    return list(found.items())


def _text(value: Any, length: int = 120) -> str:
    return plain(value, length) if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    number = finite(value)
    return int(number) if number is not None and 0 <= number < 1e15 else None
