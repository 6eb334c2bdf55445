"""The seed's twelve: four networks under three adapters, queued from one command line, trained to the end, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.tests.app.test_cli import cli, js

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tmux_socket"), pytest.mark.timeout(900)]

TINY = (
    "model.size=debug", "data.clips=48", "data.profiles=12", "data.duration_s=1.0", "data.rudiments=[flam,drag]",
    "training.max_steps=2", "training.batch_size=8",
)  # fmt: skip


def test_the_batch_of_twelve_to_its_end_and_compared(home: Path, tmp_path: Path) -> None:
    words = ("run", "sousa", "experiment=twelve", "--preset", "debug", *TINY)
    assert js(*words, "--dry-run")["estimate"]["seconds"] is None  # nothing was measured yet
    done = cli(*words, timeout=800)
    batch = done.stdout.partition(":")[0]
    assert f"{batch}: 12 finished" in done.stdout

    runs = js("ps", "--batch", batch)
    assert sorted(run["name"] for run in runs) == sorted(
        f"{model} {strategy}"
        for model in ("ast", "hts_at", "beats", "efficient_at")
        for strategy in ("lora", "adalora", "ia3")
    )
    ends = sorted((run["started"], run["ended"]) for run in runs)
    assert all(before[1] <= after[0] for before, after in zip(ends, ends[1:], strict=False))  # one after another
    for run in runs:
        folder = Path(run["dir"])
        assert (folder / "adapter/adapter.json").is_file() and (folder / "config.yaml").is_file()
        assert (folder / "environment.txt").is_file() and (folder / "evaluation.json").is_file()

    table, page = tmp_path / "twelve.csv", tmp_path / "twelve.html"
    compared = js("compare", batch, "--csv", str(table), "--html", str(page))
    assert len(compared["runs"]) == 12
    assert {"model.name", "strategy.name"} <= set(compared["differences"])
    assert len(table.read_text().splitlines()) == 13
    text = page.read_text()
    assert "<audio" in text and "http://" not in text.replace("http://www.w3.org", "")
    guess = js(*words, "--dry-run")["estimate"]
    assert guess["seconds"] > 0 and guess["unknown"] == 0
