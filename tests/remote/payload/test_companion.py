"""The companion beside a real supervisor: machine readings, a fake nvidia-smi, console events, bounded work."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.machine import MachineReading, read_machine
from wavedeck.remote.payload import console_follow, host_readings
from wavedeck.remote.payload.console_follow import Follower
from wavedeck.remote.payload.oom import OomWatch, counter_files, oom_kills

PYTHON = [sys.executable, "-IS", "-c"]
RECORDINGS = Path(__file__).parents[2] / "recordings" / "nvidia_smi"
FAKE = """#!{python} -IS
import os, sys, time
fields = sys.argv[1].partition("=")[2].split(",")
if "{refused}" in fields:
    print('Field "{refused}" is not a valid field to query.\\n')
    sys.exit(2)
if {status}:
    print({said!r})
    sys.exit({status})
assert sys.argv[2:] == ["--format=csv,noheader,nounits", "-l", "2"], sys.argv
while True:
    for index in (0, 1):
        cells = dict.fromkeys(fields, "[N/A]")
        cells["index"], cells["utilization.gpu"], cells["name"] = str(index), str(90 + index), "Fake GPU"
        cells["clocks_throttle_reasons.active"] = "0x40"
        for cell in ", ".join(cells[field] for field in fields).split(" "):
            os.write(1, (cell + " ").encode())
        os.write(1, b"\\n")
    time.sleep(0.05)
"""


@pytest.fixture
def fake_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`fake_gpu(refused=…, status=…, said=…)` puts an nvidia-smi on the PATH that writes field by field."""

    def install(refused: str = "none", status: int = 0, said: str = "") -> None:
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir()
        path.write_text(FAKE.format(python=sys.executable, refused=refused, status=status, said=said))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return install


def readings(path: Path) -> list[MachineReading]:
    return read_machine(path)[0]


def test_readings_of_a_busy_run(
    supervise: Callable[..., Any], fake_gpu: Callable[..., None], wait_for: Callable[..., Any]
) -> None:
    fake_gpu(refused="clocks_event_reasons.active")
    run = supervise(["sh", "-c", f"{sys.executable} -IS -c 'while True: pass' & wait"])
    rows = wait_for(lambda: [r for r in readings(run.run.machine) if r.cpu_pct is not None], what="two readings")
    reading = rows[0]
    assert reading.cpu_pct > 20 and reading.rss_bytes > 1_000_000 and reading.processes == 2
    assert 0 <= reading.host_cpu_pct <= 100 and reading.load_1m is not None and reading.attempt == 1
    assert 0 < reading.memory_used < reading.memory_total and 0 < reading.disk_free < reading.disk_total
    assert [(gpu.index, gpu.utilization_pct, gpu.name, gpu.throttle) for gpu in reading.gpus] == [
        (0, 90, "Fake GPU", ("hardware thermal",)),
        (1, 91, "Fake GPU", ("hardware thermal",)),
    ]
    run.process.terminate()
    run.ended()


def test_a_driver_that_fails_is_a_sentence_in_the_readings(
    supervise: Callable[..., Any], fake_gpu: Callable[..., None], wait_for: Callable[..., Any]
) -> None:
    fake_gpu(status=9, said=(RECORDINGS / "err_no_driver_rc9.txt").read_text())
    run = supervise(["sleep", "60"])
    row = wait_for(lambda: next((r for r in readings(run.run.machine) if r.gpu_error), None), what="the sentence")
    assert row.gpu_error == "the NVIDIA driver is not loaded on this host." and row.gpus == ()
    run.process.terminate()
    run.ended()


def test_console_metrics_become_events_even_when_the_run_is_over_at_once(supervise: Callable[..., Any]) -> None:
    run = supervise(
        ["sh", "-c", "echo 'step 10 loss=0.5 lr=0.001'; echo 'step 20 loss=0.25 lr=0.001'"], parse_console=True
    )
    run.ended()
    events = [json.loads(line) for line in run.run.console_events.read_text().splitlines()]
    losses = [(e.get("step"), e["v"]["loss"]) for e in events if e["k"] == "metrics"]
    assert losses == [(10, 0.5), (20, 0.25)]


def test_only_this_attempts_output_is_parsed(supervise: Callable[..., Any]) -> None:
    supervise(["sh", "-c", "echo 'step 10 loss=0.5'"], parse_console=False).ended()
    run = supervise(["sh", "-c", "echo 'step 20 loss=0.25'"], number=2, parse_console=True)
    run.ended()
    events = [json.loads(line) for line in run.run.console_events.read_text().splitlines()]
    assert [e["step"] for e in events if e["k"] == "metrics"] == [20]


def test_a_pattern_that_cannot_be_used_costs_the_parsing_only_and_says_so(supervise: Callable[..., Any]) -> None:
    run = supervise(["sh", "-c", "echo loss=1"], parse_console=True, patterns=["("])
    run.ended()
    (event,) = [json.loads(line) for line in run.run.console_events.read_text().splitlines()]
    assert event["level"] == "warning" and "the console is not parsed: console pattern 1" in event["text"]


# --- following a file


