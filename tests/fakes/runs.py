"""Run directories built by hand, for readers: every file as the launcher, supervisor and trainer would write it."""

from __future__ import annotations

import math
from pathlib import Path

from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import (
    Attempt,
    ExitRecord,
    GitState,
    Headline,
    Manifest,
    SupervisorRecord,
    write_record,
)
from wavedeck.engine.rundir import Home, RunDir

T0 = 1_790_000_000.0
"""A fixed moment: 2026-09-21 UTC."""


def make_run(
    home: Home,
    run_id: str = "20260921-1426-sousa-brisk-heron",
    *,
    state: str = "finished",
    created: float = T0,
    recipe: str | None = "sousa",
    **manifest: object,
) -> RunDir:
    """A run directory in the given state (queued, starting, running, finished, failed, killed, stopped, vanished)."""
    run = RunDir(home.runs / run_id)
    run.attempts.mkdir(parents=True)
    fields: dict[str, object] = {
        "id": run_id,
        "name": run_id.split("-")[2],
        "created": created,
        "recipe": recipe,
        "command": ["python", "-P", "-m", "wavedeck.engine.pipeline", f"/data/wavedeck/runs/{run_id}"]
        if recipe
        else ["python", "train.py"],
        "config": {"training": {"lr": 0.001, "max_steps": 400}, "seed": 1} if recipe else {},
        "headline": Headline("val/balanced_accuracy", "max") if recipe else None,
        "columns": ["train/loss", "val/loss", "val/balanced_accuracy"] if recipe else [],
        "cwd": "/home/somebody/project",
        "git": GitState("0123456789abcdef0123456789abcdef01234567", dirty=True),
        "overrides": ["training.lr=0.001"] if recipe else [],
    }
    fields.update(manifest)
    write_record(run.manifest, Manifest(**fields))  # type: ignore[arg-type]
    if state == "queued":
        return run
    write_record(run.attempt(1), Attempt(attempt=1, requested=created, argv=["true"], cwd="/"))
    if state == "starting":
        return run
    write_record(run.supervisor, SupervisorRecord(attempt=1, pid=2**22 + 5, started=created + 0.1, child=2**22 + 6))
    if state in ("running", "vanished"):
        return run
    write_record(run.exit, exit_record(state, created))
    return run


def exit_record(state: str, created: float) -> ExitRecord:
    """How a supervisor would tell this ending."""
    endings: dict[str, dict[str, object]] = {
        "finished": {"exit_code": 0},
        "failed": {"exit_code": 1, "tail": ["Traceback (most recent call last):", "RuntimeError: out of luck"]},
        "killed": {"signal": 9, "oom_killed": True, "tail": ["step 120 loss 0.5"]},
        "stopped": {"exit_code": 0, "stop_requested": True},
    }
    return ExitRecord(attempt=1, started=created + 0.1, ended=created + 95.0, pid=7, **endings[state])  # type: ignore[arg-type]


def write_metrics(run: RunDir, steps: int = 200, *, val_every: int = 20, nan_at: int | None = None) -> None:
    """A plausible training: a noisy falling loss, a validation now and then, progress."""
    writer = EventWriter(run.events)
    for step in range(1, steps + 1):
        t = T0 + 0.4 * step
        loss = 2.0 * math.exp(-step / 60) + 0.15 + 0.08 * math.sin(step * 1.7) * math.exp(-step / 200)
        values = {"train/loss": math.nan if step == nan_at else loss, "lr": 1e-3 * min(1.0, step / 20)}
        _row(writer, t, step, step / 20, values)
        if step % val_every == 0:
            accuracy = 0.95 - 0.8 * math.exp(-step / 50)
            _row(writer, t, step, step / 20, {"val/loss": loss + 0.05, "val/balanced_accuracy": accuracy})
            writer._append(
                f'{{"t":{t},"k":"progress","done":{step},"total":{steps},"unit":"step","description":"train"}}\n'
            )
    writer.close()


def _row(writer: EventWriter, t: float, step: int, epoch: float, values: dict[str, float]) -> None:
    import json

    words = {key: "NaN" if math.isnan(value) else round(value, 6) for key, value in values.items()}
    row = {"t": t, "k": "metrics", "step": step, "epoch": epoch, "v": words}
    writer._append(json.dumps(row, separators=(",", ":")) + "\n")


def make_home(path: Path) -> Home:
    """An empty home at `path`."""
    home = Home(path)
    home.runs.mkdir(parents=True)
    return home
