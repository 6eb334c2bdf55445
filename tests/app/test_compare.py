"""`wavedeck compare` and the Compare screen, over hand-made runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wavedeck.app.cli.common import catalog
from wavedeck.app.cli.compare_table import print_comparison
from wavedeck.app.cli.main import app
from wavedeck.app.screens import runs
from wavedeck.app.screens.compare import CompareScreen, _not_a_report
from wavedeck.engine.comparing import Comparison, read_comparison
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.paired import Answer, write_answers
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.comparing import BATCH, make_twelve, tell
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics
from wavedeck.widgets.compare_table import CompareTable
from wavedeck.widgets.line_chart import LineChart
from wavedeck.widgets.parallel_coordinates import ParallelCoordinates
from wavedeck.widgets.runs_table import RunsTable

SIZES = ((80, 24), (120, 36), (200, 50))
BEST = "brisk-stoat"


def verb(*words: str) -> tuple[str, str]:
    """What `wavedeck compare` prints on stdout and stderr."""
    done = CliRunner().invoke(app, ["compare", *words], catch_exceptions=True)
    if isinstance(done.exception, WavedeckError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@pytest.fixture(autouse=True)
def nobody_starts_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deck would start the runs of the queue in earnest."""
    monkeypatch.setattr(runs, "ensure_runner", lambda home: False)


# --- the verb


def test_the_table_of_a_batch(at: Home) -> None:
    make_twelve(at)
    out, _ = verb("--batch", "last")
    lines = out.splitlines()
    assert lines[0].split()[:6] == ["RUN", "STATE", "MODEL", "STRATEGY", "best", "val/balanced_accuracy"]
    assert lines[0].endswith("TRAINING.LR")  # it follows from the strategy
    assert lines[12].startswith("efficient_at full_finetune · brisk-vole") and "★" in lines[1]
    assert "can reach 0.8500 at most" in out and "brisk-vole: it waits for its turn." in out
    assert "the same in all: recipe=sousa, model.size=small" in out
    assert verb("calm-fox")[0] == verb(BATCH)[0] == out
    by_time = verb("calm-fox", "--sort", "train_s")[0].splitlines()
    assert by_time[1] != lines[1]
    early = verb("calm-fox", "--at", "300")[0]
    assert "brisk-crane: it has not come to step 300." in early


def test_two_runs_by_name_and_what_is_wrong_with_words(at: Home) -> None:
    with pytest.raises(UsageError, match="name the runs to compare"):
        verb()
    with pytest.raises(UsageError, match="no batches yet"):
        verb("--batch", "last")
    make_twelve(at)
    out, _ = verb("brisk-heron", "brisk-otter", "--metric", "train/loss", "--json")
    told = json.loads(out)
    assert [run["id"][-5:] for run in told["runs"]] in (["heron", "otter"], ["otter", "heron"])
    for words, sentence in (
        (("brisk-hero",), ""),
        (("nobody",), "there is no run 'nobody'"),
        (("brisk-heron", "--sort", "accuracies"), "Did you mean"),
        (("--batch", "calm-wolf"), "there is no batch 'calm-wolf'"),
        (("brisk-heron", "--metric", "nothing"), "none of these runs has"),
    ):
        if sentence:
            with pytest.raises(UsageError, match=sentence):
                verb(*words)
        else:
            assert "one run alone" in verb(*words)[0]


def test_several_batches_are_all_compared(at: Home) -> None:
    for number, batch in enumerate(("calm-fox", "shy-owl")):
        run = make_run(
            at, f"20260921-140{number}-toy-calm-owl{number}", created=T0 + number,
            batch=f"batch-20260921-140{number}-toy-{batch}",
        )  # fmt: skip
        tell(run, [(1, {"loss": 1.0})])
    told = json.loads(verb("--batch", "calm-fox", "--batch", "last", "--json")[0])
    assert len(told["runs"]) == 2


