"""What a babysitter puts before the decision to move a run, look by look, with a clock of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.backup.policy import BackupPolicy, write_policy
from wavedeck.engine.files import write_atomic
from wavedeck.engine.hosts import HostView, LinkState, MirrorRecord, write_mirror
from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.manifest import Manifest, write_record
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import babysit_failover
from wavedeck.remote.babysit_doing import Mover
from wavedeck.remote.babysit_failover import ELSEWHERE_S, FleetFailover
from wavedeck.remote.babysit_parts import Arrived, HostViews, Views, Wanted
from wavedeck.remote.failover.claims import Claim, ClaimedElsewhere
from wavedeck.remote.failover.settle import NotSettled
from wavedeck.remote.fleet import Fleet

RUN_ID = "20261120-1759-drums-brisk-heron"
CHILD = "20261120-1900-drums-calm-otter"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(babysit_failover, "time", one)
    monkeypatch.setattr(babysit_failover, "held_step", lambda home, run: 400)
    return one


@pytest.fixture
def run(home: Path) -> RunDir:
    one = RunDir(home / "runs" / RUN_ID)
    one.path.mkdir(parents=True)
    write_record(one.manifest, Manifest(id=RUN_ID, name="drums", created=time.time()))
    write_mirror(one.path, MirrorRecord("gpu1"))
    write_policy(one, BackupPolicy(failover="gpu2", failover_after_s=60.0))
    return one


def hosts(link: LinkState, clock: Clock) -> tuple[HostView, ...]:
    gone = HostView("gpu1", link=link, retry_at=clock.time() + 3)
    return gone, HostView("gpu2", link=LinkState.CONNECTED)


def look(failover: FleetFailover, run: RunDir, link: LinkState, clock: Clock) -> list[Any]:
    view = RunView(RUN_ID, run.path, RunState.UNREACHABLE, host="gpu1")
    return list(failover.look((view,), hosts(link, clock)))


def test_a_run_is_wanted_elsewhere_once_its_host_was_silent_for_long_enough(
    home: Path, run: RunDir, clock: Clock
) -> None:
    failover = FleetFailover(Home(home), Fleet(Home(home)))
    assert look(failover, run, LinkState.CONNECTED, clock) == []
    moved_at = None
    for second in range(0, 200, 5):
        clock.now = float(second)
        wanted = look(failover, run, LinkState.RECONNECTING, clock)
        if wanted:
            moved_at = second
            break
    assert moved_at == 60 and wanted[0].to == "gpu2" and not wanted[0].refused and "silent for 60 s" in wanted[0].reason


def test_a_host_that_refuses_us_moves_nothing_and_says_so(home: Path, run: RunDir, clock: Clock) -> None:
    failover = FleetFailover(Home(home), Fleet(Home(home)))
    (wanted,) = look(failover, run, LinkState.KEY_CHANGED, clock)
    assert wanted.refused and "may go on" in wanted.reason


def test_a_move_that_was_cut_short_is_gone_on_with_until_its_child_lives(home: Path, run: RunDir, clock: Clock) -> None:
    failover = FleetFailover(Home(home), Fleet(Home(home)))
    assert claim_move(run, Moved(CHILD, "gpu2", clock.time(), step=400, automatic=True))
    (wanted,) = look(failover, run, LinkState.RECONNECTING, clock)
    assert wanted.to == "gpu2" and "cut short" in wanted.reason
    child = RunDir(home / "runs" / CHILD)
    child.path.mkdir(parents=True)
    write_atomic(child.supervisor, b"{}")
    assert look(failover, run, LinkState.RECONNECTING, clock) == []


def test_a_move_that_its_user_made_is_left_alone(home: Path, run: RunDir, clock: Clock) -> None:
    failover = FleetFailover(Home(home), Fleet(Home(home)))
    assert claim_move(run, Moved(CHILD, "gpu2", clock.time(), automatic=False))
    assert look(failover, run, LinkState.RECONNECTING, clock) == []


def test_a_deck_waits_longer_than_a_babysitter(home: Path, run: RunDir, clock: Clock) -> None:
    failover = FleetFailover(Home(home), Fleet(Home(home)), 60.0)
    look(failover, run, LinkState.CONNECTED, clock)
    begun = None
    for second in range(0, 200, 5):
        clock.now = float(second)
        if look(failover, run, LinkState.RECONNECTING, clock):
            begun = second
            break
    assert begun == 120


def test_a_host_that_refuses_us_is_not_lost(home: Path, run: RunDir, clock: Clock) -> None:
    """Neither in that state, nor while the link tries again by itself."""
    fleet = Fleet(Home(home))
    failover = FleetFailover(Home(home), fleet)

    class Linked:
        state = LinkState.RECONNECTING

    fleet.watch = lambda name: Linked  # type: ignore[method-assign,assignment,return-value]
    assert failover._is_lost("gpu1")
    for state in (LinkState.KEY_CHANGED, LinkState.REFUSED, LinkState.CONNECTED):
        Linked.state = state
        assert not failover._is_lost("gpu1")
    for second in range(0, 200, 5):
        clock.now = float(second)
        link = LinkState.RECONNECTING if second < 80 else LinkState.KEY_CHANGED
        look(failover, run, link, clock)
    Linked.state = LinkState.CONNECTING
    clock.now = 201.0
    assert look(failover, run, LinkState.CONNECTING, clock) == [] and not failover._is_lost("gpu1")


async def test_a_run_that_another_machine_moves_is_left_to_it(
    home: Path, run: RunDir, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claimed(*words: object, **named: object) -> None:
        raise ClaimedElsewhere(RUN_ID, "gpu2", Claim(CHILD, "0123456789abcdef", "vps", 1.0))

    fleet = Fleet(Home(home))
    fleet.host = lambda name: object()  # type: ignore[method-assign,assignment,return-value]
    monkeypatch.setattr(babysit_failover, "move", claimed)
    failover = FleetFailover(Home(home), fleet)
    look(failover, run, LinkState.CONNECTED, clock)
    for second in range(0, 105, 5):
        clock.now = float(second)
        wanted = look(failover, run, LinkState.RECONNECTING, clock)
    arrived = await failover.move(wanted[0])
    assert arrived.child == CHILD and "vps" in arrived.text
    assert look(failover, run, LinkState.RECONNECTING, clock) == []
    for second in range(105, 105 + int(ELSEWHERE_S), 5):
        clock.now = float(second)
        wanted = look(failover, run, LinkState.RECONNECTING, clock)
    assert wanted  # it was not to be: its child never came


class Settled:
    """A failover whose moves and fences a test ends."""

    def __init__(self) -> None:
        self.backs = 0
        self.going = asyncio.Event()
        self.settling = asyncio.Event()
        self.settling.set()
        self.failure: Exception | None = None

    def look(self, runs: Views, hosts: HostViews) -> Iterable[Wanted]:
        return ()

    async def move(self, wanted: Wanted) -> Arrived:
        await self.going.wait()
        return Arrived(CHILD, "It began again.")

    async def back(self, host: str) -> list[str]:
        self.backs += 1
        await self.settling.wait()
        if self.failure is not None:
            raise self.failure
        return []


async def follows(mover: Mover) -> None:
    mover.follow([HostView("gpu1", link=LinkState.CONNECTED)])
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("amid", [False, True])
async def test_a_host_is_settled_again_after_a_move_has_ended(amid: bool) -> None:
    """It had come back, and been settled with nothing to fence, before there was a claim."""
    failover = Settled()
    mover = Mover(failover, lambda what, sentence: None, lambda: None)
    mover.begin([Wanted(RUN_ID, "gpu2", "silent")])
    if amid:
        failover.settling.clear()
    await follows(mover)
    await follows(mover)
    assert failover.backs == 1
    failover.going.set()
    await asyncio.sleep(0.01)
    failover.settling.set()
    await asyncio.sleep(0.01)
    await follows(mover)
    assert failover.backs == 2
    await follows(mover)
    assert failover.backs == 2


async def test_what_was_fenced_is_told_although_something_is_left() -> None:
    failover, said = Settled(), list[str | None]()
    failover.failure = NotSettled("drums still trains on gpu1 (process 7).", ["voice was stopped."])
    mover = Mover(failover, lambda what, sentence: said.append(sentence), lambda: None)
    await follows(mover)
    assert mover.fenced() == [("gpu1", "voice was stopped.")] and said == ["drums still trains on gpu1 (process 7)."]
    await mover.end(0.1)
