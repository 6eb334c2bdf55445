"""The script of docs/samples.md, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from wavedeck.engine.samples import SampleSet

DOCS = Path(__file__).parents[3] / "docs" / "samples.md"


def script() -> str:
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run(directory: Path, **more: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WAVEDECK_RUN_DIR"} | more
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", script()], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0 and not told.stderr, told.stderr


def test_the_script_is_about_ten_lines() -> None:
    code = [line for line in script().splitlines() if line.strip() and "import" not in line]
    assert len(code) <= 10


def test_its_samples_can_be_heard_at_both_steps(tmp_path: Path) -> None:
    run(tmp_path, WAVEDECK_RUN_DIR=str(tmp_path))
    samples = SampleSet(tmp_path, "val").load()
    assert len(samples) == 6 and len(set(samples.items.ids)) == 3
    for id in set(samples.items.ids):
        early, late = (samples.item(row) for row in samples.history(id))
        assert (early.step, late.step) == (100, 200) and early.metrics["mse"] > late.metrics["mse"]
        assert samples.problem(early) is None and samples.problem(late) is None
        assert np.array_equal(samples.audio(early, "target"), samples.audio(late, "target"))
        assert samples.audio(late, "prediction").shape == (16_000, 1)
    events = [json.loads(line)["k"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events == ["metrics"] * 2, "no warnings"


def test_outside_a_run_it_leaves_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])
