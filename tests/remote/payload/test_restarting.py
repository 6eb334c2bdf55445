"""A crashed training goes on by itself: real supervisors, real deaths."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.manifest import Attempt, ExitRecord, StopRequest, SupervisorRecord, read_record, write_record
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.payload import restarting

from ..conftest import until

Supervise = Callable[..., Any]
pytestmark = pytest.mark.xdist_group("supervisor")

TRAINER = """
import json, os, signal, sys, time
run, attempt = os.environ["WAVEDECK_RUN_DIR"], int(os.environ["WAVEDECK_ATTEMPT"])
deaths = json.loads(sys.argv[1])  # the step at which each attempt dies; none: it comes to its end
begin = 4 if os.environ.get("WAVEDECK_RESUME") else 0
with open(run + "/events.jsonl", "a") as journal:
    def tell(**event):
        journal.write(json.dumps({"t": time.time(), **event}) + "\\n")
        journal.flush()
    tell(k="start", attempt=attempt, step=begin)
    for step in range(begin + 1, 11):
        tell(k="metrics", step=step, v={"loss": 1.0 / step})
        if attempt <= len(deaths) and step == deaths[attempt - 1]:
            os.kill(os.getpid(), signal.SIGKILL)
    tell(k="end", reason="finished", attempt=attempt)
