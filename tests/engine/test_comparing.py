"""Runs beside each other: places, differences, order, axes, exports and the report, on hand-made run directories."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.comparing import (
    Comparison,
    Place,
    column_for,
    columns_of,
    parse_place,
    read_comparison,
    sorted_runs,
)
from wavedeck.engine.comparing.clips import clips_words, judged_alike
from wavedeck.engine.comparing.differences import differences, flatten, following, value_words
from wavedeck.engine.comparing.export import comparison_csv, comparison_json, text_cell
from wavedeck.engine.comparing.fit import fit
from wavedeck.engine.comparing.heard import data_uri, heard
from wavedeck.engine.comparing.page import report_page
from wavedeck.engine.comparing.parallel import parallel
from wavedeck.engine.comparing.svg import points_of
from wavedeck.engine.comparing.table import best_run, number_words
from wavedeck.engine.errors import UsageError
from wavedeck.engine.manifest import Headline
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.engine.series import Series
from wavedeck.tests.fakes.comparing import evaluate, make_twelve, tell
from wavedeck.tests.fakes.runs import T0, make_home, make_run, write_metrics
from wavedeck.tests.fakes.samples import RATE, drum_like

HOSTILE = "<script>alert(1)</script>\x1b]0;owned\x07&\"'"


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def views_of(home: Home) -> Any:
    return Catalog(home, lambda run_id, record: True, clock=lambda: T0 + 100).views()


def compared(home: Home, at: str = "best") -> Comparison:
    return read_comparison(views_of(home), parse_place(at))


# --- places


def test_metrics_are_of_the_best_the_end_or_one_step(at: Home) -> None:
    run = make_run(at, "20260921-1426-sousa-brisk-heron")
    rows = [(10, 0.5), (20, 0.9), (30, 0.7), (40, math.nan)]
    tell(run, [(step, {"val/balanced_accuracy": value, "val/loss": step / 100}) for step, value in rows])
    tell(run, [(25, {"train/loss": 0.25})])
    for place, accuracy, loss in (("best", 0.9, 0.2), ("30", 0.7, 0.3), ("35", 0.7, 0.3)):
        (found,) = compared(at, place).runs
        assert found.metrics["val/balanced_accuracy"].value == pytest.approx(accuracy)
        assert found.metrics["val/loss"].value == pytest.approx(loss)
        assert found.best is not None and found.best.step == 20
    (last,) = compared(at, "last").runs
    assert math.isnan(last.metrics["val/balanced_accuracy"].value) and last.step == 40
    (early,) = compared(at, "41").runs
    assert not early.metrics and early.problem == "it has not come to step 41"


@pytest.mark.parametrize("word", ["", "-3", "1.5", "newest", "9" * 30, "\u0663"])
def test_a_place_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--at is best, last or"):
        parse_place(word)


def test_places_in_words() -> None:
    assert parse_place("1,200") == Place("step", 1200) and str(Place("step", 1200)) == "step 1,200"


# --- settings


def test_only_what_differs() -> None:
    one = flatten({"model": {"name": "ast", "drop": 0.0}, "lr": 1e-3, "list": [1, 2], "empty": {}})
    two = flatten({"model": {"name": "beats", "drop": 0}, "lr": 2e-3, "list": [1, 2], "only": None})
    found = differences([one, two])
    assert found.names == ("model.name", "lr", "only")
    assert found.partial == {"only"}
    assert dict(found.common) == {"model.drop": 0.0, "list": [1, 2]}
    assert differences([one]).names == ()


def test_settings_in_words() -> None:
    assert value_words(None) == "null" and value_words(True) == "true" and value_words("") == "''"
    assert value_words(0.00020000001) == "0.0002" and value_words(["a", 1]) == "a,1"
    assert "\x1b" not in value_words(HOSTILE)


# --- order


def test_best_first_and_what_has_no_value_last(at: Home) -> None:
    make_twelve(at)
    comparison = compared(at)
    order = [run.best.value if run.best else None for run in sorted_runs(comparison)]
    values = [value for value in order if value is not None]
    assert values == sorted(values, reverse=True) and order[len(values) :] == [None] * (12 - len(values))
    column = column_for(comparison, "train_s")
    seconds = [run.numbers["train_s"] for run in sorted_runs(comparison, column)]
    assert seconds == sorted(seconds)
    down = [run.numbers["train_s"] for run in sorted_runs(comparison, column, descending=True)]
    assert down == seconds[::-1]
    names = [run.settings["model.name"] for run in sorted_runs(comparison, column_for(comparison, "model"))]
    assert names == sorted(names)
    assert names[::-1] == [
        run.settings["model.name"]
        for run in sorted_runs(comparison, column_for(comparison, "model.name"), descending=True)
    ]
    with pytest.raises(UsageError, match="Did you mean train_s"):
        column_for(comparison, "trains_s")


def test_nan_is_worse_than_any_number_and_better_than_none(at: Home) -> None:
    for number, value in enumerate((0.5, math.nan, 0.3)):
        run = make_run(at, f"20260921-14{number:02d}-toy-calm-owl{number}", created=T0 + number)
        tell(run, [(1, {"train/loss": value})])
    make_run(at, "20260921-1409-toy-calm-owl9", created=T0 + 9)
    comparison = compared(at)
    order = [run.label[-1] for run in sorted_runs(comparison, column_for(comparison, "train/loss"))]
    assert order == ["2", "0", "1", "9"]
    turned = sorted_runs(comparison, column_for(comparison, "train/loss"), descending=True)
    assert [run.label[-1] for run in turned] == ["0", "2", "1", "9"]
    star = best_run(comparison, column_for(comparison, "train/loss"))
    assert star is not None and star.label == "calm-owl2"


def test_runs_of_different_recipes(at: Home) -> None:
    write_metrics(make_run(at, "20260921-1426-sousa-brisk-heron"), 40)
    other = make_run(
        at, "20260921-1427-vox-calm-owl", recipe="vox", created=T0 + 1, config={"depth": 3},
        headline=Headline("val/wer", "min"),
    )  # fmt: skip
    tell(other, [(10, {"val/wer": 0.2})])
    foreign = make_run(at, "20260921-1428-toy-shy-mole", recipe=None, created=T0 + 2)
    tell(foreign, [(5, {"loss": 1.5})])
    comparison = compared(at)
    assert comparison.headline == Headline("val/balanced_accuracy", "max")
    assert [run.label for run in sorted_runs(comparison)] == ["brisk-heron", "calm-owl", "shy-mole"]
    assert best_run(comparison, column_for(comparison, "best")) is None
    assert comparison.differences.names[0] == "recipe" and "depth" in comparison.differences.partial
    shown = [column.key for column in columns_of(comparison)]
    assert "recipe" in shown and "depth" not in shown and "best" in shown
    assert parallel(comparison).traces and report_page(comparison, comparison.runs)


def test_the_result_stands_before_settings_that_follow_from_a_choice(at: Home) -> None:
    make_twelve(at)
    keys = [column.key for column in columns_of(compared(at))]
    assert keys[:6] == ["run", "state", "model.name", "strategy.name", "best", "test/balanced_accuracy"]
    assert keys[6:9] == ["trainable_parameters", "train_s", "memory_gib"] and keys[-1] == "training.lr"
    one, two = ({"model.name": name, "lr": rate} for name, rate in (("ast", 1), ("cnn", 2)))
    assert following([one, two], ["model.name", "lr"]) == {"lr"}
    assert following([one, two, one | {"lr": 3}], ["model.name", "lr"]) == set()
    assert following([{"lr": 1}, {"lr": 2}], ["lr"]) == set()


def test_finished_runs_need_no_state(at: Home) -> None:
    for number in range(2):
        tell(make_run(at, f"20260921-140{number}-toy-calm-owl{number}", state="finished"), [(1, {"loss": 1.0})])
    assert "state" not in [column.key for column in columns_of(compared(at))]


def test_a_step_is_seen_in_the_table(at: Home) -> None:
    for number, steps in enumerate((400, 200)):
        run = make_run(at, f"20260921-140{number}-sousa-calm-owl{number}", created=T0 + number)
        rows = range(20, steps + 1, 20)
        tell(run, [(step, {"val/balanced_accuracy": step / 1000, "train/loss": 1 / step}) for step in rows])
        evaluate(run, 0.75)
    comparison = compared(at, "310")
    columns = {column.key: column for column in columns_of(comparison)}
    assert "best" not in columns and not [key for key in columns if key.startswith("test/")]
    first, second = sorted_runs(comparison)
    assert columns["val/balanced_accuracy"].words(first) == "0.3000 @ 300"
    assert columns["val/balanced_accuracy"].words(second) == "–" and columns["train/loss"].words(second) == "–"
    told = column_for(comparison, "test/balanced_accuracy")
    assert told.words(first).endswith(" @ 400")
    exact = {column.key: column for column in columns_of(compared(at, "200"))}
    assert exact["val/balanced_accuracy"].words(compared(at, "200").runs[0]) == "0.2000"
    assert parallel(compared(at, "200")).axes[-1].title == "val/balanced_accuracy ↑"


def test_columns_that_do_not_fit_are_left_out_whole(at: Home) -> None:
    make_twelve(at)
    comparison = compared(at)
    columns = columns_of(comparison)
    widths = [max(len(column.words(run)) for run in comparison.runs) for column in columns]
    wide = fit(comparison, columns, widths, 1000)
    assert wide.places == tuple(range(len(columns))) and wide.more == 0
    narrow = fit(comparison, columns, widths, 70)
    shown = [columns[place].key for place in narrow.places]
    assert shown[0] == "run" and "best" in shown and "model.name" not in shown  # which the run's words tell
    assert narrow.more == len(columns) - 2 - len(shown)
    assert narrow.run + sum(widths[place] + 2 for place in narrow.places[1:]) <= 70
    right = fit(comparison, columns, widths, 70, skip=3)
    assert right.places[0] == 0 and right.places[1] > narrow.places[1]
    assert "training.lr" in [columns[n].key for n in fit(comparison, columns, widths, 70, keep="training.lr").places]
    assert fit(comparison, columns, widths, 1).places == (0,) and fit(comparison, (), (), 5).places == ()


def test_a_run_is_called_as_its_curve_is(at: Home) -> None:
    make_twelve(at)
    comparison = compared(at)
    assert column_for(comparison, "run").words(comparison.runs[0]) == "ast lora · brisk-heron"
    assert comparison.title(comparison.runs[0]) == "ast lora"


def test_no_star_for_what_rounds_away(at: Home) -> None:
    for number, memory in enumerate((0.801, 0.804, 0.81)):
        run = make_run(at, f"20260921-140{number}-toy-calm-owl{number}", created=T0 + number)
        tell(run, [(1, {"loss": 1.0 + 0.1 * number})], {"memory_gib": memory})
    comparison = compared(at)
    assert best_run(comparison, column_for(comparison, "memory_gib")) is None
    star = best_run(comparison, column_for(comparison, "loss"))
    assert star is not None and star.label == "calm-owl0"


# --- the test


def test_tests_on_different_clips_are_not_ranked(at: Home) -> None:
    for number in range(2):
        run = make_run(at, f"20260921-140{number}-sousa-calm-owl{number}", created=T0 + number)
        write_metrics(run, 40)
        evaluate(run, 0.5 + number / 10)
    test = "test/balanced_accuracy"
    alike = compared(at)
    star = best_run(alike, column_for(alike, test))
    assert star is not None and star.label == "calm-owl1"
    assert clips_words(alike.runs) == [f"{test} can reach 0.8500 at most: the ceiling."]
    evaluate(run, 0.6, classes=("flam", "drag"))
    other = compared(at)
    assert best_run(other, column_for(other, test)) is None and not judged_alike(other.runs)
    first, *rest = clips_words(other.runs)
    assert first.startswith("judged on different clips")
    assert rest[1] == f"  calm-owl1: test, 20 clips, 2 classes, ceiling of {test} 0.8500."
    assert parallel(other).axes[-1].title == "val/balanced_accuracy best ↑"
    assert "judged on different clips" in report_page(other, other.runs)
    assert comparison_json(other, other.runs)["judged_alike"] is False
    told = json.loads((run.path / "evaluation.json").read_text())
    told["ceilings"]["balanced_accuracy"]["value"] = 1.0
    (run.path / "evaluation.json").write_text(json.dumps(told))
    assert clips_words(compared(at).runs[1:]) == []  # a ceiling of 1 is none


def test_the_evaluation_has_the_word_on_test_metrics(at: Home) -> None:
    run = make_run(at)
    tell(run, [(20, {"val/balanced_accuracy": 0.8, "test/balanced_accuracy": 0.1})])
    evaluate(run, 0.75)
    (found,) = compared(at).runs
    measured = found.metrics["test/balanced_accuracy"]
    assert (measured.value, measured.low, measured.high) == (0.75, 0.70, 0.80)
    assert found.judged.ceilings == {"test/balanced_accuracy": 0.85}
    assert column_for(compared(at), "test/balanced_accuracy").words(found) == "0.7500 [0.700, 0.800]"


def test_a_damaged_evaluation_costs_its_numbers_only(at: Home) -> None:
    run = make_run(at)
    write_metrics(run, 40)
    (run.path / "evaluation.json").write_text("{")
    (found,) = compared(at).runs
    assert found.best is not None and found.problem is not None and "damaged" in found.problem
    (run.path / "evaluation.json").write_text(json.dumps({"metrics": {"accuracy": None, "x": "many"}, "order": [1]}))
    assert compared(at).runs[0].problem is None


# --- parallel coordinates


def test_axes_of_the_twelve(at: Home) -> None:
    make_twelve(at)
    data = parallel(compared(at))
    titles = [axis.title for axis in data.axes]
    assert titles[:2] == ["model", "strategy"]
    assert titles[-4:] == ["trainable", "memory", "train", "val/balanced_accuracy best ↑"]
    assert next(axis for axis in data.axes if axis.title == "trainable").log
    assert len(data.traces) == 12 and data.gaps
    for trace in data.traces:
        assert all(place is None or 0 <= place <= 1 for place in trace.places)
    assert data.traces[0].places[-1] == 1.0


def test_axes_of_one_run_and_of_none(at: Home) -> None:
    assert parallel(compared(at)).axes == ()
    write_metrics(make_run(at), 40)
    data = parallel(compared(at))
    assert data.axes[-1].ticks[0][0] == 0.5 and data.traces[0].places[-1] == 0.5


def test_units_of_numbers() -> None:
    assert number_words("trainable_parameters", 294_912) == "295K"
    assert number_words("parameters", 86_200_000) == "86.2M"
    assert number_words("train_s", 3700) == "1h 01m" and number_words("memory_gib", 2.5) == "2.50 GiB"
    assert number_words("samples_per_s", 118.2) == "118/s" and number_words("cost", None) == "–"


# --- exports


def test_json_and_csv_hold_everything(at: Home) -> None:
    make_twelve(at)
    comparison = compared(at)
    runs = sorted_runs(comparison)
    told = json.loads(json.dumps(comparison_json(comparison, runs), allow_nan=False))
    assert told["differences"] == ["model.name", "strategy.name", "training.lr"]
    assert [run["id"] for run in told["runs"]] == [run.id for run in runs]
    assert told["runs"][0]["metrics"]["test/balanced_accuracy"].keys() == {"value", "step", "low", "high"}
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison, runs))))
    assert [row["run"] for row in rows] == [run.id for run in runs]
    assert float(rows[0]["test/balanced_accuracy low"]) < float(rows[0]["test/balanced_accuracy"])
    assert {row["model.name"] for row in rows} == {"ast", "hts_at", "beats", "efficient_at"}
    assert rows[-1]["problem"] == "it waits for its turn"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert text_cell(text)[0] in "'·"


# --- the report


def test_the_page_stands_alone_and_repeats(at: Home) -> None:
    make_twelve(at)
    comparison = compared(at)
    page = report_page(comparison, sorted_runs(comparison))
    assert page == report_page(comparison, sorted_runs(comparison))
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page
    for wanted in ("Results", "What was set differently", "Curves", "Parallel coordinates", "What was taken for what"):
        assert wanted in page
    assert page.count("<figure>") >= 4 and 'class="sortable"' in page
    assert len(page) < 2 * 2**20


def test_hostile_names_stay_text(at: Home) -> None:
    for number in range(2):
        run = make_run(
            at, f"20260921-14{number:02d}-toy-calm-owl{number}", created=T0 + number, name=HOSTILE,
            config={HOSTILE: f"{HOSTILE}{number}", "model": {"name": f"{HOSTILE}{number}"}},
        )  # fmt: skip
        tell(run, [(step, {HOSTILE: 0.1 * step, "val/balanced_accuracy": 0.1 * step}) for step in (1, 2, 3)])
        evaluate(run, 0.5, classes=[HOSTILE, "b"])
        with SampleWriter(run.path, "test") as writer:
            writer.log(
                {"target": (drum_like(0.1), RATE)}, step=3, key=HOSTILE, label=HOSTILE, predicted=f"{number}{HOSTILE}",
                tags=[HOSTILE],
            )  # fmt: skip
    comparison = compared(at)
    page = report_page(comparison, sorted_runs(comparison))
    body = page[page.index("<main>") : page.index("</main>")]
    assert "<script" not in body and "\x1b" not in page and "\x07" not in page
    assert "&lt;script&gt;" in body and "audio controls" in body
    assert "\x1b" not in comparison_csv(comparison, comparison.runs)


def test_one_run_none_and_forty(at: Home) -> None:
    assert "0 runs compared" in report_page(compared(at), ())
    write_metrics(make_run(at), 40, nan_at=7)
    alone = compared(at)
    page = report_page(alone, alone.runs)
    assert "nothing to compare it with" in page and "nan" not in re.sub(
        r"data-v=\"[^\"]*\"", "", page[page.index("<main>") :]
    )
    for number in range(40):
        run = make_run(at, f"20260921-15{number:02d}-toy-calm-owl{number}", created=T0 + number + 1)
        tell(run, [(step, {"val/balanced_accuracy": number / 50, "train/loss": 1.0}) for step in range(5)])
    many = compared(at)
    page = report_page(many, sorted_runs(many))
    assert "33 more in grey" in page and len(page) < 2**20


def test_a_spike_survives_in_a_long_curve() -> None:
    series = Series("loss")
    values = np.full(50_000, 0.5)
    values[31_234], values[40_000] = 9.0, np.nan
    series.extend(np.arange(50_000), np.arange(50_000.0), None, values)
    points = points_of(series.view())
    assert len(points) <= 600 and max(y for _, y in points if math.isfinite(y)) == 9.0


# --- sound


def log_clips(run: RunDir, answers: dict[str, str]) -> None:
    """Clips of truth `flam`, each with the answer that is given."""
    with SampleWriter(run.path, "test") as writer:
        for key, answer in answers.items():
            sound = (drum_like(0.2, seed=len(key)), RATE)
            writer.log({"target": sound, "prediction": sound}, step=1, key=key, label="flam", predicted=answer)


def test_the_clips_on_which_runs_disagree(at: Home) -> None:
    one, two = make_run(at, "20260921-1400-toy-calm-owl"), make_run(at, "20260921-1401-toy-shy-mole", created=T0 + 1)
    log_clips(one, {"agreed": "flam", "disputed": "flam", "both-wrong": "drag", "alone": "drag"})
    log_clips(two, {"agreed": "flam", "disputed": "drag", "both-wrong": "drag"})
    found = heard(compared(at).runs)
    assert found.shared and found.clips[0].name == "disputed"
    assert "alone" not in [clip.name for clip in found.clips]
    disputed = found.clips[0]
    assert {(answer.words, answer.right, len(answer.runs)) for answer in disputed.answers} == {
        ("flam", True, 1),
        ("drag", False, 1),
    }
    wrong = next(answer for answer in disputed.answers if not answer.right)
    assert disputed.sound is not None and wrong.sound is not None
    assert wrong.sound.uri.startswith("data:audio/flac;base64,")
    both = next(clip for clip in found.clips if clip.name == "both-wrong")
    assert len(both.answers) == 1 and len(both.answers[0].runs) == 2


def test_runs_that_share_no_clip_bring_their_worst(at: Home) -> None:
    for number in range(2):
        run = make_run(at, f"20260921-14{number:02d}-toy-calm-owl{number}", created=T0 + number)
        with SampleWriter(run.path, "val") as writer:
            for item in range(4):
                writer.log(
                    {"target": (drum_like(0.1), RATE)}, step=1, key=f"{number}-{item}", metrics={"loss": float(item)}
                )
    found = heard(compared(at).runs)
    assert not found.shared and [clip.name for clip in found.clips] == ["0-3", "0-2", "0-1", "1-3", "1-2", "1-1"]


def test_sound_that_is_missing_or_odd(at: Home) -> None:
    assert heard(compared(at).runs).notes[0].startswith("none of these runs has samples")
    assert data_uri(np.zeros((0, 1), np.float32), RATE).startswith("data:audio/wav")
    assert data_uri(np.full((10, 1), np.nan, np.float32), 192_000).startswith("data:audio/wav")
    for number in range(2):
        run = make_run(at, f"20260921-14{number:02d}-toy-calm-owl{number}", created=T0 + number)
        log_clips(run, {"clip": "flam"})
        for sound in (run.path / "samples" / "test").glob("*.h5"):
            sound.unlink()
    found = heard(compared(at).runs)
    assert found.clips[0].sound is None and found.notes
