"""What a real agent says about its host: GPUs of a fake nvidia-smi (also one that hangs), tmux sessions, notices."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from wavedeck.engine.hosts import GpuProcess, TmuxSession
from wavedeck.engine.machine import MachineReading
from wavedeck.remote.payload import agent_watch
from wavedeck.remote.payload.agent_readings import KernelLog, LowDisk, xid_sentence
from wavedeck.tests.fakes.agent_driver import AgentDriver

RUN = "20261120-1759-drums-brisk-heron"
UUID = "GPU-aaaaaaaa-0000-4000-8000-00000000000"
FAKE = """#!{python} -IS
import os, sys, time
query, _, fields = sys.argv[1].partition("=")
hang, pids = {hang!r}, {pids!r}
if query == "--query-compute-apps":
    while "apps" in hang:
        time.sleep(10)
    for pid in open(pids).read().split() if os.path.exists(pids) else []:
        print("{uuid}1, " + pid + ", 512, python train.py --sizes 1,2")
    sys.exit(0)
while "gpus" in hang:
    time.sleep(10)
assert sys.argv[2:] == ["--format=csv,noheader,nounits", "-l", "2"], sys.argv
while True:
    for index in (0, 1):
        cells = dict.fromkeys(fields.split(","), "[N/A]")
        cells["index"], cells["utilization.gpu"], cells["uuid"] = str(index), str(90 + index), "{uuid}" + str(index)
        for cell in ", ".join(cells[field] for field in fields.split(",")).split(" "):
            os.write(1, (cell + " ").encode())
        os.write(1, b"\\n")
    time.sleep(0.05)
