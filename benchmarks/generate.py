"""Runs to measure on: the same numbers as a Wavedeck journal and as an offline W&B run.

Every metric is a decaying noisy loss, so that no two rows are alike. Finished runs are cached in a data directory,
because the W&B SDK needs minutes for a million rows.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, SupervisorRecord, write_record
from wavedeck.engine.rundir import Home, RunDir

T0 = 1_790_000_000.0
ROW_S = 0.1
"""Seconds between two rows of a generated run."""
PROGRESS_EVERY = 50
SPIKE_STEP, SPIKE_VALUE, NAN_STEP = 54_321, 50.0, 77_777


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a run is: rows, and metrics in each row."""

    steps: int
    metrics: int
    spiked: bool = False
    """One value of 50 at step 54,321 and one NaN at step 77,777."""

    @property
    def tag(self) -> str:
        return f"{self.steps}x{self.metrics}{'-spiked' if self.spiked else ''}"

    def __str__(self) -> str:
        return f"{self.steps:,} × {self.metrics}"


SPIKED = Shape(100_000, 1, spiked=True)


def row(step: int, metrics: int, rng: random.Random) -> dict[str, float]:
    """The values of one step."""
    return {f"loss/m{j}": (1.0 + j) * math.exp(-step / 2e4) + 0.1 + 0.05 * rng.random() for j in range(metrics)}


def rows(shape: Shape) -> Iterator[dict[str, float]]:
    """The values of every step, from step 0 on."""
    rng = random.Random(0)
    for step in range(shape.steps):
        values = row(step, shape.metrics, rng)
        if shape.spiked and step in (SPIKE_STEP, NAN_STEP):
            values["loss/m0"] = SPIKE_VALUE if step == SPIKE_STEP else math.nan
        yield values


def write_journal(path: Path, shape: Shape) -> None:
    """`events.jsonl` as the logger writes it: a start, every row, a progress line now and then, an end."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    with path.open("w") as file:
        file.write(encode({"t": T0, "k": "start", "attempt": 1}) + "\n")
        for step, values in enumerate(rows(shape)):
            t = round(T0 + ROW_S * step, 4)
            words = {key: "NaN" if math.isnan(value) else value for key, value in values.items()}
            file.write(encode({"t": t, "k": "metrics", "step": step, "v": words}) + "\n")
            if (step + 1) % PROGRESS_EVERY == 0 or step + 1 == shape.steps:
                progress = {"done": step + 1, "total": shape.steps, "unit": "step", "description": "train"}
                file.write(encode({"t": t, "k": "progress", **progress}) + "\n")
        file.write(encode({"t": T0 + ROW_S * shape.steps, "k": "end", "reason": "finished"}) + "\n")


def finished_run(home: Home, run_id: str, shape: Shape, data: Path) -> RunDir:
    """A run that ended well, its journal linked from the cache in `data`."""
    run = RunDir(home.runs / run_id)
    run.attempts.mkdir(parents=True)
    ended = T0 + ROW_S * shape.steps
    write_record(run.manifest, Manifest(run_id, "bench", T0, command=["python", "train.py"]))
    write_record(run.attempt(1), Attempt(attempt=1, requested=T0, argv=["true"], cwd="/"))
    write_record(run.supervisor, SupervisorRecord(attempt=1, pid=2**22 + 5, started=T0, child=2**22 + 6))
    write_record(run.exit, ExitRecord(attempt=1, started=T0, ended=ended, exit_code=0))
    run.events.symlink_to(journal(shape, data))
    run.console.write_bytes(b"training\n")
    return run


def journal(shape: Shape, data: Path) -> Path:
    """The journal of a shape, written once."""
    path = data / f"{shape.tag}.jsonl"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        write_journal(unfinished, shape)
        unfinished.replace(path)
    return path


def many_runs(home: Home, count: int, data: Path) -> None:
    """A home with `count` finished runs of 200 rows."""
    for number in range(count):
        finished_run(home, f"20260921-{number // 60:02d}{number % 60:02d}-bench-run-{number:03d}", Shape(200, 5), data)


def wandb_file(shape: Shape, data: Path) -> Path:
    """The same rows as an offline W&B run, written once by the W&B SDK."""
    folder = data / f"wandb-{shape.tag}"
    found = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    if found:
        return found[0]
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    spiked = ["--spiked"] if shape.spiked else []
    subprocess.run(
        [*writer("wandb"), str(unfinished), "--steps", str(shape.steps), "--metrics", str(shape.metrics), *spiked],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    unfinished.replace(folder)
    return next(folder.glob("wandb/offline-run-*/run-*.wandb"))


def writer(kind: str) -> list[str]:
    """Command line of a writer process; `kind` is `wandb` or `wavedeck`."""
    return [sys.executable, "-m", "wavedeck.benchmarks.writer", kind]
