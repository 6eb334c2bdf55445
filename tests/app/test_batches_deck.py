"""Batches on the deck: a heading above their runs, folded by enter, stopped and deleted as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.app.cockpit import Wavedeck
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.runs import RunsScreen
from wavedeck.engine.batch_view import BatchView, batches, grouped
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.manifest import Attempt, write_record
from wavedeck.engine.queue import QUEUED_FILE, Queued, pause, waiting
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote.liveness import alive
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics
from wavedeck.widgets.runs_table import RunsTable

BATCH = "batch-20260921-1430-twelve-brisk-heron"
SIZES = [(80, 24), (120, 36)]
NAMES = ("ast lora", "ast ia3", "hts_at lora", "hts_at ia3", "beats lora")
WORDS = ("calm-otter", "bold-lynx", "grim-crow", "mild-toad", "lost-mole")


def a_batch(at: Home, states: tuple[str, ...], batch: str = BATCH, created: float = T0) -> list[RunDir]:
    runs = []
    for place, state in enumerate(states):
        run_id = (
            f"{batch.split('-')[1]}-14{30 + place}-{NAMES[place].replace(' ', '-').replace('_', '-')}-{WORDS[place]}"
        )
        run = make_run(at, run_id, state=state, created=created + place / 1000, name=NAMES[place], batch=batch)
        if state == "queued":
            write_record(run.path / QUEUED_FILE, Queued(created, place, Attempt(1, created, ["true"], "/")))
        else:
            write_metrics(run, 60 + 40 * place)
        runs.append(run)
    return runs


def table(app: Wavedeck) -> RunsTable:
    return app.screen.query_one(RunsTable)


def keys(app: Wavedeck) -> list[str]:
    return [str(row.key) for row in table(app).rows]


def test_a_batch_counts_its_runs_and_knows_its_best(at: Home) -> None:
    a_batch(at, ("finished", "finished", "failed", "queued", "queued"))
    plain = make_run(at, "20260921-1500-sousa-snug-bee", created=T0 + 60)
    views = Catalog(at, alive).views()
    (batch,) = batches(views).values()
    assert (batch.total, batch.ended, batch.name, batch.is_over) == (5, 3, "twelve", False)
    assert batch.words == "2 queued · 2 finished · 1 failed"
    assert batch.counts == {RunState.QUEUED: 2, RunState.FINISHED: 2, RunState.FAILED: 1}
    assert batch.best is not None and batch.best.name == "hts_at lora"
    assert [view.name for view in batch.ranked] == ["hts_at lora", "ast ia3", "ast lora", "hts_at ia3", "beats lora"]
    assert [item.id for item in grouped(views)] == [BATCH, plain.id]
    assert batch.to_json()["best"]["name"] == "hts_at lora"
    assert BatchView(BATCH, batch.members[3:]).best is None


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])
async def test_looks(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    pause(at, True)
    make_run(at, "20260921-1400-sousa-snug-bee", created=T0 - 600)
    a_batch(at, ("finished", "finished"), "batch-20260920-1200-old-calm-owl", T0 - 500)
    a_batch(at, ("finished", "failed", "running", "queued", "queued"))
    async with deck(at, size) as pilot:
        await until(pilot, lambda: len(keys(pilot.app)) == 8, "the rows")  # type: ignore[arg-type]
        assert table(pilot.app).select(BATCH)  # type: ignore[arg-type]
        await until(pilot, lambda: "train/loss 0." in screen_text(pilot.app), "the curves of its current run")
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
async def test_enter_folds_and_a_filter_looks_into_what_is_folded(at: Home) -> None:
    pause(at, True)
    runs = a_batch(at, ("finished", "queued"))
    async with deck(at) as pilot:
        app = pilot.app
        assert isinstance(app, Wavedeck)
        await until(pilot, lambda: len(keys(app)) == 3, "the rows")
        assert keys(app) == [BATCH, *(run.id for run in runs)]
        table(app).select(BATCH)
        await pilot.press("enter")
        assert keys(app) == [BATCH] and isinstance(app.screen, RunsScreen)
        table(app).needle = "ia3"
        assert keys(app) == [BATCH, runs[1].id]
        table(app).needle = ""
        await pilot.press("enter")
        assert len(keys(app)) == 3 and "queued, 1st" in screen_text(app)


@pytest.mark.usefixtures("still")
async def test_what_is_no_id_of_a_batch_makes_no_heading(at: Home) -> None:
    run = make_run(at, "20260921-1400-sousa-snug-bee", batch=BATCH + "\x1b]0;pwned\x07")
    async with deck(at) as pilot:
        app = pilot.app
        assert isinstance(app, Wavedeck)
        await until(pilot, lambda: len(keys(app)) > 0, "the rows")
        assert keys(app) == [run.id]
        assert "snug-bee" in screen_text(app) and not set("\x1b\x07") & set(screen_text(app))


async def test_a_batch_is_stopped_and_deleted_as_a_whole(at: Home, home: Path) -> None:
    pause(at, True)
    runs = a_batch(at, ("finished", "queued", "queued"))
    async with deck(at) as pilot:
        app = pilot.app
        assert isinstance(app, Wavedeck)
        await until(pilot, lambda: len(keys(app)) == 4, "the rows")
        table(app).select(runs[1].id)
        await until(pilot, lambda: "Stop" in screen_text(app).splitlines()[-1], "the key")
        await pilot.press("s")
        await until(pilot, lambda: "taken out and never begins" in screen_text(app), "the question")
        await pilot.press("escape")
        table(app).select(BATCH)
        await until(pilot, lambda: not isinstance(app.screen, Confirm), "the list")
        await pilot.press("d", "s")
        await until(pilot, lambda: "Stop the batch brisk-heron?" in screen_text(app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: not waiting(at), "an empty queue")
        await until(pilot, lambda: "3/3 done" in screen_text(app), "the heading")
        await pilot.press("d")
        await until(pilot, lambda: "Delete the batch brisk-heron for good?" in screen_text(app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: not any(run.path.exists() for run in runs), "an empty home")
