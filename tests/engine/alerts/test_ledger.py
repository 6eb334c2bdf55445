"""What is told again and what is not: restarts, repetitions, things that come and go, floods, damaged files."""

from __future__ import annotations

import json
from pathlib import Path

from wavedeck.engine.alerts.alert import Alert, Severity, make_alert
from wavedeck.engine.alerts.config import Limits
from wavedeck.engine.alerts.evidence import Evidence, MoveNews, MovePhase
from wavedeck.engine.alerts.ledger import Ledger, read_alerts
from wavedeck.engine.alerts.rules import Judged, judge
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.rundir import Home

from .views import NOW, RUN, failed, host, run


class Telling:
    """A ledger and what it lets through."""

    def __init__(self, home: Path, **limits: float) -> None:
        self.home = Home(home)
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.ledger = Ledger(self.home, self.limits)

    def restart(self) -> None:
        self.ledger = Ledger(self.home, self.limits)

    def look(self, now: float, **fields: object) -> list[Alert]:
        judged = judge(Evidence(now, **fields), self.ledger.memory)  # type: ignore[arg-type]
        return self.ledger.take(judged, now)

    def rules(self, now: float, **fields: object) -> list[str]:
        return [("-" if alert.recovered else "") + alert.rule for alert in self.look(now, **fields)]


UP, DOWN = host(), LinkState.RECONNECTING


def away(now: float) -> tuple[object, ...]:
    return (host(DOWN, heard=now - 40),)


def test_a_restart_repeats_nothing_and_misses_nothing(home: Path) -> None:
    telling = Telling(home)
    assert telling.rules(NOW, runs=(run(),)) == []
    assert telling.rules(NOW + 5, runs=(failed(),), hosts=away(NOW + 5)) == ["unreachable", "crashed"]
    telling.restart()
    assert telling.rules(NOW + 10, runs=(failed(),), hosts=away(NOW + 10)) == []
    telling.restart()
    assert telling.rules(NOW + 60, runs=(run(attempt=2),), hosts=(UP,)) == ["-unreachable", "-crashed"]
    telling.restart()
    assert telling.rules(NOW + 9000, runs=(failed(attempt=2, ended=NOW + 5000),), hosts=(UP,)) == ["crashed"]


def test_what_a_killed_babysitter_had_not_delivered_is_still_known(home: Path) -> None:
    telling = Telling(home)
    telling.look(NOW, runs=(run(),))
    (alert,) = telling.look(NOW + 5, runs=(failed(),))
    telling.restart()
    assert telling.ledger.outstanding == (alert,)
    telling.ledger.deliveries.settle(alert)
    telling.look(NOW + 10, runs=(failed(),))
    telling.restart()
    assert telling.ledger.outstanding == ()


def crashed(number: int, t: float = NOW) -> Alert:
    return make_alert(f"crashed/{number}/1", Severity.ERROR, f"run {number} crashed", t=t)


def test_what_one_sink_lacks_is_handed_out_to_that_one_only(home: Path) -> None:
    telling = Telling(home)
    memory = telling.ledger.memory
    telling.ledger.take(Judged((crashed(1),), memory), NOW)
    assert telling.ledger.again(NOW) == []  # it is under way
    telling.ledger.deliveries.reached(crashed(1), "slack-1")
    telling.ledger.save()
    telling.restart()
    (waiting,) = telling.ledger.again(NOW + 5)
    assert waiting.alert == crashed(1) and waiting.done == ["slack-1"]
    assert telling.ledger.again(NOW + 5) == []
    telling.ledger.taken_back([waiting.which])  # alerts.toml was edited
    assert telling.ledger.again(NOW + 70) == [waiting]
    telling.ledger.deliveries.settle(waiting.alert)
    telling.ledger.save()
    telling.restart()
    assert telling.ledger.again(NOW + 140) == []


def test_what_is_handed_out_again_keeps_to_the_minute_and_leaves_room_for_what_is_new(home: Path) -> None:
    telling = Telling(home, per_minute=6)
    memory = telling.ledger.memory
    for minute in range(3):
        telling.ledger.take(Judged(tuple(crashed(10 * minute + n) for n in range(5)), memory), NOW + 60 * minute)
    telling.restart()
    later = NOW + 300
    assert [one.alert.title for one in telling.ledger.again(later)] == [f"run {n} crashed" for n in (0, 1, 2)]
    assert telling.ledger.again(later + 30) == []
    telling.ledger.save()
    telling.restart()
    assert telling.ledger.again(later + 40) == []  # another process, the same minute
    assert len(telling.ledger.take(Judged(tuple(crashed(100 + n, later) for n in range(3)), memory), later + 45)) == 3
    telling.restart()
    assert len(telling.ledger.again(later + 130)) == 3


def test_what_reaches_nobody_for_six_hours_is_given_up_with_one_line(home: Path) -> None:
    telling = Telling(home)
    memory = telling.ledger.memory
    telling.ledger.take(Judged((crashed(1), crashed(2)), memory), NOW)
    telling.restart()
    telling.ledger.take(Judged((), memory), NOW + 6 * 3600 - 1)
    assert telling.ledger.given_up is None and len(telling.ledger.outstanding) == 2
    telling.ledger.take(Judged((), memory), NOW + 6 * 3600 + 1)
    assert telling.ledger.given_up is not None and telling.ledger.given_up.startswith("2 alerts have not reached")
    assert telling.ledger.outstanding == ()
    telling.restart()
    telling.ledger.take(Judged((), memory), NOW + 6 * 3600 + 5)
    assert telling.ledger.given_up is None and telling.ledger.outstanding == ()


