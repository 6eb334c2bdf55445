"""The mover is killed between any two of its steps, and at most one child and one trainer ever come of it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.lineage import read_moved
from wavedeck.engine.manifest import read_manifest
from wavedeck.engine.rundir import Home
from wavedeck.remote.failover.move import move

from .conftest import Hosts, killer, lost_run, steps, until

STAGES = (
    "checkpoint:1", "push:1", "claim:1", "claim:2", "create:1", "fence:1", "create:2", "deliver:1",
    "deliver:2", "start:1", "start:2", "started",
)  # fmt: skip


@pytest.mark.timeout(120)
async def test_killed_at_every_step_and_then_again(home: Path, servers: dict[str, object], hosts: Hosts) -> None:
    place = Home(home)
    run = lost_run(place)
    claimed: set[str] = set()
    there = hosts.servers["gpu2"].remote_home / "claims" / f"{run.id}.json"
    with killer(place, run) as killed:
        for number, stage in enumerate(STAGES):
            status = await asyncio.to_thread(killed, stage)
            moved = read_moved(run)
            if moved is not None:
                claimed.add(moved.child)
            assert status == -signal.SIGKILL, stage
            assert (moved is None) == (number <= STAGES.index("claim:1")), stage
            assert there.exists() == (number > STAGES.index("claim:2")), stage
    assert json.loads(there.read_text())["child"] in claimed
    (child_id,) = claimed  # once claimed, always the same
    gpu2 = await hosts.up("gpu2")
    child = place.run(child_id)
    with pytest.raises(UsageError, match=child_id):  # the last one had started it: there is nothing left to do
        await move(place, run, None, gpu2, environ={})
    await until(lambda: len(steps(child)) > 3, "the child's curve")
    mine = steps(child)
    assert mine == list(range(31, 31 + len(mine)))
    assert hosts.runs("gpu2") == [child_id] and hosts.trainers("gpu2") == 1
    assert sorted(path.name for path in place.runs.iterdir() if not path.name.startswith(".")) == sorted(
        [run.id, child_id]
    )
    assert not (place.cache / "moving" / child_id).exists()
    assert read_manifest(child.manifest).parent_step == 30
