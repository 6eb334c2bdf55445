"""machine.jsonl: growing, torn, damaged, replaced."""

from __future__ import annotations

import json
from pathlib import Path

from wavedeck.engine.machine import read_machine


def line(t: float, **fields: object) -> bytes:
    return json.dumps({"t": t, **fields}).encode() + b"\n"


def test_unknown_is_none_and_unknown_fields_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    path.write_bytes(line(1.0, gpus=[{"index": 0, "lost": True, "new": 1}], cpu_pct=12.5, surprise=[1]))
    (reading,), _ = read_machine(path)
    assert reading.cpu_pct == 12.5 and reading.rss_bytes is None and reading.disk_free is None
    (gpu,) = reading.gpus
    assert gpu.lost and gpu.utilization_pct is None and gpu.throttle is None


def test_every_cut_reads_to_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    whole = b"".join(line(float(t), load_1m=t / 2) for t in range(4)) + b"rubbish\n" + line(9.0)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        first, offset = read_machine(path)
        path.write_bytes(whole)
        rest, end = read_machine(path, offset)
        assert [reading.t for reading in first + rest] == [0, 1, 2, 3, 9] and end == len(whole)


def test_reading_is_bounded_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    path.write_bytes(b"".join(line(float(t)) for t in range(100)))
    seen, offset = [], 0
    while True:
        readings, following = read_machine(path, offset, limit=64)
        if following == offset:
            break
        assert len(readings) <= 8
        seen, offset = seen + [reading.t for reading in readings], following
    assert seen == [float(t) for t in range(100)]


def test_a_line_longer_than_the_bound_does_not_stop_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    path.write_bytes(line(1.0, gpu_error="x" * 500) + line(2.0))
    seen, offset = [], 0
    for _ in range(20):
        readings, offset = read_machine(path, offset, limit=100)
        seen += [reading.t for reading in readings]
    assert seen == [2.0] and offset == path.stat().st_size


def test_the_end_of_a_long_file_and_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    assert read_machine(path) == ([], 0)
    path.write_bytes(b"".join(line(float(t)) for t in range(100)))
    readings, offset = read_machine(path, -50)
    assert readings[-1].t == 99 and 1 < len(readings) < 6 and offset == path.stat().st_size
    path.write_bytes(line(7.0))
    assert [reading.t for reading in read_machine(path, offset)[0]] == [7.0]
