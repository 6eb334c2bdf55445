"""Stage `train`: a classifier under Lightning, judged after each epoch on held-out players."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...engine.checkpoints import MANIFEST_NAME, CheckpointLine, latest, read_checkpoints
from ...engine.context import Context, default_threads
from ...engine.files import write_atomic
from ...engine.logger import is_main_process
from ...engine.training.stream import rank_and_world
from ...engine.training.trainer import TrainingJob, fit, seed_everything
from ...engine.training.wandb_logger import wandb_callback
from .callbacks import TellCacheSpeed
from .config import ADAPTERS, SousaConfig
from .data import Batch, SousaData
from .identify import ceiling_of
from .models.front_ends import measured, mismatch
from .module import RudimentTrainer
from .network import Network, best_pruned, build_network, classifier, load_network
from .recipe import RECIPE
from .report.writing import classes_json
from .strategies import check_reload, logits_of, save_adapter
from .tables import class_names, cut_share

_MUCH_CUT = 0.01
_HEARD = 8
"""Clips that are answered before saving and after loading."""


def train(config: SousaConfig, context: Context) -> None:
    """Train from the start, or from the newest whole checkpoint when the run is resumed.

    Raises
    ------
    KeyboardInterrupt: a stop was asked for; the state is saved.
    WavedeckError: the data set is not usable, the weights cannot be had, or the training diverged.
    """
    torch.set_num_threads(default_threads())
    classes = class_names(config)
    write_atomic(context.run.path / "classes.json", classes_json(classes))
    data = SousaData(config, context)
    data.prepare_data()
    data.setup("fit")
    steps = config.training.total_steps(len(data.train_samples), rank_and_world()[1])
    network = build_network(config, len(classes), steps, context.say)
    _hear(network, data, context)
    _say_plan(config, network, data, classes, context)
    if config.training.checkpointing:
        network.adapted.checkpoint_activations()
    seed_everything(config.seed)
    module = RudimentTrainer(network, config, classes, steps, context.say)
    result = fit(_job(module, network, config, data, context))
    if result.reason == "stopped":
        raise KeyboardInterrupt
    if is_main_process():
        trained = module._trainer is not None  # a resumed run that had ended already trains nothing
        done = result.step if trained else None
        _check_what_is_on_disk(config, network, data, classes, steps, done, context)


def _hear(network: Network, data: SousaData, context: Context) -> None:
    """Let the data set through the network's own front end, and say when it was made for other sounds than these."""
    net = classifier(network)
    data.hear_through(net.front_end, net.input_kind)
    found = measured(net.front_end, data.train.waves())
    net.calibrate(*found)
    context.about(numbers={"feature_mean": round(found[0], 3), "feature_deviation": round(found[1], 3)})
    wrong = mismatch(net.front_end, found)
    if wrong is not None:
        context.say(wrong, "warning" if net.facts.digest else "info")


def _say_plan(config: SousaConfig, network: Network, data: SousaData, classes: Sequence[str], context: Context) -> None:
    """What is about to be trained, on what, and how; before the first step."""
    facts = classifier(network).facts
    context.say(
        f"{len(data.train)} clips of {len(classes)} rudiments to train on, {len(data.validation)} to validate; "
        f"{facts.name}, weights: {facts.weights}{f' (sha256 {facts.digest[:12]})' if facts.digest else ''}."
    )
    for line in network.plan.words():
        context.say(line)
    cut = cut_share(data.train_samples, config.data.duration_s)
    if cut >= _MUCH_CUT:
        context.say(
            f"{cut:.0%} of the clips end before their pattern is whole once "
            f"(data.duration_s={config.data.duration_s:g}): what they are stands only partly in them."
        )
    context.about(lines={RECIPE.headline.metric: ceiling_of(config, classes).lines})


def _job(
    module: RudimentTrainer, network: Network, config: SousaConfig, data: SousaData, context: Context
) -> TrainingJob:
    net, told = classifier(network), wandb_callback(config, context)
    weights = net.facts.weights + (f", sha256 {net.facts.digest[:12]}" if net.facts.digest else "")
    return TrainingJob(
        module, data.train, len(data.train), data.validation, config.training, config.seed, context, RECIPE.headline,
        RECIPE.columns,
        collate=data.collate,
        collate_validation=data.collate_plain,
        name_of=lambda key: data.train.samples[key.item].sample_id,
        callbacks=(TellCacheSpeed(data.train, context), *(() if told is None else (told,))),
        facts={"model": net.facts.name, "weights": weights, "front end": net.front_end.name, **network.plan.facts()},
        numbers=network.plan.numbers(),
    )  # fmt: skip


def _check_what_is_on_disk(
    config: SousaConfig, network: Network, data: SousaData, classes: Sequence[str], steps: int, done: int | None,
    context: Context,
) -> None:  # fmt: skip
    """The newest checkpoint, read back, answers as the network in memory; the best adapter is written by itself.

    A checkpoint of another step than `done` (the last one could not be written, which was said) has nothing to compare
    with; nor has a network that this process did not train.
    """
    lines = read_checkpoints(context.run.checkpoints / MANIFEST_NAME)
    newest, chosen = latest(lines), best_pruned(lines, config, steps)
    if newest is None:
        return
    if newest.step == done:
        network.adapted.cpu()
        batch: Batch = data.collate_plain([data.validation[n] for n in range(min(_HEARD, len(data.validation)))])
        again = _load(config, len(classes), steps, newest, context)
        check_reload(logits_of(network.adapted, batch.x), logits_of(again.adapted, batch.x))
    if config.strategy.name in ADAPTERS:
        kept = _load(config, len(classes), steps, chosen or newest, context)
        context.say(save_adapter(kept.adapted, context.run.path / "adapter", classes, config).words())


def _load(config: SousaConfig, classes: int, steps: int, line: CheckpointLine, context: Context) -> Network:
    """A checkpoint as a network; what its weights are was said already."""
    return load_network(config, classes, steps, context.run.checkpoints / line.name, _quiet)


def _quiet(text: str, level: str = "info") -> None:
    """Said once already."""
