"""The deck driven by its keys: what arrives on screen, what a key does, what a question prevents."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest
from textual.widgets import Input, TabbedContent

from wavedeck.app import cockpit
from wavedeck.app.cockpit import Wavedeck
from wavedeck.app.messages import HostsSeen, MachineSeen, RunSeen, RunsSeen
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.hosts import HostsScreen
from wavedeck.app.screens.run import RunScreen
from wavedeck.app.screens.runs import RunsScreen
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import ExitRecord, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.tests.app.conftest import READING, deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics
from wavedeck.widgets.config_form import ConfigForm
from wavedeck.widgets.live_table import LiveTable
from wavedeck.widgets.runs_table import RunsTable

SIZES = [(80, 24), (120, 36)]
IDS = [f"size{width}x{height}" for width, height in SIZES]


def fleet(at: Home) -> None:
    """One run in every state that matters."""
    for number, state in enumerate(("finished", "failed", "killed", "stopped", "vanished", "running")):
        words = ("calm-otter", "bold-lynx", "grim-crow", "mild-toad", "lost-mole", "brisk-heron")[number]
        run = make_run(at, f"20260921-14{20 + number}-sousa-{words}", state=state, created=T0 - 600 + 100 * number)
        write_metrics(run, 60 + 20 * number, nan_at=33 if state == "killed" else None)
    broken = make_run(at, "20260921-1430-sousa-torn-hare")
    broken.manifest.write_text("{")


def table(app: Wavedeck) -> RunsTable:
    return app.screen.query_one(RunsTable)


async def ready(pilot: object, rows: int) -> None:
    await until(pilot, lambda: table(pilot.app).row_count == rows, f"{rows} rows")  # type: ignore[attr-defined, arg-type]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_runs_screen(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    fleet(at)
    async with deck(at, size) as pilot:
        await ready(pilot, 7)
        table(pilot.app).select("20260921-1425-sousa-brisk-heron")  # type: ignore[arg-type]
        await until(pilot, lambda: "train/loss 0." in screen_text(pilot.app), "the curves")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_empty_deck(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    async with deck(at, size) as pilot:
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize("tab", ["charts", "losses", "console", "machine", "checkpoints", "config"])
async def test_run_screen(at: Home, snapshot: Snapshot, size: tuple[int, int], tab: str) -> None:
    run = make_run(at, state="running")
    write_metrics(run, 200, nan_at=77)
    run.console.write_bytes(
        b"loading data\n\r 10%\r 50%\r100%\n\x1b[31mwarning\x1b[0m [red]not markup[/red]\nstep 200\n"
    )
    machine = [
        f'{{"t":{T0 + 2 * n},"host_cpu_pct":{40 + n},"cpu_pct":{90 + n % 3},"rss_bytes":900000000}}' for n in range(30)
    ]
    run.machine.write_text("\n".join(machine) + "\n")
    checkpoints = [
        f'{{"name":"step-{step:08d}.ckpt","step":{step},"bytes":1400000,"sha256":"{"ab" * 32}","t":{T0 + step / 4},'
        f'"epoch":{step / 20},"metrics":{{"val/balanced_accuracy":0.{step}}},"best":{str(step != 180).lower()}}}'
        for step in (120, 160, 180)
    ]
    run.checkpoints.mkdir(exist_ok=True)
    run.checkpoint_manifest.write_text("\n".join(checkpoints) + "\n")
    for step in (120, 160, 180):
        (run.checkpoints / f"step-{step:08d}.ckpt").touch()
    expected = {
        "charts": "train/loss 0.",
        "losses": "★",
        "console": "[red]not markup[/red]",
        "machine": "cpu %",
        "checkpoints": "step-00000160.ckpt",
        "config": "resolved config",
    }[tab]
    async with deck(at, size, open_run=run.id) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "▶ running" in screen_text(pilot.app))
        await pilot.press(str(["charts", "losses", "console", "machine", "checkpoints", "config"].index(tab) + 1))
        await until(pilot, lambda: expected in screen_text(pilot.app), tab)
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_launch_form(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    async with deck(at, size) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: "wavedeck run sousa" in screen_text(pilot.app), "the equal command")
        await until(pilot, lambda: "time and cost unknown" in screen_text(pilot.app), "the estimate")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        pilot.app.screen.query_one("#find", Input).cursor_blink = False
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
async def test_help_and_question(at: Home, snapshot: Snapshot) -> None:
    fleet(at)
    async with deck(at) as pilot:
        await ready(pilot, 7)
        table(pilot.app).select("20260921-1425-sousa-brisk-heron")  # type: ignore[arg-type]
        await until(pilot, lambda: "train/loss 0." in screen_text(pilot.app), "the curves")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        await pilot.press("question_mark")
        await until(pilot, lambda: "Ask the run to save and end" in screen_text(pilot.app), "help")
        snapshot.check(pilot.app, "help")
        await pilot.press("escape", "s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        snapshot.check(pilot.app, "question")


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("theme", ["wavedeck-light", "wavedeck-okabe-ito"])
async def test_themes(at: Home, snapshot: Snapshot, theme: str) -> None:
    fleet(at)
    async with deck(at) as pilot:
        await ready(pilot, 7)
        pilot.app.theme = theme
        table(pilot.app).select("20260921-1425-sousa-brisk-heron")  # type: ignore[arg-type]
        await until(pilot, lambda: "train/loss 0." in screen_text(pilot.app), "the curves")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        snapshot.check(pilot.app, theme)


async def test_a_new_row_reaches_the_open_run(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 60)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "train/loss" in screen_text(pilot.app), "the curves")
        EventWriter(run.events).metrics({"train/loss": 0.123456}, step=61)
        await until(pilot, lambda: "0.1235" in screen_text(pilot.app), "the new value")


async def test_news_that_arrive_while_a_screen_is_being_composed_wait_for_it(at: Home) -> None:
    run = make_run(at)
    async with deck(at) as pilot:
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app), "the run")
        app = cast(Wavedeck, pilot.app)
        app.open_run(run.id)
        app._runs_changed(RunsSeen(app.views))
        app.action_hosts()
        app._runs_changed(RunsSeen(app.views))
        app._hosts_changed(HostsSeen(app.hosts))
        await until(pilot, lambda: isinstance(pilot.app.screen, HostsScreen) and pilot.app.screen.is_mounted)
        await pilot.press("escape")
        await until(pilot, lambda: run.id in screen_text(pilot.app), "the run's screen")


async def test_a_run_started_elsewhere_appears_by_itself(at: Home) -> None:
    async with deck(at) as pilot:
        await until(pilot, lambda: "no runs yet" in screen_text(pilot.app))
        make_run(at)
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app), "the new run")


async def test_the_filter_narrows_and_escape_widens(at: Home) -> None:
    fleet(at)
    async with deck(at) as pilot:
        await ready(pilot, 7)
        await pilot.press("slash", *"failed")
        await ready(pilot, 1)
        await pilot.press("enter")
        assert isinstance(pilot.app.focused, LiveTable)
        await pilot.press("escape")
        await ready(pilot, 7)


async def test_why_a_run_failed_before_its_first_row_stands_whole_where_the_curves_would(at: Home) -> None:
    run = make_run(at, state="failed")
    sentence = "model.weights=garbage.pt is no file of weights " + "and so on " * 30 + "to the last word."
    record = ExitRecord(attempt=1, started=T0, ended=T0 + 9, exit_code=1, tail=["generate: already done.", sentence])
    write_record(run.exit, record)
    trained = make_run(at, "20260921-1427-sousa-bold-lynx", state="failed", created=T0 - 60)
    write_metrics(trained, 40)
    async with deck(at) as pilot:
        await ready(pilot, 2)
        table(pilot.app).select(run.id)  # type: ignore[arg-type]
        await until(pilot, lambda: "to the last word." in screen_text(pilot.app), "the whole sentence on Runs")
        assert "generate: already done." in screen_text(pilot.app)
        table(pilot.app).select(trained.id)  # type: ignore[arg-type]
        await until(pilot, lambda: "train/loss 1." in screen_text(pilot.app), "the curves")
        assert "last lines" not in screen_text(pilot.app)
        table(pilot.app).select(run.id)  # type: ignore[arg-type]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen), "the run")
        await until(pilot, lambda: "to the last word." in screen_text(pilot.app), "the whole sentence on Run")


async def test_a_tag_finds_a_run_in_the_filter(at: Home) -> None:
    make_run(at, tags=["night"])
    make_run(at, "20260921-1427-sousa-bold-lynx", created=T0 + 1)
    async with deck(at) as pilot:
        await ready(pilot, 2)
        await pilot.press("slash", *"night", "enter")
        await ready(pilot, 1)


async def test_delete_asks_and_no_is_the_default(at: Home) -> None:
    run = make_run(at)
    async with deck(at) as pilot:
        await ready(pilot, 1)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert run.path.exists()
        await pilot.press("d", "y")
        await until(pilot, lambda: not run.path.exists(), "the deletion")
        await ready(pilot, 0)


@pytest.mark.usefixtures("still")
async def test_stop_asks_then_writes_the_request(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(at, state="running")
    asked: list[Path] = []

    async def request_stop(host: object, directory: RunDir) -> None:
        asked.append(directory.path)

    monkeypatch.setattr(operations, "request_stop", request_stop)
    async with deck(at) as pilot:
        await until(pilot, lambda: "▶ running" in screen_text(pilot.app))
        await pilot.press("s", "n")
        assert asked == []
        await pilot.press("s", "y")
        await until(pilot, lambda: asked == [run.path], "the request")


async def test_keys_that_make_no_sense_are_not_offered(at: Home) -> None:
    make_run(at, state="failed")
    async with deck(at) as pilot:
        await ready(pilot, 1)
        footer = screen_text(pilot.app).splitlines()[-1]
        assert "Resume" in footer and "Stop" not in footer and "Attach" not in footer
        await pilot.press("s")
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_an_operation_that_fails_says_why(at: Home) -> None:
    make_run(at, state="finished")
    async with deck(at) as pilot:
        await ready(pilot, 1)
        pilot.app.commands.attach(pilot.app.screen.selected)  # type: ignore[attr-defined]
        await until(pilot, lambda: "not running" in screen_text(pilot.app), "the sentence")


async def test_other_runs_open_from_a_run(at: Home) -> None:
    fleet(at)
    async with deck(at, open_run="20260921-1425-sousa-brisk-heron") as pilot:
        await until(pilot, lambda: "brisk-heron" in screen_text(pilot.app))
        await pilot.press("o", *"calm", "enter")
        await until(pilot, lambda: getattr(pilot.app.screen, "run_id", "").endswith("calm-otter"), "the other run")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen), "home")


async def test_the_palette_finds_runs_and_actions(at: Home) -> None:
    fleet(at)
    async with deck(at) as pilot:
        await ready(pilot, 7)
        await pilot.press("ctrl+p", *"open grim")
        await until(pilot, lambda: "Open grim-crow" in screen_text(pilot.app), "the hit")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: getattr(pilot.app.screen, "run_id", "").endswith("grim-crow"), "the run")


async def test_the_form_checks_while_typing_and_shows_the_equal_command(at: Home) -> None:
    async with deck(at) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: "wavedeck run sousa --preset debug" in screen_text(pilot.app), "the command")
        await pilot.press("ctrl+f", *"peak learning")
        row = next(row for row in pilot.app.screen.query("FieldRow") if row.info.name == "training.lr")  # type: ignore[attr-defined]
        field = row.query_one(Input)
        field.focus()
        field.value = "fast"
        await until(pilot, lambda: "✗ training.lr" in screen_text(pilot.app).replace("=", " "), "the refusal")
        assert pilot.app.screen.query_one("#start").disabled
        field.value = "2e-4"
        await until(pilot, lambda: "training.lr=0.0002" in screen_text(pilot.app), "the new command")
        assert pilot.app.screen.query_one(ConfigForm).overrides == ["training.lr=2e-4"]


async def test_launching_writes_the_planned_run(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    async def launch(
        home: Home, host: object, manifest: object, attempt: object, policy: object = None
    ) -> operations.LaunchResult:
        launched.append(manifest)
        run = make_run(at, manifest.id, state="running")  # type: ignore[attr-defined]
        return operations.LaunchResult(run, 1, "wd-x")

    monkeypatch.setattr(operations, "launch", launch)
    async with deck(at) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: "wavedeck run sousa" in screen_text(pilot.app))
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen), "the run's screen")
        assert launched[0].preset == "debug" and pilot.app.screen.run_id == launched[0].id  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (40, 10), (400, 120)])
async def test_every_screen_survives_every_size(at: Home, size: tuple[int, int]) -> None:
    fleet(at)
    async with deck(at, size) as pilot:
        await ready(pilot, 7)
        for keys in (
            ("enter", "2", "3", "4", "5", "6", "1"),
            ("escape", "n"),
            ("escape", "question_mark"),
            ("escape", "d"),
        ):
            await pilot.press(*keys)
            await pilot.pause()
            assert len(screen_text(pilot.app).splitlines()) == size[1]


async def test_two_decks_at_once_show_the_same(at: Home) -> None:
    fleet(at)
    async with deck(at) as one, deck(at) as other:
        await ready(one, 7)
        await ready(other, 7)


def test_pictures_merge_only_for_the_same_run() -> None:
    from wavedeck.app.messages import RunPicture
    from wavedeck.engine.feed import Loading

    def seen(run_id: str) -> RunSeen:
        return RunSeen(RunPicture(run_id, {}, Loading(0, 0)))

    assert seen("a").can_replace(seen("a")) and not seen("a").can_replace(seen("b"))
    assert RunsSeen(()).can_replace(RunsSeen(())) and not RunsSeen(()).can_replace(seen("a"))


async def test_escape_from_a_chart_without_crosshair_leads_home(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 40)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "train/loss" in screen_text(pilot.app))
        await pilot.press("right")
        await until(pilot, lambda: "step" in screen_text(pilot.app))
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, RunScreen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen), "home")


async def test_tab_numbers_reach_every_tab(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 40)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "train/loss" in screen_text(pilot.app))
        for number, name in enumerate(("charts", "losses", "console", "machine", "checkpoints", "config"), 1):
            await pilot.press(str(number))
            await until(pilot, lambda name=name: pilot.app.screen.query_one(TabbedContent).active == name, name)  # type: ignore[misc]


async def test_a_disk_that_fills_up_is_said_once(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    low = msgspec.structs.replace(READING, disk_free=100 * 2**20)
    monkeypatch.setattr(cockpit.LocalHost, "reading", lambda self, path: low)
    async with deck(at) as pilot:
        await until(pilot, lambda: "disk almost full" in screen_text(pilot.app), "the alert")
        pilot.app.post_message(MachineSeen(low))
        await pilot.pause()
        assert len(pilot.app._notifications) == 1
