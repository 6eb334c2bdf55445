"""Many live runs at the cost of one process: `python -m wavedeck.benchmarks.many RUNS_DIR SECONDS RUN_ID…`.

It logs one row a second to each of them, spread over the second. Its command line names every run, so that it passes
for the supervisor of all: an agent looks for the id there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from wavedeck.engine.logger import EventWriter
from wavedeck.engine.rundir import RunDir

METRICS = {"loss/m0": 0.123456, "loss/m1": 0.654321, "lr": 1e-4}


def main(runs_dir: Path, seconds: float, run_ids: list[str]) -> None:
    """Log until the time is over."""
    writers = [EventWriter(RunDir(runs_dir / run_id).events) for run_id in run_ids]
    due = time.monotonic()
    end, step = due + seconds, 0
    while time.monotonic() < end:
        for writer in writers:
            writer.metrics(METRICS, step=step)
            due += 1.0 / len(writers)
            time.sleep(max(0.0, due - time.monotonic()))
        step += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
