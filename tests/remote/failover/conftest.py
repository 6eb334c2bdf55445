"""Two machines behind real sshds, a trainer that needs no torch, and runs whose host is gone for good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from wavedeck.engine.backup.copies import HERE, VERIFIED, append_copy, copy_line
from wavedeck.engine.checkpoints import (
    CheckpointLine,
    commit,
    foreign_name,
    read_checkpoints,
    sha256_of,
    temporary_path,
)
from wavedeck.engine.hosts import LinkState, MirrorRecord, write_mirror
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, Manifest, SupervisorRecord, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import Host
from wavedeck.remote.link import Link, Rhythm
from wavedeck.remote.provision.provision import Command, prepare_launch
from wavedeck.remote.ssh_host import SshHost
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, SSHD, Sshd, write_ssh_config

QUICK = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=3.0, first_retry_s=0.1, longest_retry_s=0.5, lock_s=0.05)
OLD = "20261120-1759-voice-brisk-heron"
TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
from wavedeck import log
from wavedeck.engine.checkpoints import commit, newest_whole, read_checkpoints, temporary_path
from wavedeck.engine.logger import EventWriter

folder = Path(os.environ["WAVEDECK_RUN_DIR"], "checkpoints")
step = 0
if os.environ.get("WAVEDECK_RESUME"):
    line = newest_whole(folder, read_checkpoints(folder / "manifest.jsonl"), print)
    step = json.loads((folder / line.name).read_text())["step"] if line else 0
EventWriter(folder.parent / "events.jsonl").write("start", attempt=int(os.environ["WAVEDECK_ATTEMPT"]), step=step)


def save():
    name = "step-%08d.ckpt" % step
    if not (folder / name).exists():
        path = temporary_path(folder, name)
        path.write_text(json.dumps({"step": step}))
        commit(path, name, step)


def stopped(*_):
    save()
    sys.exit(0)


signal.signal(signal.SIGINT, stopped)
print("training from step", step, flush=True)
while True:
    time.sleep(0.02)
    step += 1
    log({"loss": 1.0 / step}, step=step)
    if step % 10 == 0:
        save()
"""
"""Journal, checkpoints and a save on SIGINT, as a recipe has them."""
FOREIGN = """
import os, sys, time
print("resume", os.environ.get("WAVEDECK_RESUME"), os.environ.get("WAVEDECK_RESUME_FROM"), flush=True)
for name in ("out/model.bin", "out/optim.bin"):
    print(name, open(name).read() if os.path.exists(name) else "missing", flush=True)
while True:
    time.sleep(0.1)
"""

