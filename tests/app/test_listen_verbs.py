"""The headless verbs about samples: real processes, JSON, exit codes, files; and the evaluate stage as an attempt."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import soundfile

from wavedeck.engine import pipeline
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.errors import UsageError
from wavedeck.engine.manifest import Attempt, Headline, read_manifest
from wavedeck.engine.planning import choose_checkpoint, plan_evaluation, plan_resume
from wavedeck.engine.rundir import Home
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
