"""The Evaluation tab driven by its keys: numbers, orders, states in words, and the way to the clips."""

from __future__ import annotations

import json

import pytest
from textual.pilot import Pilot

from wavedeck.app.evaluations import absent_words, stale_words
from wavedeck.app.listen.details import Details
from wavedeck.app.screens import listen
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.evaluation import EVALUATION_FILE, Evaluation
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.playback import FakePlayer
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_run, write_metrics
from wavedeck.widgets.confusion_matrix import ConfusionMatrix
from wavedeck.widgets.evaluation_page import ClassTable, EvaluationPage
from wavedeck.widgets.live_table import LiveTable

pytestmark = pytest.mark.usefixtures("still")
SIZES = [(80, 24), (120, 36), (200, 50)]
IDS = [f"size{width}x{height}" for width, height in SIZES]
CLASSES = ("paradiddle", "flam", "drag")
"""By family, and so not by name."""
COUNTS = ((9, 1, 0), (0, 6, 4), (2, 0, 8))


def judged(run: RunDir, **fields: object) -> None:
    """What an evaluation writes."""
    families = ("diddle", "flam", "drag")
    classes = {
        name: {"family": family, "clips": 10, "recall": row[place] / 10, "precision": 0.8, "f1": 0.3 + 0.2 * place}
        for place, (name, family, row) in enumerate(zip(CLASSES, families, COUNTS, strict=True))
    }
    report = {
        "checkpoint": "step-00000180.ckpt", "step": 180, "sha256": "ab12" * 16, "split": "test", "clips": 30,
        "metrics": {"balanced_accuracy": 0.767, "accuracy": 0.75, "top5": 1.0, "macro_f1": 0.5},
        "intervals": {"balanced_accuracy": {"low": 0.7, "high": 0.83, "level": 0.95, "method": "bootstrap by player"}},
        "ceilings": {"balanced_accuracy": {"value": 0.85, "words": "34 of 40 patterns differ"}},
        "breakdowns": {
            "skill": {"beginner": {"clips": 12, "accuracy": 0.4, "balanced_accuracy": 0.42}, "advanced": {"clips": 18}},
            "tempo": {"60–80 BPM": {"clips": 30, "accuracy": 0.7, "balanced_accuracy": 0.71}},
        },
        "classes": classes, "confusions": [["flam", "drag", 4], ["drag", "paradiddle", 2], ["paradiddle", "flam", 1]],
        "order": list(CLASSES), "confusion": [list(row) for row in COUNTS], **fields,
    }  # fmt: skip
    (run.path / EVALUATION_FILE).write_text(json.dumps(report))


def said(run: RunDir) -> None:
    """What a trainer says of itself."""
    journal = EventWriter(run.events)
    facts = {"architecture": "HTS-AT, 27.9M parameters", "weights": "sha256 3f2a91c0d1e7"}
    lines = {"val/balanced_accuracy": {"ceiling": 0.97}}
    journal.write("about", facts=facts, numbers={"parameters": 27_900_000}, lines=lines)
    journal.close()


@pytest.fixture
def run(at: Home) -> RunDir:
    made = make_run(at)
    write_metrics(made, 200)
    judged(made)
    return made


def page(pilot: Pilot[None]) -> EvaluationPage:
    return pilot.app.screen.query_one(EvaluationPage)


async def in_front(pilot: Pilot[None]) -> None:
    """The Evaluation tab, with what is known."""
    await pilot.press("7")
    await until(pilot, lambda: page(pilot).picture.evaluation is not None, "the evaluation")
    await until(pilot, lambda: pilot.app.screen.query_one(ClassTable).has_focus, "the classes")


@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_looks(at: Home, run: RunDir, snapshot: Snapshot, size: tuple[int, int]) -> None:
    said(run)
    async with deck(at, size, open_run=run.id) as pilot:
        await in_front(pilot)
        await until(pilot, lambda: "37%" in screen_text(pilot.app), "the machine")
        await until(pilot, lambda: "0.767" in screen_text(pilot.app) and "HTS-AT" in screen_text(pilot.app))
        snapshot.check(pilot.app)


async def test_a_level_stands_on_the_chart_of_its_metric(at: Home, run: RunDir) -> None:
    said(run)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: "╌╌ ceiling 0.97" in screen_text(pilot.app), "the level in the legend")
        await pilot.press("6")
        await until(pilot, lambda: "27,900,000" in screen_text(pilot.app), "the numbers beside the configuration")


