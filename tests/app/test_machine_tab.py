"""The machine tab of a run shows the run's own GPUs, over time or over its steps; and `h` leads to all machines."""

from __future__ import annotations

import json

import pytest
from textual.pilot import Pilot

from wavedeck.app.screens.hosts import HostsScreen
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics
from wavedeck.widgets.host_table import HostTable
from wavedeck.widgets.machine_charts import MachineCharts

pytestmark = pytest.mark.usefixtures("still")


def write_machine(path: object, gpus: int = 4, count: int = 40) -> None:
    lines = []
    for n in range(count):
        cards = [{"index": i, "utilization_pct": 90 - 20 * i, "memory_used_mib": 1024 * (i + 1)} for i in range(gpus)]
        lines.append(json.dumps({"t": T0 + 2 * n, "host_cpu_pct": 40 + n % 5, "gpus": cards}))
    path.write_text("\n".join(lines) + "\n")  # type: ignore[attr-defined]


def titles(pilot: Pilot[None]) -> list[str]:
    return [chart.title for chart in pilot.app.screen.query_one(MachineCharts).charts]


async def test_only_the_runs_own_gpus_over_time_or_steps(at: Home, snapshot: Snapshot) -> None:
    run = make_run(at, state="running", gpus=[1, 3])
    write_metrics(run, 200)
    write_machine(run.machine)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "▶ running" in screen_text(pilot.app))
        await pilot.press("4")
        await until(pilot, lambda: "GPU 1, 3 of 4: what this run uses" in screen_text(pilot.app), "the note")
        await until(pilot, lambda: titles(pilot)[:2] == ["GPU utilisation %", "GPU memory GiB"])
        chart = pilot.app.screen.query_one(MachineCharts).charts[0]
        assert [line.label for line in chart.data.series] == ["gpu1", "gpu3"]
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        await pilot.press("x")
        await until(pilot, lambda: "by step" in screen_text(pilot.app), "the steps")
        assert all(c.x_axis == "step" for c in pilot.app.screen.query_one(MachineCharts).charts)
        assert chart.data.series[0].view.x_range("step") == (1.0, 195.0)
        snapshot.check(pilot.app)
        await pilot.press("x")
        await until(pilot, lambda: "by time" in screen_text(pilot.app), "the time")


async def test_all_gpus_while_nobody_knows_whose_they_are(at: Home) -> None:
    run = make_run(at, state="running")
    write_metrics(run, 200)
    write_machine(run.machine, gpus=2)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "▶ running" in screen_text(pilot.app))
        await pilot.press("4")
        await until(pilot, lambda: titles(pilot)[:1] == ["GPU utilisation %"])
        chart = pilot.app.screen.query_one(MachineCharts).charts[0]
        assert [line.label for line in chart.data.series] == ["gpu0", "gpu1"]
        assert "what this run uses" not in screen_text(pilot.app)


async def test_h_opens_the_machines_of_the_real_deck(at: Home) -> None:
    async with deck(at) as pilot:
        await pilot.press("h")
        await until(pilot, lambda: isinstance(pilot.app.screen, HostsScreen))
        await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == "local", "this machine")
        await until(pilot, lambda: "92%" in screen_text(pilot.app) and "H100" in screen_text(pilot.app), "its GPU")
        await pilot.press("4")
        await until(pilot, lambda: "host cpu %" in screen_text(pilot.app), "its history")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HostsScreen), "home")
