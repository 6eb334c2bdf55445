"""Losing the link in every way there is: a true state within 15 s, and healing without a key being pressed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import operations
from wavedeck.remote.far import far_sign
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import HostLost, LinkDown
from wavedeck.remote.link import Link, Rhythm, link_record
from wavedeck.remote.liveness import alive
from wavedeck.remote.ssh.questions import Question
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd, write_ssh_config

RUN_ID = "20261120-1759-drums-brisk-heron"
QUICK = Rhythm(
    ping_s=0.1, slow_s=0.5, lost_s=1.5, first_retry_s=0.1, longest_retry_s=0.5, refused_retry_s=0.5, lock_s=0.05
)


@pytest.fixture
async def fleet(home: Path, sshd: Sshd) -> AsyncIterator[Fleet]:
    """A fleet that is quick to notice and to try again."""
    one = Fleet(Home(home), rhythm=QUICK)
    yield one
    await one.close()


async def until(condition: Callable[[], object], what: str = "", timeout_s: float = 15.0) -> float:
    """Wait until something is so; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"waited in vain for {what or condition}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def connected(fleet: Fleet, name: str = "gpu1") -> Link:
    link = fleet.watch(name)
    await until(lambda: link.state is LinkState.CONNECTED and link.mirroring, f"{name} connected: {link.reason}")
    return link


async def launched(fleet: Fleet, script: str = "while :; do sleep 0.1; done", run_id: str = RUN_ID) -> RunDir:
    manifest = Manifest(id=run_id, name="drums", created=time.time())
    attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")
    result = await operations.launch(fleet.home, fleet.host("gpu1"), manifest, attempt, {})
    assert result.supervisor is not None, result.notice
    return result.run


def state(fleet: Fleet, run: RunDir) -> RunState:
    return Catalog(fleet.home, alive, far=far_sign(fleet.home, fleet)).view(run).state


async def test_half_open_is_noticed_and_heals(home: Path, sshd: Sshd, proxy: Proxy) -> None:
    """The cable is pulled: nothing ends, nothing is reset. With the rhythm that users get."""
    fleet = Fleet(Home(home))
    try:
        link = await connected(fleet)
        run = await launched(fleet)
        await until(lambda: state(fleet, run) is RunState.RUNNING, "running")
        proxy.stall()
        slow = await until(lambda: link.state is not LinkState.CONNECTED, "a sign of trouble")
        lost = slow + await until(lambda: state(fleet, run) is RunState.UNREACHABLE, "unreachable")
        assert lost <= 15.0 and link.reason and link.picture.heard is not None
        proxy.resume()
        await until(lambda: state(fleet, run) is RunState.RUNNING, "running again", 45)
    finally:
        await fleet.close()


async def test_sshd_restarted(fleet: Fleet, sshd: Sshd) -> None:
    link = await connected(fleet)
    run = await launched(fleet)
    sshd.stop()
    await until(lambda: link.state is LinkState.RECONNECTING, "reconnecting")
    assert "refused" in (link.reason or "") or "lost" in (link.reason or ""), link.reason
    assert state(fleet, run) is RunState.UNREACHABLE
    with pytest.raises(LinkDown):
        await fleet.host("gpu1").run(["true"])
    sshd.start()
    await until(lambda: state(fleet, run) is RunState.RUNNING, "running again")


async def test_host_rebooted(fleet: Fleet, sshd: Sshd) -> None:
    """Everything on the machine dies, then it comes back: its runs have vanished, and that is said."""
    await connected(fleet)
    run = await launched(fleet)
    await until(lambda: state(fleet, run) is RunState.RUNNING, "running")
    sshd.stop()
    sshd.reap()
    await until(lambda: state(fleet, run) is RunState.UNREACHABLE, "unreachable")
    sshd.start()
    await until(lambda: state(fleet, run) is RunState.VANISHED, "vanished")


async def test_its_address_changes(fleet: Fleet, sshd: Sshd, home: Path) -> None:
    link = await connected(fleet)
    with Proxy((sshd.address, sshd.port)) as elsewhere:
        sshd.ssh_config.write_text("\n".join(sshd.client_config(port=elsewhere.port)) + "\n")
        sshd.kill_connections()
        await until(lambda: elsewhere.connections == 1 and link.state is LinkState.CONNECTED, "the new address")


