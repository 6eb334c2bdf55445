"""One SOUSA training judged twice: on unseen players with kits it was trained on, and with kits it never heard.

    python -m wavedeck.benchmarks.sousa_splits RUN_ID…

The runs are of `data.unseen_kits=true`. The players are split by the same seed with and without it, so that the easy
split is the clips of the same held-out players on the training's kits, which no run has heard either.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from wavedeck.engine.checkpoints import best, read_checkpoints
from wavedeck.engine.config import from_resolved
from wavedeck.engine.context import Context
from wavedeck.engine.manifest import read_manifest
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.recipes.sousa.config import SousaConfig


def main(run_ids: list[str]) -> None:
    """A line for each run: balanced accuracy and its interval on both splits, and what the training took."""
    home = Home.default()
    print("| model | seen kits | unseen kits | clips |")
    print("| --- | --- | --- | --- |")
    for run_id in run_ids:
        run = RunDir(home.runs / run_id)
        config = from_resolved(SousaConfig, read_manifest(run.manifest).config)
        cells = []
        for unseen in (False, True):
            value, low, high, clips = _judged(run, config, home.data / "sousa", unseen)
            cells.append((f"{value:.3f} ({low:.3f} to {high:.3f})", clips))
        print(f"| {config.model.name} | {cells[0][0]} | {cells[1][0]} | {cells[0][1]} / {cells[1][1]} |", flush=True)


def _judged(run: RunDir, config: SousaConfig, data_root: Path, unseen: bool) -> tuple[float, float, float, int]:
    from wavedeck.recipes.sousa.data import SousaData
    from wavedeck.recipes.sousa.evaluate import judge
    from wavedeck.recipes.sousa.identify import ceiling_of
    from wavedeck.recipes.sousa.network import classifier, load_network
    from wavedeck.recipes.sousa.recipe import RECIPE
    from wavedeck.recipes.sousa.report.scores import score
    from wavedeck.recipes.sousa.tables import class_names, load_samples

    line = best(read_checkpoints(run.checkpoint_manifest), RECIPE.headline)
    assert line is not None
    with tempfile.TemporaryDirectory() as folder:
        context = Context(RunDir(Path(folder)), data_root, device="cpu")
        heard = {sample.kit for sample in load_samples(config, data_root) if sample.split == "train"}
        wanted = replace(config, data=replace(config.data, unseen_kits=unseen, cache_below=0))
        data = SousaData(wanted, context)
        data.prepare_data()
        data.setup("test")
        if not unseen:
            data._samples = [sample for sample in data.test_samples if sample.kit in heard]
        classes = class_names(config)
        network = load_network(config, len(classes), 1000, run.checkpoints / line.name, lambda text, level: None)
        net = classifier(network)
        data.hear_through(net.front_end, net.input_kind)
        scores = score(judge(wanted, context, network, data, line), ceiling_of(config, classes))
    interval = scores.intervals["balanced_accuracy"]
    return scores.metrics["balanced_accuracy"], interval.low, interval.high, scores.clips


if __name__ == "__main__":
    main(sys.argv[1:])
