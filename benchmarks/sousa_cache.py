"""The clips of the SOUSA recipe: the first epoch against the ones whose features are kept, generating, and checking.

Each front end is the one of its network, at the recipe's own clip length; the clips are made here. One process reads,
because it is the clips that are measured and not how many processes share them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wavedeck.engine.context import Context
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.training.stream import ItemKey
from wavedeck.recipes.sousa.config import DataConfig, FeatureConfig, ModelConfig, SousaConfig

from .measure import Spread
from .rows import Figure, Plan

CLIPS = 400
MODELS = ("cnn", "ast", "hts_at", "beats", "efficient_at")


def feature_cache(plan: Plan) -> Iterator[Figure]:
    """Row 23: milliseconds a clip takes in epoch 1 and in epoch 2, with augmentation, by front end."""
    import torch

    from wavedeck.recipes.sousa.data import Clips
    from wavedeck.recipes.sousa.generate import generate
    from wavedeck.recipes.sousa.tables import load_samples

    torch.set_num_threads(1)
    context = _context(plan)
    config = SousaConfig(data=DataConfig(clips=CLIPS))
    generate(config, context)
    samples = load_samples(config, context.data_root)
    for name in MODELS:
        front_end, kind = _front_end(name, config)
        epochs: tuple[Spread, Spread] = (Spread(), Spread())
        factor = Spread()
        for _ in range(plan.trials):
            clips = Clips(samples, config, front_end, kind)
            plan.note_load()
            for epoch, spread in enumerate(epochs):
                began = time.process_time()
                for index in range(len(clips)):
                    clips[ItemKey(index, epoch)]
                spread.add(1000 * (time.process_time() - began) / len(clips))
            factor.add(clips.speed.factor or 1.0)
        for epoch, spread in enumerate(epochs, start=1):
            yield Figure(23, f"{name}: a clip in epoch {epoch}, augmented", "CPU ms", spread)
        yield Figure(23, f"{name}: epoch 1 / epoch 2", "times", factor)


def generating(plan: Plan) -> Iterator[Figure]:
    """Row 24: what a clip costs to make, and to look at before training."""
    from wavedeck.recipes.sousa.data import check_set
    from wavedeck.recipes.sousa.generate import generate
    from wavedeck.recipes.sousa.tables import load_samples, set_directory

    made, headers, whole = Spread(), Spread(), Spread()
    for trial in range(plan.trials):
        context = _context(plan)
        config = SousaConfig(data=DataConfig(clips=CLIPS))
        config.synth.seed = 1000 + trial
        plan.note_load()
        made.add(_cpu_ms(lambda: generate(config, context)) / CLIPS)  # noqa: B023
        samples = load_samples(config, context.data_root)
        root = set_directory(config, context.data_root)
        for depth, spread in (("headers", headers), ("all", whole)):
            config.data.check_audio = depth
            spread.add(_cpu_ms(lambda: check_set(config, samples, root, lambda text, level: None)) / CLIPS)  # noqa: B023
    yield Figure(24, "making a clip of four seconds", "CPU ms", made)
    yield Figure(24, "checking a clip by its header and end", "CPU ms", headers)
    yield Figure(24, "checking a clip by reading it all", "CPU ms", whole)


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def _front_end(name: str, config: SousaConfig) -> tuple[Any, Any]:
    """The network's own front end; a small network, since the front end is the same at every size."""
    from wavedeck.recipes.sousa.models import build

    wanted = SousaConfig(
        data=config.data, features=FeatureConfig(), model=ModelConfig(name=name, size="debug", weights="random")
    )
    net = build(wanted, 40, lambda text, level: None)
    return net.front_end, net.input_kind


def _context(plan: Plan) -> Context:
    run = Path(plan.bench.sandbox) / "sousa-run"
    run.mkdir(exist_ok=True)
    return Context(RunDir(run), Path(plan.bench.sandbox) / "sousa-data", device="cpu")


MEASUREMENTS: tuple[tuple[frozenset[int], Callable[[Plan], Iterator[Figure]]], ...] = (
    (frozenset({23}), feature_cache),
    (frozenset({24}), generating),
)


if __name__ == "__main__":
    import sys
    import tempfile

    from .deck import Bench
    from .report import table

    with tempfile.TemporaryDirectory(prefix="wdbench-") as folder:
        bench = Bench(Path(folder), Path(folder) / "data")
        own = Plan(bench, None, trials=int(sys.argv[1]) if len(sys.argv) > 1 else 3)
        try:
            print(table([figure for _, measurement in MEASUREMENTS for figure in measurement(own)]))
        finally:
            bench.close()
