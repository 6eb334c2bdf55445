"""The incident of a lost night, in small: a host's network dies amid a training, nobody is there, and all that it costs
is one checkpoint interval. Two real machines behind sshd, the real backup process, a real webhook.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.alerts.alert import Alert
from wavedeck.engine.backup import policy
from wavedeck.engine.backup.copies import read_copies
from wavedeck.engine.checkpoints import read_checkpoints, sha256_of
from wavedeck.engine.feed import read_metrics
from wavedeck.engine.lineage import read_moved
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, read_manifest, read_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.remote.babysit import Babysitter
from wavedeck.remote.babysit_failover import own_parts
from wavedeck.remote.failover import decide
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Rhythm
from wavedeck.tests.servers.http_hooks import HookServer, hook_server
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd, write_ssh_config

RUN_ID = "20261120-1759-voice-brisk-heron"
QUICK = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=2.0, first_retry_s=0.1, longest_retry_s=0.4, lock_s=0.05)
TRAINER = """
import json, os, time, zipfile
step, start = 0, os.environ.get("WAVEDECK_RESUME_FROM")
if start:
    step = json.loads(zipfile.ZipFile(start).read("state.json"))["step"]
while True:
    step += 1
    print(f"step={step} loss={1 / step:.6f}", flush=True)
    if step % 20 == 0:
        with zipfile.ZipFile("tmp", "w") as file:
            file.writestr("state.json", json.dumps({"step": step}))
            file.writestr("weights", os.urandom(300_000))
        os.replace("tmp", f"step={step}.pt")
    time.sleep(0.1)
"""


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
def machines(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sshd, Sshd, HookServer]]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(policy, "SHORTEST_SILENCE_S", 1.0)
    monkeypatch.setattr(decide, "LEAST_TRYING_S", 1.0)
    monkeypatch.setattr(decide, "TARGET_UP_S", 1.0)
    with Sshd("gpu1") as one, Sshd("gpu2") as two, hook_server() as hooks:
        monkeypatch.setenv(CONFIG_VARIABLE, str(write_ssh_config(tmp_path / "ssh_config", one, two)))
        home.mkdir(parents=True, exist_ok=True)
        (home / "hosts.toml").write_text("[gpu1]\n[gpu2]\n")
        (home / "alerts.toml").write_text(f'[[sink]]\nkind = "json"\nurl = "{hooks.url}/x"\n')
        yield one, two, hooks


def trainers(machine: Sshd) -> list[psutil.Process]:
    """Processes that train there."""
    found = []
    for process in machine.processes():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "WAVEDECK_RESUME_FROM" in " ".join(process.cmdline()[:4]):
                found.append(process)
    return found


@pytest.mark.timeout(240)
async def test_a_host_dies_in_the_night_and_costs_one_checkpoint_interval(
    home: Path, machines: tuple[Sshd, Sshd, HookServer]
) -> None:
    gpu1, gpu2, hooks = machines
    at, told = Home(home), list[Alert]()
    fleet = Fleet(at, rhythm=QUICK)
    sitter = Babysitter(at, fleet, partial(own_parts, at), told=told.append)
    watch = asyncio.create_task(sitter.run(interval_s=0.5))
    try:
        await until(lambda: all(n in fleet.links and fleet.links[n].mirroring for n in ("gpu1", "gpu2")), "both links")
        run = await launched(at, fleet, gpu1)
        await until(lambda: len(read_copies(run).verified()) >= 2, "two verified copies")

        cut = time.monotonic()
        gpu1.stop()  # its network is gone; its trainer trains on, for nobody
        moved = await until(lambda: read_moved(run), "the move")
        child = at.run(moved.child)
        await until(lambda: child.supervisor.exists(), "the child")
        assert time.monotonic() - cut < 60, "somebody acts within a minute"
        await until(lambda: any("goes on on gpu2" in title for title in hooks.titles()), "the word about it")

        held = max(copy.step for copy in read_copies(run).verified().values())
        assert moved.step == held and moved.automatic and moved.host == "gpu2"
        assert moved.lost_s is not None and moved.lost_s < 20, "an interval (2 s), rest and transfer"
        done = next(alert for alert in told if "goes on on gpu2" in alert.title)
        assert f"step {held}" in done.text and child.id in done.text

        await until(lambda: read_copies(child).verified(), "a copy of the child's own checkpoint")
        curve = read_metrics(child)["loss"].step.tolist()
        assert curve == list(range(1, len(curve) + 1)) and len(curve) > held, "one curve across the seam"

        # the dead come back: their trainer still runs, and may not write the same lineage
        assert len(trainers(gpu1)) == 1
        gpu1.start()
        await until(lambda: not trainers(gpu1), "the old trainer's end", 30)
        ended = await until(lambda: read_record(run.exit, ExitRecord), "its record")
        assert ended.fenced == child.id and len(trainers(gpu2)) == 1
        await until(lambda: any("is back" in title for title in hooks.titles()), "the word about the fence")
        before = len(read_metrics(child)["loss"].step)
        await until(lambda: len(read_metrics(child)["loss"].step) > before + 3, "the child to go on")
        curve = read_metrics(child)["loss"].step.tolist()
        assert curve == list(range(1, len(curve) + 1)), "what the old one wrote meanwhile is not in it"
        assert read_manifest(child.manifest).parent == run.id
        right_and_whole(run, child)
    finally:
        sitter.stop()
        await asyncio.wait_for(watch, 10)
        await fleet.close()


async def launched(at: Home, fleet: Fleet, machine: Sshd) -> RunDir:
    work = machine.account / "project"
    work.mkdir()
    command = [sys.executable, "-u", "-c", TRAINER]
    manifest = Manifest(id=RUN_ID, name="voice", created=time.time(), command=command, cwd=str(work), host="gpu1")
    attempt = Attempt(attempt=1, requested=time.time(), argv=command, cwd=str(work), parse_console=True)
    # So short a silence is allowed in this process only; the backup's takes the defaults, which are what it needs.
    plan = policy.BackupPolicy(failover="gpu2", failover_after_s=3.0)
    return (await operations.launch(at, fleet.host("gpu1"), manifest, attempt, {}, plan)).run


def right_and_whole(*runs: RunDir) -> None:
    """All that was accepted hashes to what its line says."""
    for run in runs:
        lines = {line.name: line for line in read_checkpoints(run.checkpoint_manifest)}
        copies = read_copies(run).verified()
        assert copies
        for name, copy in copies.items():
            path = run.checkpoints / name
            if path.exists():  # retention has let older ones go
                assert sha256_of(path) == copy.sha256 == lines[name].sha256