async def test_its_name_cannot_be_resolved(fleet: Fleet, sshd: Sshd) -> None:
    link = await connected(fleet)
    config = sshd.ssh_config.read_text()
    sshd.ssh_config.write_text(config.replace(f"HostName {sshd.address}", "HostName no-such-name.invalid"))
    sshd.kill_connections()
    await until(lambda: "no-such-name.invalid" in (link.reason or ""), "the reason")
    assert link.state in (LinkState.RECONNECTING, LinkState.CONNECTING) and "no address" in (link.reason or "")
    sshd.ssh_config.write_text(config)
    await until(lambda: link.state is LinkState.CONNECTED, "healing")


async def test_authentication_withdrawn(fleet: Fleet, sshd: Sshd) -> None:
    link = await connected(fleet)
    sshd.withdraw_key()
    sshd.kill_connections()
    await until(lambda: link.state is LinkState.REFUSED, "refused")
    with pytest.raises(LinkDown) as caught:
        await fleet.host("gpu1").run(["true"])
    assert caught.value.exit_code == 3
    sshd.restore_key()
    await until(lambda: link.state is LinkState.CONNECTED, "healing")


async def test_the_host_key_changes(fleet: Fleet, sshd: Sshd) -> None:
    link = await connected(fleet)
    before = sshd.fingerprint
    sshd.new_host_key()
    await until(lambda: link.state is LinkState.KEY_CHANGED, "host key changed")
    assert before in (link.reason or "") and sshd.fingerprint in (link.reason or "")


async def test_agent_killed(fleet: Fleet, sshd: Sshd) -> None:
    link = await connected(fleet)
    run = await launched(fleet)
    for process in agents(sshd):
        process.kill()
    await until(lambda: link.state is not LinkState.CONNECTED, "the loss")
    await until(lambda: state(fleet, run) is RunState.RUNNING, "healing")


async def test_tmux_server_killed(fleet: Fleet, sshd: Sshd) -> None:
    await connected(fleet)
    run = await launched(fleet, "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done")
    environ = {**os.environ, "TMUX_TMPDIR": str(sshd.root)}
    subprocess.run(["tmux", "-L", sshd.tmux_socket, "kill-server"], env=environ, check=True)
    size = run.console.stat().st_size
    await until(lambda: run.console.stat().st_size > size + 100, "more of the console")
    assert state(fleet, run) is RunState.RUNNING


async def test_disk_full_here(fleet: Fleet, sshd: Sshd, home: Path) -> None:
    link = await connected(fleet)
    run = await launched(fleet, "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done")
    await until(lambda: run.console.exists(), "the console")
    link.mirror._bytes.free = lambda _: 0
    await until(lambda: link.state is LinkState.PAUSED, "paused")
    assert "disk here is full" in (link.reason or "")
    link.mirror._bytes.free = lambda _: 1 << 40
    await until(lambda: link.state is LinkState.CONNECTED, "healing")
    there = RunDir(sshd.remote_home / "runs" / RUN_ID)
    await operations.request_stop(fleet.host("gpu1"), run)
    await until(lambda: run.exit.exists(), "the end")
    assert run.console.read_bytes() == there.console.read_bytes()


