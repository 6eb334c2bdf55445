"""What comes in front of the deck, at both sizes. The runs have no metrics, so that no curve shines through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import Input, LoadingIndicator

from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.help import Help
from wavedeck.app.screens.pick_run import PickRun
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.runs import T0, make_run
from wavedeck.widgets.runs_table import RunsTable

Extent = tuple[int, int]
HERON = "20260921-1422-sousa-brisk-heron"
pytestmark = [
    pytest.mark.usefixtures("still"),
    pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"]),
]


@asynccontextmanager
async def fleet(at: Home, size: Extent, open_run: str | None = None) -> AsyncIterator[Pilot[None]]:
    """The deck with three runs, the cursor on the one that is running."""
    for number, (word, state) in enumerate(
        (("calm-otter", "finished"), ("bold-lynx", "failed"), ("brisk-heron", "running"))
    ):
        make_run(at, f"20260921-142{number}-sousa-{word}", state=state, created=T0 - 300 + 100 * number)
    async with deck(at, size, open_run=open_run) as pilot:  # type: ignore[attr-defined]
        await until(pilot, lambda: "▶ running" in screen_text(pilot.app), "the runs")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        if open_run is None:
            await until(pilot, lambda: pilot.app.screen.query_one(RunsTable).key == HERON, "the cursor")
        yield pilot


def still_cursors(pilot: Pilot[None]) -> None:
    for field in pilot.app.screen.query(Input):
        field.cursor_blink = False


async def test_help(at: Home, size: Extent, snapshot: Snapshot) -> None:
    async with fleet(at, size) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, Help) and "Runs" in screen_text(pilot.app), "help")
        snapshot.check(pilot.app)


async def test_confirm(at: Home, size: Extent, snapshot: Snapshot) -> None:
    async with fleet(at, size) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm) and "Stop (y)" in screen_text(pilot.app))
        snapshot.check(pilot.app)


async def test_confirm_of_something_dangerous(at: Home, size: Extent, snapshot: Snapshot) -> None:
    async with fleet(at, size) as pilot:
        detail = "[red]/data[/red]/wavedeck/runs/20260921-1420-sousa-calm-otter is removed. This cannot be undone. " * 2
        pilot.app.push_screen(Confirm("Delete [b]calm-otter for good?", detail, "Delete", danger=True))
        await until(pilot, lambda: "Delete (y)" in screen_text(pilot.app), "the question")
        snapshot.check(pilot.app)


async def test_pick_run(at: Home, size: Extent, snapshot: Snapshot) -> None:
    async with fleet(at, size, HERON) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: "resolved config" in screen_text(pilot.app), "the config")
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickRun), "the list")
        still_cursors(pilot)
        await pilot.press(*"sousa")
        await until(pilot, lambda: "calm-otter" in screen_text(pilot.app), "the runs")
        snapshot.check(pilot.app)


async def test_command_palette(at: Home, size: Extent, snapshot: Snapshot) -> None:
    async with fleet(at, size) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette), "the palette")
        still_cursors(pilot)
        await pilot.press(*"open")
        front = pilot.app.screen
        searches = [worker for worker in pilot.app.workers if worker.node is front]
        await until(pilot, lambda: all(search.is_finished for search in searches), "the search's end")
        await until(pilot, lambda: not front.query_one(LoadingIndicator).has_class("--visible"), "its sign")
        await until(pilot, lambda: "Open calm-otter" in screen_text(pilot.app), "the hits")
        snapshot.check(pilot.app)
