"""While a dialog is in front the deck's own keys rest; `h` on a run leads to its host."""

from __future__ import annotations

import pytest

from wavedeck.app.screens.ask import Ask
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.hosts import HostsScreen
from wavedeck.app.screens.runs import RunsScreen
from wavedeck.engine.hosts import LOCAL, HostView, LinkState, MirrorRecord, write_mirror
from wavedeck.engine.rundir import Home
from wavedeck.remote.ssh.questions import Question, QuestionKind
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.host_table import HostTable
from wavedeck.widgets.run_header import RunHeader

HERON = "20260921-1422-sousa-brisk-heron"
KEY = Question(QuestionKind.HOST_KEY, "gpu1", "Is this the key?", "", fingerprint="SHA256:abc", key_type="ED25519")
pytestmark = pytest.mark.usefixtures("still")


@pytest.mark.parametrize("dialog", ["key", "password", "confirm"])
async def test_no_key_of_the_deck_acts_through_a_dialog(at: Home, dialog: str) -> None:
    make_run(at, HERON)
    async with deck(at) as pilot:  # type: ignore[attr-defined]
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app), "the runs")
        theme = pilot.app.theme
        answers: list[object] = []
        password = Question(QuestionKind.PASSWORD, "gpu1", "Password", "")
        made = {"key": Ask(KEY), "password": Ask(password), "confirm": Confirm("Sure?", "", "Do it")}[dialog]
        pilot.app.push_screen(made, answers.append)
        await until(pilot, lambda: pilot.app.screen is made and made.query("Button"), "the dialog")
        made.query_one("#no").focus()
        await pilot.press("h", "t", "question_mark", "q")
        assert pilot.app.screen is made and pilot.app.theme == theme and pilot.app.is_running
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen), "the runs again, and no launch form")
        assert answers in ([None], [False])
        await until(pilot, lambda: "h Hosts  n Launch  ? Help  q Quit" in screen_text(pilot.app), "they are back")


async def test_h_leads_to_the_host_of_the_run(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(at, HERON)
    write_mirror(run.path, MirrorRecord(host="gpu1"))
    moved = HostView("gpu1", link=LinkState.KEY_CHANGED, reason="It shows another key.")
    monkeypatch.setattr(
        "wavedeck.app.deck_fleet.DeckFleet.views", lambda self, reading: (HostView(LOCAL, reading=reading), moved)
    )
    async with deck(at) as pilot:  # type: ignore[attr-defined]
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app), "the runs")
        await until(pilot, lambda: pilot.app.screen.query_one(RunHeader).links.get("gpu1") is LinkState.KEY_CHANGED)
        for keys in ((), ("enter",)):
            await pilot.press(*keys)
            await pilot.press("h")
            await until(pilot, lambda: isinstance(pilot.app.screen, HostsScreen), "the hosts")
            await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == "gpu1", "its host")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(pilot.app.screen, HostsScreen), "back")
