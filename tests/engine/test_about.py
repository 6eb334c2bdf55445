"""What a trainer says of itself: merged, bounded, kept over restarts, and never a way to steer a terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from wavedeck.engine.about import MOST_FACTS, TEXT_LENGTH
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.context import Context
from wavedeck.engine.events import decode_lines
from wavedeck.engine.manifest import Attempt, ExitRecord, SupervisorRecord, write_record
from wavedeck.engine.rundir import Home
from wavedeck.engine.state import RunState, describe_end
from wavedeck.engine.summary import Summary
from wavedeck.tests.fakes.runs import T0, make_home, make_run


@pytest.fixture
def at(home: object) -> Home:
    return make_home(home)  # type: ignore[arg-type]


def summary_of(*events: dict[str, object]) -> Summary:
    summary = Summary()
    summary.absorb(decode_lines(b"".join(json.dumps({"t": T0, "k": "about", **e}).encode() + b"\n" for e in events))[0])
    return summary


def test_later_ones_are_merged_and_null_takes_back() -> None:
    summary = summary_of(
        {
            "facts": {"model": "ast", "weights": "random"},
            "numbers": {"parameters": 5},
            "lines": {"val/acc": {"c": 0.8}},
        },
        {"facts": {"weights": "3f2a"}, "numbers": {"train_s": 2.5}, "lines": {"val/acc": {"human": 0.9}}},
        {"facts": {"model": None}, "lines": {"val/acc": {"c": None}}},
    )
    assert summary.facts == {"weights": "3f2a"}
    assert summary.numbers == {"parameters": 5.0, "train_s": 2.5}
    assert summary.lines == {"val/acc": {"human": 0.9}}


def test_what_makes_no_sense_is_left_out_alone() -> None:
    summary = summary_of(
        {"facts": {"a": "x\x1b[31m\ny" + "z" * 999, "b": ["no"], "": "no", "c": 3, "d": True}},
        {"facts": "no", "numbers": [1], "lines": {"m": 0.5, "n": {"l": "NaN"}, "o": {"l": [1]}}},
        {"numbers": {"n": "NaN", "i": "Infinity", "s": "five", "b": True, "f": 1.5, "huge": 10**400}},
        {"facts": {f"name {n}": "v" for n in range(99)}},
    )
    assert summary.facts["a"].startswith("x") and "\x1b" not in summary.facts["a"] and "\n" not in summary.facts["a"]
    assert len(summary.facts["a"]) <= TEXT_LENGTH and summary.facts["c"] == "3"
    assert "b" not in summary.facts and "" not in summary.facts and len(summary.facts) == MOST_FACTS
    assert summary.numbers == {"f": 1.5} and summary.lines == {}


def test_a_recipe_says_it_and_every_view_has_it(at: Home) -> None:
    run = make_run(at, state="running")
    context = Context(run, Path("/nowhere"))
    context.about(facts={"model": "hts_at"}, lines={"val/acc": {"ceiling": np.float32(0.5)}})
    context.about(numbers={"parameters": np.int64(7), "memory_gib": math.nan, "gone": None})
    context.about()
    view = Catalog(at, lambda *_: True).view(run)
    assert (view.facts, view.numbers, view.lines) == (
        {"model": "hts_at"},
        {"parameters": 7.0},
        {"val/acc": {"ceiling": 0.5}},
    )
    assert view.to_json()["facts"] == {"model": "hts_at"} and view.to_json()["numbers"] == {"parameters": 7.0}


def test_the_cache_keeps_it(at: Home) -> None:
    run = make_run(at, state="running")
    Context(run, Path("/nowhere")).about(facts={"model": "ast"}, lines={"m": {"l": 1.0}})
    first = Catalog(at, lambda *_: True)
    first.view(run)
    first.save_cache()
    size = run.events.stat().st_size
    run.events.write_bytes(b"x" * size)  # what was read is not read again
    view = Catalog(at, lambda *_: True).view(run)
    assert view.facts == {"model": "ast"} and view.lines == {"m": {"l": 1.0}}


# --- restarts, as records tell them


def restarted(**fields: object) -> Attempt:
    base: dict[str, object] = {"restarts": 3, "restarted": 1, "crash": "killed by SIGKILL at step 5", "crash_step": 5}
    return Attempt(attempt=2, requested=T0, argv=["true"], cwd="/", **{**base, **fields})  # type: ignore[arg-type]


def test_a_restart_is_told_and_its_pause_is_no_training(at: Home) -> None:
    run = make_run(at, state="running")
    write_record(run.attempt(2), restarted(not_before=T0 + 5))
    write_record(run.supervisor, SupervisorRecord(attempt=2, pid=1, started=T0))
    view = Catalog(at, lambda *_: True, clock=lambda: T0 + 2).view(run)
    assert view.state is RunState.STARTING and view.attempt == 2
    words = "attempt 1 crashed (killed by SIGKILL at step 5); attempt 2 goes on by itself, restart 1 of 3."
    assert [(notice.rule, notice.text) for notice in view.notices] == [("restarted", words)]
    write_record(run.supervisor, SupervisorRecord(attempt=2, pid=1, started=T0, child=2))
    assert Catalog(at, lambda *_: True, clock=lambda: T0 + 8).view(run).state is RunState.RUNNING


def test_a_stop_in_the_pause_is_a_stop(at: Home) -> None:
    run = make_run(at, state="running")
    write_record(run.attempt(2), restarted(not_before=T0 + 5))
    write_record(run.exit, ExitRecord(attempt=2, ended=T0 + 2, stop_requested=True))
    assert Catalog(at, lambda *_: True).view(run).state is RunState.STOPPED


def test_why_nothing_followed_stands_with_the_end() -> None:
    record = ExitRecord(attempt=3, ended=T0, signal=9, not_restarted="it was restarted 2 times already")
    assert describe_end(record) == "killed by SIGKILL; it was restarted 2 times already"
