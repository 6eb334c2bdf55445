"""The deck over a home of hand-made runs, with a fixed clock and a fixed machine, so that pictures repeat."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from wavedeck.app import cockpit
from wavedeck.app.cockpit import Wavedeck
from wavedeck.engine.machine import GpuReading, MachineReading
from wavedeck.engine.rundir import Home
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.runs import T0, make_home

NOW = T0 + 100.0
READING = MachineReading(
    t=NOW,
    host_cpu_pct=37.0,
    load_1m=0.8,
    memory_used=9 * 2**30,
    memory_total=24 * 2**30,
    disk_free=80 * 2**30,
    disk_total=250 * 2**30,
    gpus=(
        GpuReading(index=0, name="NVIDIA H100", utilization_pct=92.0, memory_used_mib=70000, memory_total_mib=81559),
    ),
)


@pytest.fixture
def at(home: Path) -> Home:
    """An empty home."""
    return make_home(home)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at NOW, the machine reads READING, and a supervisor on record is alive."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(cockpit.LocalHost, "reading", lambda self, path: READING)
    monkeypatch.setattr(cockpit, "alive", lambda run_id, record: True)


Deck = Callable[..., object]


@asynccontextmanager
async def deck(home: Home, size: tuple[int, int] = (120, 36), **options: object) -> AsyncIterator[Pilot[None]]:
    """The running deck."""
    app = Wavedeck(home, **options)  # type: ignore[arg-type]
    app.animation_level = "none"
    async with app.run_test(size=size, notifications=True) as pilot:
        yield pilot


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str = "", timeout: float = 20.0) -> None:
    """Wait for a condition of the screen, with a deadline that fails."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                break
        except Exception as error:  # a widget that is not there yet
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what or condition}") from error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what or condition}; on screen:\n{screen_text(pilot.app)}")
        await pilot.pause(0.02)
    await pilot.pause()
