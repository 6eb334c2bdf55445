"""Rules as tables: what is told of which evidence, once, and when it is over."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wavedeck.engine.alerts.evidence import Budget, Evidence, MoveNews, MovePhase, RunBackup, StopNews
from wavedeck.engine.alerts.rules import Memory, default_rules, judge
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.manifest import Headline, Manifest
from wavedeck.engine.state import RunState
from wavedeck.engine.summary import Notice

from .views import NOW, RUN, Watch, failed, host, reading, run

LINES = tuple(CheckpointLine(f"step-{n}.ckpt", n, 10, "ab", NOW - 1000 + n) for n in (0, 100, 200))

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    # name: (before, when it goes wrong, when it is well again), rules told at the second and third look
    "crashed": ({"runs": (run(),)}, {"runs": (failed(),)}, {"runs": (run(attempt=2),)}, ["crashed", "-crashed"]),
    "stalled": ({"runs": (run(),)}, {"runs": (run(RunState.STALLED),)}, {"runs": (run(),)}, ["stalled", "-stalled"]),
    "nan": (
        {"runs": (run(last={"train/loss": 1.0}),)},
        {"runs": (run(last={"train/loss": math.nan}, nan_counts={"train/loss": 1}),)},
        {"runs": (run(last={"train/loss": 0.9}, nan_counts={"train/loss": 1}),)},
        ["nan", "-nan"],
    ),
    "inf": (
        {"runs": (run(last={"grad": 1.0}),)},
        {"runs": (run(last={"grad": -math.inf}, nan_counts={"grad": 1}),)},
        {"runs": (run(RunState.FINISHED),)},
        ["nan", "finished"],
    ),
    "nan that passed": (
        {"runs": (run(last={"loss": 1.0}, nan_counts={}),)},
        {"runs": (run(last={"loss": 1.0}, nan_counts={"loss": 2}),)},
        {"runs": (run(last={"loss": 1.0}, nan_counts={"loss": 2}),)},
        ["nan-passed"],
    ),
    "unreachable": (
        {"hosts": (host(),)},
        {"hosts": (host(LinkState.RECONNECTING, heard=NOW - 31),)},
        {"hosts": (host(),)},
        ["unreachable", "-unreachable"],
    ),
    "host key": (
        {"hosts": (host(),)},
        {"hosts": (host(LinkState.KEY_CHANGED, heard=NOW - 60),)},
        {"hosts": (host(),)},
        ["host-key", "-host-key"],
    ),
    "refused": (
        {"hosts": (host(),)}, {"hosts": (host(LinkState.REFUSED, heard=NOW - 60),)}, {"hosts": (host(),)},
        ["refused", "-refused"],
    ),
    "disk there": (
        {"hosts": (host(reading=reading()),)},
        {"hosts": (host(reading=reading(8, 100)),)},
        {"hosts": (host(reading=reading(50, 100)),)},
        ["disk", "-disk"],
    ),
    "disk here": (
        {"hosts": (host(name="local", reading=reading()),)},
        {"hosts": (host(name="local", reading=reading(0.5, 100)),)},
        {"hosts": (host(name="local", reading=reading(50, 100)),)},
        ["disk", "-disk"],
    ),
    "backup behind": (
        {"runs": (run(checkpoints=LINES),), "backups": (RunBackup(RUN, 200, NOW, 100, False),)},
        {"runs": (run(checkpoints=LINES),), "backups": (RunBackup(RUN, 200, NOW - 201, 100, False),)},
        {"runs": (run(checkpoints=LINES),), "backups": (RunBackup(RUN, 200, NOW - 201, 200, True),)},
        ["backup-behind", "-backup-behind"],
    ),
    "backup bad": (
        {"runs": (run(),), "backups": (RunBackup(RUN),)},
        {"runs": (run(),), "backups": (RunBackup(RUN, bad=("a.ckpt",)),)},
        {"runs": (run(),), "backups": (RunBackup(RUN),)},
        ["backup-bad", "-backup-bad"],
    ),
    "backup dead": ({}, {"backup_problem": "its process has died."}, {}, ["backup", "-backup"]),
    "failover": (
        {"runs": (run(RunState.UNREACHABLE),)},
        {"runs": (run(RunState.UNREACHABLE),), "moves": (MoveNews(RUN, MovePhase.BEGUN, "gpu2", NOW, "silent"),)},
        {"runs": (run(RunState.UNREACHABLE),), "moves": (MoveNews(RUN, MovePhase.DONE, "gpu2", NOW, "", "child"),)},
        ["failover", "failover"],
    ),
    "failover refused": (
        {"runs": (run(RunState.UNREACHABLE),)},
        {"runs": (run(RunState.UNREACHABLE),), "moves": (MoveNews(RUN, MovePhase.REFUSED, "gpu2", NOW, "why"),)},
        {"runs": (run(),)},
        ["failover-refused", "-failover-refused"],
    ),
    "ends soon": (
        {"hosts": (host(ends=NOW + 9000),)},
        {"hosts": (host(ends=NOW + 1800),)},
        {"hosts": (host(ends=NOW + 90000),)},
        ["ends", "-ends"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_told_once_and_so_is_its_end(name: str) -> None:
    before, wrong, well, told = CASES[name]
    watch = Watch()
    assert watch.rules(**before) == []
    found = watch.rules(**wrong)
    assert found and watch.rules(**{**wrong, "moves": ()} if name == "failover" else wrong) == []
    found += watch.rules(**well)
    assert found == told
    assert watch.rules(**{**well, "moves": ()} if name == "failover" else well) == []


def test_a_crash_tells_code_reason_and_last_words() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    (alert,) = watch.judge(runs=(failed(),)).alerts
    assert alert.title == "drums crashed on gpu1: exit code 1" and alert.severity == "error"
    assert "step 1,200" in alert.text and alert.text.endswith("RuntimeError: CUDA out of memory")
    killed = failed(exit={"exit_code": None, "signal": 9, "oom_killed": True}, attempt=2)
    (alert,) = watch.judge(runs=(killed,)).alerts
    assert alert.title == "drums ran out of memory on gpu1: killed by SIGKILL (out of memory)"


def test_what_a_run_printed_cannot_steer_a_terminal() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    evil = failed(exit={"tail": ["\x1b]0;owned\x07 \x1b[2J" + "x" * 5000]})
    (alert,) = watch.judge(runs=(evil,)).alerts
    assert "\x1b" not in alert.text and "\x07" not in alert.text and len(alert.text) <= 2000


def test_what_happened_before_anybody_watched_is_no_news() -> None:
    old = failed(ended=NOW - 86400)
    done = run(RunState.FINISHED, id="20261119-0900-x-old-owl", ended=NOW - 90000)
    fresh = Watch(fresh=True)
    assert fresh.rules(runs=(old, done)) == [] and fresh.rules(NOW + 5, runs=(old, done)) == []
    known = Watch()  # a host that is new: its old runs arrive bit by bit
    assert known.rules(runs=()) == []
    assert known.rules(NOW + 5, runs=(old, done)) == []
    # It is resumed and crashes again: that is news.
    assert fresh.rules(NOW + 10, runs=(run(attempt=2), done)) == []
    assert fresh.rules(NOW + 20, runs=(failed(attempt=2, ended=NOW + 15), done)) == ["crashed"]


def test_what_happened_while_nobody_watched_is_news_after_a_restart() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    assert watch.rules(NOW + 40_000, runs=(failed(ended=NOW + 9000),)) == ["crashed"]
    watch = Watch()
    assert watch.rules(NOW + 40_000, runs=(failed(ended=NOW + 9000),)) == ["crashed"]  # launched meanwhile as well


def test_the_hosts_clock_may_be_wrong_by_hours() -> None:
    for skew in (-7200.0, 7200.0):
        watch = Watch()
        hosts = (host(skew_s=skew),)
        watch.look(runs=(run(),), hosts=hosts)
        assert watch.rules(NOW + 5, runs=(failed(ended=NOW + 3 + skew),), hosts=hosts) == ["crashed"]


def test_a_run_is_vanished_only_when_no_record_of_its_end_follows() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    gone = run(RunState.VANISHED, ended=None, last_sign=NOW)
    assert watch.rules(NOW + 1, runs=(gone,)) == []
    assert watch.rules(NOW + 3, runs=(failed(),)) == ["crashed"]
    watch = Watch()
    watch.look(runs=(run(),))
    assert watch.rules(NOW + 1, runs=(gone,)) == [] and watch.rules(NOW + 7, runs=(gone,)) == ["vanished"]
    assert watch.rules(NOW + 9, runs=(failed(),)) == ["crashed"]  # in place of `vanished`, not beside its end
    assert watch.rules(NOW + 60, runs=(run(attempt=2),)) == ["-crashed"]


def test_an_end_is_told_with_the_headline_metric() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    manifest = Manifest(id=RUN, name="drums", created=0, headline=Headline("val/loss"))
    done = run(RunState.FINISHED, manifest=manifest, best=("val/loss", 0.1234, 900), last={"val/loss": 0.2})
    (alert,) = watch.judge(runs=(done,)).alerts
    assert alert.title == "drums is finished: val/loss 0.1234" and "at step 900, last 0.2000" in alert.text
    assert alert.severity == "info"


def test_a_stop_that_was_asked_for_is_no_alert() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    assert watch.rules(runs=(run(RunState.STOPPED),)) == []


def test_a_silent_host_names_its_runs_and_says_nothing_of_its_disk() -> None:
    watch = Watch()
    full = host(reading=reading(1, 100))
    assert watch.rules(hosts=(full,), runs=(run(),)) == ["disk"]
    gone = host(LinkState.RECONNECTING, heard=NOW - 40, reading=reading(90, 100), reason="no route")
    (alert,) = watch.judge(hosts=(gone,), runs=(run(RunState.UNREACHABLE),)).alerts
    assert alert.rule == "unreachable" and "Runs on it: drums." in alert.text and "no route" in alert.text
    assert alert.severity == "error" and watch.rules(hosts=(gone,), runs=(run(RunState.UNREACHABLE),)) == []
    idle = host(LinkState.RECONNECTING, heard=NOW - 40)
    assert Watch().judge(hosts=(idle,)).alerts[0].severity == "warning"  # nothing of ours is there
    assert Watch().rules(hosts=(host(LinkState.RECONNECTING, heard=NOW - 20),)) == []
    assert Watch().rules(hosts=(host(LinkState.OFF, heard=None),)) == []


def test_a_host_never_heard_is_given_half_a_minute() -> None:
    watch = Watch()
    away = (host(LinkState.CONNECTING, heard=None),)
    assert watch.rules(hosts=away) == [] and watch.rules(NOW + 29, hosts=away) == []
    assert watch.rules(NOW + 31, hosts=away) == ["unreachable"]


def test_a_host_that_refuses_us_is_not_also_unreachable() -> None:
    watch = Watch()
    assert watch.rules(hosts=(host(LinkState.REFUSED, heard=NOW - 60),)) == ["refused"]
    assert watch.rules(NOW + 60, hosts=(host(LinkState.CONNECTING, heard=NOW - 60),)) == []  # it is tried again


def test_worse_is_told_again() -> None:
    watch = Watch()
    assert watch.rules(hosts=(host(reading=reading(8, 100)),)) == ["disk"]
    assert watch.rules(hosts=(host(reading=reading(0.9, 100)),)) == ["disk"]
    assert watch.rules(hosts=(host(reading=reading(8, 100)),)) == []


def test_budgets_at_eighty_percent_and_at_all_of_it() -> None:
    watch, view = Watch(), (run(),)
    told = []
    for spent in (7.0, 8.0, 8.5, 10.0, 12.0):
        alerts = watch.judge(runs=view, budgets=(Budget(RUN, 10.0, spent, stops=True),)).alerts
        told += [(alert.rule, alert.severity, alert.title) for alert in alerts]
    assert told == [
        ("budget", "warning", "drums has spent 80% of its budget"),
        ("budget", "error", "drums has used up its budget"),
    ]


@pytest.mark.parametrize("between", [None, 60.0])
def test_an_idle_gpu_is_told_after_ten_minutes_without_a_break(between: float | None) -> None:
    watch, view = Watch(), (run(gpus=[1]),)
    for minute in range(10):
        used = between if between is not None and minute == 5 else 0.0
        assert watch.rules(NOW + 60 * minute, runs=view, hosts=(host(reading=reading(used=(99.0, used))),)) == []
    found = watch.rules(NOW + 601, runs=view, hosts=(host(reading=reading(used=(99.0, 1.0))),))
    assert found == (["gpu-idle"] if between is None else [])
    if between is None:
        assert watch.rules(NOW + 700, runs=view, hosts=(host(reading=reading(used=(0.0, 80.0))),)) == ["-gpu-idle"]


def test_an_idle_machine_that_costs_money() -> None:
    for price, told in ((0.4, ["idle"]), (None, [])):
        watch, machine = Watch(), (host(reading=reading(used=(0.0,)), price_per_hour=price),)
        assert watch.rules(hosts=machine) == [] and watch.rules(NOW + 601, hosts=machine) == told
    busy = Watch()
    machine = (host(reading=reading(used=(90.0,)), price_per_hour=0.4),)
    assert busy.rules(hosts=machine) == [] and busy.rules(NOW + 601, hosts=machine) == []  # somebody else's work


def test_a_rule_that_fails_costs_the_others_nothing() -> None:
    def broken(evidence: Evidence, memory: Memory) -> Any:
        raise ZeroDivisionError("no")

    watch = Watch()
    watch.look(runs=(run(),))
    judged = judge(Evidence(NOW, runs=(failed(),)), watch.memory, (broken, *default_rules()))
    assert [alert.rule for alert in judged.alerts] == ["crashed"]
    assert judged.broken == ("the rule broken failed (ZeroDivisionError: no).",)


def test_a_deleted_run_is_forgotten_without_a_word() -> None:
    watch = Watch()
    watch.look(runs=(run(),))
    assert watch.rules(runs=(failed(),)) == ["crashed"]
    assert watch.rules(runs=()) == [] and watch.memory.open == {}


def test_a_run_that_goes_on_elsewhere_while_its_old_trainer_lives_is_an_error_while_that_holds() -> None:
    watch, moved = Watch(), {"moved_to": "child", "moved_host": "gpu2"}
    twice, once, silent = (run(**moved),), (run(RunState.KILLED, **moved),), (run(RunState.UNREACHABLE, **moved),)
    assert watch.rules(runs=silent) == [] and watch.rules(NOW + 5, runs=twice) == []
    (alert,) = watch.judge(NOW + 40, runs=twice).alerts
    assert alert.rule == "doubled" and alert.severity == "error" and f"wavedeck stop {RUN}" in alert.text
    assert alert.title == "drums is being trained twice: on gpu1 and on gpu2"
    assert watch.rules(NOW + 45, runs=twice) == [] and watch.rules(NOW + 50, runs=silent) == []
    assert watch.rules(NOW + 60, runs=once) == ["-doubled"] and watch.rules(NOW + 65, runs=once) == []
    fenced = Watch()  # the fence ends it within seconds
    assert fenced.rules(runs=twice) == [] and fenced.rules(NOW + 20, runs=once) == []


def test_what_cannot_be_fenced_is_an_error_until_it_is() -> None:
    watch, here = Watch(), (host(),)
    failing, well = (("gpu1", "Permission denied."),), (("gpu1", None),)
    assert watch.rules(hosts=here, fences=well) == [] and watch.rules(NOW + 1, hosts=here, fences=failing) == []
    (alert,) = watch.judge(NOW + 12, hosts=here, fences=failing).alerts
    assert (alert.key, alert.severity, alert.host) == ("fence/gpu1", "error", "gpu1") and "Permission" in alert.text
    assert watch.rules(NOW + 14, hosts=here, fences=failing) == [] and watch.rules(NOW + 16, hosts=here) == []
    assert watch.rules(NOW + 20, hosts=here, fences=well) == ["-fence"]


def test_a_stop_at_the_budget_that_left_something_unsafe_is_an_error() -> None:
    watch = Watch()
    text = "it was stopped, but nothing of it is verified here: do not give its host back yet.\nThe disk is full."
    (alert,) = watch.judge(runs=(run(),), stops=(StopNews(RUN, 1, 5.0, False, text),)).alerts
    assert (alert.rule, alert.severity, alert.text) == ("budget", "error", "The disk is full.")
    assert alert.title.endswith("do not give its host back yet.") and alert.host == "gpu1"
    (alert,) = watch.judge(runs=(run(),), stops=(StopNews(RUN, 2, 5.0, True, "stopped, and verified."),)).alerts
    assert (alert.severity, alert.title) == ("info", "stopped, and verified.")


def test_a_trainers_own_alerts_are_passed_on_once_each_kind_and_not_without_end() -> None:
    def said(*texts: str, level: str = "warning", rule: str = "spike", **more: Any) -> tuple[Any, ...]:
        return (run(notices=tuple(Notice(NOW, level, text, rule) for text in texts), **more),)

    watch = Watch()
    assert watch.rules(runs=said()) == []
    (alert,) = watch.judge(runs=said("gradient norm 1e6 at step 1,190")).alerts
    assert (alert.rule, alert.severity) == ("trainer", "warning") and "spike" in alert.text
    assert alert.title == "drums: gradient norm 1e6 at step 1,190"
    assert watch.rules(runs=said("gradient norm 2.5e7 at step 1,280")) == []  # the same again
    assert watch.rules(runs=said("a word", rule="")) == []  # a line of its log
    assert watch.rules(runs=said("a word", level="info")) == []
    (alert,) = watch.judge(runs=said("loss is nan", level="error")).alerts
    assert alert.severity == "error"
    assert watch.rules(runs=said("loss is nan", level="error", attempt=2)) == ["trainer"]
    many = [watch.rules(runs=said(f"kind {chr(97 + n)}", attempt=3)) for n in range(26)]
    assert many == [["trainer"]] * 20 + [[]] * 6
    assert Watch(fresh=True).rules(runs=said("before anybody watched")) == []
