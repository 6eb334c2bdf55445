"""Stage `evaluate`: the best checkpoint on the test split, whose players neither training nor validation heard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...engine.checkpoints import MANIFEST_NAME, CheckpointLine, best, fault, latest, read_checkpoints
from ...engine.context import Context, default_threads
from ...engine.errors import WavedeckError
from ...engine.files import write_atomic
from ...engine.training.device import choose_device
from ...engine.training.snapshot import load_snapshot
from .config import SousaConfig
from .data import Clips, split_samples
from .listening import write_samples
from .model import RudimentNet
from .recipe import RECIPE
from .report import Scores, report_json, score, table_text
from .tables import class_names

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Judged:
    """A checkpoint's answers: `label_N`, `logits_NK`, and the skill tier of each clip."""

    label_N: np.ndarray
    logits_NK: np.ndarray
    tiers: list[str]


def evaluate(config: SousaConfig, context: Context) -> None:
    """Write `evaluation.json` and `confusion.csv` into the run, a `test/...` row into its journal; print the table.

    Raises
    ------
    WavedeckError: no checkpoint to judge, or it does not fit the configuration.
    """
    torch.set_num_threads(default_threads())
    line = _checkpoint(context)
    classes = class_names(config)
    clips = Clips(split_samples(config, context, "test"), config, context, "spectrograms, test")
    judged = _judge(config, context, clips, line, len(classes))
    scores = score(judged.label_N, judged.logits_NK, judged.tiers, classes)
    context.log({f"test/{name}": value for name, value in scores.metrics().items()}, line.step, line.epoch)
    write_atomic(context.run.path / "evaluation.json", report_json(scores, line))
    _write_confusion(context, scores, classes)
    write_samples(config, context, clips.samples, judged.label_N, judged.logits_NK, classes, line)
    print(table_text(scores), flush=True)
    context.say(
        f"checkpoint {line.name} on {scores.clips} test clips of {len(classes)} rudiments: "
        f"balanced accuracy {scores.balanced_accuracy:.4f}."
    )


def _checkpoint(context: Context) -> CheckpointLine:
    """The best whole checkpoint; the next best when its file is damaged or gone, and says so."""
    directory = context.run.checkpoints
    lines = read_checkpoints(directory / MANIFEST_NAME)
    if context.checkpoint is not None:
        return _named(directory, lines, context.checkpoint)
    while lines:
        line = best(lines, RECIPE.headline) or latest(lines)
        assert line is not None
        wrong = fault(directory, line)
        if wrong is None:
            return line
        if wrong != "is missing":
            context.say(f"checkpoint {line.name} {wrong}: passed over.", "warning")
        lines = [other for other in lines if other.name != line.name]
    raise WavedeckError("this run has no whole checkpoint to evaluate: run its train stage first.")


def _named(directory: Path, lines: Sequence[CheckpointLine], name: str) -> CheckpointLine:
    """The checkpoint that was asked for, and no other in its place."""
    line = next((line for line in lines if line.name == name), None)
    if line is None:
        raise WavedeckError(f"this run has no checkpoint {name}.")
    wrong = fault(directory, line)
    if wrong is not None:
        raise WavedeckError(f"checkpoint {name} {wrong}: choose another with --checkpoint.")
    return line


@torch.no_grad()
def _judge(config: SousaConfig, context: Context, clips: Clips, line: CheckpointLine, classes: int) -> Judged:
    device = choose_device(context.device, "32-true", lambda text, level: None).torch_device
    net = RudimentNet(config.model, config.features.mels, classes)
    weights = load_snapshot(context.run.checkpoints / line.name)["model"]
    own = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    try:
        net.load_state_dict(own)
    except RuntimeError as error:
        raise WavedeckError(f"{line.name} was trained with another model or other classes than this config.") from error
    net.to(device).eval()
    logits = []
    starts = range(0, len(clips), _BATCH)
    for start in context.track(starts, len(starts), "batch", "evaluate"):
        batch = [clips[index][0] for index in range(start, min(start + _BATCH, len(clips)))]
        logits.append(net(torch.stack(batch).to(device)).float().cpu())
    return Judged(clips.labels.numpy(), torch.cat(logits).numpy(), [sample.tier for sample in clips.samples])


def _write_confusion(context: Context, scores: Scores, classes: Sequence[str]) -> None:
    with open(context.run.path / "confusion.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["truth \\ answer", *classes])
        writer.writerows([name, *map(int, row)] for name, row in zip(classes, scores.confusion_KK, strict=True))