async def test_disk_full_there(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run directory on a file system without room: said in words, and everything else goes on."""
    with small_disk(tmp_path / "disk") as disk, Sshd(env={"WAVEDECK_HOME": str(disk)}) as sshd:
        monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.ssh_config))
        fleet = Fleet(Home(home), rhythm=QUICK)
        try:
            link = await connected(fleet)
            run = await launched(fleet, "while :; do echo a line of the console; sleep 0.05; done")
            await until(lambda: run.console.exists() and run.console.stat().st_size > 100, "the console")
            (disk / "filler").write_bytes(b"")
            with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(b"x" * 65536)
                    filler.flush()
            await until(lambda: any("disk" in notice for notice in link.view().notices), "a notice")
            assert state(fleet, run) is RunState.RUNNING and link.state is LinkState.CONNECTED
            (disk / "filler").unlink()
            size = run.console.stat().st_size
            await until(lambda: run.console.stat().st_size > size, "the console going on")
        finally:
            await fleet.close()


async def test_hosts_fail_independently(fleet: Fleet, sshd: Sshd) -> None:
    first = await connected(fleet)
    with Sshd("gpu2") as other:
        write_ssh_config(sshd.ssh_config, sshd, other)
        second = await connected(fleet, "gpu2")
        sshd.stop()
        await until(lambda: first.state is LinkState.RECONNECTING, "the first is lost")
        assert second.state is LinkState.CONNECTED
        assert (await fleet.host("gpu2").run(["echo", "fine"])).stdout == b"fine\n"
        other.stop()
        sshd.start()
        await until(lambda: first.state is LinkState.CONNECTED, "the first is back")
        await until(lambda: second.state is LinkState.RECONNECTING, "the second is lost")


async def test_a_lost_link_is_never_a_success(fleet: Fleet, sshd: Sshd) -> None:
    await connected(fleet)
    task = asyncio.create_task(fleet.host("gpu1").run(["sleep", "30"]))
    await until(lambda: any("30" in process.cmdline() for process in sshd_children(sshd)), "the command")
    sshd.kill_connections()
    with pytest.raises(HostLost):
        await task


async def test_nothing_of_ours_is_left_there(fleet: Fleet, sshd: Sshd) -> None:
    """A process without a pty outlives its connection: the agent must go by itself, and take its jobs along."""
    await connected(fleet)
    task = asyncio.create_task(fleet.host("gpu1").run(["sleep", "4242"]))
    await until(lambda: any("4242" in process.cmdline() for process in sshd_children(sshd)), "the command")
    sshd.stop()
    await until(lambda: not sshd_children(sshd) and not agents(sshd), "an end of everything", 20)
    with pytest.raises(HostLost):
        await task


async def test_runs_started_elsewhere_appear(fleet: Fleet, sshd: Sshd, home: Path) -> None:
    await connected(fleet)
    place = sshd.remote_home / "runs" / RUN_ID
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(
        b'{"id": "%s", "name": "mine", "created": %d}' % (RUN_ID.encode(), time.time())
    )
    await until(lambda: (home / "runs" / RUN_ID / "manifest.json").exists(), "the run")


async def test_one_process_mirrors_and_tells_the_others(fleet: Fleet, home: Path) -> None:
    await connected(fleet)
    other = Fleet(Home(home), rhythm=QUICK)
    try:
        second = other.watch("gpu1")
        await until(lambda: second.state is LinkState.CONNECTED, "the other")
        run = await launched(fleet)
        await until(lambda: state(other, run) is RunState.RUNNING, "running, as told by the first")
        assert not second.mirroring
        await fleet.close()
        await until(lambda: second.mirroring, "the other takes over")
        await until(lambda: state(other, run) is RunState.RUNNING, "running, as seen by the other")
    finally:
        await other.close()


async def test_what_is_written_down_tells_a_later_process(fleet: Fleet, home: Path) -> None:
    await connected(fleet)
    run = await launched(fleet)
    await fleet.close()
    record = link_record(Home(home), "gpu1")
    assert record is not None and record.link is LinkState.OFF and record.heard is not None
    view = Catalog(Home(home), alive, far=far_sign(Home(home))).view(run)
    assert view.state is RunState.UNREACHABLE and view.heard == record.heard


async def test_through_a_jump_host(fleet: Fleet, sshd: Sshd, jump: Sshd) -> None:
    write_ssh_config(sshd.ssh_config, sshd, jump, jumps={"gpu1": "jump"})
    sshd.known_hosts.write_text(sshd.known_line() + jump.known_line())
    link = await connected(fleet)
    assert "via" in link.view().target
    run = await launched(fleet)
    jump.stop()
    await until(lambda: state(fleet, run) is RunState.UNREACHABLE, "the way is gone")
    jump.start()
    await until(lambda: state(fleet, run) is RunState.RUNNING, "the way is back")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_hundred_cuts_while_a_run_logs(home: Path, sshd: Sshd, proxy: Proxy) -> None:
    """The mirror is byte-identical to the source in the end, whenever the line was cut."""
    rhythm = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=3.0, first_retry_s=0.01, longest_retry_s=0.05, lock_s=0.02)
    fleet = Fleet(Home(home), rhythm=rhythm)
    there = RunDir(sshd.remote_home / "runs" / RUN_ID)
    there.path.mkdir(parents=True)
    there.manifest.write_bytes(b'{"id": "%s", "name": "soak", "created": %d}' % (RUN_ID.encode(), time.time()))
    writer = EventWriter(there.events)
    going, rows = True, 0

    async def log() -> None:
        nonlocal rows
        console = there.console.open("ab", buffering=0)
        while going:
            for _ in range(random.randrange(1, 40)):
                rows += 1
                writer.metrics({"loss": random.random()}, step=rows)
                console.write(b"step %d %s\r\n" % (rows, os.urandom(20).hex().encode()))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(log())
    try:
        link = fleet.watch("gpu1")
        cuts = 0
        while cuts < 200:
            await asyncio.sleep(random.uniform(0, 0.12))
            if link.state is LinkState.CONNECTED or random.random() < 0.2:
                proxy.cut()
                cuts += 1
        going = False
        await task
        copy = RunDir(home / "runs" / RUN_ID)

        def equal() -> bool:
            return all(
                ours.exists() and ours.read_bytes() == theirs.read_bytes()
                for ours, theirs in ((copy.events, there.events), (copy.console, there.console))
            )

        await until(equal, "an equal copy", 60)
        assert rows > 1000 and not list(copy.path.glob("*.old-*"))
    finally:
        going = False
        await fleet.close()


async def test_a_suspended_laptop(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    """The process here stands still for longer than the agent waits; then everything goes on by itself."""
    script = tmp_path / "watch.py"
    script.write_text(
        "import asyncio, sys\n"
        "from wavedeck.engine.rundir import Home\n"
        "from wavedeck.remote.fleet import Fleet\n"
        "async def main():\n"
        "    fleet = Fleet(Home.default())\n"
        "    link = fleet.watch('gpu1')\n"
        "    while True:\n"
        "        print(link.state, flush=True)\n"
        "        await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )

    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([sys.executable, str(script)], stdout=out, stderr=subprocess.STDOUT)
    try:
        said = tmp_path / "out"
        await until(lambda: said.read_text().endswith("connected\n"), "connected", 30)
        process.send_signal(signal.SIGSTOP)
        sshd.kill_connections()
        length = len(said.read_text())
        process.send_signal(signal.SIGCONT)
        await until(lambda: "connecting" in said.read_text()[length:], "the loss")
        await until(lambda: said.read_text().endswith("\nconnected\n"), "healing")
    finally:
        process.kill()
        process.wait()


def agents(sshd: Sshd) -> list[psutil.Process]:
    """The agents on that machine."""
    found = []
    for process in sshd.processes():
        with contextlib.suppress(psutil.Error):
            if "import sys;exec" in " ".join(process.cmdline()):
                found.append(process)
    return found


def sshd_children(sshd: Sshd) -> list[psutil.Process]:
    """Commands that agents run there."""
    found = []
    for process in sshd.processes():
        with contextlib.suppress(psutil.Error):
            if process.name() == "sleep":
                found.append(process)
    return found


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of a few MiB; skips where none may be mounted."""
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


async def test_a_host_without_python_shows_what_it_can(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`python3` is not there: the load and the tmux sessions are, and the sentence says what to install."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "cat", "df", "sleep", "uname", "hostname", "id", "nproc", "tmux", "date", "sed", "awk", "head"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    with Sshd(env={"PATH": str(tools)}, extra=["PermitUserEnvironment no"]) as sshd:
        (sshd.account / ".bashrc").write_text(f"PATH={tools}\n")
        monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.ssh_config))
        fleet = Fleet(Home(home), rhythm=replace(QUICK, lost_s=10.0))
        try:
            link = fleet.watch("gpu1")
            await until(lambda: link.state is LinkState.LIMITED, f"limited, but {link.reason}")
            await until(lambda: link.picture.reading is not None and link.picture.reading.memory_total, "a reading")
            assert "python3" in (link.reason or "")
            with pytest.raises(LinkDown, match="python3"):
                await fleet.host("gpu1").run(["true"])
        finally:
            await fleet.close()


class Sceptic:
    """Leaves the first question, and accepts after that."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, question: Question) -> str | None:
        self.asked.append(question.fingerprint or "")
        return None if len(self.asked) == 1 else "yes"


async def test_a_question_that_was_left_is_not_asked_again_by_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sshd(known=False) as sshd:
        monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.ssh_config))
        sceptic = Sceptic()
        fleet = Fleet(Home(home), sceptic, rhythm=QUICK)
        try:
            link = fleet.watch("gpu1")
            await until(lambda: link.state is LinkState.KEY_UNKNOWN, "unknown host key")
            await until(lambda: link.state is LinkState.CONNECTING, "another try")
            await until(lambda: link.state is LinkState.KEY_UNKNOWN, "the same answer")
            assert sceptic.asked == [sshd.fingerprint]
            link.retry()
            await until(lambda: link.state is LinkState.CONNECTED, "connected")
            assert sceptic.asked == [sshd.fingerprint] * 2
        finally:
            await fleet.close()
