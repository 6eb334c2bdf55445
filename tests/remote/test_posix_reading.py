"""Hosts without Python: the real script in real shells, and its blocks as values whatever they hold."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.remote.bundle import posix_input
from wavedeck.remote.posix_reading import BlockReader, PosixBlock, parse_block

RECORDINGS = Path(__file__).parents[1] / "recordings" / "nvidia_smi"
SHELLS = [["dash", "-s"], ["bash", "-s"], ["sh", "-s"], ["busybox", "sh", "-s"]]
BLOCK = b"""banner of the shell
wd-begin 1
host vm-1
system Linux 6.1 x86_64
user root
missing python3
program tmux
missing rsync
cores 8
boot 0123
time 1790000000
load 0.42
memory_total_kib 1000
memory_available_kib 400
disk_total_kib 5000
disk_free_kib 100
gpu_status 0
gpu_fields index,name,utilization.gpu
gpu 0, NVIDIA H200, 97
ours 1790000000 1790000001 0 1 wd-20261120-1759-drums-brisk-heron
theirs 1790000000 1790000001 1 2 my own
wd-end
"""


OLD_DRIVER = """#!/bin/sh
case "$1" in *uuid*) echo 'Field "uuid" is not a valid field to query'; exit 2;; esac
echo "0, Old GPU, 12, 34, 56, 78"
"""


def test_a_block() -> None:
    (block,) = BlockReader().feed(BLOCK)
    reading, facts = block.reading, block.facts
    assert (reading.t, reading.load_1m) == (1790000000, 0.42)
    assert (reading.memory_used, reading.memory_total) == (600 * 1024, 1000 * 1024)
    assert (reading.disk_free, reading.disk_total) == (100 * 1024, 5000 * 1024)
    assert [(gpu.index, gpu.name, gpu.utilization_pct) for gpu in reading.gpus] == [(0, "NVIDIA H200", 97)]
    assert [(one.name, one.ours, one.windows) for one in block.sessions] == [
        ("wd-20261120-1759-drums-brisk-heron", True, 1),
        ("my own", False, 2),
    ]
    assert facts is not None and (facts.hostname, facts.python, facts.cores) == ("vm-1", None, 8)
    assert facts.programs == {"tmux": "tmux", "rsync": None} and block.missing == ("python3", "rsync")


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("err_no_driver_rc9.txt", 9, "not loaded"),
        ("err_gpu_is_lost_rc15.txt", 15, "fell off"),
        (None, 124, "does not answer"),
    ],
)
def test_an_nvidia_smi_that_fails_is_a_sentence(name: str | None, status: int, words: str) -> None:
    lines = (RECORDINGS / name).read_text().splitlines() if name else []
    block = parse_block([f"gpu_status {status}", "gpu_fields index,name", *(f"gpu {line}" for line in lines)])
    assert block.reading.gpus == () and words in (block.reading.gpu_error or "")


@given(st.lists(st.integers(0, len(BLOCK)), max_size=20))
def test_blocks_survive_any_cut(cuts: list[int]) -> None:
    reader, found, places = BlockReader(), [], sorted([0, *cuts, len(BLOCK)])
    for start, end in zip(places, places[1:], strict=False):
        found += reader.feed(BLOCK[start:end])
    assert found == BlockReader().feed(BLOCK)


KEYS = st.sampled_from(
    [
        "host",
        "system",
        "user",
        "missing",
        "program",
        "cores",
        "boot",
        "time",
        "load",
        "memory_total_kib",
        "memory_available_kib",
        "disk_total_kib",
        "disk_free_kib",
        "gpu_status",
        "gpu_fields",
        "gpu",
        "ours",
        "theirs",
        "wd-begin",
        "junk",
    ]
)
NUMBERS = ["1", "-1", "9" * 40, "nan", "inf", "1e9", "0x10", "²", "index,name", ""]
VALUES = st.one_of(st.text(max_size=60), st.sampled_from(NUMBERS))


@given(st.lists(st.tuples(KEYS, VALUES), max_size=40))
def test_nothing_a_host_says_breaks_a_block(rows: list[tuple[str, str]]) -> None:
    block = parse_block([f"{key} {value}" for key, value in rows], now=5.0)
    assert isinstance(block, PosixBlock) and block.reading.t >= 0
    for number in (block.reading.memory_total, block.reading.disk_free, block.reading.load_1m):
        assert number is None or 0 <= number < float("inf")


@given(st.binary(max_size=3000))
def test_nothing_a_host_sends_breaks_the_reader(data: bytes) -> None:
    reader = BlockReader()
    reader.feed(b"wd-begin 1\n" + data)
    assert reader.feed(b"\nwd-begin 1\ntime 1\nwd-end\n")[-1].reading.t == 1


def test_what_is_kept_of_an_endless_stream_is_bounded() -> None:
    reader = BlockReader()
    for _ in range(300):
        assert reader.feed(b"x" * 10_000) == []
    assert len(reader._partial) <= 4096
    reader.feed(b"\nwd-begin 1\n")
    for _ in range(50):
        reader.feed(b"gpu 1\n" * 1000)
    assert len(reader._lines or []) <= 1000
    assert len(reader.feed(b"wd-end\n")) == 1


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_the_script_in_real_shells(shell: list[str], tmp_path: Path, wait_for: Callable[..., object]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    tools = tmp_path / "bin"
    tools.mkdir()
    smi = tools / "nvidia-smi"
    smi.write_text(OLD_DRIVER)
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    environ = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "WAVEDECK_HOME": str(tmp_path / "it's a home")}
    process = subprocess.Popen(
        shell,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(posix_input())
    process.stdin.flush()
    reader, blocks = BlockReader(), []
    while len(blocks) < 2:
        data = os.read(process.stdout.fileno(), 65536)
        assert data, process.stderr.read()
        blocks += reader.feed(data)
    first, second = blocks
    assert first.facts is not None and second.facts is None
    assert first.facts.hostname == os.uname().nodename and first.facts.cores == os.cpu_count()
    assert "python3" not in first.missing and "tmux" in first.facts.programs
    for block in blocks:
        reading = block.reading
        assert reading.memory_used and reading.memory_total and reading.disk_free and reading.disk_total
        assert reading.load_1m is not None and abs(reading.t - time.time()) < 60
        assert [(gpu.name, gpu.temperature_c) for gpu in reading.gpus] == [("Old GPU", 78)]
    assert 1.5 < second.reading.t - first.reading.t + 1 < 6
    started = psutil.Process(process.pid).children(recursive=True)
    process.stdin.close()
    assert process.wait(10) in (0, -signal.SIGTERM)
    wait_for(
        lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in started), 10, "all gone"
    )
    assert process.stderr.read() == b""
    process.stdout.close()
    process.stderr.close()