def test_a_terminal_gets_whole_columns(
    at: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_twelve(at)
    comparison = read_comparison(catalog().views())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    print_comparison(comparison, comparison.runs)
    lines = capsys.readouterr().out.splitlines()
    assert "test/balanced_accuracy" in lines[0] and all(len(line) <= 100 for line in lines[1:13])
    assert lines[13] == "6 more columns: --all, --csv FILE or a wider terminal"
    print_comparison(comparison, comparison.runs, everything=True)
    assert "more column" not in capsys.readouterr().out


def test_files_are_written_and_named(at: Home, tmp_path: Path) -> None:
    make_twelve(at)
    table, page = tmp_path / "t.csv", tmp_path / "r.html"
    out, told = verb("calm-fox", "--csv", str(table), "--html", str(page))
    assert out == "" and str(table) in told and str(page) in told
    assert table.read_text().count("\n") == 13 and page.read_text().endswith("</html>\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(WavedeckError, match="could not be written"):
        verb("calm-fox", "--csv", str(tmp_path))
    for option in ("--csv", "--html"):
        with pytest.raises(UsageError, match=r"there is no folder .*/nope\."):
            verb("calm-fox", option, str(tmp_path / "nope" / "o.csv"))
    assert not (tmp_path / "nope").exists()


def test_paired_answers(at: Home) -> None:
    first, second, *_ = make_twelve(at)
    with pytest.raises(WavedeckError, match="run its evaluate stage first"):
        verb("--paired", "brisk-heron", "brisk-otter")
    for run, wrong in ((first, 0), (second, 9)):
        write_answers(
            run.path / "answers.csv",
            [Answer(f"clip-{n}", f"player-{n % 4}", "flam", "drag" if n < wrong else "flam", 0.5) for n in range(20)],
        )
    told = json.loads(verb("--paired", "brisk-heron", "brisk-otter", "--json")[0])["paired"]
    assert told["only_first"] == 9 and told["clips"] == 20 and told["p"] == pytest.approx(2 / 2**9)
    assert "of 20 clips 9 only by the first" in verb("--paired", "brisk-heron", "brisk-otter")[0]
    with pytest.raises(UsageError, match="two different runs"):
        verb("--paired", "brisk-heron", "brisk-heron")


# --- the screen


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES)
async def test_the_screen_at_every_size(at: Home, size: tuple[int, int]) -> None:
    make_twelve(at)
    async with deck(at, size) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 12)  # type: ignore[attr-defined]
        pilot.app.open_compare((), BATCH)  # type: ignore[attr-defined]
        await until(pilot, lambda: BEST in screen_text(pilot.app), "the table")
        text = screen_text(pilot.app)
        assert "12 runs" in text and "★" in text and "efficient_at ia3 ·" in text
        assert "STATE" in text and "best val/balanced_accuracy" in text
        assert ("more columns" in text) == (size[0] < 200)
        if size[0] < 200:
            await pilot.press("right")
            await until(pilot, lambda: "← 1 column →" in screen_text(pilot.app), "the columns further right")
            assert "STATE" not in screen_text(pilot.app)
            await pilot.press("left")
            await until(pilot, lambda: "STATE" in screen_text(pilot.app), "the first columns")
        await until(pilot, lambda: "val/balanced_accuracy" in screen_text(pilot.app), "the curves")
        assert "8 of 11 runs" in screen_text(pilot.app)
        await pilot.press("2")
        await until(pilot, lambda: pilot.app.focused.__class__ is ParallelCoordinates, "the coordinates")
        assert "no value" in screen_text(pilot.app) and "strategy" in screen_text(pilot.app)
        assert f"{BEST}: val/balanced_accuracy best" in screen_text(pilot.app)
        await pilot.press("j", "3")
        await until(pilot, lambda: "beside each value" in screen_text(pilot.app), "the differences")
        assert "full_finetune" in screen_text(pilot.app)


@pytest.mark.usefixtures("still")
async def test_sort_metric_place_and_export(at: Home, tmp_path: Path) -> None:
    make_twelve(at)
    async with deck(at) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 12)  # type: ignore[attr-defined]
        pilot.app.open_compare((), BATCH)  # type: ignore[attr-defined]
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        await until(pilot, lambda: len(screen.query_one(CompareTable).rows) == 12)
        first = screen.query_one(CompareTable).rows[0].key
        await pilot.press("r")
        await until(pilot, lambda: screen.query_one(CompareTable).rows[0].key != first, "the other end first")
        screen._sort_by("train_s")
        assert "▾" in screen_text(pilot.app) or screen.sorted_by == "train_s"
        screen._metric_chosen("train/loss")
        assert screen.query_one("#overlay", LineChart).title.startswith("train/loss")
        await pilot.press("p")
        await until(pilot, lambda: "at last" in screen_text(pilot.app), "another place")
        assert _not_a_report(str(tmp_path / "nope" / "a.csv")) == f"there is no folder {tmp_path / 'nope'}"
        for name in ("page.html", "table.csv"):
            screen._export_to(str(tmp_path / name))
            await until(pilot, (tmp_path / name).exists, f"the file {name}")
        assert BEST in (tmp_path / "table.csv").read_text()
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in screen_text(pilot.app), "the question")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: pilot.app.screen is not screen, "home")
        assert not screen.watchers


@pytest.mark.usefixtures("still")
async def test_marked_runs_of_different_recipes_live(at: Home) -> None:
    write_metrics(make_run(at, "20260921-1400-sousa-brisk-heron", state="running"), 60)
    foreign = make_run(
        at, "20260921-1401-toy-calm-owl", name="[red]\x1b]0;owned", recipe=None, created=T0 + 1, state="running"
    )
    tell(foreign, [(1, {"loss": 2.0})])
    make_run(at, "20260921-1402-toy-shy-mole", created=T0 + 2, state="queued")
    async with deck(at) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 3)  # type: ignore[attr-defined]
        await until(pilot, lambda: len(pilot.app.screen.query_one(RunsTable).rows) == 3)
        await pilot.press("home", "space", "space", "space", "c")
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen) and len(screen.run_ids) == 3
        await until(pilot, lambda: screen.comparison is not None and len(screen.comparison.runs) == 3)
        await until(pilot, lambda: "shy-mole" in screen_text(pilot.app))
        screen._metric_chosen("loss")
        tell(foreign, [(2, {"loss": 0.125})])
        await until(pilot, lambda: "0.1250" in screen_text(pilot.app), "the new row")


@pytest.mark.usefixtures("still")
async def test_one_run_and_runs_that_are_gone(at: Home) -> None:
    make_run(at, "20260921-1400-sousa-brisk-heron", state="failed")
    async with deck(at, (80, 24)) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 1)  # type: ignore[attr-defined]
        await pilot.press("c")
        await until(pilot, lambda: "one run alone" in screen_text(pilot.app), "why there is nothing to compare")
        await pilot.press("2", "3", "1")
        await until(pilot, lambda: "no metrics yet" in screen_text(pilot.app))
        await pilot.press("escape")
        pilot.app.open_compare(("20260921-1400-toy-not-there",))  # type: ignore[attr-defined]
        await until(pilot, lambda: "these runs are gone" in screen_text(pilot.app), "that they are gone")
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen) and screen.comparison == Comparison()
        await pilot.press("s", "r", "y", "e", "L")
