"""`wavedeck demo` in a real terminal with a real, tiny training: stopped, judged, resumed, and heard at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples import SampleSet
from wavedeck.remote.liveness import alive
from wavedeck.tests.app.test_end_to_end import Terminal, terminal  # noqa: F401  fixture

pytest.importorskip("torch")

WaitFor = Callable[..., Any]
TINY = (
    "data.rudiments=[flam,drag,single_paradiddle]", "data.clips=60", "data.duration_s=1.0", "data.profiles=12",
    "model.channels=8", "model.blocks=3", "training.max_steps=200", "training.max_epochs=1000",
    "training.batch_size=8", "training.val_every=20",
)  # fmt: skip


def now(home: Path) -> RunView:
    """The one run there is."""
    (view,) = Catalog(Home(home), alive).views()
    return view


def wavedeck(*words: str, code: int = 0) -> str:
    """A verb in a process of its own; what it narrates."""
    done = subprocess.run([sys.executable, "-m", "wavedeck", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("end-to-end")
def test_the_tour_can_be_stopped_judged_and_resumed_and_ends_on_listen(
    terminal: Terminal,  # noqa: F811
    home: Path,
    wait_for: WaitFor,
) -> None:
    wavedeck("run", "sousa", "--preset", "debug", "--name", "demo", "--detach", *TINY)
    terminal.start(size=(160, 45), words="demo")  # a demo that runs already is shown instead of another one
    terminal.expect(wait_for, "1 Charts")
    run = RunDir(now(home).dir)
    wait_for(lambda: now(home).checkpoints, 90, "a checkpoint")

    # stopped, then judged: it stays a stopped run, here and on the deck, and goes on from its checkpoint
    wavedeck("stop", "last")
    wait_for(lambda: now(home).state == "stopped", 60, "the stop")
    assert "evaluated; its training is stopped" in wavedeck("eval", "last", "--checkpoint", "best")
    judged = now(home)
    assert (judged.state, judged.attempt) == ("stopped", 2) and judged.best is not None and judged.step is not None
    assert _steps(run) == {judged.best[2]}
    terminal.expect(wait_for, "r Resume")
    terminal.keys("r")
    terminal.expect(wait_for, "goes on from the checkpoint")
    terminal.keys("y")
    wait_for(lambda: now(home).attempt == 3, 40, "the resume, by its key on the deck")

    # the end of the training is the beginning of listening
    terminal.expect(wait_for, "♪", timeout=120)
    finished = now(home)
    assert (finished.state, finished.step) == ("finished", 200) and judged.step < 200
    for words in ("test ", "flam", "target", "prediction", "loss"):
        terminal.expect(wait_for, words)
    assert "nothing to resume" in wavedeck("resume", "last", code=2)

    # the confusion matrix, and a cell of it opens its items
    terminal.press(wait_for, "Tab")
    terminal.expect(wait_for, "[Confusion]")
    for key in ("p", "p", "Enter"):  # the keys go to the page, where the cursor is on the most frequent mistake
        terminal.press(wait_for, key)
    (target, predicted), count = max(_confusion(run).items(), key=lambda cell: (cell[0][0] != cell[0][1], cell[1]))
    terminal.expect(wait_for, f"{count} of ")
    rows = [line for line in terminal.screen.splitlines() if f"✗ {predicted}" in line]
    assert target != predicted and len(rows) == count and all(row.strip().startswith(target) for row in rows)

    # an older checkpoint, judged while its set is open, is another step of the same items
    older = next(line.step for line in finished.checkpoints if line.step not in _steps(run))
    wavedeck("eval", "last", "--checkpoint", str(older))
    assert older in _steps(run) and now(home).state == "finished"
    assert "there is no checkpoint '7'" in wavedeck("eval", "last", "--checkpoint", "7", code=2)
    terminal.keys("q")
    terminal.expect(wait_for, "deck ended 0")


def _steps(run: RunDir) -> set[int | None]:
    found = SampleSet(run.path, "test").load()
    return {found.item(row).step for row in range(len(found.items))}


def _confusion(run: RunDir) -> dict[tuple[str, str], int]:
    """Each item as it was judged last."""
    rows = [json.loads(line) for line in (run.path / "samples/test/index.jsonl").read_text().splitlines()]
    newest = {row["id"]: (row["label"], row["predicted"]) for row in rows}
    return Counter(newest.values())