class Echo:
    """Makes an event of every whole line."""

    def __init__(self) -> None:
        self.partial = b""

    def feed(self, data: bytes, t: float) -> list[dict[str, Any]]:
        lines = (self.partial + data).split(b"\n")
        self.partial = lines.pop()
        return [{"text": line.decode()} for line in lines if line]

    def close(self, t: float) -> list[dict[str, Any]]:
        return [{"text": self.partial.decode()}] if self.partial else []


def test_the_follower_starts_at_its_offset_and_ends_with_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    follower = Follower(str(path), 4, Echo())
    assert follower.turn() == []
    path.write_bytes(b"old\nnew\nlast")
    assert follower.turn() == [{"text": "new"}]
    assert follower.close(1.0) == [{"text": "last"}]


def test_a_follower_that_is_too_far_behind_skips_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_follow, "BEHIND_BYTES", 10_000)
    monkeypatch.setattr(console_follow, "KEEP_BYTES", 25)
    path = tmp_path / "console.log"
    path.write_bytes(b"0123456789\n" * 2000)
    events = Follower(str(path), 0, Echo()).turn()
    assert "21975 bytes of console output came too fast" in events[0]["text"] and events[0]["level"] == "warning"
    assert [event["text"] for event in events[1:]] == ["0123456789", "0123456789"]


def test_a_turn_of_the_follower_is_bounded_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"x\n" * 100_000)
    ticks = iter(range(10**6))
    monkeypatch.setattr(console_follow.time, "monotonic", lambda: 0.01 * next(ticks))
    follower = Follower(str(path), 0, Echo())
    per_turn = [len(follower.turn(limit_s=0.025)) for _ in range(10)]
    assert max(per_turn) <= 2 * console_follow.CHUNK // 2 and sum(per_turn) == 100_000


# --- readings as such


def test_the_tree_of_a_run_holds_what_moved_to_another_parent() -> None:
    row = host_readings.Process
    table = [row(10, 1, 10, 10, 1, 1), row(11, 10, 10, 10, 1, 1), row(12, 1, 10, 10, 1, 1), row(13, 12, 13, 13, 1, 1)]
    other = [row(1, 0, 1, 1, 9, 9), row(20, 1, 20, 20, 1, 1)]
    assert {p.pid for p in host_readings.tree(table + other, 10)} == {10, 11, 12, 13}


def test_ps_output_is_read_where_there_is_no_proc() -> None:
    text = "  PID\n  501     1   501   0:01.50  1024\n  502   501   501 1-02:03:04  20\nrubbish here\n"
    first, second = host_readings.parse_ps(text)
    assert first == host_readings.Process(501, 1, 501, 501, 1.5, 1024 * 1024)
    assert second.cpu_s == 93784 and second.parent == 501


def test_cpu_percent_is_of_one_core_and_unknown_at_first() -> None:
    meter = host_readings.CpuMeter()
    row = host_readings.Process
    assert meter.read([row(1, 0, 1, 1, 5.0, 0)], 100.0) is None
    assert meter.read([row(1, 0, 1, 1, 7.0, 0), row(2, 1, 1, 1, 1.0, 0)], 102.0) == 150.0


def test_a_containers_limit_is_its_memory(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    groups.mkdir()
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")
    assert host_readings.memory(str(proc), str(groups)) == (600 * 1024, 1000 * 1024)
    (groups / "memory.max").write_text("500000\n")
    (groups / "memory.current").write_text("300000\n")
    (groups / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert host_readings.memory(str(proc), str(groups)) == (200000, 500000)
    assert host_readings.memory(str(tmp_path / "none"), str(groups)) == (None, None)


def test_counter_files_of_both_versions_of_control_groups(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("5:cpu:/x\n4:memory:/jobs/a\n0::/jobs/b\n")
    assert counter_files(7, str(tmp_path), "/g") == [
        "/g/memory/memory.oom_control",
        "/g/memory.events",
        f"{tmp_path}/vmstat",
    ], "in a container only the root is there"
    own = tmp_path / "jobs" / "b" / "memory.events"
    own.parent.mkdir(parents=True)
    own.touch()
    assert str(own) in counter_files(7, str(tmp_path), str(tmp_path))
    assert str(tmp_path / "memory.events") not in counter_files(7, str(tmp_path), str(tmp_path))


def test_only_a_recent_rise_of_the_machine_is_blamed_and_only_for_a_kill(tmp_path: Path) -> None:
    counter, now = tmp_path / "vmstat", [0.0]
    counter.write_text("pgfault 7\noom_kill 1\n")
    watch = OomWatch([str(counter), str(tmp_path / "none")], lambda: now[0])
    assert oom_kills(str(counter)) == 1 and not watch.took(killed=True)
    counter.write_text("oom_kill 2\n")
    assert watch.took(killed=True) and not watch.took(killed=False)
    for now[0] in (6.0, 12.0, 18.0):
        watch.sample()
    assert not watch.took(killed=True)


def test_any_rise_of_the_own_group_during_the_attempt_is_blamed(tmp_path: Path) -> None:
    counter, now = tmp_path / "memory.events", [0.0]
    counter.write_text("oom 1\noom_kill 1\n")
    watch = OomWatch([str(counter)], lambda: now[0])
    assert not watch.took(killed=True)
    counter.write_text("oom 2\noom_kill 2\n")
    for now[0] in (6.0, 12.0, 18.0):
        watch.sample()
    assert watch.took(killed=False)
