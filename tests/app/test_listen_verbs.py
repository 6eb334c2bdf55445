"""The headless verbs about samples: real processes, JSON, exit codes, files; and the evaluate stage as an attempt."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from wavedeck.engine import pipeline
from wavedeck.engine.catalog import Catalog, newest_attempt
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.errors import UsageError
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord, Headline, read_manifest, write_record
from wavedeck.engine.planning import choose_checkpoint, plan_evaluation, plan_resume
from wavedeck.engine.rundir import Home
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.tests.app.test_cli import cli, js
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_home, make_run

pytestmark = pytest.mark.usefixtures("tmux_socket")
LINES = [
    CheckpointLine(f"step-{step}.ckpt", step, 1, "", 0.0, metrics={"acc": acc}) for step, acc in ((10, 0.9), (20, 0.5))
]


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def test_samples_lists_worst_first_and_filters(at: Home) -> None:
    run = make_run(at, headline=None)
    fakes.speech_set(run.path)
    rows = js("samples", "last")
    wer = [row["metrics"]["wer"] for row in rows]
    assert wer == sorted(wer, reverse=True) and {row["step"] for row in rows} == {300} and len(rows) == 6
    assert set(rows[0]) >= {"id", "step", "metrics", "text", "tracks", "tags", "label", "predicted"}
    assert rows[0]["tracks"]["target"] == {"rate": 16000, "channels": 1, "frames": 16000, "seconds": 1.0}
    best = js("samples", "last", "--sort", "snr", "--limit", "1", "--filter", "wer<0.2")
    assert len(best) == 1 and best[0]["metrics"]["wer"] == 0.19
    assert len(js("samples", "last", "--filter", "step:100..200")) == 12
    shown = cli("samples", "last", "-n", "2")
    assert rows[0]["id"] in shown.stdout and "4 more are not shown" in shown.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("samples", "last", "--set", "vl"), "Did you mean val?"),
        (("samples", "last", "--filter", "wer>x"), "is no number"),
        (("samples", "last", "--sort", "weer"), "Did you mean wer?"),
        (("listen", "last", "nothing", "--json"), "has no item 'nothing'"),
        (("eval", "last"), "no checkpoint to evaluate"),
        (("samples", "last", "--filter", "foo:bar"), "no field or metric 'foo'"),
        (("listen", "last", "--export", "out", "--format", "mp3"), "--format is wav or flac, not 'mp3'"),
    ],
)
def test_what_is_not_there_is_a_usage_error_with_a_way_out(at: Home, words: tuple[str, ...], said: str) -> None:
    fakes.speech_set(make_run(at, headline=None).path, steps=(100,))
    assert said in cli(*words, code=2).stderr


def test_a_run_without_samples_and_a_foreign_run_say_what_to_do(at: Home) -> None:
    make_run(at, recipe=None)
    assert "wavedeck.log_sample" in cli("samples", "last", code=2).stderr
    assert "a command, not a recipe" in cli("eval", "last", code=2).stderr


def test_listen_without_a_terminal_says_what_to_use(at: Home) -> None:
    fakes.speech_set(make_run(at).path, steps=(100,))
    done = cli("listen", "last", code=1)
    assert "--export DIR" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--filter", "wer>0"), "--filter is for --export"),
        (("--json", "--filter", "wer>0"), "wavedeck samples RUN --filter"),
        (("ID", "--json", "--filter", "wer>0"), "wavedeck samples RUN --filter"),
        (("--step", "100"), "--step is for --export and --json"),
        (("ID", "--step", "100"), "press s for the steps"),
        (("--json", "--step", "100"), "--step needs an ID"),
        (("ID", "--export", "out", "--filter", "wer>0"), "leave --filter out"),
    ],
)
def test_no_option_of_listen_is_ignored(at: Home, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    fakes.speech_set(make_run(at).path, steps=(100,))
    assert said in cli("listen", "last", *words, code=2).stderr


def test_listen_tells_everything_about_an_item(at: Home) -> None:
    run = make_run(at)
    fakes.speech_set(run.path)
    id = js("samples", "last")[0]["id"]
    one = js("listen", "last", id[:6])
    assert one["id"] == id and one["steps"] == [100, 200, 300] and one["problem"] is None
    assert js("listen", "last", id, "--step", "100")["step"] == 100
    (found,) = js("listen", "last")["sets"]
    assert found == {"set": "val", "items": 6, "steps": [100, 200, 300], "metrics": ["wer", "snr"]}


def test_export_writes_sound_and_table(at: Home, tmp_path: Path) -> None:
    fakes.odd_set(make_run(at).path)
    out = tmp_path / "out"
    report = js("listen", "last", "--export", str(out), "--format", "flac")
    assert len(report["files"]) == 17 and any("NaN" in problem for problem in report["problems"])
    assert all(Path(file["path"]).parent == out for file in report["files"])
    with open(report["table"], newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 17
    assert {soundfile.info(file["path"]).format for file in report["files"] if file["frames"]} == {"FLAC"}


def test_a_key_is_shown_and_found_and_names_files(at: Home, tmp_path: Path) -> None:
    fakes.speech_set(make_run(at, headline=None).path)
    (row,) = js("samples", "last", "--filter", "clip-3")
    assert row["key"] == "clip-3" and js("listen", "last", "clip-3")["id"] == row["id"]
    shown = cli("samples", "last", "-n", "1").stdout
    assert "clip-5" in shown and "key" in shown.split("\n")[0]
    report = js("listen", "last", "clip-3", "--export", str(tmp_path / "out"))
    assert {Path(file["path"]).name for file in report["files"]} == {
        "clip-3-step300-target.wav", "clip-3-step300-prediction.wav",
    }  # fmt: skip
    with open(report["table"], newline="") as handle:
        assert [(line["set"], line["key"]) for line in csv.DictReader(handle)] == [("val", "clip-3")]


def test_a_file_cut_short_is_known_before_it_is_heard(at: Home, tmp_path: Path) -> None:
    run = make_run(at, headline=None)
    fakes.speech_set(run.path)
    file = run.path / "samples/val/step-000300.h5"
    file.write_bytes(file.read_bytes()[:3000])
    rows = js("samples", "last", "--filter", "is:broken")
    assert len(rows) == 6 and all("step-000300.h5" in row["problem"] for row in rows)
    shown = cli("samples", "last").stdout
    assert "! target" in shown and "! and 1 more: --filter is:broken" in shown
    assert "step-000300.h5" in js("listen", "last", rows[0]["id"])["problem"]
    assert js("listen", "last", rows[0]["id"], "--step", "200")["problem"] is None
    words = ("listen", "last", "--export", str(tmp_path / "out"), "--json")
    done = cli(*words, code=1)
    assert json.loads(done.stdout)["files"] == [] and "of 6 of 6 items nothing could be exported: clip-5" in done.stderr
    assert cli("listen", "last", "--step", "200", "--export", str(tmp_path / "out")).stdout


def test_the_order_is_that_of_the_metric_the_run_is_judged_by(at: Home) -> None:
    run = make_run(at, headline=None)
    EventWriter(run.events).metrics({"train/mse": 1.0, "val/loss": 0.5}, step=1)
    with SampleWriter(run.path) as writer:
        for number in range(4):
            writer.log(
                {}, step=1, key=number, metrics={"mse": 4.0 - number, "loss": [0.2, float("nan"), 0.9, 0.1][number]}
            )
        writer.log({}, step=1, key=4, metrics={"mse": 9})
    keys = lambda *words: [row["key"] for row in js("samples", "last", *words)]  # noqa: E731
    assert keys() == ["1", "2", "0", "3", "4"], "NaN is the worst loss, an item without one is last"
    assert keys("--best") == keys("--sort", "-loss") == keys("--sort", "loss", "--best") == ["3", "0", "2", "1", "4"]
    assert keys("--sort", "mse") == ["4", "0", "1", "2", "3"]
    first = cli("samples", "last").stdout.splitlines()
    assert first[0].split()[3] == "loss" and first[1].split()[3] == "NaN" and first[5].split()[3] == "–"


def test_the_table_shows_what_was_said_where_it_differs(at: Home) -> None:
    run = make_run(at)
    long = "the quick brown fox jumps over the lazy dog and sells sea shells"
    with SampleWriter(run.path) as writer:
        writer.log({}, key="a", text={"target": long, "prediction": long.replace("sells sea", "sells see")})
    shown = cli("samples", "last").stdout
    assert "…and sells sea shells" in shown and "…and sells see shells" in shown
    none = cli("samples", "last", "--filter", "nowhere")
    assert none.stdout == "" and "Nothing in val fits --filter 'nowhere'" in none.stderr


@pytest.mark.parametrize(("place", "said"), [("file", "is a file"), ("/proc/x", "cannot be made")])
def test_an_export_to_where_nothing_can_be_says_so(at: Home, tmp_path: Path, place: str, said: str) -> None:
    fakes.speech_set(make_run(at).path, steps=(100,))
    (tmp_path / "file").write_text("x")
    assert said in cli("listen", "last", "--export", str(tmp_path / place), code=1).stderr
    assert "fits 'nowhere'" in cli("listen", "last", "--export", "x", "--filter", "nowhere", code=1).stderr


def test_a_program_without_wavedeck_is_told_how_to_get_it(at: Home) -> None:
    code = "import sys; sys.exit(\"ModuleNotFoundError: No module named 'wavedeck'\")"
    done = cli("exec", "--attach", "--", sys.executable, "-c", code, code=4)
    assert "pip install wavedeck" in done.stderr


def test_checkpoints_are_chosen_by_word_or_step() -> None:
    headline = Headline("acc", "max")
    assert choose_checkpoint(LINES, "best", headline).step == 10
    assert choose_checkpoint(LINES, "best", None).step == choose_checkpoint(LINES, "last", headline).step == 20
    assert choose_checkpoint(LINES, "10", headline).name == "step-10.ckpt"
    with pytest.raises(UsageError, match="one of the steps 10, 20"):
        choose_checkpoint(LINES, "15", headline)


def test_an_evaluation_is_an_attempt_that_a_resume_does_not_repeat(at: Home) -> None:
    run = make_run(at)
    manifest = read_manifest(run.manifest)
    first = Attempt(attempt=1, requested=0.0, argv=["python", "x"], cwd="/")
    judged = plan_evaluation(run, manifest, first, stage="evaluate", checkpoint="step-10.ckpt", now=1.0)
    assert (judged.attempt, judged.stage, judged.checkpoint, judged.resume) == (2, "evaluate", "step-10.ckpt", False)
    again = plan_resume(run, manifest, judged, 2.0)
    assert (again.attempt, again.stage, again.checkpoint, again.resume) == (3, None, None, True)
    assert again.argv == first.argv


@pytest.mark.parametrize("before", ["stopped", "failed", "killed", "vanished", "finished"])
def test_an_evaluation_leaves_the_run_in_the_state_it_found(at: Home, before: str) -> None:
    """A stopped training is not finished because one of its checkpoints was judged; a failed judgement is said."""
    run = make_run(at, state=before)
    catalog = Catalog(at, lambda run_id, record: False)
    assert catalog.view(run).state == before
    last = newest_attempt(run)
    assert last is not None
    for number in (2, 3):  # the second evaluation follows the first
        last = plan_evaluation(
            run,
            read_manifest(run.manifest),
            last,
            stage="evaluate",
            checkpoint="x",
            after=before if number == 2 else "?",
        )
        write_record(run.attempt(number), last)
        write_record(run.exit, ExitRecord(attempt=number, ended=9.0, exit_code=1))
        assert catalog.view(run).state == "failed" and not catalog.view(run).evaluated
        write_record(run.exit, ExitRecord(attempt=number, ended=9.0, exit_code=0))
        assert catalog.view(run).state == before and catalog.view(run).evaluated
    resumed = plan_resume(run, read_manifest(run.manifest), last, 2.0)
    write_record(run.attempt(4), resumed)
    write_record(run.exit, ExitRecord(attempt=4, ended=9.0, exit_code=0))
    assert catalog.view(run).state == "finished" and not catalog.view(run).evaluated


def test_the_pipeline_runs_only_the_stage_of_its_attempt(at: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(at)
    called: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        pipeline, "_call", lambda stage, config, context: called.append((stage.name, context.checkpoint))
    )
    monkeypatch.setattr(pipeline, "from_resolved", lambda kind, config: None)
    attempt = Attempt(attempt=2, requested=0.0, argv=[], cwd="/", stage="evaluate", checkpoint="step-10.ckpt")
    outcome = pipeline._run(run, pipeline.EventWriter(run.events), attempt)
    assert outcome.reason == "finished" and called == [("evaluate", "step-10.ckpt")]
