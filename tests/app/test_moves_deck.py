"""Runs that went on elsewhere, questions before a start, alerts, money, the Safe tab: what the deck shows and asks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Collapsible, Input, Select, TabbedContent

from wavedeck.app.cockpit import Wavedeck
from wavedeck.app.messages import AlertTold
from wavedeck.app.move_commands import can_move, loss_words
from wavedeck.app.screens.alerts import Alerts, AlertTable
from wavedeck.app.screens.choose import Choose
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.run import RunScreen
from wavedeck.app.screens.runs import RunsScreen
from wavedeck.engine.alerts.alert import Severity, make_alert
from wavedeck.engine.alerts.ledger import Ledger
from wavedeck.engine.alerts.rules import Judged, Memory, Open
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.backup.safety import HostSafety, RunSafety, Uncovered
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import operations
from wavedeck.remote.babysit_lock import BabysitLock, babysitter_of
from wavedeck.remote.failover.move import MoveResult
from wavedeck.remote.provision.there import Progress
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.app.hosts_deck import HostsDeck, hosts_deck
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.copies import HERON, make_copy
from wavedeck.tests.fakes.hosts import AWAY, BUSY, CPU_ONLY, NOW
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics

SIZES = [(80, 24), (120, 36)]
IDS = [f"{width}x{height}" for width, height in SIZES]
CHILD = "20260921-1500-sousa-calm-otter"


def moved_pair(at: Home) -> tuple[RunDir, RunDir]:
    """A run of gpu1 that went on as another one on gpu2."""
    parent = make_copy(at, state="stopped")
    claim_move(parent, Moved(CHILD, "gpu2", T0 + 50, step=160, lost_steps=40, lost_s=16.0))
    child = make_run(at, CHILD, state="stopped", created=T0 + 60, parent=parent.id, parent_step=160)
    write_metrics(child, 20)
    write_mirror(child.path, MirrorRecord(host="gpu2"))
    return parent, child


async def seen(pilot: Any, *words: str) -> None:
    for word in words:
        await until(pilot, lambda word=word: word in screen_text(pilot.app), word)  # type: ignore[misc]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_a_moved_run_and_where_it_went(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    parent, child = moved_pair(at)
    async with deck(at, size) as pilot:
        await seen(pilot, "⇢ moved", "goes on from brisk-heron (<)", "37%")
        snapshot.check(pilot.app, "runs")
        await pilot.press("less_than_sign")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.run_id == parent.id)
        await seen(pilot, f"⇢ went on as {child.id} on gpu2", "Goes on as", "train/loss 0.")
        assert "Resume" not in screen_text(pilot.app) and "Move" not in screen_text(pilot.app)
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.run_id == child.id)


@pytest.mark.usefixtures("still")
async def test_money_has_a_column_where_a_price_is_known(at: Home) -> None:
    make_run(at, CHILD)
    async with deck(at, (200, 50)) as pilot:
        await seen(pilot, "calm-otter")
        assert "COST" not in screen_text(pilot.app)
        make_copy(at)
        await seen(pilot, "COST", "$4.75/$5")
        await pilot.press("down")
        await seen(pilot, "$4.75 of $5.00 (95%)")


async def test_resume_asks_and_enter_is_yes(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(at, state="stopped")
    resumed: list[Path] = []

    async def resume(home: Home, host: object, directory: RunDir) -> operations.LaunchResult:
        resumed.append(directory.path)
        return operations.LaunchResult(directory, 2, None)

    monkeypatch.setattr(operations, "resume", resume)
    async with deck(at) as pilot:
        await seen(pilot, "brisk-heron")
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        await seen(pilot, "Attempt 2 begins anew")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert resumed == []
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("enter")
        await until(pilot, lambda: resumed == [run.path], "the resume")


async def test_move_says_what_is_lost_then_moves_and_opens_the_child(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_copy(at)
    asked: list[tuple[object, ...]] = []

    async def move(
        directory: RunDir, source: str, target: str, report: Any, *, from_scratch: bool = False
    ) -> MoveResult:
        asked.append((directory.id, source, target, from_scratch))
        report(Progress("environment", "making the environment", 1, 2))
        child = make_run(at, CHILD, state="stopped", parent=run.id, parent_step=160)
        moved = Moved(CHILD, target, T0, step=160, lost_steps=40)
        return MoveResult(directory, child, moved, None, ("a notice",))

    async with deck(at, open_run=run.id) as pilot:
        app = cast(Wavedeck, pilot.app)
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "■ stopped" in screen_text(pilot.app))
        monkeypatch.setattr(app.fleet, "move", move)
        monkeypatch.setattr(app.fleet, "views", lambda reading: (BUSY, AWAY))
        await until(pilot, lambda: app.hosts == (BUSY, AWAY), "the hosts")
        await pilot.press("E")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choose), "the hosts")
        text = screen_text(app)
        assert "↻ reconnecting" in text and "this machine" in text and "● connected" not in text  # not where it is
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        await until(pilot, lambda: asked == [] and "so 40 steps would be" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.run_id == CHILD)
        assert asked == [(run.id, "gpu1", "local", False)]  # gpu2 does not answer: the cursor was on this machine
        said = " ".join(note.message for note in app._notifications)
        assert "40 steps are trained again" in said and "a notice" in said


def test_what_can_move_and_what_is_lost() -> None:
    def view(state: RunState, **fields: Any) -> RunView:
        return RunView("20260921-1426-a-b-c", Path("/x"), state, manifest=cast(Any, object()), host="gpu1", **fields)

    assert can_move(view(RunState.UNREACHABLE)) and can_move(view(RunState.FAILED))
    assert not can_move(view(RunState.RUNNING)) and not can_move(view(RunState.FINISHED))
    assert not can_move(view(RunState.STOPPED, moved_to="x")) and not can_move(view(RunState.STOPPED, fenced="x"))
    assert "All 70 steps are trained again" in loss_words(view(RunState.UNREACHABLE, step=70), None, False)
    lost = loss_words(view(RunState.UNREACHABLE, step=70), 60, False)
    assert "10 steps would be trained again" in lost and "it is stopped as soon as it comes back" in lost
    assert "nothing would be lost" in loss_words(view(RunState.STOPPED, step=60), 60, True)


async def test_the_launch_form_asks_for_backup_in_a_closed_group(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (at.root / "hosts.toml").write_text('[gpu1]\nssh = ["root@192.0.2.1"]\n[gpu2]\nssh = ["root@192.0.2.2"]\n')
    policies: list[BackupPolicy | None] = []

    async def launch(name: str, wish: object, policy: BackupPolicy | None = None) -> operations.LaunchResult:
        policies.append(policy)
        return operations.LaunchResult(make_run(at), 1, None)

    async with deck(at) as pilot:
        app = cast(Wavedeck, pilot.app)
        monkeypatch.setattr(app.fleet, "views", lambda reading: (BUSY, AWAY))
        await until(pilot, lambda: app.hosts == (BUSY, AWAY), "the hosts")
        monkeypatch.setattr(app.fleet, "launch", launch)
        await pilot.press("n")
        await seen(pilot, "wavedeck run sousa")
        assert app.screen.query_one(Collapsible).collapsed
        app.screen.query_one("#host", Select).value = "gpu1"
        app.screen.query_one("#failover", Select).value = "gpu1"
        await seen(pilot, "name another host than the one it runs on")
        app.screen.query_one("#failover", Select).value = "gpu2"
        app.screen.query_one("#budget", Input).value = "much"
        await seen(pilot, "budget: a number")
        app.screen.query_one("#budget", Input).value = "$5"
        app.screen.query_one("#policy", Input).value = "keep_last=5"
        await until(
            pilot,
            lambda: (
                "--failover gpu2 --budget 5 --backup keep_last=5"
                in " ".join(str(app.screen.query_one("#command").render()).split())
            ),
            "the command",
        )
        await pilot.press("ctrl+l")
        await until(pilot, lambda: policies == [BackupPolicy(keep_last=5, failover="gpu2", budget=5.0)], "the launch")


# --- safe


LOST = HostSafety(
    "gpu1",
    False,
    (
        RunSafety(
            HERON, 1240, 1200, 840.0, 1_700_000_000, 14.2,
            ("runs: 40 steps (14 min) since step 1,200 are only there",), False, (Uncovered("notes.txt", 12),),
        ),
        RunSafety(CHILD, 900, 900, 4000.0, 0, 0.0, (), True),
    ),
    price_per_hour=19.92,
    spent=41.5,
    idle_gpu_minutes=0.0,
    notes=("1 tmux session of your own: unknown here.",),
)  # fmt: skip
SAFE = HostSafety("gpu2", True, (), price_per_hour=4.1, idle_gpu_minutes=90.0)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_safe_to_destroy(size: tuple[int, int], snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    async with hosts_deck(BUSY, AWAY, CPU_ONLY, size=size) as pilot:
        app = cast(HostsDeck, pilot.app)
        app.fleet.safe = {"gpu1": LOST, "gpu2": SAFE}
        await pilot.press("down")
        assert app.fleet.asked == [] and "SAFE" not in screen_text(app)  # nobody asks before somebody wants to know
        await pilot.press("6")
        await seen(pilot, "✗ NOT safe to destroy", "14 min", "40 steps (14 min) since step 1,200", "$41.50 spent")
        assert app.fleet.asked == [("safety", "gpu1", "gpu2", "lab")]
        snapshot.check(app)
        await pilot.press("c")
        await until(pilot, lambda: len(app.fleet.asked) == 2, "a new look")
        app.screen.query_one(TabbedContent).active = "gpus"
        if size[0] > 100:
            await seen(pilot, "✓ safe", "✗ 14 min")


# --- alerts


def told(at: Home, now: float = T0) -> None:
    """What another babysitter has told."""
    ledger = Ledger(at)
    crash = make_alert(
        "crashed/a", Severity.ERROR, f"{HERON} crashed on gpu1", "CUDA error: out of luck\nr resumes", t=now, run=HERON
    )
    again = make_alert("unreachable/gpu2", Severity.WARNING, "gpu2 answers again", t=now + 60, recovered=True)
    memory = Memory(looked=now, open={crash.key: Open(now, crash.severity, crash.title)})
    ledger.take(Judged((crash, again), memory, ()), now)  # type: ignore[arg-type]
    ledger.save()


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_alerts_of_another_babysitter(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    run = make_copy(at)
    told(at)
    lock = BabysitLock(at)
    lock.take()
    try:
        async with deck(at, size) as pilot:
            await seen(pilot, "⚑ 1", "37%", "brisk-heron")
            await pilot.press("exclamation_mark")
            await until(pilot, lambda: isinstance(pilot.app.screen, Alerts), "the list")
            await seen(pilot, "✗ error", "✓ over", "1 is open", "watches")
            await pilot.press("down")
            await seen(pilot, "CUDA error: out of luck")
            monkey = pilot.app.screen.query_one("#who")
            monkey.update("process 4242 watches · 1 is open")  # type: ignore[attr-defined]
            await pilot.pause()
            snapshot.check(pilot.app)
            assert pilot.app.screen.query_one(AlertTable).alert.run == run.id  # type: ignore[union-attr]
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen), "the run")
    finally:
        lock.release()


async def test_an_alert_is_a_notification(at: Home) -> None:
    async with deck(at) as pilot:
        alert = make_alert("nan/x", Severity.ERROR, "[b]loss is NaN", "since step 3", t=time.time())
        pilot.app.post_message(AlertTold(alert))
        await seen(pilot, "[b]loss is NaN", "since step 3")
        lock = BabysitLock(at)  # and those of a babysitter in another process come by its file
        lock.take()
        try:
            told(at, time.time() + 1)
            await seen(pilot, f"{HERON} crashed on gpu1", "gpu2 answers again")
        finally:
            lock.release()


async def test_the_deck_babysits_and_only_one_does(at: Home) -> None:
    run = make_run(at, state="running")
    async with deck(at) as quiet:
        await seen(quiet, "brisk-heron")
        assert babysitter_of(at) is None
    async with deck(at, babysits=True) as pilot:
        app = cast(Wavedeck, pilot.app)
        await until(pilot, lambda: babysitter_of(at) is not None and app.babysitter and app.babysitter.watches, "it")
        await pilot.press("exclamation_mark")
        await seen(pilot, "this deck watches while it is open")
        await pilot.press("escape")
        async with deck(at, babysits=True) as second:
            await seen(second, "brisk-heron")
            other = cast(Wavedeck, second.app)
            assert other.babysitter is not None and not other.babysitter.watches
        assert app.babysitter is not None
        assert app.babysitter.backup.alive() and app.babysitter.backup._handle is None  # nothing to back up: no process
    assert babysitter_of(at) is None
    assert run.path.exists()
