"""What the instruments of hosts say, without an app: words, bars, columns, who is on a GPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from rich.style import Style

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.run_view import RunView
from wavedeck.engine.series import SeriesTable
from wavedeck.engine.state import RunState
from wavedeck.tests.fakes.hosts import ALL, AWAY, BUSY, CHANGED, HERON, LYNX, NOW, h100
from wavedeck.widgets.gpu_card import Picture, card_lines
from wavedeck.widgets.gpu_words import brakes, is_idle, owner_text, owners
from wavedeck.widgets.host_header import describe
from wavedeck.widgets.host_words import coarse, link_text
from wavedeck.widgets.machine_charts import machine_groups
from wavedeck.widgets.meter import course, gpu_blocks, meter
from wavedeck.widgets.palette import Palette
from wavedeck.widgets.run_facts import headline, status_line
from wavedeck.widgets.runs_table import columns_for
from wavedeck.widgets.title_bar import hosts_text

PLAIN = Style()
PALETTE = Palette(*[PLAIN] * 7)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at NOW."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def test_a_meter_has_the_width_it_was_given() -> None:
    for value in (None, float("nan"), -1.0, 0.0, 0.06, 0.5, 0.99, 1.0, 7.0):
        assert meter(value, 8, PLAIN, PLAIN).cell_len == 8
    assert meter(0.5, 8, PLAIN, PLAIN).plain == "━━━━────"
    assert meter(None, 3, PLAIN, PLAIN).plain == "┈┈┈"


def test_blocks_tell_lost_unknown_and_how_many_more() -> None:
    assert gpu_blocks(BUSY.gpus, PALETTE).plain == "██▇██·▁×"
    assert gpu_blocks([h100(n) for n in range(20)], PALETTE).plain.endswith("+4")


def test_a_course_keeps_its_scale() -> None:
    assert course(np.array([50.0, 50.0]), 2, 100.0) == "▅▅"
    assert course(np.array([0.0, np.nan, 100.0]), 3, 100.0) == "▁·█"
    assert course(np.array([]), 3, 100.0) == "" and course(np.array([1.0]), 3, 0.0) == ""


def test_bad_brakes_come_first_and_alone_where_there_is_little_room() -> None:
    gpu = h100(0, throttle=("power cap", "hardware thermal"))
    assert brakes(gpu, PALETTE).plain == "⚠ hardware thermal"
    assert brakes(gpu, PALETTE, explain=True).plain == "⚠ hardware thermal, power cap (usual at full load)"
    assert brakes(h100(0, throttle=()), PALETTE).plain == "" and brakes(h100(0, throttle=None), PALETTE).plain == "–"


def test_owners_and_idleness() -> None:
    assert owners(4, BUSY.processes) == (LYNX, "foreign") and owners(7, BUSY.processes) == ()
    assert owner_text((HERON, LYNX), PALETTE).plain == "brisk-heron +1"
    assert owner_text(("foreign",), PALETTE).plain == "foreign"
    assert [gpu.index for gpu in BUSY.gpus if is_idle(gpu)] == [6]


def test_the_card_of_a_lost_gpu_says_what_to_do() -> None:
    lost = card_lines(Picture(BUSY.gpus[7], (), {}, False), PALETTE, 100)
    assert "fell off the bus" in lost[1].plain and "resume its run elsewhere" in lost[1].plain
    ecc = card_lines(Picture(BUSY.gpus[6], (), {}, False), PALETTE, 100)
    assert any("⚠ 2 uncorrected" in line.plain for line in ecc)


def test_links_in_words() -> None:
    assert link_text(AWAY, PALETTE, NOW + 1).plain == "↻ reconnecting in 3 s"
    assert len({state.mark for state in LinkState}) == len(LinkState)
    assert [coarse(s) for s in (-5, 59, 61, 7200, 200_000)] == ["0s", "59s", "1m", "2h", "2d"]


def test_a_header_says_what_is_wrong_and_what_to_do() -> None:
    text = describe(CHANGED, False, PALETTE, NOW, 118).plain
    assert "SHA256:Qm5" in text and "SHA256:b2x" in text and "T shows both keys" in text
    text = describe(AWAY, False, PALETTE, NOW, 118).plain
    assert "heard 3m ago" in text and "r tries now" in text and "from 3m ago" in text


def test_the_strip_of_hosts_keeps_trouble_when_there_is_little_room() -> None:
    assert hosts_text((BUSY, AWAY), PALETTE, 40, NOW).plain == "gpu1 ● gpu2 ↻4s"
    assert hosts_text((BUSY, AWAY), PALETTE, 12, NOW).plain == "gpu2 ↻4s +1"
    assert hosts_text(ALL, PALETTE, 20, NOW).cell_len <= 20 and hosts_text(ALL, PALETTE, 2, NOW).plain == ""


def test_gpus_share_a_chart_per_measure_eight_at_a_time() -> None:
    table = SeriesTable()
    columns = {f"gpu{n} {what}": [1.0] for n in range(10) for what in ("%", "W")}
    table.extend([0], [NOW], None, columns | {"host cpu %": [1.0]})
    groups = machine_groups(table.views())
    assert [(group.title, len(group.series)) for group in groups] == [
        ("GPU utilisation %, 0 to 7", 8),
        ("GPU utilisation %, 8 to 9", 2),
        ("GPU power W, 0 to 7", 8),
        ("GPU power W, 8 to 9", 2),
        ("host cpu %", 1),
    ]
    assert [group.title for group in machine_groups(table.views(), "cpu")] == ["host cpu %"]
    assert len(machine_groups(table.views(), "power")) == 2


def test_an_unreachable_run_says_how_old_its_picture_is() -> None:
    away = RunView(HERON, Path("/x"), RunState.UNREACHABLE, host="gpu2", heard=NOW - 190)
    assert "unreachable · heard 3m ago" in headline(away, PALETTE, 120).plain
    assert "gpu2 does not answer: this is the last known picture, from 3m ago" in status_line(away, PALETTE).plain
    here = RunView(LYNX, Path("/x"), RunState.RUNNING)
    widths = {column.title: (column.width, column.rank) for column in columns_for((away, here))}
    plain = {column.title: (column.width, column.rank) for column in columns_for((here,))}
    assert widths["STATE"][0] == 17 and plain["STATE"][0] == 13
    assert widths["HOST"][1] < plain["HOST"][1]
