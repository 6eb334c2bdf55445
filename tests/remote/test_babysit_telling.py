"""What reaches whom: each sink once whatever becomes of it, budgets, fences, moves that fail, a trainer's words."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.alerts import safety_rules
from wavedeck.engine.alerts.evidence import Budget
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.rundir import Home
from wavedeck.remote import babysit_doing
from wavedeck.remote.babysit import Babysitter
from wavedeck.remote.babysit_parts import Halted, Parts
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.local import LocalHost
from wavedeck.tests.servers.http_hooks import HookServer, hook_server, hooks

from .babysitting import (
    NONE,
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


async def test_a_new_limit_is_enforced_too_and_what_is_not_safe_is_told(home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    await launched(home, LocalHost(home=Home(home)))
    stopped: list[float] = []
    limit = 1.0

    async def stop(view: Any) -> Halted:
        stopped.append(limit)
        return Halted(limit < 2, f"stopped at {limit:g}\nThe disk is full.")

    budgets = lambda place, runs: [Budget(RUN_ID, limit, 3.0, stops=True)]  # noqa: E731
    async with watching(home, parts=Parts(backups=None, budgets=budgets, stop=stop)) as one:
        await until(lambda: stopped == [1.0], "the first stop")
        await one.next_look()
        limit = 2.5  # it was given more, was resumed, and used that up as well
        await until(lambda: stopped == [1.0, 2.5], "the second stop")
        await until(lambda: "stopped at 2.5" in hooks.titles(), "what came of it")
        told = {received.json["title"]: received.json for received in hooks.received}
        assert told["stopped at 1"]["severity"] == "info"
        assert told["stopped at 2.5"]["severity"] == "error" and told["stopped at 2.5"]["text"] == "The disk is full."


async def test_what_cannot_be_fenced_is_told(
    fleet: Fleet, home: Path, hooks: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(babysit_doing, "SETTLE_AGAIN_S", 0.05)
    monkeypatch.setattr(safety_rules, "UNFENCED_S", 0.5)
    configure(home, hooks.url)
    works = False

    class Fencing(Moving):
        async def back(self, host: str) -> list[str]:
            if not works:
                raise WavedeckError("lease.json cannot be written there.")
            return []

    async with watching(home, fleet, Parts(backups=None, budgets=None, failover=Fencing())) as one:
        await until(lambda: hooks.received, "the alert")
        body = hooks.received[0].json
        assert body["key"] == "fence/gpu1" and "lease.json cannot be written there." in body["text"]
        works = True
        await until(lambda: one.rules() == ["fence", "-fence"], "its end")


async def test_a_move_that_fails_is_told_again_after_the_cooldown_and_not_at_each_restart(
    home: Path, hooks: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(babysit_doing, "MOVE_AGAIN_S", 0.05)
    configure(home, hooks.url, "[limits]\ncooldown_s = 3600\n")
    await launched(home, LocalHost(home=Home(home)))
    begun, failed = "drums is being moved to gpu2", "drums could not be moved to gpu2"
    for told in ([begun, failed], []):
        moving = Moving(*[WavedeckError("gpu2 has no room.")] * 9)
        async with watching(home, parts=Parts(backups=None, budgets=None, failover=moving)) as one:
            await until(lambda moving=moving: moving.calls == 3, "the third try")  # type: ignore[misc]
            assert [alert.title for alert in one.told] == told
    (home / "alerts.toml").write_text("[limits]\ncooldown_s = 0\n")
    moving = Moving(*[WavedeckError("gpu2 has no room.")] * 9)
    async with watching(home, parts=Parts(backups=None, budgets=None, failover=moving)) as one:
        await until(lambda: [alert.title for alert in one.told].count(failed) == 2, "each failure")


async def test_looks_of_a_crontab_tell_each_sink_once_while_another_one_is_away(home: Path, hooks: HookServer) -> None:
    with hook_server() as away:
        away.plan.extend([503] * 999)
        configure(home, hooks.url, f'[[sink]]\nkind = "json"\nurl = "{away.url}/hook"\n')
        await Watching(home, None, NONE).sitter.run(once=True)
        run = await launched(home, LocalHost(home=Home(home)), "exit 1")
        await until(run.exit.exists, "its end")
        for _ in range(3):
            await Watching(home, None, NONE).sitter.run(once=True)
        assert hooks.titles() == ["drums crashed: exit code 1"] and len(away.received) > 4
        away.plan.clear()
        before = len(away.received)
        for _ in range(2):
            await Watching(home, None, NONE).sitter.run(once=True)
        assert away.titles()[before:] == ["drums crashed: exit code 1"] and len(hooks.received) == 1


async def test_an_edit_of_alerts_toml_strands_nothing(home: Path, hooks: HookServer) -> None:
    with hook_server() as wrong, hook_server() as right:
        wrong.plan.extend([503] * 999)
        configure(home, hooks.url, f'[[sink]]\nkind = "json"\nurl = "{wrong.url}/hook"\n')
        async with watching(home) as one:
            await launched(home, LocalHost(home=Home(home)), "sleep 0.5; exit 1")
            await until(lambda: hooks.received and wrong.received, "the alert")
            configure(home, hooks.url, f'[[sink]]\nkind = "json"\nurl = "{right.url}/hook"\n')
            await until(lambda: right.received, "the alert at its new address")
            await one.next_look()
            assert right.titles() == hooks.titles() == ["drums crashed: exit code 1"] and one.rules() == ["crashed"]


async def test_an_alert_of_a_trainer_reaches_the_webhook(home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    run = await launched(home, LocalHost(home=Home(home)))
    async with watching(home) as one:
        await until(lambda: RUN_ID in one.sitter.status.watching, "the run")
        line = {"t": time.time(), "k": "log", "level": "warning", "text": "a library is old"}
        spike = {"t": time.time(), "k": "alert", "level": "error", "rule": "spike", "text": "loss 9e9 at step 3"}
        with run.events.open("a") as journal:
            journal.write(json.dumps(line) + "\n" + json.dumps(spike) + "\n")
        await until(lambda: hooks.received, "the alert")
        await one.next_look()
        assert hooks.titles() == ["drums: loss 9e9 at step 3"] and hooks.received[0].json["rule"] == "trainer"


async def test_the_first_look_waits_until_the_hosts_were_tried(fleet: Fleet, home: Path, hooks: HookServer) -> None:
    configure(home, hooks.url)
    first: list[Any] = []
    sitter = Babysitter(Home(home), fleet, NONE, looked=lambda status: (first.append(status), sitter.stop()))
    await asyncio.wait_for(sitter.run(), 20)
    assert first[0].hosts == (("gpu1", "connected"),)
