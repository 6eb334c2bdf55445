"""A host comes back, and whatever it still trains of a run that went on elsewhere ends there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.manifest import SupervisorRecord, read_record
from wavedeck.remote.failover.settle import NotSettled, settle
from wavedeck.remote.payload.end_orphan import end

from .conftest import OLD, Hosts, launched, steps, until

CHILD = "20261120-1900-voice-calm-otter"
STUBBORN = """
import os, signal, sys, time
from wavedeck import log


def stopped(*_):
    time.sleep(1)
    sys.exit(0)


signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, stopped)
step = 0
while True:
    time.sleep(0.05)
    step += 1
    log({"loss": 1.0 / step}, step=step)
"""
HELD = "import signal, subprocess, sys, time\nif sys.argv[1:]: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
SLEEPS = HELD + "if not sys.argv[1:]: subprocess.Popen([sys.executable, __file__, 'x'])\ntime.sleep(60)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "train.py").write_text(STUBBORN)
    return root


async def test_a_trainer_without_a_supervisor_is_ended(hosts: Hosts, project: Path) -> None:
    """Nobody there obeys a lease any more."""
    home, gpu1 = hosts.home, await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    await until(lambda: len(steps(run)) > 3, "the curve")
    record = read_record(run.supervisor, SupervisorRecord)
    assert record is not None and record.child is not None
    os.kill(record.pid, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(record.pid), "the supervisor's end")
    assert (await gpu1.living(run.id)).orphan == record.child
    assert claim_move(run, Moved(CHILD, "gpu2", time.time()))
    (told,) = await settle(home, gpu1)
    assert f"process {record.child} was ended" in told and CHILD in told and told.endswith("its own log.")
    assert hosts.trainers("gpu1") == 0 and (await gpu1.living(run.id)).orphan is None
    assert await settle(home, gpu1) == []


async def test_what_cannot_be_fenced_is_said_until_it_is(hosts: Hosts, project: Path) -> None:
    """Its directory there takes no lease; the others are fenced all the same."""
    home, gpu1 = hosts.home, await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    other = home.run(OLD.replace("heron", "otter"))
    for path in (other.path, hosts.servers["gpu1"].remote_home / "runs" / other.id):
        path.mkdir()
        (path / "manifest.json").write_bytes(run.manifest.read_bytes().replace(OLD.encode(), other.id.encode()))
    (other.path / "mirror.json").write_text('{"host": "gpu1"}')
    there = hosts.servers["gpu1"].remote_home / "runs"
    (there / run.id / "lease.json").mkdir()
    assert claim_move(run, Moved(CHILD, "gpu2", time.time())) and claim_move(other, Moved(CHILD, "gpu2", time.time()))
    home.run(CHILD).attempts.mkdir(parents=True)  # it was begun: there is no way back
    home.run(CHILD).attempt(1).write_text("{}")
    for _ in range(2):
        with pytest.raises(NotSettled, match=f"{run.id} cannot be fenced on gpu1") as failure:
            await settle(home, gpu1)
        assert CHILD in str(failure.value)
    assert CHILD in (there / other.id / "lease.json").read_text() and hosts.trainers("gpu1") == 1
    (there / run.id / "lease.json").rmdir()
    (told,) = await settle(home, gpu1)
    assert "was still training there: it was stopped" in told
    assert hosts.trainers("gpu1") == 0


async def test_a_trainer_that_does_not_end_is_named(
    hosts: Hosts, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again, though it was fenced before."""
    from wavedeck.remote.failover import settle as module

    home, gpu1 = hosts.home, await hosts.up("gpu1")
    run = await launched(home, gpu1, project)
    await until(lambda: len(steps(run)) > 3, "the curve")
    assert claim_move(run, Moved(CHILD, "gpu2", time.time()))
    home.run(CHILD).attempts.mkdir(parents=True)
    home.run(CHILD).attempt(1).write_text("{}")
    monkeypatch.setattr(module, "GONE_S", 0.0)
    (pid, _) = (await gpu1.living(run.id)).supervisors[0]
    with pytest.raises(NotSettled, match=f"still trains on gpu1 .process {pid}.*end that process"):
        await settle(home, gpu1)
    monkeypatch.setattr(module, "GONE_S", 60.0)
    (told,) = await settle(home, gpu1)
    assert "it was stopped" in told and hosts.trainers("gpu1") == 0
    assert await settle(home, gpu1) == []


def test_a_group_is_ended_and_nobody_else(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS)
    argv, env = [sys.executable, str(script)], {**os.environ, "WAVEDECK_RUN_ID": OLD}
    with subprocess.Popen(argv, env=env, start_new_session=True) as process:
        deadline = time.monotonic() + 10
        while not (workers := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        (worker,) = workers
        time.sleep(0.3)  # until it ignores SIGTERM
        assert end("20261120-1759-voice-quick-zebra", process.pid, 0.2) == {"left": [], "why": None}
        assert worker.is_running() and process.poll() is None  # it is another run's
        assert end(OLD, process.pid, 0.5) == {"left": [], "why": None}
        assert process.wait(5) == -signal.SIGTERM
    deadline = time.monotonic() + 5  # its environment is gone a moment before it is
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