"""


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Callable[..., AgentDriver]]:
    """`start(hang=…, **options of AgentDriver)` starts an agent on a host with a fake nvidia-smi."""
    started: list[AgentDriver] = []

    def begin(hang: str = "", **options: Any) -> AgentDriver:
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir()
        text = FAKE.format(python=sys.executable, hang=hang, pids=str(tmp_path / "pids"), uuid=UUID)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        env = {"PATH": f"{path.parent}:{os.environ['PATH']}"} | options.pop("env", {})
        started.append(AgentDriver(home, env=env, **options))
        return started[-1]

    yield begin
    for agent in started:
        agent.close()


def test_readings_are_machine_readings(start: Callable[..., AgentDriver]) -> None:
    agent = start()
    row = agent.wait(lambda h: h["op"] == "reading" and h["gpus"] and h["host_cpu_pct"] is not None, "a whole reading")
    reading = msgspec.convert({key: value for key, value in row.items() if key != "op"}, MachineReading, strict=True)
    assert [(gpu.index, gpu.utilization_pct, gpu.uuid) for gpu in reading.gpus] == [
        (0, 90, UUID + "0"),
        (1, 91, UUID + "1"),
    ]
    assert 0 < reading.memory_used < reading.memory_total and 0 < reading.disk_free < reading.disk_total
    assert reading.load_1m is not None and abs(reading.t - time.time()) < 60 and reading.gpu_error is None
    assert agent.op("hello")["programs"]["nvidia-smi"]


def test_processes_on_the_gpus_belong_to_runs(
    start: Callable[..., AgentDriver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = subprocess.Popen(["sleep", "300"], env=os.environ | {"WAVEDECK_RUN_ID": RUN})
    foreign = subprocess.Popen(["sleep", "300"])
    (tmp_path / "pids").write_text(f"{ours.pid} {foreign.pid} 999999")
    agent = start()
    agent.wait(lambda h: h["op"] == "reading" and h["gpus"], "GPUs")
    found = agent.wait(lambda h: h["op"] == "processes" and h["gpus"][0]["gpu"] is not None, "their processes", 30)
    rows = msgspec.convert(found["gpus"], list[GpuProcess])
    user = psutil.Process().username()
    name = "python train.py --sizes 1,2"
    assert rows == [
        GpuProcess(1, ours.pid, 512, name, user, RUN),
        GpuProcess(1, foreign.pid, 512, name, user, None),
        GpuProcess(1, 999999, 512, name, None, None),
    ]
    for process in (ours, foreign):
        process.kill()
        process.wait()


def test_an_nvidia_smi_that_hangs_holds_nobody_up(
    start: Callable[..., AgentDriver], wait_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start(hang="gpus apps")

    def asking() -> list[psutil.Process]:
        """The two that ask; a look at versions may be among the children for a moment."""
        return [child for child in agent.children() if "--query" in words(child)]

    hung = wait_for(lambda: len(found := asking()) >= 2 and found, what="both of them")
    assert agent.ask("ping")["op"] == "pong"
    assert agent.op("reading")["gpus"] == []
    apps = next(child for child in hung if "--query-compute" in words(child))
    wait_for(lambda: not lives(apps), 20, "its end after ten seconds")
    assert agent.ask("ping")["op"] == "pong"
    began = time.monotonic()
    agent.end_input()
    assert agent.process.wait(10) == 0 and time.monotonic() - began < 5
    assert not [child for child in hung if lives(child)]


def words(process: psutil.Process) -> str:
    """Its command line; empty when it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def lives(process: psutil.Process) -> bool:
    """Not a zombie either."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_tmux_sessions_of_both_servers(
    start: Callable[..., AgentDriver], tmux_socket: str, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    env = {"TMUX_TMPDIR": str(tmp_path), "WAVEDECK_TMUX_SOCKET": tmux_socket}
    agent = start(env=env)
    assert agent.op("hello")["tmux_socket"] == tmux_socket
    environ = {key: value for key, value in os.environ.items() if key != "TMUX"} | env
    try:
        for socket, name in ((tmux_socket, f"wd-{RUN}"), ("default", "my own: work")):
            command = ["tmux", "-L", socket, "-f", "/dev/null", "new-session", "-d", "-s", name, "sleep", "300"]
            subprocess.run(command, check=True, env=environ)
        told = agent.wait(lambda h: h["op"] == "sessions" and len(h["sessions"]) == 2, "both sessions", 20)
        ours, own = msgspec.convert(told["sessions"], list[TmuxSession])
        assert (ours.name, ours.ours, ours.run_id, ours.windows, ours.attached) == (f"wd-{RUN}", True, RUN, 1, 0)
        assert own.name == "my own_ work" and not own.ours and own.run_id is None
        assert abs((ours.created or 0) - time.time()) < 60 and told["sessions"][0]["id"] == "$0"
        at = len(agent.said)
        for socket in (tmux_socket, "default"):
            subprocess.run(["tmux", "-L", socket, "kill-server"], env=environ, check=True)
        agent.op("sessions", sessions=[], since=at)
    finally:
        subprocess.run(["tmux", "-L", "default", "kill-server"], env=environ, capture_output=True)
        subprocess.run(["tmux", "-L", tmux_socket, "kill-server"], env=environ, capture_output=True)


def test_sessions_from_a_hostile_tmux() -> None:
    text = "1 2 0 1 $3 a b\nx 2 0 1 $4 c\n1 2 0 1 5 d\n1 2\n\n1 2 0 1 $6 \n"
    rows = agent_watch.parse_sessions(text, True)
    assert [(row["name"], row["created"], row["id"]) for row in rows] == [("a b", 1, "$3"), ("c", None, "$4")]


def test_a_disk_that_fills_is_told_once() -> None:
    told: list[Any] = []
    disk, size = LowDisk(told.append), 100 << 30
    for free in (50 << 30, 3 << 30, 1 << 30, 900 << 20, 800 << 20, 2 << 30, None):
        disk.look("/data", free, size)
    assert [frame["text"] for frame in told] == ["the disk of /data is almost full: 1.0 GiB are left (1.0 %)."]
    disk.look("/data", 50 << 30, size)
    disk.look("/data", 500 << 20, 5 << 30)
    assert len(told) == 2


XID = "6,1234,{us},-;NVRM: Xid (PCI:0000:65:00): 79, pid=7, name=python, GPU has fallen off the bus.\n DEVICE=x\n"


def test_xids_in_the_kernels_log_are_told(tmp_path: Path) -> None:
    told: list[Any] = []
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    reader = KernelLog(told.append, str(path))
    writer = os.open(path, os.O_WRONLY)
    now_us = int(time.monotonic() * 1e6)
    os.write(writer, XID.format(us=now_us).encode())
    reader.turn(1.0)
    os.write(writer, b"6,1,1,-;usb 1-1: new device\n")
    reader.turn(3.0)
    os.close(writer)
    reader.turn(5.0)
    assert len(told) == 1 and told[0]["text"].startswith("the driver reported Xid 79 on PCI:0000:65:00 at ")
    assert told[0]["text"].endswith("GPU has fallen off the bus.") and "DEVICE" not in told[0]["text"]
    assert reader.due() == float("inf"), "a log that ended is read no more"
    assert KernelLog(told.append, str(tmp_path / "none")).due() == float("inf")


def test_other_kernel_messages_are_no_xids() -> None:
    assert xid_sentence("NVRM: loading NVIDIA UNIX x86_64 Kernel Module", 0.0) is None
    sentence = xid_sentence("NVRM: Xid (PCI:0000:01:00): 31", 0.0)
    assert sentence == "the driver reported Xid 31 on PCI:0000:01:00 at 1970-01-01 00:00 UTC."
