"""The six-hour incident, in small: a host is cut for good, the run goes on elsewhere, and then the host comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.lineage import ancestors, read_lease, read_moved
from wavedeck.engine.manifest import ExitRecord, read_manifest, read_record
from wavedeck.remote import operations
from wavedeck.remote.failover.move import move
from wavedeck.remote.failover.settle import settle
from wavedeck.remote.provision.there import Progress

from .conftest import Hosts, back_up, keep_project, launched, steps, until


async def test_a_host_is_lost_and_the_curve_goes_on_elsewhere(hosts: Hosts, project: Path) -> None:
    """… and when the lost host is back, its trainer is stopped and nothing of it counts."""
    home, gpu2 = hosts.home, await hosts.up("gpu2")
    run = await launched(home, await hosts.up("gpu1"), project)
    await until(lambda: run.checkpoint_manifest.exists() and len(steps(run)) > 25, "two checkpoints")
    line = back_up(run, hosts.servers["gpu1"].remote_home)
    keep_project(run)
    await until(lambda: steps(run)[-1] > line.step + 5, "some steps more")
    await hosts.cut("gpu1")
    assert hosts.trainers("gpu1") == 1  # it goes on, and nobody here can know

    known = steps(run)[-1]
    result = await move(home, run, None, gpu2, automatic=True, reason="gpu1 is silent", environ={})
    child, moved = result.child, read_moved(run)
    assert moved == result.moved and moved is not None
    assert (moved.child, moved.host, moved.step, moved.automatic) == (child.id, "gpu2", line.step, True)
    assert moved.lost_steps == known - line.step > 0 and moved.lost_s is not None
    assert f"from step {line.step}" in result.sentence and f"{moved.lost_steps} steps" in result.sentence
    manifest, before = read_manifest(child.manifest), read_manifest(run.manifest)
    assert (manifest.parent, manifest.parent_step, manifest.host) == (run.id, line.step, "gpu2")
    assert (manifest.name, manifest.command, manifest.tags) == (before.name, before.command, ["night"])
    assert (before.price_per_hour, manifest.price_per_hour) == (0.4, 0.7)
    lease = read_lease(child)
    assert lease is not None and (lease.lineage, lease.generation, lease.holder) == (run.id, 2, child.id)
    await until(lambda: len(steps(child)) > 5, "the child's curve")
    assert ancestors(home, child) == [(run, line.step)]

    hosts.servers["gpu1"].start()
    gpu1 = await hosts.up("gpu1")
    (told,) = await settle(home, gpu1)
    assert "still training" in told and child.id in told
    await until(lambda: hosts.trainers("gpu1") == 0, "the end of the old trainer", 8)
    await until(run.exit.exists, "its exit record here")
    ended = read_record(run.exit, dict)
    assert ended is not None and ended["fenced"] == child.id
    assert await settle(home, gpu1) == []
    with pytest.raises(UsageError, match=f"went|moved.*{child.id}"):
        await operations.resume(home, gpu1, run)
    with pytest.raises(UsageError, match=child.id):
        await move(home, run, gpu1, gpu2)
    assert hosts.trainers("gpu2") == 1 and hosts.trainers("gpu1") == 0
    mine = steps(child)
    assert mine == list(range(line.step + 1, line.step + 1 + len(mine)))  # its own rows only, none twice
    assert steps(run)[-1] > known  # what the old one wrote since is in its own log

    await operations.request_stop(gpu2, child)
    await until(child.exit.exists, "the child's end")
    record = read_record(child.exit, ExitRecord)
    assert record is not None and record.exit_code == 0


async def test_a_host_that_comes_back_in_the_middle(hosts: Hosts, project: Path) -> None:
    """After the claim, before the child was started: the old trainer is stopped, and one goes on."""
    home, gpu2 = hosts.home, await hosts.up("gpu2")
    run = await launched(home, await hosts.up("gpu1"), project)
    await until(lambda: run.checkpoint_manifest.exists() and len(steps(run)) > 15, "a checkpoint")
    line = back_up(run, hosts.servers["gpu1"].remote_home)
    keep_project(run)
    await hosts.cut("gpu1")
    returned: list[asyncio.Task[list[str]]] = []

    async def back() -> list[str]:
        return await settle(home, await hosts.up("gpu1"))

    def report(progress: Progress) -> None:
        if progress.phase == "deliver" and not returned:
            hosts.servers["gpu1"].start()
            returned.append(asyncio.get_running_loop().create_task(back()))

    result = await move(home, run, None, gpu2, report, environ={})
    (told,) = await returned[0]
    assert result.child.id in told
    await until(lambda: hosts.trainers("gpu1") == 0, "the end of the old trainer", 8)
    await until(lambda: len(steps(result.child)) > 5, "the child's curve")
    mine = steps(result.child)
    assert mine == list(range(line.step + 1, line.step + 1 + len(mine))) and hosts.trainers("gpu2") == 1
    assert len(hosts.runs("gpu2")) == 1


async def test_a_run_that_lives_on_a_host_that_answers_is_not_moved(hosts: Hosts, project: Path) -> None:
    home, gpu2 = hosts.home, await hosts.up("gpu2")
    gpu1 = await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    await until(lambda: len(steps(run)) > 3, "the curve")
    with pytest.raises(UsageError, match="still running on gpu1: stop it first"):
        await move(home, run, gpu1, gpu2)
    assert not run.moved.exists() and hosts.trainers("gpu1") == 1
    await operations.request_stop(gpu1, run)
    await until(run.exit.exists, "the stop")
    keep_project(run)
    assert not run.backup.exists()  # nothing was backed up: what it saved at its end is fetched first
    result = await move(home, run, gpu1, gpu2, environ={})
    assert result.moved.lost_steps == 0 and "again" not in result.sentence
    assert result.moved.step == steps(run)[-1]
    lease = hosts.servers["gpu1"].remote_home / "runs" / run.id / "lease.json"
    assert result.child.id in lease.read_text()
    assert hosts.trainers("gpu1") == 0
