"""What is said about runs elsewhere is true: after resumes, deletions, full disks, dead processes and half launches."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.hosts import GONE, LinkRecord, LinkState, read_mirror
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, encode, read_record, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import operations
from wavedeck.remote.agent_client import Failed
from wavedeck.remote.far import far_sign
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Link, Rhythm
from wavedeck.remote.link_news import is_fresh, write_link_record
from wavedeck.remote.liveness import alive
from wavedeck.tests.servers.sshd import Sshd

RUN_ID = "20261120-1759-drums-brisk-heron"
QUICK = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=3.0, first_retry_s=0.1, longest_retry_s=0.5, lock_s=0.05)
LOOP = "while :; do echo tick; sleep 0.1; done"


@pytest.fixture
async def fleet(home: Path, sshd: Sshd) -> AsyncIterator[Fleet]:
    one = Fleet(Home(home), rhythm=QUICK)
    yield one
    await one.close()


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


async def connected(fleet: Fleet) -> Link:
    link = fleet.watch("gpu1")
    await until(lambda: link.state is LinkState.CONNECTED and (link.mirroring or not fleet._mirrors), "the link")
    return link


async def launched(fleet: Fleet, script: str = LOOP) -> RunDir:
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")
    return (await operations.launch(fleet.home, fleet.host("gpu1"), manifest, attempt, {})).run


def state(fleet: Fleet | None, run: RunDir, home: Home | None = None) -> RunState:
    place = home or (fleet.home if fleet else None)
    assert place is not None
    return Catalog(place, alive, far=far_sign(place, fleet)).view(run).state


async def test_a_copy_that_is_behind_does_not_delete_a_live_run(fleet: Fleet, sshd: Sshd, tmp_path: Path) -> None:
    """Ended as far as is known here, resumed from another laptop since."""
    await connected(fleet)
    run = await launched(fleet, "exit 0")
    await until(run.exit.exists, "the end")
    await fleet.close()
    elsewhere = Fleet(Home(tmp_path / "laptop"), rhythm=QUICK)
    blind = Fleet(fleet.home, rhythm=QUICK, mirrors=False)
    try:
        await connected(elsewhere)
        copy = RunDir(elsewhere.home.runs / RUN_ID)
        await until(copy.exit.exists, "the copy on the other laptop")
        attempt = copy.attempt(1)
        record = read_record(attempt, Attempt)
        assert record is not None
        attempt.write_bytes(encode(msgspec.structs.replace(record, argv=["sh", "-c", LOOP])))
        await operations.resume(elsewhere.home, elsewhere.host("gpu1"), copy)
        await connected(blind)
        with pytest.raises(UsageError, match="still running"):
            await operations.remove(blind.home, blind.host("gpu1"), run)
        assert (sshd.remote_home / "runs" / RUN_ID / "manifest.json").exists()
        assert (await operations.request_stop(blind.host("gpu1"), run)).attempt == 2
        await until(lambda: (read_record(copy.exit, ExitRecord) or ExitRecord(0, 0.0)).attempt == 2, "the stop")
    finally:
        await elsewhere.close()
        await blind.close()


async def test_secrets_of_a_launch_that_died_are_taken_back(fleet: Fleet, sshd: Sshd) -> None:
    attempts = sshd.remote_home / "runs" / RUN_ID / "attempts"
    attempts.mkdir(parents=True)
    for name, age in ((".env-0001", 120), ("..env-0002.abc.tmp", 120), (".env-0003", 0), ("0001.json", 120)):
        (attempts / name).write_text("WANDB_API_KEY=secret")
        os.utime(attempts / name, (time.time() - age, time.time() - age))
    await connected(fleet)
    await until(lambda: sorted(path.name for path in attempts.iterdir()) == [".env-0003", "0001.json"], "the sweep")


async def test_a_run_that_is_gone_there_is_not_running(fleet: Fleet, sshd: Sshd) -> None:
    await connected(fleet)
    run = await launched(fleet)
    await until(lambda: state(fleet, run) is RunState.RUNNING, "running")
    await fleet.close()
    sshd.stop()
    sshd.reap()
    sshd.start()
    shutil.rmtree(sshd.remote_home / "runs" / RUN_ID)
    again = Fleet(fleet.home, rhythm=QUICK)
    try:
        await connected(again)
        await until(lambda: state(again, run) is RunState.VANISHED, "vanished")
        mirror = read_mirror(run.path)
        assert mirror is not None and "does not have this run any more" in mirror.notices[0]
    finally:
        await again.close()


async def test_a_resume_is_never_vanished_for_other_processes(fleet: Fleet, home: Path) -> None:
    await connected(fleet)
    run = await launched(fleet)
    await operations.request_stop(fleet.host("gpu1"), run)
    await until(run.exit.exists, "the end")
    seen: set[RunState] = set()
    task = asyncio.create_task(operations.resume(fleet.home, fleet.host("gpu1"), run))
    deadline = time.monotonic() + 4.0
    while time.monotonic() < deadline:
        seen.add(state(None, run, Home(home)))  # as another process would see it
        await asyncio.sleep(0.02)
    assert (await task).attempt == 2
    assert RunState.VANISHED not in seen and RunState.RUNNING in seen, seen


async def test_following_takes_over_when_the_mirroring_process_dies(fleet: Fleet, sshd: Sshd, home: Path) -> None:
    script = (
        "import asyncio, sys\nfrom wavedeck.engine.rundir import Home\nfrom wavedeck.remote.fleet import Fleet\n"
        "async def main():\n    fleet = Fleet(Home.default())\n    fleet.watch('gpu1')\n    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    await connected(fleet)
    run = await launched(fleet, "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $n; sleep 0.5; done")
    await fleet.close()
    other = subprocess.Popen([sys.executable, "-c", script])
    record = home / "hosts" / "gpu1" / "link.json"
    try:
        await until(lambda: json.loads(record.read_text())["pid"] == other.pid, "the other process")
        await until(lambda: state(None, run, Home(home)) is RunState.RUNNING, "running, as the other says")
        follower = subprocess.Popen(
            [sys.executable, "-m", "wavedeck", "logs", "-f", "-n", "0", RUN_ID], stdout=subprocess.PIPE, text=True
        )
        await asyncio.sleep(1.0)
        other.kill()
        said, _ = await asyncio.to_thread(follower.communicate, None, 60)
        assert said.split("\n")[:-1] == [f"line {n}" for n in range(1, 13)] and follower.returncode == 0
    finally:
        other.kill()
        other.wait()


async def test_a_launch_that_cannot_be_says_why(fleet: Fleet, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await connected(fleet)
    assert link.agent is not None
    asked = link.agent.ask

    async def refusing(op: str, *words: Any, **fields: Any) -> Any:
        if op == "payload":
            raise Failed("error", "no space left on device")
        return await asked(op, *words, **fields)

    with monkeypatch.context() as patch, pytest.raises(WavedeckError, match="no space left"):
        patch.setattr(link.agent, "ask", refusing)
        await launched(fleet)
    run = RunDir(fleet.home.runs / RUN_ID)
    view = Catalog(fleet.home, alive, far=far_sign(fleet.home, fleet)).view(run)
    assert view.state is RunState.FAILED and view.exit is not None and "no space left" in (view.exit.error or "")
    sshd.kill_connections()
    await until(lambda: link.state is not LinkState.CONNECTED, "the cut")
    await until(lambda: link.state is LinkState.CONNECTED and RUN_ID in link.mirror.caught_up, "the copy again")
    assert state(fleet, run) is RunState.FAILED


async def test_only_a_link_that_hears_tells(fleet: Fleet, home: Path) -> None:
    link = await connected(fleet)
    run = await launched(fleet)
    await until(lambda: state(fleet, run) is RunState.RUNNING, "running")
    link.mirror._bytes.free = lambda _: 0
    await until(lambda: link.state is LinkState.PAUSED, "paused")
    assert state(fleet, run) is RunState.UNREACHABLE
    await until(lambda: state(None, run, Home(home)) is RunState.UNREACHABLE, "the same elsewhere")
    link.mirror._bytes.free = lambda _: 1 << 40
    await until(lambda: state(fleet, run) is RunState.RUNNING, "running again")


@pytest.mark.parametrize(("age", "pid"), [(3600.0, None), (-3600.0, None), (0.0, 4_000_000)])
def test_a_record_of_another_time_or_a_dead_process_is_not_believed(home: Path, age: float, pid: int | None) -> None:
    record = LinkRecord(
        pid=pid or os.getpid(), written=time.time() - age, link=LinkState.CONNECTED, signs={RUN_ID: (1, True)}
    )
    assert not is_fresh(record)
    write_link_record(Home(home), "gpu1", record)
    assert far_sign(Home(home))("gpu1", RUN_ID, 1) == (None, None)


def test_words_about_another_attempt(home: Path) -> None:
    signs = {RUN_ID: (2, False), "gone": (GONE, False)}
    write_link_record(Home(home), "gpu1", LinkRecord(os.getpid(), time.time(), LinkState.CONNECTED, signs=signs))
    sign = far_sign(Home(home))
    assert [sign("gpu1", RUN_ID, number)[0] for number in (1, 2, 3)] == [False, False, True]
    assert sign("gpu1", "gone", 7)[0] is False and sign("gpu1", "unknown", 1)[0] is None


async def test_a_copy_deleted_here_stays_deleted_and_costs_nobody_anything(fleet: Fleet) -> None:
    link = await connected(fleet)
    run = await launched(fleet)
    await until(lambda: run.console.exists(), "the console")
    await operations.remove_copy(fleet.home, run)
    since = link._since
    await asyncio.sleep(1.0)
    assert not run.path.exists() and link.state is LinkState.CONNECTED and link._since == since
    await fleet.close()
    again = Fleet(fleet.home, rhythm=QUICK)
    try:
        second = await connected(again)
        await until(lambda: second.mirror.announced, "the runs")
        assert not run.path.exists()
    finally:
        await again.close()


async def test_a_removal_that_fails_loses_nothing(fleet: Fleet, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await connected(fleet)
    run = await launched(fleet, "exit 0")
    await until(run.exit.exists, "the end")
    code = sshd.remote_home / "code" / RUN_ID
    code.mkdir(parents=True)
    assert link.agent is not None
    asked = link.agent.ask

    async def refusing(op: str, *words: Any, **fields: Any) -> Any:
        if op == "discard":
            raise Failed("error", "read-only file system")
        return await asked(op, *words, **fields)

    monkeypatch.setattr(link.agent, "ask", refusing)
    with pytest.raises(WavedeckError, match="read-only"):
        await operations.remove(fleet.home, fleet.host("gpu1"), run)
    assert run.path.exists() and code.exists() and (sshd.remote_home / "runs" / RUN_ID).exists()
    assert not (fleet.home.root / "hosts" / "gpu1" / "forgotten.json").exists()


async def test_words_of_a_host_cannot_drive_the_terminal(fleet: Fleet, home: Path) -> None:
    await connected(fleet)
    run = await launched(fleet, "exit 0")
    await until(run.exit.exists, "the end")
    await fleet.close()
    write_record(run.exit, ExitRecord(1, time.time(), exit_code=127, error="no \x1b]0;owned\x07\x1b[2J such"))
    for words in (["wait", RUN_ID], ["show", RUN_ID], ["ps"], ["logs", RUN_ID]):
        done = subprocess.run([sys.executable, "-m", "wavedeck", *words], capture_output=True, timeout=60)
        assert b"\x1b" not in done.stdout + done.stderr and b"\x07" not in done.stdout + done.stderr


async def test_hosts_toml_is_followed(fleet: Fleet, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "hosts.toml").write_text("[gpu1]\nprice_per_hour = 0.4\n")
    await fleet.refresh()
    link = fleet.links["gpu1"]
    await until(lambda: link.state is LinkState.CONNECTED, "the host")
    (home / "hosts.toml").write_text("[gpu1]\nprice_per_hour = 0.5\n")
    await fleet.refresh()
    assert fleet.links["gpu1"] is link and link.view().price_per_hour == 0.5
    (home / "hosts.toml").write_text("")
    await fleet.refresh()
    assert fleet.links == {}