MOVER = '''
import asyncio, os, signal, sys
from pathlib import Path
import asyncssh
from wavedeck.engine.rundir import Home
from wavedeck.remote import operations
from wavedeck.remote.failover.move import move
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Rhythm

home, run_id, stage = Home(Path(sys.argv[1])), sys.argv[2], ""
seen = {}


def report(progress):
    seen[progress.phase] = seen.get(progress.phase, 0) + 1
    if stage == f"{progress.phase}:{seen[progress.phase]}":
        os.kill(os.getpid(), signal.SIGKILL)


async def waits(*_):
    """The supervisor was started, and nobody was told yet."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main():
    if stage == "started":
        operations._report = waits
    fleet = Fleet(home, rhythm=Rhythm(ping_s=0.1, lost_s=3.0, first_retry_s=0.1, lock_s=0.05))
    await fleet.watch("gpu2").ready(20)
    await move(home, home.run(run_id), None, fleet.host("gpu2"), report, environ={})


for line in sys.stdin:  # each in a process of its own, which has everything imported
    stage = line.strip()
    pid = os.fork()
    if pid == 0:
        asyncio.run(main())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''
"""Moves a run to gpu2, in a process that kills itself at the given step; one after the other, as lines ask for it."""


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 20.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.02)


def steps(run: RunDir) -> list[int]:
    """The steps in a run's own journal, in the order written."""
    if not run.events.exists():
        return []
    rows = [json.loads(line) for line in run.events.read_bytes().split(b"\n")[:-1]]
    return [row["step"] for row in rows if row["k"] == "metrics"]


@dataclass
class Hosts:
    """`gpu1` and `gpu2`, and this machine's links to them."""

    home: Home
    servers: dict[str, Sshd]
    fleet: Fleet

    async def up(self, name: str) -> SshHost:
        """A host, once it is connected and its runs are copied."""
        link = self.link(name)
        await until(lambda: link.state is LinkState.CONNECTED and link.mirroring, f"the link to {name}")
        host = self.fleet.host(name)
        assert isinstance(host, SshHost)
        return host

    def link(self, name: str) -> Link:
        """The link to a host."""
        return self.fleet.watch(name)

    async def cut(self, name: str) -> None:
        """The line to a host is dead; what runs there goes on."""
        self.servers[name].stop()
        await until(lambda: not self.link(name).state.up, f"{name} to be lost")

    def trainers(self, name: str) -> int:
        """How many trainers run on a machine."""
        count = 0
        for process in self.servers[name].processes():
            with contextlib.suppress(psutil.Error):
                count += process.cmdline()[1:2] == ["train.py"]
        return count

    def runs(self, name: str) -> list[str]:
        """Ids of the runs that are on a machine."""
        folder = self.servers[name].remote_home / "runs"
        return (
            sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []
        )


@pytest.fixture
def servers(home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[dict[str, Sshd]]:
    """The machines; `@pytest.mark.parametrize("servers", …, indirect=True)` is not needed: both are cheap."""
    if SSHD is None:
        pytest.skip("no sshd here: install openssh-server")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    home.mkdir(parents=True)
    python = json.dumps(sys.executable)
    (home / "hosts.toml").write_text(
        f"[gpu1]\npython = {python}\nprice_per_hour = 0.4\n[gpu2]\npython = {python}\nprice_per_hour = 0.7\n"
    )
    with Sshd("gpu1") as one, Sshd("gpu2") as two:
        config = write_ssh_config(home.parent / "both.config", one, two)
        monkeypatch.setenv(CONFIG_VARIABLE, str(config))
        yield {"gpu1": one, "gpu2": two}


@pytest.fixture
async def hosts(home: Path, servers: dict[str, Sshd]) -> AsyncIterator[Hosts]:
    """Both machines and the links."""
    fleet = Fleet(Home(home), rhythm=QUICK)
    yield Hosts(Home(home), servers, fleet)
    await fleet.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "train.py").write_text(TRAIN)
    return root


async def launched(home: Home, host: Host, project: Path) -> RunDir:
    """A training on a host, as `exec --host` starts it."""
    assert isinstance(host, SshHost)
    command = Command((sys.executable, "train.py"), "voice", project, tags=("night",))
    plan = (await prepare_launch(home, host, command, run_id=OLD)).plan
    return (await operations.launch(home, host, plan.manifest, plan.attempt, {})).run


def back_up(run: RunDir, there: Path) -> CheckpointLine:
    """What the backup does, in short: the newest checkpoint that is known here, and its line."""
    line = read_checkpoints(run.checkpoint_manifest)[-1]
    shutil.copyfile(there / "runs" / run.id / "checkpoints" / line.name, run.checkpoints / line.name)
    append_copy(run, copy_line(line, HERE, VERIFIED, time.time()))
    return line


def keep_project(run: RunDir, script: str = TRAIN) -> None:
    """What the backup keeps of pushed code."""
    run.project.mkdir()
    (run.project / "train.py").write_text(script)


def lost_run(
    home: Home,
    *,
    run_id: str = OLD,
    host: str | None = "gpu1",
    checkpoints: Sequence[int] = (20, 30),
    newest: int = 37,
    script: str = TRAIN,
) -> RunDir:
    """The copy of a run whose host is gone, with verified checkpoints; with `host=None` a run of this machine."""
    run = home.run(run_id)
    run.attempts.mkdir(parents=True)
    run.checkpoints.mkdir()
    if host is None:
        cwd = home.root.parent / "project"
        cwd.mkdir(exist_ok=True)
        (cwd / "train.py").write_text(script)
    else:
        cwd = Path(f"/gone/wavedeck/code/{run_id}")
        keep_project(run, script)
        write_mirror(run.path, MirrorRecord(host=host))
    argv, now = [sys.executable, "train.py"], time.time()
    manifest = Manifest(
        id=run_id, name="voice", created=now - 60, command=argv, host=host or "local", cwd=str(cwd), tags=["night"]
    )
    write_record(run.manifest, manifest)
    attempt = Attempt(attempt=1, requested=now - 60, argv=argv, cwd=str(cwd), grace_s=[2.0, 2.0])
    write_record(run.attempt(1), attempt)
    write_record(run.supervisor, SupervisorRecord(attempt=1, pid=4_000_000, started=now - 60, boot_id="another"))
    writer = EventWriter(run.events)
    writer.write("start", attempt=1, step=0)
    for step in range(1, newest + 1):
        writer.metrics({"loss": 1.0 / step}, step=step)
        if step in checkpoints:
            path = temporary_path(run.checkpoints, f"step-{step:08d}.ckpt")
            path.write_text(json.dumps({"step": step}))
            line = commit(path, f"step-{step:08d}.ckpt", step)
            if host is not None:
                append_copy(run, copy_line(line, HERE, VERIFIED, now))
    writer.close()
    return run


def add_foreign(run: RunDir, path: str, content: str, step: int) -> CheckpointLine:
    """A verified copy of a foreign trainer's file."""
    staged = run.checkpoints / ".new"
    staged.write_text(content)
    sha = sha256_of(staged)
    line = CheckpointLine(
        foreign_name(path, sha), step, len(content.encode()), sha, time.time(), kind="foreign", path=path
    )
    staged.rename(run.checkpoints / line.name)
    with run.checkpoint_manifest.open("ab") as handle:
        handle.write(msgspec.json.encode(line) + b"\n")
    append_copy(run, copy_line(line, HERE, VERIFIED, time.time()))
    return line


@contextlib.contextmanager
def killer(home: Home, run: RunDir) -> Iterator[Callable[[str], int]]:
    """Runs movers that kill themselves at the stage that is given; each call returns one's exit status."""
    argv = [sys.executable, "-c", MOVER, str(home.root), run.id]
    with subprocess.Popen(argv, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as all_:
        assert all_.stdin is not None and all_.stdout is not None

        def killed(stage: str) -> int:
            assert all_.stdin is not None and all_.stdout is not None
            print(stage, file=all_.stdin, flush=True)
            return int(all_.stdout.readline())

        yield killed
        all_.stdin.close()


def killed_at(home: Home, run: RunDir, stage: str) -> int:
    """Run one mover that kills itself; its exit status."""
    with killer(home, run) as killed:
        return killed(stage)
