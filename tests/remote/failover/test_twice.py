"""Two movers, half a move, a claim on a host that died: one child comes of it, and it can always go on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.lineage import read_moved
from wavedeck.engine.rundir import Home
from wavedeck.remote.failover.lease import moving
from wavedeck.remote.failover.move import MoveResult, move
from wavedeck.remote.failover.settle import settle

from .conftest import Hosts, back_up, keep_project, killed_at, launched, lost_run, steps, until


async def test_a_supervisor_that_was_just_started_is_not_started_twice(home: Path, hosts: Hosts) -> None:
    """The mover died between the start and the supervisor's first word; the next must not call it a failure."""
    place = Home(home)
    run = lost_run(place)
    assert await asyncio.to_thread(killed_at, place, run, "start:2") == -signal.SIGKILL
    gpu2 = await hosts.up("gpu2")
    first = await move(place, run, None, gpu2, environ={})
    assert first.launch is not None and first.launch.exit is None
    await until(lambda: len(steps(first.child)) > 3, "the child's curve")
    assert hosts.trainers("gpu2") == 1 and not first.child.exit.exists()


async def test_two_movers_at_once(home: Path, hosts: Hosts) -> None:
    place = Home(home)
    run = lost_run(place)
    gpu1, gpu2 = await hosts.up("gpu1"), await hosts.up("gpu2")
    del gpu1
    both = await asyncio.gather(
        move(place, run, None, gpu2, environ={}), move(place, run, None, gpu2, environ={}), return_exceptions=True
    )
    (result,) = [one for one in both if isinstance(one, MoveResult)]
    (refused,) = [one for one in both if isinstance(one, BaseException)]
    assert isinstance(refused, UsageError) and "just being moved" in str(refused)
    await until(lambda: len(steps(result.child)) > 3, "the child's curve")
    assert hosts.runs("gpu2") == [result.child.id] and hosts.trainers("gpu2") == 1


async def test_a_claim_whose_child_is_not_even_here_does_not_bind(home: Path, hosts: Hosts) -> None:
    """Killed right after the claim, and then its target died as well: another host may take the run."""
    place = Home(home)
    run = lost_run(place, host="gpu3")
    assert await asyncio.to_thread(killed_at, place, run, "create:1") == -signal.SIGKILL
    first = read_moved(run)
    assert first is not None and first.host == "gpu2" and not place.run(first.child).path.exists()
    gpu1 = await hosts.up("gpu1")
    result = await move(place, run, None, gpu1, environ={})
    assert result.moved.host == "gpu1" and result.moved == read_moved(run)
    assert result.child.id == first.child  # the old host may have been told of it
    await until(lambda: len(steps(result.child)) > 3, "the child's curve")


async def test_a_child_that_was_never_started_moves_on(home: Path, hosts: Hosts) -> None:
    """Its target died before the checkpoint had arrived: the child itself goes on elsewhere, from the same step."""
    place = Home(home)
    run = lost_run(place, host="gpu3")
    assert await asyncio.to_thread(killed_at, place, run, "fence:1") == -signal.SIGKILL
    first = read_moved(run)
    assert first is not None
    child = place.run(first.child)
    gpu1 = await hosts.up("gpu1")
    with pytest.raises(UsageError, match=child.id):
        await move(place, run, None, gpu1, environ={})
    result = await move(place, child, None, gpu1, environ={})
    await until(lambda: len(steps(result.child)) > 3, "the curve")
    assert steps(result.child)[0] == 31
    assert (result.child.path / "lease.json").read_text().count('"generation": 3') == 1


def test_the_right_to_move_ends_with_its_holder(home: Path) -> None:
    run = lost_run(Home(home))
    with moving(run), pytest.raises(UsageError, match="just being moved"), moving(run):
        pass
    with moving(run):
        pass


async def test_a_move_that_had_not_begun_is_off_when_the_old_host_is_back(hosts: Hosts, project: Path) -> None:
    """Its target died before anything was started there; the old trainer is further than any checkpoint."""
    home = hosts.home
    run = await launched(home, await hosts.up("gpu1"), project)
    await until(lambda: run.checkpoint_manifest.exists() and len(steps(run)) > 15, "a checkpoint")
    back_up(run, hosts.servers["gpu1"].remote_home)
    keep_project(run)
    await hosts.cut("gpu1")
    assert await asyncio.to_thread(killed_at, home, run, "deliver:1") == -signal.SIGKILL
    moved = read_moved(run)
    assert moved is not None
    hosts.servers["gpu2"].stop()
    hosts.servers["gpu1"].start()
    (told,) = await settle(home, await hosts.up("gpu1"))
    assert "goes on there" in told and "had not begun" in told
    assert not run.moved.exists() and not home.run(moved.child).path.exists()
    before = steps(run)[-1]
    await until(lambda: steps(run)[-1] > before + 10, "the curve, from where it was")
    assert hosts.trainers("gpu1") == 1 and steps(run) == list(range(1, len(steps(run)) + 1))
    hosts.servers["gpu2"].start()
    await hosts.up("gpu2")
    await until(lambda: hosts.link("gpu2").mirror.announced, "its runs")
    assert not home.run(moved.child).path.exists()  # what is left of it there does not come back
