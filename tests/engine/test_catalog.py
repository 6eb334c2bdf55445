"""Listing runs: states from evidence, damaged directories, caches, resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from wavedeck.engine.catalog import CACHE_FILE, Catalog
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord, SupervisorRecord, write_record
from wavedeck.engine.rundir import Home
from wavedeck.engine.state import RunState
from wavedeck.tests.fakes.runs import T0, make_home, make_run, write_metrics


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def catalog(at: Home, alive: bool | None = False, now: float = T0 + 100) -> Catalog:
    return Catalog(at, lambda run_id, record: alive, clock=lambda: now)


@pytest.mark.parametrize(
    ("built", "alive", "now", "state"),
    [
        ("queued", None, T0, RunState.QUEUED),
        ("starting", None, T0 + 1, RunState.STARTING),
        ("starting", None, T0 + 60, RunState.VANISHED),
        ("running", True, T0 + 30, RunState.RUNNING),
        ("running", None, T0 + 30, RunState.UNREACHABLE),
        ("vanished", False, T0 + 30, RunState.VANISHED),
        ("finished", False, T0 + 300, RunState.FINISHED),
        ("failed", False, T0 + 300, RunState.FAILED),
        ("killed", False, T0 + 300, RunState.KILLED),
        ("stopped", False, T0 + 300, RunState.STOPPED),
    ],
)
def test_state_is_derived_from_evidence(at: Home, built: str, alive: bool | None, now: float, state: RunState) -> None:
    make_run(at, state=built)
    (view,) = catalog(at, alive, now).views()
    assert view.state is state


def test_alive_but_silent_beyond_its_rhythm_is_stalled(at: Home) -> None:
    run = make_run(at, state="running")
    write_metrics(run, 50)
    last = T0 + 0.4 * 50
    assert catalog(at, True, last + 55).views()[0].state is RunState.RUNNING
    assert catalog(at, True, last + 65).views()[0].state is RunState.STALLED


def test_a_slow_rhythm_needs_a_longer_silence(at: Home) -> None:
    run = make_run(at, state="running")
    lines = [json.dumps({"t": T0 + 120 * n, "k": "metrics", "step": n, "v": {"loss": 1.0}}) for n in range(5)]
    run.events.write_text("\n".join(lines) + "\n")
    last = T0 + 480
    assert catalog(at, True, last + 500).views()[0].state is RunState.RUNNING
    assert catalog(at, True, last + 700).views()[0].state is RunState.STALLED


def test_a_view_says_all_that_ps_prints(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 200, nan_at=77)
    (view,) = catalog(at).views()
    assert (view.step, view.done, view.total, view.unit) == (200, 200, 200, "step")
    assert view.best is not None and view.best[0] == "val/balanced_accuracy" and view.best[2] == 200
    assert view.nan_counts == {"train/loss": 1}
    assert view.spark_name == "train/loss" and 20 < len(view.spark) <= 128
    data = view.to_json()
    keys = {"id", "name", "state", "exit_code", "signal", "recipe", "stage", "command", "host", "created", "started",
            "ended", "step", "epoch", "progress", "last", "best", "checkpoints", "findings", "dir"}  # fmt: skip
    assert keys <= set(data)
    assert set(data["progress"]) == {"done", "total", "unit", "eta_s"}
    assert set(data["best"]) == {"metric", "value", "step"}
    json.dumps(data, allow_nan=False)


def test_rate_and_eta_come_from_recent_progress(at: Home) -> None:
    run = make_run(at, state="running")
    lines = [
        json.dumps({"t": T0 + 2.0 * n, "k": "progress", "done": 10 * n, "total": 1000, "unit": "step"})
        for n in range(11)
    ]
    run.events.write_text("\n".join(lines) + "\n")
    (view,) = catalog(at, True, now=T0 + 20).views()
    assert view.rate == pytest.approx(5.0)
    assert view.eta_s == pytest.approx(180.0)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: run.manifest.unlink(), "no manifest.json"),
        (lambda run: run.manifest.write_text('{"id": "x", "na'), "manifest.json is damaged"),
        (lambda run: run.manifest.write_text('{"format": 7, "shape": "new"}'), "format version 7 is newer"),
        (lambda run: run.exit.write_bytes(b"\xff\xfe garbage"), "exit.json is damaged"),
        (lambda run: run.attempt(1).write_text("[]"), "0001.json is damaged"),
    ],
)
def test_a_damaged_run_says_so_and_the_others_work(at: Home, damage: Callable[[object], object], sentence: str) -> None:
    make_run(at, "20260921-1426-sousa-calm-otter")
    damage(make_run(at, "20260921-1427-sousa-brisk-heron"))
    good, bad = catalog(at).views()
    assert good.state is RunState.FINISHED and good.problem is None
    assert bad.state is RunState.UNREADABLE and sentence in (bad.problem or "")
    json.dumps(bad.to_json(), allow_nan=False)


def test_garbage_lines_are_said_and_skipped(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 20)
    with open(run.events, "ab") as handle:
        handle.write(b"garbage\n" * 3 + b'{"t": "late", "k": 5}\n')
    (view,) = catalog(at).views()
    assert view.step == 20 and view.problem is not None and "4 damaged journal lines" in view.problem


def test_the_cache_gives_the_same_views_and_may_be_garbage(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 100)
    first = catalog(at).views()
    assert catalog(at).views() == first
    writer = EventWriter(run.events)
    writer.metrics({"train/loss": math.inf}, step=101)
    assert catalog(at).views()[0].step == 101
    (at.cache / CACHE_FILE).write_bytes(b"not msgpack")
    assert catalog(at).views()[0].step == 101


def test_a_summary_read_in_pieces_equals_one_read_whole(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 150, nan_at=31)
    whole = run.events.read_bytes()
    one = catalog(at).views()[0]
    (at.cache / CACHE_FILE).unlink()
    pieces = catalog(at)
    run.events.write_bytes(b"")
    for cut in range(0, len(whole), 977):
        with open(run.events, "ab") as handle:
            handle.write(whole[cut : cut + 977])
        view = pieces.views()[0]
    assert (view.last, view.best, view.step, view.nan_counts) == (one.last, one.best, one.step, one.nan_counts)


def test_a_resumed_run_is_judged_by_its_newest_attempt(at: Home) -> None:
    run = make_run(at, state="killed")
    write_record(run.attempt(2), Attempt(attempt=2, requested=T0 + 200, argv=["true"], cwd="/"))
    assert catalog(at, now=T0 + 201).views()[0].state is RunState.STARTING
    write_record(run.exit, ExitRecord(attempt=2, ended=T0 + 260, started=T0 + 201, exit_code=0))
    (view,) = catalog(at, now=T0 + 300).views()
    assert view.state is RunState.FINISHED and view.attempt == 2


def test_bests_beyond_the_resumed_step_are_forgotten(at: Home) -> None:
    run = make_run(at, headline=None, columns=[])
    writer = EventWriter(run.events)
    for step, loss in ((10, 0.9), (20, 0.5), (30, 0.1)):
        writer.metrics({"val/loss": loss}, step=step)
    writer.write("start", step=20, attempt=2)
    writer.metrics({"val/loss": 0.4}, step=30)
    (view,) = catalog(at).views()
    assert view.best == ("val/loss", 0.4, 30)


def test_console_metrics_yield_to_what_the_trainer_logs_itself(at: Home) -> None:
    run = make_run(at, recipe=None)
    EventWriter(run.events).metrics({"loss": 0.25}, step=4)
    EventWriter(run.console_events).metrics({"loss": 0.3, "lr": 0.1}, step=4)
    (view,) = catalog(at).views()
    assert view.last == {"loss": 0.25, "lr": 0.1}


def test_an_unchanged_ended_run_is_not_read_again(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(at)
    write_metrics(run, 10)
    runs = catalog(at)
    (first,) = runs.views()
    monkeypatch.setattr(runs, "view", lambda *args: pytest.fail("read again"))
    assert runs.views()[0] is first


def test_a_vanished_run_that_reports_late_is_seen_running(at: Home) -> None:
    """A slow start looks like `vanished` for a while; nothing about that may be remembered."""
    run = make_run(at, state="starting")
    runs = catalog(at, alive=True, now=T0 + 60)
    assert runs.views()[0].state is RunState.VANISHED
    write_record(run.supervisor, SupervisorRecord(attempt=1, pid=1, started=T0 + 59))
    assert runs.views()[0].state is RunState.RUNNING


def test_a_directory_that_is_no_run_is_not_listed(at: Home) -> None:
    make_run(at)
    (at.runs / "notes \x1b[2J").mkdir()
    assert len(catalog(at).views()) == 1
