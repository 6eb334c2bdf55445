"""The machines on screen: every condition a host can be in, what the keys ask of the fleet, and what is asked first."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, TabbedContent

from wavedeck.app.host_commands import session_name_wrong
from wavedeck.app.screens.add_host import AddHost
from wavedeck.app.screens.ask import Ask
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.hosts import HostsScreen, summarise
from wavedeck.app.screens.launch import LaunchScreen, gpu_note, host_options
from wavedeck.app.screens.text_question import TextQuestion
from wavedeck.engine.errors import UsageError
from wavedeck.engine.hosts import HostView, LinkState
from wavedeck.engine.run_view import RunView
from wavedeck.engine.state import RunState
from wavedeck.remote.ssh.questions import Question, QuestionKind
from wavedeck.tests.app.conftest import until
from wavedeck.tests.app.hosts_deck import HostsDeck, hosts_deck
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes import hosts as fakes
from wavedeck.tests.fakes.hosts import AWAY, BUSY, CHANGED, CONNECTING, CPU_ONLY, HERON, MIG, NOW, REFUSED, RUDE
from wavedeck.widgets.gpu_table import GpuTable
from wavedeck.widgets.host_header import HostHeader
from wavedeck.widgets.host_table import HostTable
from wavedeck.widgets.line_chart import LineChart
from wavedeck.widgets.live_table import LiveTable

SIZES = [(80, 24), (120, 36)]
IDS = [f"{width}x{height}" for width, height in SIZES]


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at NOW."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def deck_of(pilot: Pilot[None]) -> HostsDeck:
    assert isinstance(pilot.app, HostsDeck)
    return pilot.app


async def go_to(pilot: Pilot[None], name: str, tab: str = "") -> None:
    """The cursor on a host, a tab in front."""
    table = pilot.app.screen.query_one(HostTable)
    await until(pilot, lambda: table.select(name) or table.key == name, name)
    if tab:
        await pilot.press(tab)
    await pilot.pause()


async def seen(pilot: Pilot[None], *words: str) -> None:
    for word in words:
        await until(pilot, lambda word=word: word in screen_text(pilot.app), word)  # type: ignore[misc]


@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize("tab", ["gpus", "processes", "sessions", "history", "facts"])
async def test_busy_host(snapshot: Snapshot, size: tuple[int, int], tab: str) -> None:
    words = {
        "gpus": "fell off the bus",
        "processes": "foreign",
        "sessions": "train-10",
        "history": "GPU utilisation %",
        "facts": "home there",
    }[tab]
    async with hosts_deck(BUSY, AWAY, CPU_ONLY, size=size) as pilot:
        await go_to(pilot, "gpu1", str(["gpus", "processes", "sessions", "history", "facts"].index(tab) + 1))
        await seen(pilot, words)
        snapshot.check(pilot.app)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize(
    ("view", "words"),
    [
        (AWAY, "from 3m ago"),
        (CPU_ONLY, "no GPU on this machine"),
        (MIG, "not told (MIG?)"),
        (CONNECTING, "connecting …"),
        (REFUSED, "takes none of the keys"),
        (CHANGED, "Nothing was sent to it"),
        (RUDE, "·[31m[red]bad·]0;owned"),
    ],
    ids=["away", "cpu", "mig", "connecting", "refused", "changed", "hostile"],
)
async def test_condition(snapshot: Snapshot, size: tuple[int, int], view: HostView, words: str) -> None:
    async with hosts_deck(view, size=size) as pilot:
        await go_to(pilot, view.name)
        await seen(pilot, words)
        snapshot.check(pilot.app)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_no_hosts(snapshot: Snapshot, size: tuple[int, int]) -> None:
    async with hosts_deck(size=size) as pilot:
        await seen(pilot, "wavedeck hosts add gpu1 'ssh -p 10648 root@203.0.113.20'", "no GPU on this machine")
        snapshot.check(pilot.app)


async def test_all_at_once_in_a_wide_light_terminal(snapshot: Snapshot) -> None:
    async with hosts_deck(*fakes.ALL, size=(200, 50)) as pilot:
        pilot.app.theme = "wavedeck-light"
        await go_to(pilot, "gpu1")
        await seen(pilot, "⚠ hardware thermal")
        snapshot.check(pilot.app)


@pytest.mark.parametrize("tab", ["1", "2", "3", "4", "5"])
async def test_nothing_a_host_says_reaches_the_terminal_raw(tab: str) -> None:
    async with hosts_deck(RUDE) as pilot:
        await go_to(pilot, "rude", tab)
        await seen(pilot, "[red]bad")
        text = screen_text(pilot.app)
        assert not any(char in text for char in "\x1b\x07\u202e")


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (40, 10), (400, 120)])
async def test_every_size_is_survived(size: tuple[int, int]) -> None:
    async with hosts_deck(*fakes.ALL, size=size) as pilot:
        for number, view in enumerate(fakes.ALL):  # every host, every tab, and the busy one with all of them
            pilot.app.screen.query_one(HostTable).select(view.name)
            for tab in "12345" if view is BUSY else str(number % 5 + 1):
                await pilot.press(tab)
            assert len(screen_text(pilot.app).splitlines()) == size[1]
        await pilot.press("a")
        await pilot.pause()
        await pilot.press("escape", "d")
        await pilot.pause()


async def test_the_countdown_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts_deck(AWAY) as pilot:
        await seen(pilot, "reconnecting in 4 s")
        monkeypatch.setattr(time, "time", lambda: NOW + 2)
        pilot.app.screen._tick()  # type: ignore[attr-defined]
        await seen(pilot, "reconnecting in 2 s")


async def test_a_host_keeps_the_cursor_when_others_come_and_go() -> None:
    async with hosts_deck(BUSY, AWAY) as pilot:
        await go_to(pilot, "gpu2")
        deck_of(pilot).see(CONNECTING, AWAY)
        await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == "gpu2")
        deck_of(pilot).see(BUSY)
        await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == "gpu1")


async def test_keys_that_make_no_sense_are_not_offered() -> None:
    async with hosts_deck(BUSY, AWAY, CHANGED) as pilot:
        footers = {}
        for name in ("local", "gpu1", "gpu2", "moved"):
            await go_to(pilot, name)
            footers[name] = screen_text(pilot.app).splitlines()[-1]
        assert "Remove" not in footers["local"] and "Connect" not in footers["local"]
        assert "Remove" in footers["gpu1"] and "Connect" not in footers["gpu1"]
        assert "Connect now" in footers["gpu2"] and "Trust" not in footers["gpu2"]
        assert "Trust new key" in footers["moved"]


async def test_retry_and_trust_ask_the_fleet() -> None:
    async with hosts_deck(AWAY, CHANGED) as pilot:
        fleet = deck_of(pilot).fleet
        await go_to(pilot, "gpu2", "r")
        await until(pilot, lambda: ("retry", "gpu2") in fleet.asked)
        await go_to(pilot, "moved", "T")
        await until(pilot, lambda: ("trust", "moved") in fleet.asked)
        assert isinstance(pilot.app.screen, HostsScreen), "the one question comes from where both keys are known"


async def test_remove_asks_first() -> None:
    async with hosts_deck(BUSY) as pilot:
        fleet = deck_of(pilot).fleet
        await go_to(pilot, "gpu1", "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("n")
        assert not fleet.asked
        await pilot.press("d", "y")
        await until(pilot, lambda: fleet.asked == [("remove", "gpu1")])


async def test_the_screen_goes_on_behind_a_dialog(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts_deck(AWAY) as pilot:
        await go_to(pilot, "gpu2", "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        monkeypatch.setattr(time, "time", lambda: NOW + 2)
        hosts = pilot.app.screen_stack[-2]
        assert isinstance(hosts, HostsScreen)
        hosts._tick()
        await until(pilot, lambda: "in 2 s" in str(hosts.query_one(HostHeader).render()))


async def test_no_sentence_about_safety_is_cut() -> None:
    long = "It shows another key: " + "compare it with what the provider shows. " * 16 + "THE-END"
    moved = msgspec.structs.replace(CHANGED, reason=long)
    async with hosts_deck(moved, size=(80, 24)) as pilot:
        await go_to(pilot, "moved")
        await seen(pilot, "THE-END")
        pilot.app.push_screen(Confirm("Sure?", long, "Do it"))
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("down", "down", "down", "down", "down", "down")
        await seen(pilot, "THE-END")
        await pilot.press("n")
        pilot.app.push_screen(Ask(replace(KEY, text=long)))
        await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
        await pilot.press(*["down"] * 6)
        await seen(pilot, "THE-END")


async def test_a_wrong_line_or_name_stays_in_the_dialog() -> None:
    async with hosts_deck(BUSY, AWAY) as pilot:
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, AddHost), "the form")
        line, name = pilot.app.screen.query_one("#line", Input), pilot.app.screen.query_one("#name", Input)
        line.value, name.value = "ssh -p 99999 root@203.0.113.20", "fresh"
        name.focus()
        await pilot.press("enter")
        await seen(pilot, "a port is a number from 1 to 65535")
        line.value, name.value = "ssh -p 10648 root@203.0.113.20", "my host"
        await pilot.press("enter")
        await seen(pilot, "cannot be the name of a host")
        name.value = "fresh"
        await pilot.press("enter")
        await until(pilot, lambda: deck_of(pilot).fleet.asked == [("add", "fresh", line.value)])
        await until(pilot, lambda: isinstance(pilot.app.screen, HostsScreen))
        deck_of(pilot).see(BUSY, AWAY, CONNECTING)
        await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == CONNECTING.name)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_add_takes_the_line_as_the_provider_shows_it(snapshot: Snapshot, size: tuple[int, int]) -> None:
    async with hosts_deck(BUSY, size=size) as pilot:
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, AddHost), "the form")
        await pilot.press("tab", *"gpu1", "enter")
        await seen(pilot, "paste the ssh line first")
        line, name = pilot.app.screen.query_one("#line", Input), pilot.app.screen.query_one("#name", Input)
        line.cursor_blink = name.cursor_blink = False
        line.value = "ssh -p 10648 root@203.0.113.20 -L 8080:localhost:8080"
        name.focus()
        await pilot.press("enter")
        await seen(pilot, "there is a host gpu1 already")
        snapshot.check(pilot.app)
        name.value = ""
        await pilot.press("enter")
        fleet = deck_of(pilot).fleet
        await until(pilot, lambda: fleet.asked == [("add", "gpu2", line.value)])
        await seen(pilot, "added gpu2")


async def test_what_the_fleet_refuses_is_said() -> None:
    async with hosts_deck(AWAY) as pilot:
        deck_of(pilot).fleet.error = UsageError("there is no such host.")
        await go_to(pilot, "gpu2", "r")
        await until(pilot, lambda: deck_of(pilot).failures == ["there is no such host."])


# --- sessions


async def test_a_session_is_killed_only_after_a_question() -> None:
    async with hosts_deck(BUSY) as pilot:
        fleet = deck_of(pilot).fleet
        await go_to(pilot, "gpu1", "3")
        await pilot.press("down", "k")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await seen(pilot, "Kill notes on gpu1?", "3 windows")
        await pilot.press("enter")
        assert not fleet.asked
        await pilot.press("k", "y")
        await until(pilot, lambda: fleet.asked == [("kill", "gpu1", "notes")])


async def test_a_session_gets_another_name_but_a_runs_keeps_its_own() -> None:
    async with hosts_deck(BUSY) as pilot:
        fleet = deck_of(pilot).fleet
        await go_to(pilot, "gpu1", "3")
        await pilot.press("R")
        await seen(pilot, "keeps its name")
        await pilot.press("down", "R")
        await until(pilot, lambda: isinstance(pilot.app.screen, TextQuestion))
        field = pilot.app.screen.query_one(Input)
        assert field.value == "notes"
        field.value = "a b"
        await seen(pilot, "letters, digits")
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, TextQuestion)
        field.value = "papers"
        await pilot.press("enter")
        await until(pilot, lambda: fleet.asked == [("rename", "gpu1", "notes", "papers")])


async def test_a_new_session_needs_a_name_that_tmux_takes() -> None:
    async with hosts_deck(BUSY) as pilot:
        fleet = deck_of(pilot).fleet
        await go_to(pilot, "gpu1", "3")
        await pilot.press("n", *"prep", "enter")
        await until(pilot, lambda: fleet.asked == [("new", "gpu1", "prep")])
    assert (
        session_name_wrong("x;y") and session_name_wrong("") and session_name_wrong("wd-x") and session_name_wrong("é")
    )
    assert session_name_wrong("train-10") is None


async def test_attaching_gives_the_terminal_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    class Suspended:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(argv)
        return subprocess.CompletedProcess(argv, 1)

    monkeypatch.setattr(App, "suspend", lambda self: Suspended())
    monkeypatch.setattr(subprocess, "run", run)
    async with hosts_deck(BUSY) as pilot:
        await go_to(pilot, "gpu1", "3")
        await pilot.press("enter")
        await until(pilot, lambda: ran == [["true"]])
        assert deck_of(pilot).paused == 0
        await seen(pilot, "exit status 1")


# --- where keys lead


async def test_enter_on_a_gpu_or_a_process_opens_its_run() -> None:
    run = RunView(HERON, Path("/nowhere"), RunState.RUNNING)
    async with hosts_deck(BUSY, views=(run,)) as pilot:
        await go_to(pilot, "gpu1", "1")
        await until(pilot, lambda: isinstance(pilot.app.focused, GpuTable))
        await pilot.press("enter")
        await until(pilot, lambda: deck_of(pilot).opened == [HERON])
        await pilot.press("down", "down", "down", "down", "enter")
        await seen(pilot, "is not mirrored here yet")
        await pilot.press("2", "enter")
        await until(pilot, lambda: deck_of(pilot).opened == [HERON, HERON])


async def test_escape_leads_from_the_tab_to_the_hosts_and_out() -> None:
    async with hosts_deck(BUSY) as pilot:
        await go_to(pilot, "gpu1", "4")
        await until(pilot, lambda: isinstance(pilot.app.focused, LineChart))
        await pilot.press("x")  # a host has no steps
        assert pilot.app.focused.x_axis == "time"  # type: ignore[union-attr]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.focused, HostTable))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HostsScreen))


async def test_the_mouse_chooses_hosts_and_tabs() -> None:
    async with hosts_deck(BUSY, AWAY) as pilot:
        await pilot.click(HostTable, offset=(3, 3))
        await until(pilot, lambda: pilot.app.screen.query_one(HostTable).key == "gpu2")
        await pilot.click("#--content-tab-sessions")
        await until(pilot, lambda: pilot.app.screen.query_one(TabbedContent).active == "sessions")
        await seen(pilot, "wd-20260921-1421")


# --- questions of a connection

KEY = Question(
    QuestionKind.HOST_KEY,
    "gpu1",
    "Is this the key of gpu1?",
    "The host 203.0.113.20 was never seen before.",
    secret=False,
    fingerprint="SHA256:Qm5uZXcga2V5IG9mIHRoZSBob3N0IGlzIHRoaXM",
    key_type="ED25519",
)
PASSWORD = Question(QuestionKind.PASSWORD, "gpu1", "Password of root@203.0.113.20", "")


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_an_unknown_key_is_shown_and_never_accepted_by_enter(snapshot: Snapshot, size: tuple[int, int]) -> None:
    answers: list[str | None] = []
    async with hosts_deck(CONNECTING, size=size) as pilot:
        pilot.app.push_screen(Ask(KEY), answers.append)
        await seen(pilot, KEY.fingerprint, "ED25519")
        snapshot.check(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: answers == [None])
        pilot.app.push_screen(Ask(KEY), answers.append)
        await pilot.press("y")
        await until(pilot, lambda: answers == [None, "yes"])
        pilot.app.push_screen(Ask(KEY), answers.append)
        await pilot.press("escape")
        await until(pilot, lambda: answers == [None, "yes", None])


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_a_password_is_not_seen(snapshot: Snapshot, size: tuple[int, int]) -> None:
    answers: list[str | None] = []
    async with hosts_deck(CONNECTING, size=size) as pilot:
        pilot.app.push_screen(Ask(PASSWORD), answers.append)
        await seen(pilot, "Password of root")
        pilot.app.screen.query_one(Input).cursor_blink = False
        await pilot.press(*"yny 7")
        await seen(pilot, "•••••")
        assert "yny" not in screen_text(pilot.app)
        snapshot.check(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: answers == ["yny 7"])


async def test_an_answer_that_may_be_seen_is_and_hostile_words_are_plain() -> None:
    question = Question(QuestionKind.ANSWER, "gpu1", fakes.HOSTILE, fakes.HOSTILE + "\nCode:", secret=False, echo=True)
    async with hosts_deck(CONNECTING) as pilot:
        pilot.app.push_screen(Ask(question))
        await seen(pilot, "Code:", "·[31m[red]bad")
        await pilot.press(*"123")
        await seen(pilot, "123")
        assert pilot.app.screen.query_one("#no", Button)


# --- launching elsewhere


async def test_the_form_offers_hosts_and_shows_the_equal_command() -> None:
    async with hosts_deck(BUSY, AWAY) as pilot:
        pilot.app.push_screen(LaunchScreen())
        await seen(pilot, "wavedeck run sousa")
        screen = pilot.app.screen
        screen.query_one("#host", Select).value = "gpu1"
        await seen(pilot, "--host gpu1", "idle there: 6")
        screen.query_one("#gpus", Input).value = "0,7"
        await seen(pilot, "gpu1 has no GPU 7 to give (there: 0, 1, 2, 3, 4, 5, 6)")
        assert screen.query_one("#start", Button).disabled
        screen.query_one("#gpus", Input).value = "zero"
        await seen(pilot, "no list of indices")
        screen.query_one("#gpus", Input).value = "0,6"
        await seen(pilot, "--host gpu1 --gpus 0,6")
        await pilot.press("ctrl+l")
        fleet = deck_of(pilot).fleet
        await until(pilot, lambda: fleet.asked and fleet.asked[0][:2] == ("launch", "gpu1"))
        assert fleet.asked[0][3] == (0, 6)
        await until(pilot, lambda: deck_of(pilot).opened == [HERON])


def test_hosts_in_words_for_the_form() -> None:
    words = [text for text, _ in host_options((BUSY, AWAY, CPU_ONLY, CONNECTING))]
    assert words == [
        "local: this machine",
        "gpu1: 8 × H100 80GB HBM3",
        "gpu2: reconnecting",
        "lab: no GPU",
        "fresh: connecting",
    ]
    assert gpu_note(CPU_ONLY) == "" and gpu_note(AWAY) == "none of its GPUs is idle"
    assert gpu_note(BUSY) == "idle there: 6"


def test_the_hosts_in_one_line() -> None:
    assert summarise([]) == "this machine only"
    assert summarise([BUSY]) == "1 host · 1 connected · $19.92/h"
    assert summarise([AWAY, CHANGED]) == "2 hosts · 0 connected · 1 needs you · $4.10/h"
    paused = msgspec.structs.replace(MIG, link=LinkState.PAUSED)
    assert summarise([paused]) == "1 host · 1 connected"
    assert LiveTable.OPENS