def test_a_move_that_fails_is_told_again_after_its_cooldown_and_not_after_each_restart(home: Path) -> None:
    telling = Telling(home, cooldown_s=600.0)
    told = []
    for minute in range(40):
        now = NOW + 60 * minute
        moves = [MoveNews(RUN, MovePhase.BEGUN, "gpu2", now), MoveNews(RUN, MovePhase.FAILED, "gpu2", now, "no room")]
        told += [(minute, alert.title) for alert in telling.look(now, runs=(run(),), moves=tuple(moves))]
        telling.restart()
    begun, failed_ = "drums is being moved to gpu2", "drums could not be moved to gpu2"
    assert told == [(at, title) for at in (0, 10, 30) for title in (begun, failed_)]
    elsewhere = (MoveNews(RUN, MovePhase.FAILED, "gpu3", NOW),)
    assert telling.rules(NOW + 2400, runs=(run(),), moves=elsewhere) == ["failover"]


def test_what_comes_and_goes_is_told_once_a_cooldown(home: Path) -> None:
    telling = Telling(home, cooldown_s=600.0)
    told: list[tuple[int, str]] = []
    for minute in range(60):
        now = NOW + 60 * minute
        hosts = away(now) if minute % 2 else (UP,)
        told += [(minute, rule) for rule in telling.rules(now, hosts=hosts)]
    assert told[:2] == [(1, "unreachable"), (2, "-unreachable")]
    assert len(told) <= 8, told  # 30 times away
    assert len(read_alerts(telling.home)) == 59  # all of it stands in the file


def test_a_problem_that_came_back_and_stays_is_told_when_its_cooldown_is_over(home: Path) -> None:
    telling = Telling(home, cooldown_s=600.0)
    assert telling.rules(NOW, hosts=away(NOW)) == ["unreachable"]
    assert telling.rules(NOW + 60, hosts=(UP,)) == ["-unreachable"]
    assert telling.rules(NOW + 120, hosts=away(NOW + 120)) == []
    telling.restart()
    assert telling.rules(NOW + 599, hosts=away(NOW + 599)) == []
    assert telling.rules(NOW + 601, hosts=away(NOW + 601)) == ["unreachable"]
    assert telling.rules(NOW + 700, hosts=(UP,)) == ["-unreachable"]


def test_a_flood_is_twenty_messages_and_one_line(home: Path) -> None:
    telling = Telling(home)
    flood = [make_alert(f"crashed/{n}/1", Severity.ERROR, f"run {n} crashed", t=NOW) for n in range(31)]
    flood.insert(0, make_alert("finished/x/1", Severity.INFO, "x is finished", t=NOW))
    memory = telling.ledger.memory
    sent = telling.ledger.take(Judged(tuple(flood), memory), NOW)
    assert len(sent) == 20 and {alert.severity for alert in sent} == {Severity.ERROR}
    assert telling.ledger.take(Judged((), memory), NOW + 5) == []
    telling.restart()
    (line,) = telling.ledger.take(Judged((), memory), NOW + 61)
    assert line.title == "and 12 more" and "run 20 crashed" in line.text and "and 2 more" in line.text
    assert telling.ledger.take(Judged((), memory), NOW + 130) == []
    assert len(read_alerts(telling.home)) == 33


def test_a_damaged_state_is_put_aside_and_said(home: Path) -> None:
    telling = Telling(home)
    telling.look(NOW, runs=(run(),))
    (home / "alerts.state.json").write_bytes(b'{"memory": {"looked": "yesterday"}')
    telling.restart()
    assert telling.ledger.problem is not None and "begins anew" in telling.ledger.problem
    assert (home / "alerts.state.json.damaged").exists()
    assert telling.rules(NOW + 5, runs=(failed(),)) == []  # history, as for every first look


def test_the_file_survives_a_torn_tail_and_holds_one_alert_a_line(home: Path) -> None:
    telling = Telling(home)
    telling.look(NOW, runs=(run(),))
    telling.look(NOW + 5, runs=(failed(),))
    path = home / "alerts.jsonl"
    with path.open("ab") as handle:
        handle.write(b'{"key": "half')
    telling.look(NOW + 10, runs=(run(attempt=2),))
    assert [alert.recovered for alert in read_alerts(telling.home)] == [False, True]
    assert set(json.loads(path.read_bytes().splitlines()[0])) == {
        "key", "rule", "severity", "run", "host", "title", "text", "t", "recovered",
    }  # fmt: skip


def test_a_home_that_cannot_be_written_still_tells(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "alerts.jsonl").mkdir()
    telling = Telling(home)
    telling.look(NOW, runs=(run(),))
    assert [alert.rule for alert in telling.look(NOW + 5, runs=(failed(),))] == ["crashed"]
    assert telling.ledger.problem is not None and "alerts.jsonl cannot be written" in telling.ledger.problem
