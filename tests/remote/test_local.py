"""This machine as a host: endings, timeouts, bounds; and whether a process is the one a record speaks of."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.manifest import SupervisorRecord
from wavedeck.remote.host import CommandFailed, CommandTimeout, OutputTooLarge, ProgramMissing
from wavedeck.remote.liveness import alive, orphan
from wavedeck.remote.local import LocalHost
from wavedeck.remote.nvidia_smi import query_gpus
from wavedeck.remote.payload.records import boot_id

HOST = LocalHost()


async def test_a_command_runs_to_its_end() -> None:
    done = await HOST.run(["sh", "-c", "cat; echo err >&2; pwd; exit 3"], stdin=b"typed\n")
    assert (done.status, done.stdout, done.stderr, done.host) == (3, b"typed\n/\n", b"err\n", "local")
    with pytest.raises(CommandFailed, match=r"sh failed on local \(exit status 3\): err\.") as caught:
        done.check()
    assert (caught.value.argv[0], caught.value.status, caught.value.stderr) == ("sh", 3, b"err\n")
    assert isinstance(caught.value, WavedeckError)


async def test_the_environment_can_be_given_whole() -> None:
    done = await HOST.run(["/usr/bin/env"], env={"ONLY": "this"})
    assert done.stdout == b"ONLY=this\n"


async def test_a_command_that_hangs_is_killed_with_its_children(
    tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandTimeout, match=r"did not answer within 0\.3 s"):
        await HOST.run(["sh", "-c", f"sleep 1000 & echo $! > {pid_file}; wait"], timeout_s=0.3)
    pid = int(pid_file.read_text())
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", what="the child's end")


async def test_output_is_bounded() -> None:
    with pytest.raises(OutputTooLarge):
        await HOST.run(["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxx; done"], limit=100_000)


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramMissing, match="no-such-program cannot be started on local: No such file"):
        await HOST.run(["no-such-program"])


async def test_a_cancelled_call_leaves_no_process(wait_for: Callable[..., object]) -> None:
    task = asyncio.create_task(HOST.run(["sleep", "987.125"]))
    while not any("987.125" in child.cmdline() for child in psutil.Process().children()):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any("987.125" in child.cmdline() for child in psutil.Process().children())


async def test_a_machine_without_nvidia_smi_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await query_gpus(HOST) == ((), "there is no nvidia-smi on this host.")


async def test_gpus_of_an_older_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = "0, GPU-a, Old GPU, 50, 1, 2, 60, 70.5, 100.0, 900, 30, P2, 0x4, 0"
    script = f"""#!/bin/sh
case "$1" in
*clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;;
*power.draw.instant*) echo 'Field "power.draw.instant" is not a valid field to query.'; exit 2;;
*) echo '{row}';;
esac
"""
    path = tmp_path / "nvidia-smi"
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (gpu,), problem = await query_gpus(HOST)
    assert problem is None and (gpu.power_w, gpu.throttle, gpu.utilization_pct) == (70.5, ("power cap",), 50)


def test_a_reading_of_this_machine(tmp_path: Path, wait_for: Callable[..., object]) -> None:
    host = LocalHost()
    first = host.reading(tmp_path / "not" / "there" / "yet")
    assert first.host_cpu_pct is None and first.disk_free and first.memory_total
    second = host.reading(tmp_path)
    assert second.host_cpu_pct is not None and 0 <= second.host_cpu_pct <= 100
    host.close()


# --- liveness


def started(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(60)", *words])


def record(pid: int, **fields: object) -> SupervisorRecord:
    return SupervisorRecord(attempt=1, pid=pid, started=time.time(), **fields)  # type: ignore[arg-type]


def test_alive_means_this_very_process(wait_for: Callable[..., object]) -> None:
    process = started("/runs/20261120-1759-x-brisk-heron")
    run_id = "20261120-1759-x-brisk-heron"
    try:
        wait_for(lambda: alive(run_id, record(process.pid)), what="the process")
        assert alive(run_id, record(process.pid, boot_id=boot_id()))
        assert not alive("20261120-1759-x-other-heron", record(process.pid)), "a pid that was used again"
        assert not alive(run_id, record(process.pid, boot_id="another boot"))
    finally:
        process.kill()
    wait_for(lambda: psutil.Process(process.pid).status() == "zombie", what="the zombie")
    assert not alive(run_id, record(process.pid))
    process.wait()
    assert not alive(run_id, record(process.pid))


def test_an_orphan_is_found_by_its_environment() -> None:
    environ = {**os.environ, "WAVEDECK_RUN_ID": "the-run"}
    process = subprocess.Popen(["sleep", "60"], env=environ)
    try:
        assert orphan("the-run", record(1, child=process.pid, boot_id=boot_id())) == process.pid
        assert orphan("other-run", record(1, child=process.pid, boot_id=boot_id())) is None
        assert orphan("the-run", record(1, child=None)) is None
    finally:
        process.kill()
        process.wait()
    assert orphan("the-run", record(1, child=process.pid, boot_id=boot_id())) is None
