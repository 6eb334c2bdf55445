"""Batches from the command line: planned, queued, listed, stopped and removed by real processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.app.cli.launching import _taken
from wavedeck.app.cli.queueing import _print_queue, batch_named
from wavedeck.app.cli.reading import members_of
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import UsageError
from wavedeck.engine.manifest import Attempt, write_record
from wavedeck.engine.queue import LOG_FILE, QUEUED_FILE, Queued, last_trouble, pause
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.test_cli import cli, js
from wavedeck.tests.fakes.runs import T0, make_run

pytestmark = pytest.mark.usefixtures("tmux_socket", "fake_recipe")
WaitFor = Callable[..., Any]


@pytest.fixture
def fake_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake recipe, installed by its metadata alone for every process of this test."""
    info = tmp_path / "site" / "fake_recipe-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-recipe\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wavedeck.recipes]\nfake = wavedeck.tests.fakes.recipe_fake:RECIPE\n")
    path = os.pathsep.join(filter(None, [str(info.parent), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)


def test_a_batch_in_the_foreground_from_its_plan_to_its_removal(home: Path) -> None:
    words = ("run", "fake.train", "-m", "ending=well,exit", "seed=3")
    planned = cli(*words, "--dry-run").stdout
    assert "1  ending=well" in planned and "2 trainings, one after another: wavedeck run fake.train -m" in planned
    plan = js(*words, "--dry-run")
    assert [run["name"] for run in plan["runs"]] == ["ending=well", "ending=exit"] and plan["name"] == "fake"
    refused = cli("run", "fake", "-m", "seed=1,2", "strategy=fast,broken", code=2).stderr
    assert "seed=1 strategy=broken: " in refused and "Nothing was queued." in refused
    assert "add -m" in cli("run", "fake", "seed=1,2", code=2).stderr
    assert "add --yes" in cli("run", "fake", "-m", "seed=range(0,150)", code=2).stderr
    assert "with --host start its trainings one by one" in cli(*words, "--host", "gpu1", code=2).stderr
    assert not (home / "runs").exists()

    done = cli(*words, "--name", "ends", code=4)
    assert "1/2 ending=well finished" in done.stderr and "2/2 ending=exit failed (exit code 3" in done.stderr
    first, _, row, other = done.stdout.splitlines()
    batch = first.partition(":")[0]
    assert first == f"{batch}: 1 finished · 1 failed" and "-ends-" in batch
    assert "✓ finished" in row and "✗ failed" in other

    listed = cli("ps").stdout.splitlines()
    assert listed[1].startswith("▤ 2/2") and batch in listed[1] and "1 finished · 1 failed" in listed[1]
    assert listed[2].startswith("✓ finished    2") and listed[3].startswith("✗ failed ")
    assert [run["batch"] for run in js("ps")] == [batch, batch]
    cli("exec", "--", "true")
    assert len(js("ps", "--batch", batch)) == 2 and len(js("ps")) == 3
    shown = js("show", batch.rsplit("-", 2)[-2] + "-" + batch.rsplit("-", 1)[-1])
    assert (shown["batch"], shown["counts"], shown["total"]) == (batch, {"finished": 1, "failed": 1}, 2)
    assert "1 finished · 1 failed" in cli("wait", batch, code=4).stderr
    assert "has ended" in cli("stop", batch, code=2).stderr
    assert "needs a yes" in cli("rm", batch, code=2).stderr
    assert len(js("rm", batch, "--yes")["deleted"]) == 2
    assert "there is no batch" in cli("show", batch, code=2).stderr


HOSTILE = "\x1b]0;pwned\x07\x1b[31m"
BATCH = "batch-20260921-1426-twelve-calm-fox"


def test_a_hostile_manifest_says_nothing_to_the_terminal(home: Path) -> None:
    at, name = Home(home), BATCH + HOSTILE
    done = make_run(at, "20260921-1426-sousa-bold-ant", batch=name, name="a" + HOSTILE)
    waits = make_run(at, "20260921-1427-sousa-bold-bee", state="queued", batch=name, name="b" + HOSTILE)
    write_record(waits.path / QUEUED_FILE, Queued(T0, 0, Attempt(1, T0, ["true"], "/")))
    pause(at, True)
    said = [cli("ps"), cli("show", done.id), cli("queue")]
    said.append(cli("stop", name, code=2))
    for one in said:
        assert not set("\x1b\x07") & set(one.stdout + one.stderr), one.args
    assert "there is no batch" in said[3].stderr
    with pytest.raises(UsageError, match="there is no batch"):  # what `show`, `wait`, `stop` and `rm` do with a word
        batch_named(name)
    with pytest.raises(UsageError, match="there are no batches"):  # and `ps --batch`
        members_of(Catalog(at, lambda *_: False).views(), name)
    assert done.id in said[0].stdout and "BATCH" in said[2].stdout and "b·]0;pwned" in said[2].stdout


def test_a_word_that_means_a_run_and_a_batch_is_refused(home: Path) -> None:
    at = Home(home)
    make_run(at, "20260921-1426-sousa-bold-ant", batch=BATCH)
    assert _taken(at) == ["20260921-1426-sousa-bold-ant", BATCH]
    assert batch_named("calm-fox") == BATCH and batch_named("bold-ant") is None
    other = make_run(at, "20260921-1427-sousa-calm-fox")
    with pytest.raises(UsageError, match=f"'calm-fox' is the batch {BATCH} and the run {other.id}: give the id"):
        batch_named("calm-fox")
    assert batch_named(BATCH) == BATCH and batch_named(other.id) is None
    assert f"the batch {BATCH} and the run {other.id}" in cli("rm", "calm-fox", "--yes", code=2).stderr
    assert other.path.exists()


def test_the_queue_says_what_it_waits_for_and_why_it_stood_still(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = Home(home)
    busy = make_run(at, "20260921-1426-sousa-bold-ant", state="queued")
    write_record(busy.attempt(1), Attempt(1, time.time(), ["true"], "/"))
    waits = make_run(at, "20260921-1427-sousa-bold-bee", state="queued")
    write_record(waits.path / QUEUED_FILE, Queued(T0, 0, Attempt(1, T0, ["true"], "/")))
    (at.root / LOG_FILE).write_text("2026-09-21 14:30:00 the queue stands still: no room.\n")
    _print_queue(at, last_trouble(at), as_json=False)
    told = capsys.readouterr().err
    assert f"the first waits for {busy.id} to end" in told
    assert f"The last line of {at.root / LOG_FILE} is: 2026-09-21 14:30:00 the queue stands still: no room." in told
    found = js("queue")
    assert (found["waits_for"], found["trouble"]) == (busy.id, "2026-09-21 14:30:00 the queue stands still: no room.")
    assert js("queue", "clear", "--yes")["waits_for"] is None


def test_a_batch_in_the_background_and_the_queue_it_waits_in(wait_for: WaitFor) -> None:
    begun = js("run", "fake.train", "-m", "ending=wait", "seed=1,2,3", "--detach")
    batch, (first, second, third) = begun["batch"], [run["id"] for run in begun["runs"]]
    assert [Path(run["dir"]).name for run in begun["runs"]] == [first, second, third]
    wait_for(lambda: js("show", first)["state"] == "running", what="the first run")
    assert "◌ queued, 1st" in cli("ps").stdout and "▤ 0/3" in cli("ps").stdout
    queue = js("queue")
    assert [run["id"] for run in queue["running"]] == [first]
    assert [(run["id"], run["place"], run["batch"]) for run in queue["waiting"]] == [
        (second, 1, batch),
        (third, 2, batch),
    ]
    assert queue["runner"] and not queue["paused"]
    assert "waits in the queue" in cli("resume", second, code=2).stderr
    taken = cli("stop", second)
    assert "out of the queue" in taken.stderr and "stopped (before it began)" in taken.stderr
    assert js("queue", "pause")["paused"] and "the queue is paused" in cli("queue").stderr
    assert "has no 'strat'. Did you mean start?" in cli("queue", "strat", code=2).stderr
    assert "still" in cli("wait", first, "--timeout", "0.1", code=1).stderr
    assert "1 running" in cli("wait", batch, "--timeout", "0.1", code=1).stderr
    assert js("queue", "clear", "--yes")["waiting"] == []
    ended = js("stop", batch)
    assert ended["counts"] == {"stopped": 3}
    assert [run["started"] is None for run in ended["runs"]] == [False, True, True]
