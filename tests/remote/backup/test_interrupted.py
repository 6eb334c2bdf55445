"""Cut lines, killed programs: what has arrived is gone on from, and nothing wrong is ever accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.backup.copies import VERIFIED, read_copies
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.rundir import Home
from wavedeck.remote.backup import pull as pulling
from wavedeck.remote.backup import staging, stream
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.backup.transfer import Cut
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import LinkDown
from wavedeck.tests.remote.backup.conftest import QUICK, Lab, accepted, leftovers, noise, until
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd

KILLED_AFTER = """
import os, signal, sys
from wavedeck.remote.backup import disk, worker
left = int(sys.argv.pop(1))
def mortal(real):
    def work(*arguments):
        global left
        result = real(*arguments)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return work
for name in ("sync_file", "rename", "sync_folder", "append", "unlink"):
    setattr(disk.RealDisk, name, mortal(getattr(disk.RealDisk, name)))
sys.exit(worker.main())
"""


ONLY_RSYNC = """
import sys
from wavedeck.remote.backup import stream, worker
stream.STREAM_FROM = 1 << 50
sys.exit(worker.main())
"""
WORKERS = {"stream": ("-m", "wavedeck.remote.backup.worker"), "rsync": ("-c", ONLY_RSYNC)}


@pytest.fixture(params=list(WORKERS))
def mover(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What moves large files: both must survive everything."""
    if request.param == "rsync":
        only_rsync(monkeypatch)
    return str(request.param)


def only_rsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAM_FROM", 1 << 50)


@pytest.fixture
async def far(home: Path, sshd: Sshd, proxy: Proxy) -> AsyncIterator[Lab]:
    """The same, through a line that can be cut."""
    fleet = Fleet(Home(home), rhythm=QUICK, mirrors=False)
    await fleet.watch("gpu1").ready(20)
    yield Lab(Home(home), fleet, sshd)
    await fleet.close()


async def back(lab: Lab) -> None:
    """Wait until the link has healed by itself."""
    link = lab.fleet.watch("gpu1")
    await until(lambda: link.state is LinkState.CONNECTED and link.agent is not None, "the link")


async def test_cut_at_random_bytes(far: Lab, proxy: Proxy, mover: str) -> None:
    """Every cut loses at most what was in flight; the file that comes out in the end is the one."""
    data = noise(12_000_000)
    line = far.save("big.ckpt", data)
    policy = BackupPolicy(limit_kib_s=8000)
    rng = random.Random(5)
    cuts = 0
    started = proxy.forwarded
    while cuts < 4:
        at = proxy.forwarded + rng.randrange(100_000, 3_500_000)
        task = asyncio.create_task(pulling.pull(far.host, far.run, line, policy, far.said.append, RealDisk()))
        await until(lambda at=at, task=task: proxy.forwarded >= at or task.done(), "bytes")  # type: ignore[misc]
        assert not task.done() and far.accepted() == set()
        proxy.cut()
        with pytest.raises(LinkDown):
            await task
        cuts += 1
        await back(far)
    told = await pulling.pull(far.host, far.run, line, policy, far.said.append, RealDisk())
    assert told.event == VERIFIED and far.accepted() == {"big.ckpt"} and leftovers(far.run) == []
    assert proxy.forwarded - started < 2.2 * len(data)  # from the beginning each time would be more


async def test_sshd_killed_midway(far: Lab, mover: str) -> None:
    line = far.save("big.ckpt", noise(24_000_000))
    policy = BackupPolicy(limit_kib_s=6000)
    task = asyncio.create_task(pulling.pull(far.host, far.run, line, policy, far.said.append, RealDisk()))
    await until(lambda: any(moving.bytes for moving in far.said), "the first bytes")
    far.sshd.kill_connections()
    with pytest.raises((Cut, LinkDown)):
        await task
    await back(far)
    assert (await far.pull(line)).event == VERIFIED and far.accepted() == {"big.ckpt"}


