"""The babysitter as a whole: a real host, a real webhook, a real process; one at a time, and never ended by a part."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.alerts import host_rules
from wavedeck.engine.alerts.evidence import Budget
from wavedeck.engine.alerts.ledger import read_alerts
from wavedeck.engine.alerts.rules import default_rules
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.rundir import Home
from wavedeck.remote import babysit_doing
from wavedeck.remote.babysit import Babysitter, trial_alert
from wavedeck.remote.babysit_lock import babysitter_of
from wavedeck.remote.babysit_parts import Arrived, Parts, start_own_backup
from wavedeck.remote.backup.worker import holder
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.local import LocalHost
from wavedeck.tests.servers.http_hooks import HookServer, hooks
from wavedeck.tests.servers.sshd import Sshd

from .babysitting import (
    NONE,
    QUICK,
    RUN_ID,
    Moving,
    Watching,
    configure,
    fleet,
    launched,
    until,
    watching,
)

__all__ = ["fleet", "hooks"]


async def test_a_run_that_crashes_on_another_host_reaches_the_webhook(
    fleet: Fleet,
    home: Path,
    sshd: Sshd,
    hooks: HookServer,
    tmp_path: Path,
) -> None:
    configure(home, hooks.url)
    go = tmp_path / "go"
    script = f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done; echo CUDA error: device-side assert; exit 3"
    async with watching(home, fleet) as one:
        await until(lambda: fleet.links["gpu1"].mirroring, "the link")
        run = await launched(home, fleet.host("gpu1"), script)
        await until(lambda: RUN_ID in one.sitter.status.watching, "the run")
        assert hooks.received == []
        go.touch()
        await until(lambda: hooks.received, "the webhook", 10.0)
        body = hooks.received[0].json
        assert body["rule"] == "crashed" and body["title"] == "drums crashed on gpu1: exit code 3"
        assert "CUDA error: device-side assert" in body["text"] and body["run"] == RUN_ID and body["host"] == "gpu1"
        await one.next_look()
        assert [alert.rule for alert in read_alerts(Home(home))] == ["crashed"]
        assert one.sitter.status.problems == ("drums crashed on gpu1: exit code 3",)
    assert run.exit.exists()
    async with watching(home, fleet) as again:  # a restart repeats nothing
        await again.next_look()
        assert again.told == [] and len(hooks.received) == 1


async def test_a_host_that_falls_silent_and_comes_back(
    fleet: Fleet,
    home: Path,
    sshd: Sshd,
    hooks: HookServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_rules, "SILENT_S", 1.0)
    configure(home, hooks.url)
    async with watching(home, fleet) as one:
        await until(lambda: fleet.links["gpu1"].mirroring, "the link")
        await launched(home, fleet.host("gpu1"))
        await until(lambda: RUN_ID in one.sitter.status.watching, "the run")
        sshd.stop()
        await until(lambda: hooks.received, "the alert")
        body = hooks.received[0].json
        assert body["rule"] == "unreachable" and "Runs on it: drums." in body["text"]
        sshd.start()
        await until(lambda: len(hooks.received) == 2, "its end")
        assert hooks.received[1].json["recovered"] and one.rules() == ["unreachable", "-unreachable"]


async def test_beside_a_deck_that_mirrors_the_host(
    fleet: Fleet,
    home: Path,
    sshd: Sshd,
    hooks: HookServer,
) -> None:
    configure(home, hooks.url)
    deck = Fleet(Home(home), rhythm=QUICK)
    try:
        link = deck.watch("gpu1")
        await until(lambda: link.mirroring, "the deck's link")
        async with watching(home, fleet) as one:
            await launched(home, deck.host("gpu1"), "sleep 1; exit 5")
            await until(lambda: hooks.received, "the alert")
            assert hooks.received[0].json["title"] == "drums crashed on gpu1: exit code 5"
            assert not fleet.links["gpu1"].mirroring and one.rules() == ["crashed"]
    finally:
        await deck.close()


async def test_one_babysitter_a_home(home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    assert babysitter_of(Home(home)) is None
    async with watching(home):
        holder = babysitter_of(Home(home))
        assert holder is not None and holder.pid == os.getpid() and time.time() - holder.since < 60
        with pytest.raises(UsageError, match=rf"Another babysitter \(pid {os.getpid()}, since \d+s ago\) watches"):
            await Babysitter(Home(home)).run()
        assert babysitter_of(Home(home)) == holder  # the second one left everything as it was
    assert babysitter_of(Home(home)) is None
    async with watching(home):
        pass


async def test_what_fails_costs_only_itself(home: Path, hooks: HookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, hooks.url, '[[sink]]\nkind = "command"\ncommand = ["no-such-program-here"]\n')
    monkeypatch.setattr(babysit_doing, "WORKER_AGAIN_S", 0.1)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("no")

    def refusing() -> Any:
        raise WavedeckError("the backup cannot be started here.")

    parts = Parts(start_backup=refusing, backups=broken, budgets=broken)
    (home / "hosts.toml").write_text("[gpu1\n")
    async with watching(home, parts=parts, rules=(broken, *default_rules())) as one:
        await until(lambda: "backup" in hooks.titles().__str__(), "the alert about the backup")
        run = await launched(home, LocalHost(home=Home(home)), "sleep 0.5; exit 7")
        await until(lambda: "drums crashed: exit code 7" in hooks.titles(), "the crash")
        sentences = "\n".join(one.said)
        for part in ("hosts.toml is damaged", "the rule broken failed", "copies failed", "budgets failed",
                     "the backup cannot be started here.", "no-such-program-here cannot be started"):  # fmt: skip
            assert sentences.count(part) == 1, part
        assert "the backup cannot be started here." in one.sitter.status.backup
        (home / "alerts.toml").write_text("[[sink]]\nkind = 'nonsense'\n")
        await until(lambda: any("sink 1 needs a kind" in one_ for one_ in one.said), "the sentence")
        (home / "hosts.toml").write_text("")
        await until(lambda: not any("hosts.toml" in one_ for one_ in one.sitter.status.troubles), "its mending")
        assert run.exit.exists()


async def test_the_backup_is_started_again_when_it_dies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(babysit_doing, "WORKER_AGAIN_S", 0.1)
    parts = Parts(lambda: start_own_backup(Home(home)), backups=None, budgets=None)
    async with watching(home, parts=parts) as one:
        await until(lambda: holder(Home(home)), "the backup")
        assert one.sitter.status.backup == "running"
        first = holder(Home(home))
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: holder(Home(home)) not in (None, first), "the next one")
        await until(lambda: one.rules() == ["backup", "-backup"], "the alerts")
        assert any("its process has died" in sentence for sentence in one.said)
    assert holder(Home(home)) is None  # it ends with the babysitter


async def test_a_deck_that_backs_up_already_is_no_problem(home: Path) -> None:
    place = Home(home)
    deck = start_own_backup(place)
    try:
        await until(lambda: holder(place), "the deck's backup")
        owner = holder(place)
        async with watching(home, parts=Parts(lambda: start_own_backup(place), backups=None, budgets=None)) as one:
            await one.next_look()
            assert holder(place) == owner and one.sitter.status.backup == "running"
            await asyncio.to_thread(deck.close)
            await until(lambda: holder(place) not in (None, owner), "ours")
            await one.next_look()
            assert one.told == [] and one.said == []
    finally:
        await asyncio.to_thread(deck.close)


async def test_a_run_is_moved_once_at_a_time_and_each_step_is_told(
    home: Path,
    hooks: HookServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(babysit_doing, "MOVE_AGAIN_S", 0.1)
    configure(home, hooks.url)
    await launched(home, LocalHost(home=Home(home)))
    moving = Moving(
        WavedeckError("gpu2 has no room."), WavedeckError("gpu2 has no room."), Arrived("child", "2 min lost.")
    )
    async with watching(home, parts=Parts(backups=None, budgets=None, failover=moving)) as one:
        await until(lambda: len(hooks.received) == 3, "three steps")
        assert moving.calls == 3
        begun, failed, done = [received.json for received in hooks.received]
        assert begun["title"] == "drums is being moved to gpu2" and begun["text"] == "gpu1 is silent."
        assert "gpu2 has no room." in failed["text"] and failed["severity"] == "error"
        assert done["text"] == "2 min lost.\nIt goes on as child." and one.rules() == ["failover"] * 3


async def test_a_host_that_comes_back_is_fenced_at_once_and_until_it_works(
    fleet: Fleet, home: Path, sshd: Sshd, hooks: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(babysit_doing, "SETTLE_AGAIN_S", 0.05)
    configure(home, hooks.url)
    calls: list[str] = []

    class Fencing(Moving):
        async def back(self, host: str) -> list[str]:
            calls.append(host)
            if len(calls) == 1:
                raise WavedeckError("gpu1 went away again.")
            return ["gpu1 is back: the run is stopped there."] if len(calls) == 3 else []

    async with watching(home, fleet, Parts(backups=None, budgets=None, failover=Fencing())) as one:
        await until(lambda: len(calls) == 2, "the second try")
        await one.next_look()
        assert len(calls) == 2  # once for each time it comes
        sshd.stop()
        await until(lambda: not fleet.links["gpu1"].state.up, "its loss")
        await one.next_look()
        sshd.start()
        await until(lambda: hooks.received, "the alert")
        assert hooks.titles() == ["gpu1 is back: the run is stopped there."] and len(calls) == 3


async def test_a_move_that_needs_its_user_is_told_and_not_made(home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    await launched(home, LocalHost(home=Home(home)))
    moving = Moving("never", refused=True)
    async with watching(home, parts=Parts(backups=None, budgets=None, failover=moving)) as one:
        await until(lambda: hooks.received, "the alert")
        await one.next_look()
        assert moving.calls == 0 and one.rules() == ["failover-refused"]


async def test_a_budget_that_is_used_up_stops_the_run_once(home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    await launched(home, LocalHost(home=Home(home)))
    stopped: list[str] = []

    async def stop(view: Any) -> None:
        stopped.append(view.id)

    budgets = lambda place, runs: [Budget(RUN_ID, 1.0, 2.0, stops=True)]  # noqa: E731
    async with watching(home, parts=Parts(backups=None, budgets=budgets, stop=stop)) as one:
        await until(lambda: stopped, "the stop")
        await one.next_look()
        assert stopped == [RUN_ID] and one.rules() == ["budget"]


async def test_a_single_look_hears_the_host_first(
    fleet: Fleet,
    home: Path,
    sshd: Sshd,
    hooks: HookServer,
) -> None:
    configure(home, hooks.url)
    async with watching(home, fleet):
        await until(lambda: fleet.links["gpu1"].mirroring, "the link")
        run = await launched(home, fleet.host("gpu1"))
        await until(run.console.exists, "the copy")
    await fleet.drop("gpu1")
    # It ends while nobody watches.
    record = json.loads((sshd.remote_home / "runs" / RUN_ID / "supervisor.json").read_bytes())
    os.killpg(record["child"], signal.SIGKILL)
    await until((sshd.remote_home / "runs" / RUN_ID / "exit.json").exists, "the end there")
    once = Watching(home, None, NONE)
    await asyncio.wait_for(once.sitter.run(once=True), 60)
    assert once.looks == 1 and hooks.titles() == ["drums crashed on gpu1: killed by SIGKILL"]


def test_the_trial_alert_says_that_it_is_one() -> None:
    assert trial_alert(0.0).title == "this is a test" and trial_alert(0.0).severity == "warning"