print("secret", os.environ.get("TOKEN"), flush=True)
"""


def trainer(*deaths: int) -> list[str]:
    return [sys.executable, "-IS", "-c", TRAINER, json.dumps(deaths)]


def ended(run: RunDir, number: int) -> ExitRecord:
    """The exit record of an attempt, once it is there."""
    return until(  # type: ignore[return-value]
        lambda: (record := read_record(run.exit, ExitRecord)) is not None and record.attempt == number and record,
        f"the end of attempt {number}",
    )


def test_a_trainer_killed_once_goes_on_to_its_end(supervise: Supervise, run_dir: RunDir) -> None:
    run = supervise(trainer(5), restarts=2, backoff_s=0.05, environ={**os.environ, "TOKEN": "t0k"})
    last = ended(run_dir, 2)
    run.process.wait(10)
    assert (last.exit_code, last.signal, last.not_restarted) == (0, None, None)
    attempt = read_record(run_dir.attempt(2), Attempt)
    assert attempt is not None and attempt.resume and (attempt.restarts, attempt.restarted) == (2, 1)
    assert (attempt.crash, attempt.crash_step) == ("killed by SIGKILL at step 5", 5)
    console = run_dir.console.read_bytes()
    assert b"[wavedeck: attempt 1 crashed (killed by SIGKILL at step 5); attempt 2 goes on in 0 s" in console
    assert b"secret t0k" in console  # the environment went along
    assert not list(run_dir.attempts.glob(".env*")) and not list(run_dir.attempts.glob("*.tmp"))
    record = read_record(run_dir.supervisor, SupervisorRecord)
    assert record is not None and record.pid == run.process.pid and record.attempt == 2


def test_one_that_always_dies_a_little_further_stops_after_its_restarts(supervise: Supervise, run_dir: RunDir) -> None:
    supervise(trainer(5, 6, 7, 8), restarts=2, backoff_s=0.02)
    last = ended(run_dir, 3)
    assert (last.signal, last.not_restarted) == (9, "it was restarted 2 times already")
    assert not run_dir.attempt(4).exists()


def test_one_that_comes_no_further_is_not_tried_a_third_time(supervise: Supervise, run_dir: RunDir) -> None:
    supervise(trainer(5, 5), restarts=5, backoff_s=0.02)
    last = ended(run_dir, 2)
    assert last.not_restarted == "it crashed again at step 5 and came no further than before"


def test_a_stop_during_the_pause_ends_it(supervise: Supervise, run_dir: RunDir) -> None:
    run = supervise(trainer(5), restarts=2, backoff_s=25.0)
    until(lambda: (record := read_record(run_dir.supervisor, SupervisorRecord)) and record.attempt == 2, "the pause")
    write_record(run_dir.stop, StopRequest(2, time.time()))
    last = ended(run_dir, 2)
    run.process.wait(10)
    assert last.stop_requested and last.exit_code is None and not run_dir.attempt(3).exists()


def test_a_stop_for_the_attempt_that_has_just_crashed_counts_too(supervise: Supervise, run_dir: RunDir) -> None:
    supervise(trainer(5), restarts=2, backoff_s=25.0)
    until(lambda: (record := read_record(run_dir.supervisor, SupervisorRecord)) and record.attempt == 2, "the pause")
    write_record(run_dir.stop, StopRequest(1, time.time()))
    assert ended(run_dir, 2).stop_requested


def test_a_resume_by_the_user_wins(supervise: Supervise, run_dir: RunDir) -> None:
    own = Attempt(attempt=2, requested=time.time(), argv=["true"], cwd="/")
    flag = run_dir.path / "flag"
    run = supervise(["sh", "-c", f"while [ ! -e {flag} ]; do sleep 0.02; done; kill -9 $$"], restarts=2, backoff_s=0.02)
    run.record()
    write_record(run_dir.attempt(2), own)
    flag.touch()
    assert ended(run_dir, 1).signal == 9
    assert read_record(run_dir.attempt(2), Attempt) == own


def test_without_restarts_nothing_follows(supervise: Supervise, run_dir: RunDir) -> None:
    supervise(trainer(5))
    assert ended(run_dir, 1).not_restarted is None and not run_dir.attempt(2).exists()


# --- the rules


def decide(run_dir: RunDir, attempt: dict[str, Any] | None = None, **ended_: Any) -> tuple[Any, str | None]:
    record = {"attempt": 1, "restarts": 3, "cwd": "/w", "env": {}, **(attempt or {})}
    return restarting.next_attempt(str(run_dir.path), record, {"started": 100.0, "exit_code": None, **ended_})


def tell(run_dir: RunDir, *events: dict[str, Any]) -> None:
    run_dir.events.write_text("".join(json.dumps({"t": 200.0, **event}) + "\n" for event in events))


@pytest.mark.parametrize(
    "ended_",
    [
        {"exit_code": 0},
        {"exit_code": 127},
        {"exit_code": 130},
        {"signal": 2},
        {"signal": 15},
        {"signal": 9, "stop_requested": True},
        {"signal": 9, "fenced": "other"},
        {"exit_code": 1, "error": "could not be started"},
    ],
)
def test_ends_that_are_no_crash(run_dir: RunDir, ended_: dict[str, Any]) -> None:
    assert decide(run_dir, **ended_) == (None, None)


def test_a_sentence_is_final_and_a_traceback_is_not(run_dir: RunDir) -> None:
    tell(run_dir, {"k": "end", "reason": "failed", "attempt": 1, "text": "no such file", "final": True})
    assert decide(run_dir, exit_code=1) == (None, "its trainer said why it cannot go on")
    tell(run_dir, {"k": "end", "reason": "failed", "attempt": 1, "text": "KeyError: 3"})
    found, why = decide(run_dir, exit_code=1)
    assert why is None and found["crash"] == "exit code 1"


def test_pauses_grow_and_are_bounded(run_dir: RunDir) -> None:
    waits = []
    for done in range(8):
        tell(run_dir, {"k": "metrics", "step": done + 1, "v": {}})
        found, _ = decide(run_dir, {"restarts": 9, "restarted": done, "crash_step": done or None}, signal=9)
        waits.append(round(found["not_before"] - found["requested"]))
    assert waits == [2, 4, 8, 16, 30, 30, 30, 30]
    assert restarting.wait_s({"not_before": time.time() + 1e9}) == 30.0


def test_no_record_has_more_restarts_than_there_are(run_dir: RunDir) -> None:
    tell(run_dir, {"k": "metrics", "step": 500, "v": {}})
    many = {"restarts": 1_000_000, "restarted": restarting.MOST_RESTARTS, "crash_step": 1}
    assert decide(run_dir, many, signal=9) == (None, "it was restarted 100 times already")


def test_an_environment_does_not_outlive_a_restart_that_cannot_begin(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        why = restarting.become(__file__, str(run_dir.path), 2, None, {"TOKEN": "t0k"})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert "could not be started (No such file" in why
    assert not list(run_dir.attempts.iterdir())


def test_where_no_step_is_told(run_dir: RunDir) -> None:
    """A recipe tells its steps: one that dies twice before the first is broken. Of another program nothing is known."""
    assert decide(run_dir, {"restarted": 1}, signal=9)[0] is None
    assert decide(run_dir, {"restarted": 1, "parse_console": True}, signal=9)[0] is not None
    assert decide(run_dir, {"restarted": 1, "parse_console": True, "crash_step": 3}, signal=9)[0] is None


def test_steps_of_earlier_attempts_and_nonsense_do_not_count(run_dir: RunDir) -> None:
    run_dir.events.write_text(
        '{"t": 50, "k": "metrics", "step": 99, "v": {}}\nnot json\n[1]\n'
        '{"t": 150, "k": "metrics", "step": true, "v": {}}\n{"t": 150, "k": "progress", "unit": "step", "done": 7}\n'
        '{"t": 150, "k": "progress", "unit": "clip", "done": 70}\n{"t": "x", "k": "metrics", "step": 500}\n'
    )
    assert decide(run_dir, signal=9)[0]["crash_step"] == 7


def test_another_program_is_told_its_newest_checkpoint(run_dir: RunDir) -> None:
    run_dir.checkpoints.mkdir()
    lines = [{"name": "a", "path": "out/a.pt"}, {"name": "b", "path": "out/b.pt"}, {"name": "c"}]
    run_dir.checkpoint_manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _ = decide(run_dir, {"env": {"A": "1", "WAVEDECK_RESUME_FROM": "old"}}, signal=9)
    assert found["env"] == {"A": "1", "WAVEDECK_RESUME_FROM": "/w/out/b.pt"}


def test_a_claim_is_exclusive_and_private(run_dir: RunDir) -> None:
    assert restarting.claim(str(run_dir.path), {"attempt": 2})
    assert not restarting.claim(str(run_dir.path), {"attempt": 2})
    assert Path(run_dir.attempt(2)).stat().st_mode & 0o777 == 0o600
