"""A babysitter at work, and what tests of it share."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.alerts.alert import Alert
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.remote.alerts.outbox import Patience
from wavedeck.remote.babysit import Babysitter
from wavedeck.remote.babysit_parts import Arrived, Parts, Wanted
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Rhythm
from wavedeck.tests.servers.sshd import Sshd

RUN_ID = "20261120-1759-drums-brisk-heron"
QUICK = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=2.0, first_retry_s=0.1, longest_retry_s=0.5, lock_s=0.05)
LOOP = "while :; do echo tick; sleep 0.1; done"
NONE = Parts(backups=None, budgets=None)


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def configure(home: Path, url: str, more: str = "") -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "alerts.toml").write_text(f'[[sink]]\nkind = "json"\nurl = "{url}/hook/SECRET"\n{more}')


class Watching:
    """A babysitter at work and what it said."""

    def __init__(self, home: Path, fleet: Fleet | None, parts: Parts, **more: Any) -> None:
        self.said: list[str] = []
        self.told: list[Alert] = []
        self.looks = 0
        patience = Patience(first_s=0.05, rest_s=0.2)
        self.sitter = Babysitter(
            Home(home), fleet, parts, said=self.said.append, told=self.told.append, looked=self._looked,
            patience=patience, **more,
        )  # fmt: skip

    def _looked(self, status: Any) -> None:
        json.dumps(status.to_json())
        assert status.lines()
        self.looks += 1

    def rules(self) -> list[str]:
        return [("-" if alert.recovered else "") + alert.rule for alert in self.told]

    async def next_look(self) -> None:
        before = self.looks
        await until(lambda: self.looks > before + 1, "a look")


@asynccontextmanager
async def watching(home: Path, fleet: Fleet | None = None, parts: Parts = NONE, **more: Any) -> AsyncIterator[Watching]:
    one = Watching(home, fleet, parts, **more)
    task = asyncio.create_task(one.sitter.run(interval_s=0.2))
    try:
        await until(lambda: one.looks or task.done(), "the first look")
        if task.done():
            task.result()
        yield one
        assert not task.done(), "it ended by itself"
    finally:
        one.sitter.stop()
        await asyncio.wait_for(task, 6.0)


class Moving:
    """A failover that does what a test says."""

    def __init__(self, *answers: Any, refused: bool = False) -> None:
        self.answers = list(answers)
        self.refused = refused
        self.calls = 0

    def look(self, runs: Any, hosts: Any) -> list[Wanted]:
        return [Wanted(RUN_ID, "gpu2", "gpu1 is silent.", self.refused)] if runs and self.answers else []

    async def back(self, host: str) -> list[str]:
        return []

    async def move(self, wanted: Wanted) -> Arrived:
        self.calls += 1
        await asyncio.sleep(0.7)  # several looks long
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def fleet(home: Path, sshd: Sshd) -> AsyncIterator[Fleet]:
    home.mkdir(parents=True, exist_ok=True)
    (home / "hosts.toml").write_text("[gpu1]\n")
    one = Fleet(Home(home), rhythm=QUICK)
    yield one
    await one.close()


async def launched(home: Path, host: Any, script: str = LOOP) -> RunDir:
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")
    return (await operations.launch(Home(home), host, manifest, attempt, {})).run
