"""A training that only logs, as a process: `python -m wavedeck.benchmarks.writer wandb|wavedeck DIR …`.

First `--steps` rows as fast as they can be written, then, with `--seconds`, more at `--rate` a second. The moment each
of those returned from logging goes to DIR/written.txt as `step time`, which is what screens are compared with.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from wavedeck.benchmarks.generate import Shape, row, rows

Log = Callable[[Mapping[str, float], int], None]
CLOCK = "clock"
"""A live metric that is the step: what a chart shows as its newest value names the row it shows."""


def main() -> None:
    """Log history, then live rows."""
    options = _options()
    options.dir.mkdir(parents=True, exist_ok=True)
    log, close = (_wandb if options.kind == "wandb" else _wavedeck)(options.dir)
    for step, values in enumerate(rows(Shape(options.steps, options.metrics, options.spiked))):
        log(values, step)
    if options.seconds:
        _live(log, options)
    close()


def _live(log: Log, options: argparse.Namespace) -> None:
    rng, step, due = random.Random(1), options.steps, time.time()
    end = due + options.seconds
    with (options.dir / "written.txt").open("w", buffering=1) as written:
        while time.time() < end:
            log({**row(step, options.metrics, rng), CLOCK: float(step)}, step)
            written.write(f"{step} {time.time():.4f}\n")
            step += 1
            due += 1.0 / options.rate
            time.sleep(max(0.0, due - time.time()))


def _wavedeck(directory: Path) -> tuple[Log, Callable[[], None]]:
    from wavedeck import log

    return (lambda values, step: log(values, step=step)), lambda: None


def _wandb(directory: Path) -> tuple[Log, Callable[[], None]]:
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
    import wandb

    settings = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off")
    run = wandb.init(project="bench", dir=str(directory), mode="offline", settings=settings)
    (directory / "pid.txt").write_text(str(os.getpid()))
    return (lambda values, step: run.log(dict(values), step=step)), run.finish


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("wandb", "wavedeck"))
    parser.add_argument("dir", type=Path)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--metrics", type=int, default=5)
    parser.add_argument("--spiked", action="store_true")
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
