"""Everything nvidia-smi was seen to print, and everything it could: no parser raises, invents or loses a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.hosts import GpuProcess
from wavedeck.engine.machine import GpuReading
from wavedeck.remote.nvidia_smi import parse_gpus
from wavedeck.remote.payload.gpu_apps import APP_FIELDS, MAX_APPS, parse_app, parse_apps, query_apps_argv
from wavedeck.remote.payload.nvidia_rows import FIELDS, MAX_GPUS, GpuTable, explain, number, parse_row, without_refused

RECORDINGS = Path(__file__).parents[1] / "recordings" / "nvidia_smi"
ROWS = sorted(path.stem for path in RECORDINGS.glob("*.txt") if not path.stem.startswith(("err_", "apps_", "stream_")))
APPS = sorted(path.stem for path in RECORDINGS.glob("apps_*.txt"))
ERRORS = sorted(path.stem for path in RECORDINGS.glob("err_*.txt"))
UUIDS = {
    "GPU-aaaaaaaa-0000-4000-8000-000000000000": 0,
    "GPU-aaaaaaaa-0000-4000-8000-000000000001": 1,
    "GPU-bbbbbbbb-0000-4000-8000-000000000000": 0,
    "GPU-cccccccc-0000-4000-8000-000000000000": 0,
}
CELLS = st.sampled_from(
    ["[N/A]", "N/A", "", "[Not Supported]", "[Unknown Error]", "[GPU is lost]", "[Insufficient Permissions]", "None",
     "[Requested functionality has been deprecated]", "Active", "Not Active", "0x0000000000000004", "12", "99.5 W",
     "-1", "1e9", "999999999999999999999", "nan", "inf", "7 %", "1234 MiB", "P0", "GPU-x", "\x1b[31m"]
) | st.text(alphabet=st.characters(exclude_characters="\n,"), max_size=12)  # fmt: skip


def recording(name: str) -> str:
    return (RECORDINGS / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", ROWS)
def test_every_recorded_row_is_a_gpu(name: str) -> None:
    lines = [line for line in recording(name).splitlines() if line]
    gpus = parse_gpus(recording(name))
    assert [gpu.index for gpu in gpus] == list(range(len(lines)))
    for gpu, line in zip(gpus, lines, strict=True):
        if gpu.lost:
            continue
        cells = [cell.strip() for cell in line.split(",")]
        for field, value in (("memory.used", gpu.memory_used_mib), ("utilization.gpu", gpu.utilization_pct)):
            assert value == number(cells[FIELDS.index(field)])
        assert gpu.uuid == cells[FIELDS.index("uuid")] and gpu.name == cells[FIELDS.index("name")]


def test_what_the_recorded_drivers_say() -> None:
    (h200,) = parse_gpus(recording("one_shot_h200_580"))
    assert (h200.name, h200.memory_total_mib, h200.power_w, h200.fan_pct) == ("NVIDIA H200", 143771, 84.02, None)
    (h100,) = parse_gpus(recording("one_shot_h100_590_with_units"))
    assert (h100.utilization_pct, h100.memory_used_mib, h100.power_limit_w, h100.clocks_sm_mhz) == (
        100,
        19820,
        700,
        1980,
    )
    (geforce,) = parse_gpus(recording("one_shot_rtx2080s_610"))
    assert (geforce.fan_pct, geforce.ecc_errors, geforce.throttle, geforce.pstate) == (38, None, (), "P2")
    (mig,) = parse_gpus(recording("mig_slice_in_container"))
    assert (mig.utilization_pct, mig.memory_used_mib, mig.memory_total_mib, mig.temperature_c) == (None, None, None, 47)
    eight = parse_gpus(recording("eight_gpus_470"))
    assert len(eight) == 8 and eight[1].power_w == 140.25 and eight[1].throttle == ("power cap",)


@pytest.mark.parametrize("name", ERRORS)
def test_every_recorded_error_is_no_gpu_but_a_sentence(name: str) -> None:
    status = int(name.rsplit("_rc", 1)[1])
    text = recording(name)
    assert parse_gpus(text) == () and parse_apps(text, UUIDS) == []
    assert (explain(text, status) or without_refused(FIELDS, text)) and not (explain(text) or "x").startswith(
        "nvidia-smi"
    )


@pytest.mark.parametrize("name", APPS)
def test_every_recorded_process_is_one(name: str) -> None:
    lines = [line for line in recording(name).splitlines() if line]
    rows = parse_apps(recording(name), UUIDS)
    assert [row["pid"] for row in rows] == [int(line.split(", ")[1]) for line in lines]
    assert all(isinstance(msgspec.convert(row, GpuProcess), GpuProcess) for row in rows)


def test_what_processes_are_known_by() -> None:
    first, second = parse_apps(recording("apps_2xh100"), UUIDS)
    assert first == {"gpu": 0, "pid": 48213, "memory_mib": 61138.0, "name": "/opt/venv/bin/python"}
    assert second["gpu"] == 1
    assert [row["gpu"] for row in parse_apps(recording("apps_mig"), UUIDS)] == [0, None, 0]
    assert [row["memory_mib"] for row in parse_apps(recording("apps_desktop_with_units"), UUIDS)] == [25, 503, 360]
    assert {row["memory_mib"] for row in parse_apps(recording("apps_windows"), UUIDS)} == {None}
    hidden = parse_apps(recording("apps_in_container"), UUIDS)
    assert [(row["memory_mib"], row["name"]) for row in hidden] == [(1542, None), (None, None)]
    commas, empty = parse_apps(recording("apps_names_with_commas"), UUIDS)
    assert commas["name"] == "python train.py --sizes 1,2, 3 --out x" and empty["name"] is None
    assert query_apps_argv()[1] == "--query-compute-apps=gpu_uuid,pid,used_gpu_memory,process_name"


def test_what_is_no_process() -> None:
    uuid = "GPU-aaaaaaaa-0000-4000-8000-000000000000"
    for line in ("", "No running processes found", "gpu_uuid, pid, used_gpu_memory [MiB], process_name", f"{uuid}, 12",
                 f"{uuid}, -1, 5, x", f"{uuid}, 0, 5, x", f"{uuid}, 99999999999, 5, x", f"{uuid}, ٣, 5, x",
                 "0, 12, 5, x", f"{uuid}, 12, 5, " + "x" * 5000):  # fmt: skip
        assert parse_app(line, UUIDS) is None
    assert len(parse_apps(f"{uuid}, 12, 5, x\n" * 5000, UUIDS)) == MAX_APPS
    assert parse_app(f"{uuid}, 12, 5, a\x1b[31mb\r", UUIDS) == {
        "gpu": 0,
        "pid": 12,
        "memory_mib": 5.0,
        "name": "a?[31mb",
    }


@given(st.text(max_size=300), st.dictionaries(st.text(max_size=50), st.integers(0, 7), max_size=3))
def test_no_text_raises_or_becomes_a_strange_process(text: str, uuids: dict[str, int]) -> None:
    for row in parse_apps(text, uuids):
        check_process(row)


@given(st.lists(st.tuples(st.sampled_from(list(UUIDS)), CELLS, CELLS, CELLS), max_size=6))
def test_rows_of_odd_cells_are_processes_or_nothing(rows: list[tuple[str, ...]]) -> None:
    for row in parse_apps("\n".join(", ".join(row) for row in rows), UUIDS):
        check_process(row)
    assert len(APP_FIELDS) == 4


def check_process(row: dict[str, object]) -> None:
    process = msgspec.convert(row, GpuProcess)
    assert 0 < process.pid < 2**31 and (process.name is None or process.name.isprintable())
    assert process.memory_mib is None or math.isfinite(process.memory_mib)


@given(st.lists(CELLS, min_size=len(FIELDS), max_size=len(FIELDS)), st.none() | st.integers(-2, 100))
def test_a_row_of_odd_cells_is_a_gpu_or_nothing(cells: list[str], position: int | None) -> None:
    row = parse_row(", ".join(cells), FIELDS, position)
    if row is None:
        return
    gpu = msgspec.convert(row, GpuReading)
    assert 0 <= gpu.index < MAX_GPUS and (gpu.name is None or gpu.name.isprintable())
    for name in ("utilization_pct", "memory_used_mib", "temperature_c", "power_w", "power_limit_w", "fan_pct"):
        value = getattr(gpu, name)
        assert value is None or math.isfinite(value)


@pytest.mark.parametrize("name", ROWS)
def test_a_table_cut_at_any_byte_holds_only_whole_rows(name: str) -> None:
    data = recording(name).encode()
    whole = {row["index"]: row for row in _table(data).rows()}
    for cut in range(len(data) + 1):
        table = GpuTable(FIELDS)
        table.feed(data[:cut], 0.0)
        assert all(whole[row["index"]] == row for row in table.rows())  # never half a row, never another GPU's
        assert len(table.rows()) == data[:cut].count(b"\n")
        table.feed(data[cut:], 0.0)
        assert {row["index"]: row for row in table.rows()} == whole


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_a_table_takes_any_bytes_and_stays_small(pieces: list[bytes]) -> None:
    table = GpuTable(FIELDS)
    for t, piece in enumerate(pieces):
        table.feed(piece, float(t))
    table.close(99.0)
    assert len(table.rows()) <= MAX_GPUS and len(table.other) <= 8


@given(st.lists(st.integers(0, 3000), max_size=20))
def test_a_stream_in_which_a_gpu_is_lost_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = recording("stream_gpu1_lost_midway").encode()
    table, start = GpuTable(FIELDS), 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        table.feed(data[start:cut], 0.0)
        start = cut
    assert [(row["index"], row["lost"]) for row in table.rows()] == [(0, False), (1, True), (2, False)]


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    table = GpuTable(FIELDS)
    for _ in range(2000):
        table.feed(b"x" * 4096, 0.0)
    assert len(table._partial) <= 8192
    table.feed(b"\n" + recording("one_shot_2xh100").encode(), 0.0)
    assert len(table.rows()) == 2


def _table(data: bytes) -> GpuTable:
    table = GpuTable(FIELDS)
    table.feed(data, 0.0)
    return table
