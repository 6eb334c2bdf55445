"""When a run is moved by itself: only when its host is certainly silent, and everything else is in order."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.hosts import HostView, LinkState
from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.manifest import Manifest, write_record
from wavedeck.engine.rundir import Home
from wavedeck.remote.failover.decide import Action, Silence, Situation, automatic_moves, decide

from .conftest import lost_run

LOST = Situation(
    run="voice",
    source="gpu1",
    policy=BackupPolicy(failover="gpu2"),
    active=True,
    link=LinkState.RECONNECTING,
    silent_s=130,
    tries=9,
    trying_s=125,
    target=LinkState.CONNECTED,
    target_up_s=600,
    checkpoint_step=400,
)


def test_a_silent_host_is_left() -> None:
    decision = decide(LOST)
    assert decision.action is Action.MOVE
    assert "gpu1 has been silent for 130 s" in decision.reason and "gpu2 from step 400" in decision.reason


@pytest.mark.parametrize(
    ("changes", "action", "words"),
    [
        ({"policy": BackupPolicy()}, Action.NONE, ""),
        ({"active": False}, Action.NONE, ""),
        ({"moved": Moved("child", "gpu2", 0.0)}, Action.NONE, "child"),
        ({"link": LinkState.CONNECTED}, Action.NONE, "answers"),
        ({"link": LinkState.SLOW}, Action.NONE, "answers"),
        ({"link": LinkState.PAUSED}, Action.NONE, "answers"),
        ({"link": LinkState.REFUSED}, Action.REFUSE, "refused"),
        ({"link": LinkState.KEY_CHANGED}, Action.REFUSE, "host key changed"),
        ({"link": LinkState.KEY_UNKNOWN}, Action.REFUSE, "unknown host key"),
        ({"silent_s": 119.0}, Action.WAIT, "1 s are left"),
        ({"tries": 2}, Action.WAIT, "tried 2 times"),
        ({"trying_s": 29.0}, Action.WAIT, "over 30 s"),
        ({"policy": BackupPolicy(failover="gpu1")}, Action.REFUSE, "no other host"),
        ({"checkpoint_step": None}, Action.REFUSE, "--from-scratch"),
        ({"moves": 3}, Action.REFUSE, "3 times within a day"),
        ({"policy": BackupPolicy(failover="gpu2", budget=5.0), "spent": 5.0}, Action.REFUSE, "budget (5.00 of 5.00)"),
        ({"policy": BackupPolicy(failover="gpu2", budget=5.0), "spent": 4.9}, Action.MOVE, ""),
        ({"target": None}, Action.WAIT, "gpu2 does not answer either"),
        ({"target": LinkState.RECONNECTING}, Action.WAIT, "gpu2 does not answer either"),
        ({"target": LinkState.REFUSED}, Action.REFUSE, "gpu2 cannot take over"),
        ({"target": LinkState.LIMITED}, Action.REFUSE, "gpu2 cannot take over"),
        ({"target": LinkState.SLOW}, Action.MOVE, ""),
        ({"target_up_s": 59.0}, Action.WAIT, "this machine's own line"),
    ],
)
def test_everything_else_has_its_answer(changes: dict[str, Any], action: Action, words: str) -> None:
    decision = decide(replace(LOST, **changes))
    assert decision.action is action and words in decision.reason and decision.reason.endswith(".")


def down(retry_at: float) -> HostView:
    return HostView("gpu1", link=LinkState.RECONNECTING, retry_at=retry_at)


def test_silence_is_counted_while_awake() -> None:
    silence = Silence()
    silence.look(HostView("gpu1", link=LinkState.CONNECTED), 0.0, 1000.0)
    assert silence.silent_s(0.0) == 0 and silence.tries == 0
    for second in range(1, 41):
        silence.look(down(1000.0 + second // 10), float(second), 1000.0 + second)
    assert silence.silent_s(40.0) == 39 and silence.tries == 5 and silence.trying_s(40.0) == 39


@pytest.mark.parametrize(("mono", "wall"), [(3601.0, 4601.0), (2.0, 4601.0)])
def test_what_a_laptop_slept_through_is_no_silence(mono: float, wall: float) -> None:
    """Whether or not the monotonic clock runs while it sleeps; after it the tries begin anew."""
    silence = Silence()
    for second in range(30):
        silence.look(down(1000.0 + second), float(second) / 30, 1000.0 + second / 30)
    assert silence.tries == 30
    silence.look(down(1029.0), mono, wall)
    assert silence.silent_s(mono) == 0 and silence.tries == 0 and silence.trying_s(mono) == 0
    silence.look(down(5000.0), mono + 1, wall + 1)
    assert silence.silent_s(mono + 1) == 1 and silence.tries == 1


def test_a_host_that_answered_in_between_was_not_silent() -> None:
    silence = Silence()
    silence.look(down(1.0), 0.0, 0.0)
    silence.look(down(1.0), 10.0, 10.0)
    assert silence.silent_s(10.0) == 10
    silence.look(HostView("gpu1", link=LinkState.SLOW), 11.0, 11.0)
    silence.look(down(2.0), 12.0, 12.0)
    assert silence.silent_s(12.0) == 0 and silence.tries == 1


def test_how_long_a_host_has_answered() -> None:
    silence, up = Silence(), HostView("gpu2", link=LinkState.CONNECTED)
    for second in range(11):
        silence.look(up, float(second), float(second))
    assert silence.up_s(10.0) == 10
    silence.look(down(1.0), 11.0, 11.0)
    assert silence.up_s(11.0) == 0
    silence.look(up, 12.0, 12.0)
    silence.look(up, 13.0, 13.0)
    assert silence.up_s(13.0) == 1
    silence.look(up, 3613.0, 3613.0)  # it slept: whether the host was there all the time nobody knows
    assert silence.up_s(3613.0) == 0


def test_moves_of_a_lineage_are_counted(home: Path) -> None:
    place, now = Home(home), time.time()
    ids = [OLD.format(name) for name in ("heron", "otter", "puma", "zebra")]
    for number, run_id in enumerate(ids):
        run = lost_run(place, run_id=run_id, checkpoints=(), newest=1)
        parent = ids[number - 1] if number else None
        write_record(run.manifest, Manifest(run_id, "voice", now, parent=parent, parent_step=1 if parent else None))
    moves = [(0, 2 * 86400.0, True), (1, 3600.0, True), (2, 60.0, False)]
    for number, age, automatic in moves:
        assert claim_move(place.run(ids[number]), Moved(ids[number + 1], "gpu2", now - age, 1, automatic=automatic))
    assert automatic_moves(place, place.run(ids[3]), now) == 1
    assert automatic_moves(place, place.run(ids[0]), now) == 0


OLD = "20261120-1759-voice-brisk-{}"


@pytest.mark.parametrize("link", [LinkState.KEY_CHANGED, LinkState.REFUSED])
def test_a_host_that_refuses_us_was_not_silent(link: LinkState) -> None:
    """An outage, then another key, then the link's own next try, which looks like any other."""
    silence = Silence()
    for second in range(80):
        silence.look(down(1000.0 + second // 10), float(second), 1000.0 + second)
    assert silence.silent_s(79.0) == 79 and silence.tries == 8
    refused = HostView("gpu1", link=link, retry_at=1109.0)
    silence.look(refused, 80.0, 1080.0)
    assert silence.silent_s(80.0) == 0 and silence.tries == 0 and silence.refused
    trying = HostView("gpu1", link=LinkState.CONNECTING, retry_at=1109.0)
    for second in range(81, 200):
        silence.look(trying if second % 30 < 5 else refused, float(second), 1000.0 + second)
        assert silence.silent_s(float(second)) == 0 and silence.refused
    silence.look(down(1300.0), 200.0, 1200.0)  # now it really cannot be reached
    silence.look(trying, 210.0, 1210.0)
    assert not silence.refused and silence.silent_s(210.0) == 10 and silence.tries == 1
    silence.look(HostView("gpu1", link=LinkState.CONNECTED), 211.0, 1211.0)
    assert silence.silent_s(211.0) == 0 and not silence.refused