async def test_classes_are_sorted_and_their_clips_opened(
    at: Home, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "make_player", lambda _: FakePlayer())
    fakes.drum_set(run.path)
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        table = pilot.app.screen.query_one(ClassTable)
        assert [row.key for row in table.rows] == list(CLASSES)
        await pilot.press("z")
        assert [row.key for row in table.rows] == ["flam", "drag", "paradiddle"]  # the worst recall first
        await pilot.press("Z")
        assert [row.key for row in table.rows] == ["paradiddle", "drag", "flam"]
        table.select("flam")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ListenScreen), "Listen")
        screen = pilot.app.screen
        assert isinstance(screen, ListenScreen)
        await until(pilot, lambda: len(screen.listing) and screen.session.item is not None, "its clips")
        columns = screen.listing.columns
        labels = {columns.classes[columns.label_codes[row]] for row in screen.listing.rows}
        assert labels == {"flam"} and screen.wanted.filter == 'label="flam"'


async def test_a_mistake_opens_its_clips_and_listen_has_the_families_order(
    at: Home, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "make_player", lambda _: FakePlayer())
    fakes.drum_set(run.path)
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await pilot.press("tab", "tab")
        assert pilot.app.screen.query_one("#evaluation-mistakes", LiveTable).has_focus
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ListenScreen), "Listen")
        screen = pilot.app.screen
        assert isinstance(screen, ListenScreen) and screen.wanted.cell == ("flam", "drag")
        matrix = screen.query_one(Details).query_one(ConfusionMatrix)
        await until(pilot, lambda: matrix.confusion is not None, "the matrix")
        assert matrix.confusion is not None
        known = [name for name in matrix.confusion.classes if name in CLASSES]
        assert known == [name for name in CLASSES if name in known] and matrix.confusion.classes[: len(known)] == tuple(
            known
        )


async def test_a_cell_without_clips_says_so(at: Home, run: RunDir) -> None:
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "No clips were kept of this evaluation" in screen_text(pilot.app), "the words")


async def test_an_evaluation_that_comes_while_one_looks(at: Home) -> None:
    run = make_run(at, state="running")
    async with deck(at, open_run=run.id) as pilot:
        await pilot.press("7")
        await until(pilot, lambda: "it is judged last" in screen_text(pilot.app), "why there is none")
        judged(run)
        await until(pilot, lambda: "0.767" in screen_text(pilot.app), "the numbers")
        (run.path / EVALUATION_FILE).write_text("{")
        await until(pilot, lambda: "evaluation.json is damaged" in screen_text(pilot.app), "what is wrong")


# --- words


def view_of(at: Home, state: RunState, **fields: object) -> RunView:
    from wavedeck.engine.manifest import read_manifest

    run = make_run(at, state="finished")
    manifest = read_manifest(run.manifest)
    return RunView(id=run.id, dir=run.path, state=state, **{"manifest": manifest, **fields})  # type: ignore[arg-type]


def line(step: int, *, best: bool = True) -> CheckpointLine:
    return CheckpointLine(name=f"s{step}", step=step, t=0.0, bytes=1, sha256="0" * 64, best=best)


@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        (RunState.RUNNING, {"phase": "train"}, "it is judged last"),
        (RunState.RUNNING, {"phase": "evaluate"}, "is being judged now"),
        (RunState.FAILED, {"phase": "evaluate"}, "did not come to its end"),
        (
            RunState.STOPPED,
            {"phase": "train", "checkpoints": (line(5),)},
            "`wavedeck eval brisk-heron` judges its best",
        ),
        (RunState.FAILED, {"phase": "train"}, "has no checkpoint"),
        (RunState.FINISHED, {"manifest": None}, "another program's run"),
    ],
)
def test_why_there_is_none(at: Home, state: RunState, fields: dict[str, object], words: str) -> None:
    assert words in absent_words(view_of(at, state, **fields))


def test_when_it_is_not_the_newest(at: Home) -> None:
    evaluation = Evaluation(step=180)
    assert stale_words(view_of(at, RunState.FINISHED, checkpoints=(line(180), line(200, best=False))), evaluation) == ""


def test_when_something_better_came_after_it(at: Home) -> None:
    newer = view_of(at, RunState.STOPPED, checkpoints=(line(180), line(240)))
    assert stale_words(newer, Evaluation(step=180)) == (
        "These are numbers of step 180; since then step 240 was better: `wavedeck eval brisk-heron` judges it."
    )
