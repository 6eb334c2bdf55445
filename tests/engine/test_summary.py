"""What a summary must not get wrong: resumes, batching, hostile and damaged lines, warnings."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.events import decode_lines
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord, write_record
from wavedeck.engine.rundir import Home
from wavedeck.engine.state import RunState
from wavedeck.engine.summary import Summary
from wavedeck.tests.fakes.runs import T0, make_home, make_run


@pytest.fixture
def at(home: object) -> Home:
    return make_home(home)  # type: ignore[arg-type]


def line(kind: str, **fields: object) -> bytes:
    return json.dumps({"t": T0, "k": kind, **fields}).encode() + b"\n"


def row(step: int, loss: float) -> bytes:
    return line("metrics", step=step, v={"val/loss": loss})


JOURNAL = [row(2, 0.5), row(6, 0.4), row(10, 0.2), line("start", step=5, attempt=2), row(6, 0.9), row(7, 0.45)]


@given(st.lists(st.integers(0, len(JOURNAL)), max_size=6))
@settings(deadline=None, max_examples=40)
def test_any_batching_gives_the_same_best_step_and_values(cuts: list[int]) -> None:
    summary = Summary()
    edges = [0, *sorted(cuts), len(JOURNAL)]
    for start, end in zip(edges, edges[1:], strict=False):
        summary.absorb(decode_lines(b"".join(JOURNAL[start:end]))[0])
    assert summary.best(None) == ("val/loss", 0.45, 7)
    assert summary.step == 7 and summary.last == {"val/loss": 0.45}


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (ExitRecord(attempt=2, ended=T0 + 50, exit_code=1), RunState.FAILED),
        (ExitRecord(attempt=2, ended=T0 + 50, signal=9, oom_killed=True), RunState.KILLED),
    ],
)
def test_a_resume_that_dies_at_once_is_not_called_stopped(at: Home, record: ExitRecord, state: RunState) -> None:
    run = make_run(at, state="stopped")
    run.events.write_bytes(line("start", attempt=1) + row(1, 0.5) + line("end", reason="stopped", attempt=1))
    write_record(run.attempt(2), Attempt(attempt=2, requested=T0 + 40, argv=["true"], cwd="/"))
    write_record(run.exit, record)
    (view,) = Catalog(at, lambda run_id, record: False).views()
    assert view.state is state


def test_a_step_no_column_can_hold_is_a_damaged_line_and_costs_nothing_else(at: Home) -> None:
    run = make_run(at)
    run.events.write_bytes(row(1, 0.5) + row(10**30, 0.1) + row(2**63, 0.1) + row(2, 0.4))
    (view,) = Catalog(at, lambda run_id, record: False).views()
    assert view.step == 2 and view.problem is not None and "2 damaged" in view.problem


def test_warnings_of_both_journals_are_noticed_once(at: Home) -> None:
    run = make_run(at)
    warning = line("log", level="warning", text="metric 'x' was not recorded")
    run.events.write_bytes(warning * 3)
    run.console_events.write_bytes(line("log", level="warning", text="9 MB came too fast"))
    (view,) = Catalog(at, lambda run_id, record: False).views()
    assert [notice.text for notice in view.notices] == ["9 MB came too fast", "metric 'x' was not recorded"]


def test_a_final_test_row_does_not_move_the_run_back(at: Home) -> None:
    run = make_run(at)
    run.events.write_bytes(row(1, 0.5) + row(350, 0.1) + line("metrics", step=280, v={"test/accuracy": 0.9}))
    (view,) = Catalog(at, lambda run_id, record: False).views()
    assert (view.step, view.done, view.total) == (350, 350, 350)


def test_no_argument_of_the_logger_ends_a_training(tmp_path: object) -> None:
    path = tmp_path / "events.jsonl"  # type: ignore[operator]
    writer = EventWriter(path)
    writer.metrics({"a": 1.0}, step=np.int64(3), epoch=np.float32(1.5))  # type: ignore[arg-type]
    for step, epoch in ((math.nan, None), ("x", None), (np.arange(3), None), (10**400, None), (1, "x")):
        writer.metrics({"a": 10**400 if epoch else 2.0}, step=step, epoch=epoch)  # type: ignore[arg-type]
    events, bad = decode_lines(path.read_bytes())
    assert bad == 0
    rows = [event for event in events if event.k == "metrics"]
    assert (rows[0].step, rows[0].epoch) == (3, 1.5) and all(event.step is None for event in rows[1:5])
    assert sum(event.k == "log" for event in events) == 3, "said once each: step, epoch, a"
