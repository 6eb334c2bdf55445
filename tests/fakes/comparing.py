"""A batch of twelve as it looks half-way: most evaluated, one failed, one running, one still in the queue."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from wavedeck.engine.logger import EventWriter
from wavedeck.engine.rundir import Home, RunDir

from .runs import T0, _row, make_run

BATCH = "batch-20260921-1426-twelve-calm-fox"
MODELS = {"ast": 86.2e6, "hts_at": 30.1e6, "beats": 90.3e6, "efficient_at": 4.5e6}
STRATEGIES = {"lora": (2e-4, 0.004), "ia3": (5e-4, 0.0006), "full_finetune": (5e-5, 1.0)}
ANIMALS = ("heron", "otter", "lynx", "finch", "crane", "mole", "wren", "ibex", "newt", "pike", "stoat", "vole")
FAILED, RUNNING, QUEUED = 4, 9, 11


def tell(run: RunDir, rows: Iterable[tuple[int, Mapping[str, float]]], numbers: Mapping[str, float] = {}) -> None:
    """Rows of metrics, one a step, and numbers of the whole run."""
    writer = EventWriter(run.events)
    for step, values in rows:
        _row(writer, T0 + 0.4 * step, step, step / 20, dict(values))
    if numbers:
        writer._append(json.dumps({"t": T0, "k": "about", "numbers": dict(numbers)}) + "\n")
    writer.close()


def evaluate(run: RunDir, accuracy: float, classes: Sequence[str] = ("flam", "drag", "paradiddle")) -> None:
    """An `evaluation.json` with an interval, a ceiling and a matrix."""
    counts = [[9 if row == column else 1 for column in range(len(classes))] for row in range(len(classes))]
    told = {
        "checkpoint": "best.ckpt", "step": 400, "split": "test", "clips": sum(map(sum, counts)),
        "metrics": {"balanced_accuracy": accuracy, "accuracy": accuracy - 0.01},
        "intervals": {"balanced_accuracy": {"low": round(accuracy - 0.05, 6), "high": round(accuracy + 0.05, 6)}},
        "ceilings": {"balanced_accuracy": {"value": 0.85, "words": "34 of 40 patterns"}},
        "order": list(classes), "confusion": counts,
    }  # fmt: skip
    (run.path / "evaluation.json").write_text(json.dumps(told))


def make_twelve(home: Home) -> list[RunDir]:
    """Four models by three strategies, created in this order."""
    chance = random.Random(3)
    runs = []
    for number, (model, strategy) in enumerate((model, strategy) for model in MODELS for strategy in STRATEGIES):
        rate, share = STRATEGIES[strategy]
        state = {FAILED: "failed", RUNNING: "running", QUEUED: "queued"}.get(number, "finished")
        steps = {FAILED: 120, RUNNING: 260, QUEUED: 0}.get(number, 400)
        run = make_run(
            home, f"20260921-14{26 + number}-sousa-brisk-{ANIMALS[number]}", state=state, created=T0 + number,
            batch=BATCH, config={
                "model": {"name": model, "size": "small"}, "strategy": {"name": strategy}, "training": {"lr": rate},
            },
        )  # fmt: skip
        top = 0.55 + 0.3 * chance.random()
        rows = [
            (step, {"train/loss": 3 * math.exp(-step / 90), "val/balanced_accuracy": top * (1 - math.exp(-step / 80))})
            for step in range(20, steps + 1, 20)
        ]
        numbers = {
            "parameters": MODELS[model], "trainable_parameters": MODELS[model] * share,
            "memory_gib": 2 + 10 * chance.random(), "train_s": round(300 + 4000 * chance.random()),
        }  # fmt: skip
        tell(run, rows, numbers)
        if state == "finished":
            evaluate(run, round(top + 0.01, 4))
        runs.append(run)
    return runs
