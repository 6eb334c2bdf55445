"""A clean stop (for a budget, before a host is given back), and one checkpoint put back where it is wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import HERE, read_copies
from wavedeck.engine.checkpoints import read_checkpoints
from wavedeck.engine.errors import UsageError
from wavedeck.engine.rundir import Home
from wavedeck.engine.state import RunState
from wavedeck.remote import operations
from wavedeck.remote.failover.bring import bring_newest, stop_cleanly
from wavedeck.remote.failover.choose import held_step
from wavedeck.remote.failover.restore import restore
from wavedeck.remote.host import CommandTimeout, Started
from wavedeck.remote.local import LocalHost

from .conftest import Hosts, add_foreign, launched, lost_run, steps, until


async def test_a_clean_stop_leaves_nothing_there(hosts: Hosts, project: Path) -> None:
    home, gpu1 = hosts.home, await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    await until(lambda: len(steps(run)) > 15, "the curve")
    done = await stop_cleanly(home, gpu1, run)
    assert done.safe and done.ended is not None and done.ended.stop_requested
    assert done.verified_step == done.newest_step == steps(run)[-1] == held_step(home, run)
    assert str(done.verified_step) in done.sentence and not done.notices
    again = await stop_cleanly(home, gpu1, run)  # it has ended already: only looked at again
    assert again == done
    newest = read_checkpoints(run.checkpoint_manifest)[-1]
    (run.checkpoints / newest.name).write_bytes(b"x" * newest.bytes)
    spoilt = await stop_cleanly(home, gpu1, run)
    assert not spoilt.safe and "do not give its host back yet" in spoilt.sentence


async def test_one_that_is_gone_there_is_told_and_the_one_before_taken(hosts: Hosts, project: Path) -> None:
    home, gpu1 = hosts.home, await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    await until(lambda: len(steps(run)) > 25, "two checkpoints")
    await operations.request_stop(gpu1, run)
    await until(run.exit.exists, "the end")
    lines = read_checkpoints(run.checkpoint_manifest)
    (hosts.servers["gpu1"].remote_home / "runs" / run.id / "checkpoints" / lines[-1].name).unlink()
    told = await bring_newest(home, gpu1, run, lambda progress: None)
    assert len(told) == 1 and lines[-1].name in told[0] and "the one before it is taken" in told[0]
    assert set(read_copies(run).verified(HERE)) == {lines[-2].name}


async def test_a_checkpoint_is_put_back(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home)
    foreign = add_foreign(run, "out dir/it's.bin", "model 35", 35)
    gpu2 = await hosts.up("gpu2")
    there = hosts.servers["gpu2"].remote_home
    path = await restore(home, run, "20", gpu2)
    assert path == str(there / "runs" / run.id / "checkpoints" / "step-00000020.ckpt")
    assert json.loads(Path(path).read_text()) == {"step": 20}
    goal = there / "some where"
    path = await restore(home, run, foreign.name, gpu2, str(goal))
    assert Path(path) == goal / "it's.bin" and Path(path).read_text() == "model 35"
    assert await restore(home, run, foreign.name, gpu2, str(goal)) == path  # the same again is fine
    Path(path).write_text("my own")
    with pytest.raises(UsageError, match="there is another file"):
        await restore(home, run, foreign.name, gpu2, str(goal))
    assert Path(path).read_text() == "my own" and [item.name for item in goal.iterdir()] == ["it's.bin"]
    with pytest.raises(UsageError, match="no absolute directory"):
        await restore(home, run, "20", gpu2, "relative")


async def test_a_damaged_copy_is_not_put_back(home: Path, tmp_path: Path) -> None:
    place = Home(home)
    run = lost_run(place)
    here = LocalHost(home=place)
    path = await restore(place, run, "last", here, str(tmp_path / "out"))
    assert json.loads(Path(path).read_text()) == {"step": 30}
    (run.checkpoints / "step-00000030.ckpt").write_bytes(b'{"step": 99}')
    with pytest.raises(UsageError, match=r"no verified copy.*does not match its sha256"):
        await restore(place, run, "last", here, str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere" / "step-00000030.ckpt").exists()


class Hasty(LocalHost):
    """Its launcher gives up although the supervisor is there."""

    async def start_supervisor(self, *words: object) -> Started:
        await super().start_supervisor(*words)  # type: ignore[arg-type]
        raise CommandTimeout("local", ("supervisor",), 20.0)


@pytest.mark.usefixtures("tmux_socket")
async def test_what_lives_is_never_recorded_as_failed(home: Path) -> None:
    """A launcher that was killed a moment ago may have started it: its exit record is its supervisor's to write."""
    place = Home(home)
    run = lost_run(place, host=None)
    run.supervisor.unlink()
    from wavedeck.engine.catalog import Catalog, newest_attempt
    from wavedeck.remote.liveness import alive

    attempt = newest_attempt(run)
    assert attempt is not None
    host = Hasty(home=place)
    with pytest.raises(CommandTimeout):
        await operations.start(host, run, attempt)
    await until(run.supervisor.exists, "the supervisor")
    assert not run.exit.exists() and Catalog(place, alive).view(run).state is RunState.RUNNING
    await operations.request_stop(host, run)
    await operations.wait_ended(run, 20)
