"""Stage `evaluate`: the best checkpoint on the test split, whose players neither training nor validation heard."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...engine.checkpoints import MANIFEST_NAME, CheckpointLine, fault, read_checkpoints
from ...engine.context import Context, default_threads
from ...engine.errors import WavedeckError
from ...engine.files import write_atomic
from ...engine.paired import ANSWERS_NAME, write_answers
from ...engine.training.device import choose_device
from .config import SousaConfig
from .data import SousaData
from .identify import ceiling_of
from .listening import write_samples
from .network import Network, best_pruned, classifier, load_network
from .report.scores import Answers, Scores, score
from .report.writing import doubt, report_json, table_text, write_confusion
from .tables import Sample, class_names


def evaluate(config: SousaConfig, context: Context) -> None:
    """Write `evaluation.json`, `confusion.csv`, `answers.csv` and `samples/test/` into the run, and a `test/...` row
    into its journal; print the table.

    Raises
    ------
    WavedeckError: no checkpoint to judge, it does not fit the configuration, or it answers with NaN.
    """
    begin = time.monotonic()
    torch.set_num_threads(default_threads())
    _checkpoint(config, context, 2)  # nothing is prepared for a run that has nothing to judge
    classes = class_names(config)
    data = SousaData(_without_cache(config), context)
    data.prepare_data()
    data.setup("test")
    steps = config.training.total_steps(len(data.train_samples))
    line = _checkpoint(config, context, steps)
    network = load_network(config, len(classes), steps, context.run.checkpoints / line.name, _quiet)
    net = classifier(network)
    data.hear_through(net.front_end, net.input_kind)
    answers = judge(config, context, network, data, line)
    scores = score(answers, ceiling_of(config, classes))
    _write(context, scores, answers, line, time.monotonic() - begin)
    write_samples(config, context, data.test_samples, answers.label_N, answers.logits_NK, classes, line)
    print(table_text(scores), flush=True)
    _tell(context, scores, line)
    if config.logger == "wandb":
        from .wandb_report import report_to_wandb

        report_to_wandb(config, context)


def _quiet(text: str, level: str = "info") -> None:
    """What a network's weights are was said when it was trained."""


def _without_cache(config: SousaConfig) -> SousaConfig:
    """Each clip is heard once here: keeping its features would only take memory."""
    return replace(config, data=replace(config.data, cache_below=0))


def _write(context: Context, scores: Scores, answers: Answers, line: CheckpointLine, seconds: float) -> None:
    """Everything but what can be heard, which takes longest."""
    numbers = {"evaluate_s": round(seconds, 3)}
    if scores.publishable:
        context.log({f"test/{name}": value for name, value in scores.row().items()}, line.step, line.epoch)
    context.about(facts={"identifiable": scores.ceiling.words}, numbers={**numbers, "test_clips": scores.clips})
    write_answers(context.run.path / ANSWERS_NAME, answers.rows())
    write_confusion(context.run.path / "confusion.csv", scores)
    write_atomic(context.run.path / "evaluation.json", report_json(scores, line, numbers))


def _tell(context: Context, scores: Scores, line: CheckpointLine) -> None:
    """The result in a sentence; before it, loudly, when the test is too small to mean much."""
    warning = doubt(scores)
    if warning is not None:
        context.say(warning, "warning")
    if not scores.publishable:
        return
    interval = scores.intervals.get("balanced_accuracy")
    within = "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f} with players drawn anew)"
    context.say(
        f"checkpoint {line.name} on {scores.clips} test clips of {scores.players} players and {len(scores.classes)} "
        f"rudiments: balanced accuracy {scores.metrics['balanced_accuracy']:.4f}{within}; {scores.ceiling.words}."
    )


def _checkpoint(config: SousaConfig, context: Context, steps: int) -> CheckpointLine:
    """The best whole checkpoint of a training of `steps` steps; the next best when its file is damaged or gone, and
    says so."""
    directory = context.run.checkpoints
    lines = read_checkpoints(directory / MANIFEST_NAME)
    if context.checkpoint is not None:
        return _named(directory, lines, context.checkpoint)
    while lines:
        line = best_pruned(lines, config, steps)
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
def judge(config: SousaConfig, context: Context, network: Network, data: SousaData, line: CheckpointLine) -> Answers:
    """The network's logits for each clip of the test, in its order."""
    device = choose_device(context.device, "32-true", lambda text, level: None).torch_device
    net, loader = network.adapted.to(device), data.test_dataloader()
    logits, labels = [], []
    for batch in context.track(loader, len(loader), "batch", "evaluate"):
        logits.append(net(batch.x.to(device)).float().cpu())
        labels.append(batch.label)
    logits_NK = torch.cat(logits).numpy()
    if not np.isfinite(logits_NK).all():
        raise WavedeckError(
            f"checkpoint {line.name} answers with NaN: its training diverged; choose an earlier one with --checkpoint."
        )
    return _answers(data.test_samples, torch.cat(labels).numpy(), logits_NK, class_names(config))


def _answers(
    samples: Sequence[Sample], label_N: np.ndarray, logits_NK: np.ndarray, classes: tuple[str, ...]
) -> Answers:
    return Answers(
        classes=classes,
        label_N=label_N,
        logits_NK=logits_NK,
        sample_ids=[sample.sample_id for sample in samples],
        players=[sample.profile_id for sample in samples],
        tiers=[sample.tier for sample in samples],
        tempo_N=np.array([math.nan if sample.tempo_bpm is None else sample.tempo_bpm for sample in samples]),
        kits=[sample.kit for sample in samples],
    )
