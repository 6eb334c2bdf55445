"""nvidia-smi's output in every shape it was seen in, and cut anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.remote.nvidia_smi import parse_gpus
from wavedeck.remote.payload.nvidia_rows import (
    FIELDS,
    GpuTable,
    explain,
    number,
    parse_row,
    query_argv,
    throttle_words,
    without_refused,
)

RECORDINGS = Path(__file__).parents[2] / "recordings" / "nvidia_smi"


def recording(name: str) -> str:
    return (RECORDINGS / f"{name}.txt").read_text()


def test_two_gpus_with_every_field() -> None:
    busy, idle = parse_gpus(recording("one_shot_2xh100"))
    assert (busy.index, busy.name, busy.utilization_pct, busy.memory_used_mib, busy.memory_total_mib) == (
        0, "NVIDIA H100 80GB HBM3", 98, 61440, 81559,
    )  # fmt: skip
    assert (busy.temperature_c, busy.power_w, busy.power_limit_w, busy.clocks_sm_mhz) == (71, 690.10, 700, 1980)
    assert (busy.fan_pct, busy.pstate, busy.throttle, busy.ecc_errors, busy.lost) == (
        None,
        "P0",
        ("power cap",),
        0,
        False,
    )
    assert idle.throttle == ("idle",) and idle.uuid == "GPU-aaaaaaaa-0000-4000-8000-000000000001"


def test_units_in_cells_are_understood() -> None:
    (gpu,) = parse_gpus(recording("geforce_units_and_na"))
    assert (gpu.utilization_pct, gpu.memory_used_mib, gpu.power_w, gpu.clocks_sm_mhz, gpu.fan_pct) == (
        7,
        1474,
        86.41,
        2805,
        0,
    )
    assert gpu.ecc_errors is None and gpu.throttle == ()


def test_mig_has_no_utilization() -> None:
    (gpu,) = parse_gpus(recording("mig_no_utilization"))
    assert gpu.utilization_pct is None and gpu.memory_used_mib == 11125


def test_words_instead_of_numbers_are_unknown_and_not_zero() -> None:
    (gpu,) = parse_gpus(recording("words_instead_of_numbers"))
    known = {name for name in gpu.__struct_fields__ if getattr(gpu, name) is not None}
    assert known == {"index", "uuid", "name", "lost"} and not gpu.lost


def test_a_lost_gpu_is_a_row_that_says_so() -> None:
    well, lost = parse_gpus(recording("one_lost_status0"))
    assert not well.lost and lost.lost and lost.index == 1 and lost.utilization_pct is None and lost.throttle is None


def test_a_stream_in_which_a_gpu_loses_even_its_index() -> None:
    table = GpuTable(FIELDS)
    lines = recording("stream_gpu1_lost_midway").splitlines(keepends=True)
    for round_, start in enumerate(range(0, len(lines), 3)):
        table.feed("".join(lines[start : start + 3]).encode(), 2.0 * round_)
    rows = table.rows()
    assert [(row["index"], row["lost"]) for row in rows] == [(0, False), (1, True), (2, False)]
    assert rows[1]["name"] == "NVIDIA H100 80GB HBM3"


def test_the_first_gpu_of_a_round_may_be_the_lost_one() -> None:
    lines = recording("stream_gpu1_lost_midway").splitlines(keepends=True)
    lost = lines[7]
    table = GpuTable(FIELDS)
    table.feed("".join([*lines[:3], *lines[:3], lost, *lines[1:3]]).encode(), 0.0)
    assert [row["lost"] for row in table.rows()] == [True, False, False]


@given(cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_bytes_may_arrive_cut_anywhere(cuts: list[int]) -> None:
    data = recording("one_shot_2xh100").encode()
    table, start = GpuTable(FIELDS), 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        table.feed(data[start:cut], 0.0)
        start = cut
    whole = GpuTable(FIELDS)
    whole.feed(data, 0.0)
    assert table.rows() == whole.rows() and len(table.rows()) == 2


def test_stale_rows_are_not_shown_as_fresh() -> None:
    table = GpuTable(FIELDS)
    table.feed(recording("one_shot_2xh100").encode(), 100.0)
    assert len(table.rows(newer_than=99.0)) == 2 and table.rows(newer_than=100.0) == []


@given(st.text(max_size=300))
def test_no_line_raises(line: str) -> None:
    parse_row(line, FIELDS)
    parse_row(", ".join([line] * len(FIELDS)), FIELDS, 3)


@pytest.mark.parametrize(
    "cell", [None, "", "N/A", "[N/A]", "[Unknown Error]", "nan", "inf", "1e400", "1.2.3", "7 bananas", "٣"]
)
def test_what_is_no_number(cell: str | None) -> None:
    assert number(cell) is None


def test_throttle_bits_have_words() -> None:
    assert throttle_words("0x00000000000000E8") == [
        "hardware slowdown",
        "software thermal",
        "hardware thermal",
        "power brake",
    ]
    assert throttle_words("Active") is None


def test_a_refused_field_is_asked_for_by_its_older_name_and_then_left_out() -> None:
    first = without_refused(FIELDS, recording("err_field_unknown_rc2"))
    assert first is not None and "clocks_throttle_reasons.active" in first and len(first) == len(FIELDS)
    second = without_refused(first, 'Field "clocks_throttle_reasons.active" is not a valid field to query.')
    assert second is not None and len(second) == len(FIELDS) - 1
    assert without_refused(second, 'Field "something.else" is not a valid field to query.') is None
    assert without_refused(FIELDS, "No devices were found") is None
    assert "clocks_throttle_reasons.active" in query_argv(first)[1]


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("err_no_driver_rc9", 9, "driver is not loaded"),
        ("err_no_libnvml_rc12", 12, "container was started without GPU access"),
        ("err_version_mismatch_rc18", 18, "driver was upgraded"),
        ("err_nvml_unknown_rc255", 255, "Back up now"),
        ("err_device_handle_rc15", 15, "fell off the bus"),
        ("err_gpu_is_lost_rc15", 15, "fell off the bus"),
        ("err_no_devices_rc6", 6, "sees no GPU"),
        ("err_not_supported_rc255", 255, "does not support"),
        ("err_field_unknown_rc2", 2, "refuses a field"),
    ],
)
def test_failures_have_sentences(name: str, status: int, words: str) -> None:
    assert words in (explain(recording(name), status) or "")
    assert parse_gpus(recording(name)) == ()


def test_statuses_without_words_have_sentences_too() -> None:
    assert "no nvidia-smi" in (explain("", 127) or "")
    assert "exit status 77" in (explain("", 77) or "")
    assert explain("", 0) is None