def rsyncs(run_path: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "rsync" and any(str(run_path) in word for word in process.cmdline()):
                found.append(process)
    return found


async def test_what_a_killed_rsync_left_is_gone_on_from(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever of the two comes next; here it is the stream."""
    only_rsync(monkeypatch)
    line = lab.save("big.ckpt", noise(16_000_000))
    policy = BackupPolicy(limit_kib_s=6000)
    task = asyncio.create_task(pulling.pull(lab.host, lab.run, line, policy, lab.said.append, RealDisk()))
    await until(lambda: any(moving.bytes > 2_000_000 for moving in lab.said), "some bytes")
    for process in rsyncs(lab.run.path):
        process.kill()
    with pytest.raises(WavedeckError):
        await task
    folder = lab.run.checkpoints / ".incoming" / line.sha256[:12]
    assert [path.name[:9] for path in folder.iterdir()] == [".big.ckpt"]
    left = next(folder.iterdir()).stat().st_size
    monkeypatch.setattr(stream, "STREAM_FROM", 1 << 20)
    lab.said.clear()
    assert (await lab.pull(line)).event == VERIFIED and lab.accepted() == {"big.ckpt"}
    assert min(moving.bytes for moving in lab.said) > left


async def test_the_source_is_cut_short_midway(lab: Lab, mover: str) -> None:
    """Truncated, or deleted, while it is read."""
    policy = BackupPolicy(limit_kib_s=8000)
    for name, harm in (("short.ckpt", lambda path: os.truncate(path, 1000)), ("away.ckpt", Path.unlink)):
        line = lab.save(name, noise(24_000_000, len(name)))
        lab.said.clear()
        task = asyncio.create_task(pulling.pull(lab.host, lab.run, line, policy, lab.said.append, RealDisk()))
        await until(lambda: any(moving.bytes for moving in lab.said), "the first bytes")
        harm(lab.there.checkpoints / name)
        told = await task
        if name == "away.ckpt" and told.event == VERIFIED:
            continue  # whoever reads holds a deleted file open: what was read is the whole of it
        assert told.event != VERIFIED and told.text
    assert "short.ckpt" not in lab.accepted()


async def test_kill_9_after_every_operation(lab: Lab) -> None:
    """The worker itself, killed after its first, second, … durable operation; the next one finishes."""
    for number in range(1, 30):
        line = lab.save(f"s{number}.ckpt", noise(30_000, number), number)
        status = await worker("-c", KILLED_AFTER, str(number), "--once", "--run", lab.run_id)
        lab.accepted()
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert 8 < number < 30
    assert await worker("-m", "wavedeck.remote.backup.worker", "--once", "--run", lab.run_id) == 0
    assert lab.accepted() >= {f"s{number - age}.ckpt" for age in range(3)}
    assert read_copies(lab.run).holds(line) is not None and leftovers(lab.run) == []


async def test_kill_9_while_bytes_move(far: Lab, proxy: Proxy, mover: str) -> None:
    """What has arrived is gone on from; an rsync that outlives its worker changes nothing behind the next one."""
    settings = far.home.backup_settings
    settings.write_text("[default]\nlimit_kib_s = 4000\n")
    size = 12_000_000
    line = far.save("big.ckpt", noise(size))
    folder = staging.staging_of(far.run.checkpoints, line.sha256)
    words = (*WORKERS[mover], "--once", "--run", far.run_id)
    rng = random.Random(1)
    for _ in range(2):
        process = spawn(*words)
        enough = staging.used(folder) + 1_500_000 + rng.randrange(1_000_000)
        await until(lambda enough=enough: staging.used(folder) > enough, "bytes")  # type: ignore[misc]
        process.kill()
        process.wait()
        assert far.accepted() == set()
    settings.unlink()
    await until(lambda: not rsyncs(far.run.path), "the end of rsync")
    began = proxy.forwarded
    assert await worker(*words) == 0
    assert proxy.forwarded - began < size - 1_500_000
    assert accepted(far.run) == {line.name} and leftovers(far.run) == []


def spawn(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


async def worker(*words: str) -> int:
    process = spawn(*words)
    _, said = await asyncio.to_thread(process.communicate)
    if process.returncode not in (0, -signal.SIGKILL):
        print(said.decode())
    return process.returncode
