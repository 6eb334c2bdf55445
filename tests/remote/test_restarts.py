"""A crashed run goes on by itself: launched as users launch it, in tmux, and seen as they see it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.planning import plan_command, plan_resume, with_restarts
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import operations
from wavedeck.remote.liveness import alive
from wavedeck.remote.local import LocalHost

RUN_ID = "20261120-1759-drums-brisk-heron"
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
TRAINER = """
import json, os, signal, time
run, attempt = os.environ["WAVEDECK_RUN_DIR"], int(os.environ["WAVEDECK_ATTEMPT"])
with open(run + "/events.jsonl", "a") as journal:
    def tell(**event):
        journal.write(json.dumps({"t": time.time(), **event}) + "\\n")
        journal.flush()
    first = 4 if os.environ.get("WAVEDECK_RESUME") else 0
    tell(k="start", attempt=attempt, step=first)
    for step in range(first + 1, 11):
        tell(k="metrics", step=step, v={"loss": 1.0 / step})
        if attempt == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    tell(k="end", reason="finished", attempt=attempt)
"""


async def launch(place: Home, backoff_s: float) -> operations.LaunchResult:
    attempt = Attempt(
        attempt=1, requested=time.time(), argv=[sys.executable, "-IS", "-c", TRAINER], cwd="/", restarts=2,
        backoff_s=backoff_s,
    )  # fmt: skip
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    return await operations.launch(place, LocalHost(), manifest, attempt)


@pytest.mark.usefixtures("tmux_socket")
async def test_killed_at_step_five_it_comes_to_its_end(home: object, wait_for: Callable[..., object]) -> None:
    place = Home(home)  # type: ignore[arg-type]
    result = await launch(place, backoff_s=0.1)
    runs = Catalog(place, alive)
    wait_for(lambda: runs.view(result.run).state is RunState.FINISHED, what="the end of attempt 2")
    view = runs.view(result.run)
    assert (view.attempt, view.step) == (2, 10)
    assert [notice.rule for notice in view.notices] == ["restarted"]
    assert "attempt 1 crashed (killed by SIGKILL at step 5)" in view.notices[0].text
    assert view.supervisor is not None and view.supervisor.session == result.session


@pytest.mark.usefixtures("tmux_socket")
async def test_a_stop_while_it_waits_is_a_stop(home: object, wait_for: Callable[..., object]) -> None:
    place = Home(home)  # type: ignore[arg-type]
    result = await launch(place, backoff_s=25.0)
    runs = Catalog(place, alive)
    wait_for(lambda: runs.view(result.run).attempt == 2 and runs.view(result.run).supervisor, what="the pause")
    wait_for(lambda: runs.view(result.run).state is RunState.STARTING, what="the pause")
    request = await operations.request_stop(LocalHost(), result.run)
    assert request.attempt == 2
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.stop_requested and runs.view(result.run).state is RunState.STOPPED


def test_how_often_is_planned_and_stands_in_the_command() -> None:
    plan = plan_command(["true"], taken=[])
    assert plan.attempt.restarts == 0 and with_restarts(plan, None) is plan
    again = with_restarts(plan, 3)
    assert again.attempt.restarts == 3 and again.command_line == "wavedeck exec --restarts 3 -- true"
    manifest = again.manifest
    used = msgspec.structs.replace(again.attempt, restarted=3, crash="x", crash_step=5, not_before=1.0)
    resumed = plan_resume(RunDir(Path("/nowhere")), manifest, used)
    assert (resumed.restarts, resumed.restarted, resumed.crash, resumed.not_before) == (3, 0, None, None)
