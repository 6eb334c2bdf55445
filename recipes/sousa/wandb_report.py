"""What `logger=wandb` shows of an evaluation: a table of classes, the confusion matrix by family, the worst clips.

Read from what the evaluation wrote into the run, `evaluation.json` and `samples/test`, so that W&B can only show what
the deck shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.context import Context
from ...engine.errors import WavedeckError
from ...engine.evaluation import Evaluation, read_evaluation
from ...engine.pictures.png import encode
from ...engine.samples.items import SampleItem
from ...engine.samples.reader import SampleSet
from ...engine.training.wandb_run import WandbRun, wandb_run

SET = "test"
WORST = 16
"""Clips with the largest loss that can be heard."""
CELL = 14
"""Pixels of one cell of the matrix."""
_EMPTY, _RIGHT, _WRONG = (22, 24, 31), (94, 214, 158), (242, 132, 92)
_BORDER = (120, 124, 140)


def report_to_wandb(config: Any, context: Context) -> None:
    """Tell W&B about the evaluation that this run holds, and close the W&B run; nothing unless `logger=wandb`.

    Call it last in the stage `evaluate`. It never raises because of W&B.
    """
    told = wandb_run(config, context)
    if told is None:
        return
    try:
        evaluation = read_evaluation(context.run.path)
    except WavedeckError as error:
        context.say(f"W&B is told nothing of the evaluation: {error}", "warning")
        evaluation = None
    if evaluation is not None:
        _tell_numbers(told, evaluation)
        _tell_tables(told, evaluation)
        _tell_picture(told, evaluation, context.run.path)
        _tell_sounds(told, context.run.path, evaluation.step)
    told.finish()


def confusion_picture(counts_KK: np.ndarray, families: Sequence[str], cell: int = CELL) -> np.ndarray:
    """The matrix as (H, W, 3) colours: rows truths, columns answers, a row by its share; lines between families.

    What is right is green and what is wrong orange, brighter for a larger share of the row (square root, so that a few
    confusions show).
    """
    classes = len(counts_KK)
    rows_K1 = counts_KK.sum(axis=1, keepdims=True)
    share_KK = np.sqrt(counts_KK / np.maximum(rows_K1, 1))
    right_KK = np.eye(classes, dtype=bool)
    full_KK3 = np.where(right_KK[..., None], np.array(_RIGHT), np.array(_WRONG))
    colours_KK3 = np.array(_EMPTY) + share_KK[..., None] * (full_KK3 - np.array(_EMPTY))
    pixels_HW3 = colours_KK3.astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    for border in range(1, classes):
        if border < len(families) and families[border] != families[border - 1]:
            pixels_HW3[border * cell, :] = pixels_HW3[:, border * cell] = _BORDER
    return pixels_HW3


def _tell_numbers(told: WandbRun, evaluation: Evaluation) -> None:
    row = {f"test/{name}": value for name, value in evaluation.metrics.items()}
    for name, interval in evaluation.intervals.items():
        row |= {f"test/{name}/low": interval.low, f"test/{name}/high": interval.high}
    row |= {f"test/{name}/ceiling": ceiling.value for name, ceiling in evaluation.ceilings.items()}
    told.log(row, evaluation.step)


def _tell_tables(told: WandbRun, evaluation: Evaluation) -> None:
    with told.guarded() as run:
        if run is None:
            return
        columns = ["rudiment", "family", "clips", "precision", "recall", "f1"]
        rows = [[one.name, one.family, one.clips, one.precision, one.recall, one.f1] for one in evaluation.classes]
        mistakes = [[one.truth, one.answer, one.clips] for one in evaluation.confusions]
        parts = [
            [kind, part.name, part.clips, part.accuracy, part.balanced_accuracy]
            for kind, found in evaluation.breakdowns.items()
            for part in found
        ]
        tables = {
            "test/classes": (columns, rows),
            "test/confusions": (["truth", "answer", "clips"], mistakes),
            "test/breakdowns": (["by", "part", "clips", "accuracy", "balanced accuracy"], parts),
        }
        found_tables = {
            name: told.module.Table(columns=heads, data=data) for name, (heads, data) in tables.items() if data
        }
        run.log({"step": told.step, **found_tables})


def _tell_picture(told: WandbRun, evaluation: Evaluation, run_dir: Path) -> None:
    if not evaluation.confusion:
        return
    with told.guarded() as run:
        if run is None:
            return
        families = {one.name: one.family for one in evaluation.classes}
        counts_KK = np.array(evaluation.confusion, np.int64)
        pixels_HW3 = confusion_picture(counts_KK, [families.get(name, "") for name in evaluation.order])
        place = run_dir / "wandb" / "staging" / "confusion.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(pixels_HW3))
        caption = f"rows truth, columns answer, by family: {', '.join(evaluation.order)}"
        picture = _picture_type(told.module)(str(place), pixels_HW3.shape[:2], caption)
        run.log({"step": told.step, "test/confusion": picture})


def _tell_sounds(told: WandbRun, run_dir: Path, step: int | None) -> None:
    with told.guarded() as run:
        if run is None:
            return
        columns = ["clip", "truth", "answer", "confidence", "loss", "player", "skill", "sound"]
        rows, heard = [], []
        for item, wave_S, rate in worst_clips(run_dir, step):
            caption = f"{item.label} taken for {item.predicted}"
            numbers = [_finite(item.metrics, "confidence"), _finite(item.metrics, "loss")]
            player, skill = item.text.get("player", ""), item.tags[0] if item.tags else ""
            sound = told.module.Audio(wave_S, sample_rate=rate, caption=caption)
            rows.append([item.key or item.id, item.label, item.predicted, *numbers, player, skill, sound])
            heard.append(told.module.Audio(wave_S, sample_rate=rate, caption=caption))
        if rows:
            table = told.module.Table(columns=columns, data=rows)
            run.log({"step": told.step, "test/worst": table, "test/worst_sounds": heard})


def worst_clips(run_dir: Path, step: int | None, most: int = WORST) -> Iterator[tuple[SampleItem, np.ndarray, int]]:
    """The items of the step with the largest loss, with their sound (S,) and rate in Hz; none without samples."""
    samples = SampleSet(run_dir, SET).load()
    try:
        columns = samples.items
        loss_N = columns.metrics.get("loss", np.empty(0))
        fits_N = np.isfinite(loss_N) & (columns.steps == step) if step is not None else np.isfinite(loss_N)
        rows = [int(row) for row in np.argsort(-loss_N, kind="stable") if fits_N[row] and columns.current[row]]
        for row in rows[:most]:
            item = samples.item(row)
            if "target" in item.tracks:
                wave_SC = samples.audio(item, "target")
                yield item, wave_SC[:, 0], round(item.tracks["target"].rate)
    finally:
        samples.close()


def _picture_type(module: Any) -> Any:
    """W&B's picture of a PNG file. Its own class needs an image library only to learn the size, which is known here."""

    class Picture(module.Image):  # type: ignore[misc, name-defined]
        def __init__(self, path: str, size: tuple[int, int], caption: str) -> None:
            super().__init__(path, caption=caption)
            self._height, self._width = size

        def _initialize_from_path(self, path: str) -> None:
            self._set_file(path, is_tmp=False)
            self.format = "png"

        @property
        def image(self) -> None:
            return None

    return Picture


def _finite(metrics: Mapping[str, float], name: str) -> float | None:
    value = metrics.get(name, math.nan)
    return value if math.isfinite(value) else None
