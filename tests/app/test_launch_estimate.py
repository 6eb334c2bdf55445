"""What the Launch screen says a training will take: beside the form, never in its way."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Input

from wavedeck.app.screens import launch
from wavedeck.engine.estimate import Estimate
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.planning import Wish, check_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.runs import make_run

KNOWN = Estimate(60.0, 50.0, 70.0, None, None, None, None, "measured")


@pytest.mark.usefixtures("still")
async def test_a_damaged_record_of_an_old_run_leaves_the_screen_and_its_estimate(at: Home) -> None:
    resolved = check_recipe(load_recipe("sousa"), [], preset="debug").composed.resolved
    run = make_run(at, "20260921-1426-sousa-brisk-heron", config=resolved)
    EventWriter(run.events).write("about", numbers={"samples_per_s": 100.0})
    run.attempt(2).write_bytes(run.attempt(1).read_bytes())
    run.attempt(1).write_text('{"attempt": 1, "pi')
    async with deck(at) as pilot:
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app), "the run")
        await pilot.press("n")
        await until(pilot, lambda: "wavedeck run sousa" in screen_text(pilot.app), "the equal command")
        await until(pilot, lambda: "about 1m" in screen_text(pilot.app), "the estimate")
        assert not pilot.app.screen.query_one("#start").disabled


async def test_it_is_made_beside_the_screen_and_only_the_newest_is_shown(
    at: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, first_may_end = [], threading.Event()

    def slow(views: Any, wish: Wish, machine: Any) -> Estimate:
        assert threading.current_thread() is not threading.main_thread()
        asked.append(wish.name)
        if wish.name is None:
            assert first_may_end.wait(20)
        return replace(KNOWN, seconds=3600.0 if wish.name is None else 7200.0)

    monkeypatch.setattr(launch, "estimate_from", slow)
    async with deck(at) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: asked, "the first question")
        assert "estimating" in screen_text(pilot.app) and not pilot.app.screen.query_one("#start").disabled
        pilot.app.screen.query_one("#name", Input).value = "ab"
        await until(pilot, lambda: "about 2h" in screen_text(pilot.app), "the answer for what stands there now")
        first_may_end.set()
        await pilot.pause(0.1)
        assert "about 2h" in screen_text(pilot.app) and asked[-1] == "ab"
