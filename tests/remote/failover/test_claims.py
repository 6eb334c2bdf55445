"""Two machines that fail over the same run: the record on the target lets one of them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.lineage import Moved, read_moved
from wavedeck.engine.rundir import Home
from wavedeck.remote.failover.claims import ClaimedElsewhere, claim_there, home_id, release_there
from wavedeck.remote.failover.move import MoveResult, move
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.local import LocalHost

from .conftest import OLD, QUICK, Hosts, lost_run, steps, until

MOVED = Moved("20261120-1900-voice-calm-otter", "gpu2", 5.0)
OTHER = Moved("20261120-1901-voice-quick-zebra", "gpu2", 6.0)


async def test_two_homes_at_once_start_one_trainer(hosts: Hosts, tmp_path: Path) -> None:
    one, two = hosts.home, Home(tmp_path / "laptop")
    two.root.mkdir()
    shutil.copyfile(one.root / "hosts.toml", two.root / "hosts.toml")
    runs = lost_run(one), lost_run(two)
    gpu2 = await hosts.up("gpu2")
    fleet = Fleet(two, rhythm=QUICK)
    try:
        await fleet.watch("gpu2").ready(20)
        both = await asyncio.gather(
            move(one, runs[0], None, gpu2, environ={}),
            move(two, runs[1], None, fleet.host("gpu2"), environ={}),
            return_exceptions=True,
        )
        (result,) = [each for each in both if isinstance(each, MoveResult)]
        (refused,) = [each for each in both if isinstance(each, BaseException)]
        assert isinstance(refused, ClaimedElsewhere), refused
        assert refused.child == result.child.id in str(refused) and "another machine" in str(refused)
        loser, run = (two, runs[1]) if result.run == runs[0] else (one, runs[0])
        assert read_moved(run) is None
        assert {path.name for path in loser.runs.iterdir() if path.name[0] != "."} <= {run.id, result.child.id}
        with pytest.raises(UsageError):  # the loser asks again, and changes nothing
            await move(loser, run, None, fleet.host("gpu2") if loser == two else gpu2, environ={})
        await until(lambda: len(steps(result.child)) > 3, "the child's curve")
        assert hosts.runs("gpu2") == [result.child.id] and hosts.trainers("gpu2") == 1
        assert read_claim(hosts)["home"] == home_id(one if result.run == runs[0] else two)
    finally:
        await fleet.close()


def read_claim(hosts: Hosts) -> dict[str, str]:
    path = hosts.servers["gpu2"].remote_home / "claims" / f"{OLD}.json"
    found: dict[str, str] = json.loads(path.read_text())
    return found


async def test_a_host_that_is_back_after_the_claim_keeps_its_run(hosts: Hosts) -> None:
    """It answers while the claim is written: nothing is recorded yet, so both claims are taken back."""
    run = lost_run(hosts.home)
    gpu2 = await hosts.up("gpu2")
    answers: Iterator[bool] = iter([True, False])
    with pytest.raises(UsageError, match="answers again: it is left where it is"):
        await move(hosts.home, run, None, gpu2, still_lost=lambda: next(answers), environ={})
    assert next(answers, None) is None and read_moved(run) is None and hosts.runs("gpu2") == []
    assert list((hosts.servers["gpu2"].remote_home / "claims").iterdir()) == []
    assert [path.name for path in hosts.home.runs.iterdir()] == [run.id]


async def test_who_has_a_claim(tmp_path: Path) -> None:
    """On this machine as the target; a host answers with the same script."""
    home, other = Home(tmp_path / "one"), Home(tmp_path / "two")
    home.root.mkdir()
    other.root.mkdir()
    target, run = LocalHost(home=Home(tmp_path / "target")), home.run(OLD)
    record = tmp_path / "target" / "claims" / f"{OLD}.json"
    assert home_id(home) == home_id(home) != home_id(other)
    await claim_there(home, target, run, MOVED)
    await claim_there(home, target, run, MOVED)  # the same try again
    with pytest.raises(ClaimedElsewhere, match=MOVED.child):
        await claim_there(other, target, run, OTHER)
    await release_there(other, target, run, OTHER)
    assert json.loads(record.read_text())["child"] == MOVED.child
    await claim_there(home, target, run, OTHER)  # the one before was taken back here
    assert json.loads(record.read_text())["child"] == OTHER.child
    await release_there(home, target, run, OTHER)
    assert not record.exists()
    record.write_text("{")
    with pytest.raises(WavedeckError, match="cannot be understood"):
        await claim_there(home, target, run, MOVED)


async def test_a_run_that_another_machine_has_moved(hosts: Hosts) -> None:
    """Its host had said so before it fell silent."""
    run = lost_run(hosts.home)
    run.lease.write_text(json.dumps({"lineage": OLD, "generation": 2, "holder": OTHER.child, "fenced_by": OTHER.child}))
    with pytest.raises(UsageError, match=OTHER.child):
        await move(hosts.home, run, None, await hosts.up("gpu2"), environ={})
    assert read_moved(run) is None
