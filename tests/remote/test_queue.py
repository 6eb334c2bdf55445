"""The queue with its real runner: one run after another, through kills, refusals and second thoughts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.manifest import Attempt, Manifest, write_record
from wavedeck.engine.planning import Plan
from wavedeck.engine.queue import (
    LOG_FILE,
    QUEUED_FILE,
    is_waiting,
    last_trouble,
    ordinal,
    pause,
    places,
    planned_attempt,
    read_settings,
    waiting,
)
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState, describe_end
from wavedeck.remote import operations
from wavedeck.remote.liveness import alive
from wavedeck.remote.local import LocalHost
from wavedeck.remote.queue.lock import ensure_runner, queue_lock, runner_of
from wavedeck.remote.queue.stopping import stop_all
from wavedeck.remote.queue.waiting import enqueue, in_the_way, is_active, take_out
from wavedeck.tests.fakes.runs import make_run

pytestmark = pytest.mark.usefixtures("tmux_socket")
WaitFor = Callable[..., Any]
T0 = 1_790_000_000.0
BATCH = "batch-20260921-1426-toy-calm-fox"
WORDS = ("aye", "bee", "cue", "dee")


def _plans(tmp_path: Path, *scripts: str) -> list[Plan]:
    plans = []
    for place, script in enumerate(scripts):
        run_id = f"20260921-1426-toy-brisk-{WORDS[place]}"
        argv = ["sh", "-c", script]
        manifest = Manifest(run_id, f"toy {place}", T0 + place / 1000, command=argv, cwd=str(tmp_path), batch=BATCH)
        plans.append(Plan(manifest, Attempt(1, T0, argv, str(tmp_path), env={"MARK": str(place)}), ()))
    return plans


def _queue(home: Path, tmp_path: Path, *scripts: str) -> tuple[Home, list[RunDir]]:
    at = Home(home)
    return at, asyncio.run(enqueue(at, LocalHost(home=at), _plans(tmp_path, *scripts)))


def _state(at: Home, run: RunDir) -> RunState:
    return Catalog(at, alive).view(run).state


def _log(at: Home, run: RunDir) -> str:
    return run.console.read_text() if run.console.exists() else ""


def test_they_run_one_after_another_whatever_becomes_of_each(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    once = "test ! -e busy && touch busy && sleep 0.2 && rm busy"
    at, runs = _queue(
        home, tmp_path, f"{once}; echo $MARK", f"{once}; exit 3", "/nowhere/at-all", f"{once} && echo done"
    )
    assert [run.id for run in waiting(at)] == [run.id for run in runs]
    assert {_state(at, run) for run in runs} == {RunState.QUEUED}
    assert ensure_runner(at) and wait_for(lambda: runner_of(at), what="the runner")
    assert not ensure_runner(at)
    wait_for(lambda: not waiting(at) and not any(map(is_active, runs)), what="the end of all")
    assert [_state(at, run) for run in runs] == [RunState.FINISHED, RunState.FAILED, RunState.FAILED, RunState.FINISHED]
    assert _log(at, runs[0]).strip() == "0" and _log(at, runs[3]).strip() == "done"
    wait_for(lambda: runner_of(at) is None, what="the end of the runner")
    assert not ensure_runner(at)


def test_a_killed_runner_is_replaced_and_no_run_starts_twice(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    count = "echo x >> started.$MARK; while test ! -e go; do sleep 0.05; done"
    at, runs = _queue(home, tmp_path, count, count, count)
    ensure_runner(at)
    wait_for(lambda: (tmp_path / "started.0").exists(), what="the first run")
    wait_for(lambda: _state(at, runs[0]) is RunState.RUNNING, what="its supervisor")
    os.kill(wait_for(lambda: runner_of(at), what="the runner"), signal.SIGKILL)
    wait_for(lambda: runner_of(at) is None, what="the end of the runner")
    assert _state(at, runs[0]) is RunState.RUNNING
    assert ensure_runner(at)
    wait_for(lambda: runner_of(at), what="another runner")
    assert [_state(at, run) for run in runs[1:]] == [RunState.QUEUED] * 2  # it waits for the one under way
    (tmp_path / "go").touch()
    wait_for(lambda: not waiting(at) and not any(map(is_active, runs)), what="the end of all")
    assert {_state(at, run) for run in runs} == {RunState.FINISHED}
    assert [(tmp_path / f"started.{place}").read_text() for place in range(3)] == ["x\n"] * 3


def test_one_taken_out_is_stopped_before_it_began_and_the_others_go_on(
    home: Path, tmp_path: Path, wait_for: WaitFor
) -> None:
    at, runs = _queue(home, tmp_path, "true", "touch never", "true")
    host = LocalHost(home=at)
    with pytest.raises(UsageError, match="waits in the queue and starts by itself"):
        asyncio.run(operations.resume(at, host, runs[1]))
    asyncio.run(operations.request_stop(host, runs[1]))
    view = Catalog(at, alive).view(runs[1])
    assert (view.state, describe_end(view.exit), is_waiting(runs[1])) == (RunState.STOPPED, "before it began", False)
    assert not asyncio.run(take_out(host, runs[1]))
    with pytest.raises(UsageError):
        asyncio.run(operations.start_queued(host, runs[1], Attempt(1, T0, ["true"], "/")))
    asyncio.run(operations.remove(at, host, runs[2]))
    assert [run.id for run in waiting(at)] == [runs[0].id] and not runs[2].path.exists()
    ensure_runner(at)
    wait_for(lambda: not waiting(at) and not is_active(runs[0]), what="the end of the first")
    assert not (tmp_path / "never").exists()
    resumed = asyncio.run(operations.resume(at, host, runs[1]))
    assert resumed.attempt == 2
    wait_for(lambda: (tmp_path / "never").exists(), what="what was resumed after all")


def test_a_whole_batch_is_stopped_with_none_beginning_meanwhile(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    at, runs = _queue(home, tmp_path, "touch began.$MARK; sleep 60", "touch began.$MARK", "touch began.$MARK")
    ensure_runner(at)
    wait_for(lambda: _state(at, runs[0]) is RunState.RUNNING, what="the first run")
    stopped = asyncio.run(stop_all(LocalHost(home=at), runs))
    assert (stopped.taken, [run.id for run in stopped.asked]) == (2, [runs[0].id])
    wait_for(lambda: not any(map(is_active, runs)), what="the end")
    assert {_state(at, run) for run in runs} == {RunState.STOPPED}
    assert not (tmp_path / "began.1").exists() and not (tmp_path / "began.2").exists()


def test_a_paused_queue_starts_nothing_until_it_goes_on(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    at, (run,) = _queue(home, tmp_path, "true")
    pause(at, True)
    assert not ensure_runner(at) and read_settings(at).paused
    (at.root / "queue.json").write_text("{")
    assert read_settings(at).paused, "what cannot be read starts nothing by mistake"
    pause(at, False)
    assert ensure_runner(at)
    wait_for(lambda: not waiting(at) and not is_active(run), what="its end")


def test_damaged_records_cost_the_others_nothing(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    at, runs = _queue(home, tmp_path, "echo from the manifest", "true", "true")
    (runs[0].path / QUEUED_FILE).write_text("{")
    for path in (runs[1].path / QUEUED_FILE, runs[1].manifest):
        path.write_text("{")
    ensure_runner(at)
    wait_for(lambda: not waiting(at) and not any(map(is_active, runs)), what="the end of all")
    assert "from the manifest" in _log(at, runs[0])
    assert msgspec.json.decode(runs[1].exit.read_bytes())["error"].startswith("manifest.json")
    assert _state(at, runs[2]) is RunState.FINISHED
    assert runs[1].id in (at.root / "queue.log").read_text()


def test_all_are_created_or_none(home: Path, tmp_path: Path) -> None:
    at = Home(home)
    plans = _plans(tmp_path, "true", "true", "true")
    (at.runs / plans[2].run_id).mkdir(parents=True)
    with pytest.raises(UsageError, match="there is a run"):
        asyncio.run(enqueue(at, LocalHost(home=at), plans, BackupPolicy(keep_last=2)))
    assert [path.name for path in at.runs.iterdir()] == [plans[2].run_id]


class _Filling(LocalHost):
    """Its disk is full when the third run is put into the queue, and a runner has started the first by then."""

    async def create_run(self, run_id: str, files: Mapping[str, bytes]) -> None:
        await super().create_run(run_id, files)
        assert not waiting(self.home), "none may begin before all are there"

    async def place(self, run_id: str, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        if name == QUEUED_FILE and run_id.endswith(WORDS[2]):
            first = waiting(self.home)[0]
            await operations.start_queued(LocalHost(home=self.home), first, planned_attempt(first))
            raise OSError(28, "No space left on device")
        return await super().place(run_id, name, data, exclusive=exclusive)


def test_what_a_runner_has_started_outlives_the_failure_of_the_others(
    home: Path, tmp_path: Path, wait_for: WaitFor
) -> None:
    at = Home(home)
    plans = _plans(tmp_path, "while test ! -e go; do sleep 0.05; done", "true", "true", "true")
    with pytest.raises(WavedeckError, match=rf"No space left on device\. {plans[0].run_id} had begun and goes on"):
        asyncio.run(enqueue(at, _Filling(home=at), plans))
    assert [path.name for path in at.runs.iterdir()] == [plans[0].run_id]
    (tmp_path / "go").touch()
    run = at.run(plans[0].run_id)
    wait_for(lambda: _state(at, run) is RunState.FINISHED, what="its end")


class _Cut(LocalHost):
    """Told when the second run is being created."""

    begun: asyncio.Event

    async def create_run(self, run_id: str, files: Mapping[str, bytes]) -> None:
        if run_id.endswith(WORDS[1]):
            self.begun.set()
        await super().create_run(run_id, files)


def test_ctrl_c_while_they_are_created_leaves_none(home: Path, tmp_path: Path) -> None:
    at, host = Home(home), _Cut(home=Home(home))

    async def cut() -> None:
        host.begun = asyncio.Event()
        task = asyncio.ensure_future(enqueue(at, host, _plans(tmp_path, "true", "true", "true")))
        await host.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    assert list(at.runs.iterdir()) == []


def _outside(at: Home, word: str, recipe: str | None, *gpus: int, env: dict[str, str] | None = None) -> RunDir:
    """A run that did not come through the queue, and has just been asked for."""
    run = make_run(at, f"20260921-1500-else-calm-{word}", state="queued", recipe=recipe, gpus=list(gpus))
    write_record(run.attempt(1), Attempt(1, time.time(), ["true"], "/", env=env or {}))
    return run


def test_only_trainings_on_the_same_gpus_are_in_the_way(home: Path, tmp_path: Path) -> None:
    at, plan = Home(home), _plans(tmp_path, "true")[0]
    (wide,) = asyncio.run(enqueue(at, LocalHost(home=at), [plan]))
    _outside(at, "ant", None)
    _outside(at, "bat", "sousa", env={"CUDA_VISIBLE_DEVICES": ""})
    assert in_the_way(at, wide) is None, "other programs, and trainings without a GPU"
    one = _outside(at, "cod", "sousa", 1)
    assert in_the_way(at, wide) == one
    narrow = msgspec.structs.replace(plan.manifest, gpus=[0])
    write_record(wide.manifest, narrow)
    assert in_the_way(at, wide) is None
    program = _outside(at, "doe", None, 0, 1)
    assert in_the_way(at, wide) == program
    program.manifest.write_text("{")
    (one.path / "attempts" / "0001.json").write_text("{")
    assert in_the_way(at, wide) is None, "what nobody can read holds nothing up"
    _outside(at, "elk", "sousa")
    assert in_the_way(at, wide) is not None


def test_the_runner_waits_for_a_training_outside_of_the_queue(home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    at, (outside, queued) = Home(home), _plans(tmp_path, "while test ! -e go; do sleep 0.05; done", "test -e go")
    manifest = msgspec.structs.replace(outside.manifest, recipe="sousa")
    host = LocalHost(home=at)
    asyncio.run(operations.launch(at, host, manifest, outside.attempt))
    (run,) = asyncio.run(enqueue(at, host, [queued]))
    assert ensure_runner(at) and wait_for(lambda: runner_of(at), what="the runner")
    assert is_waiting(run)
    (tmp_path / "go").touch()
    wait_for(lambda: not waiting(at) and not is_active(run), what="its end")
    assert _state(at, run) is RunState.FINISHED


def test_why_the_queue_stands_still(home: Path, tmp_path: Path) -> None:
    at = Home(home)
    assert last_trouble(at) is None
    at.root.mkdir(parents=True, exist_ok=True)
    log = at.root / LOG_FILE
    log.write_text("x" * 9000 + "\n2026-09-21 14:30:00 the queue stands still: no\x1b[31m room.\n\n")
    os.utime(log, (T0, T0))
    _queue(home, tmp_path, "true")
    assert last_trouble(at) is None, "that is older than what waits"
    os.utime(log)
    assert last_trouble(at) == "2026-09-21 14:30:00 the queue stands still: no·[31m room."


def test_places_and_the_lock(home: Path, tmp_path: Path) -> None:
    at, runs = _queue(home, tmp_path, "true", "true")
    views = Catalog(at, alive).views()
    assert places(views) == {runs[0].id: 1, runs[1].id: 2}
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 103, 113)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "103rd", "113th",
    ]  # fmt: skip
    lock, other = queue_lock(at), queue_lock(at)
    assert lock.take() and not other.take() and runner_of(at) == os.getpid()
    assert not ensure_runner(at)
    lock.release()
    assert runner_of(at) is None and other.take()
    other.release()
