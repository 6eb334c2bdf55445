"""The run's own process: real subprocesses that run a made-up recipe from a real run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from wavedeck.engine.config import compose
from wavedeck.engine.manifest import Attempt, GitState, Manifest, StopRequest, write_record
from wavedeck.engine.pipeline import _code
from wavedeck.engine.provenance import git_state
from wavedeck.engine.rundir import RunDir
from wavedeck.tests.fakes.recipe_fake import RECIPE

RUN_ID = "20261120-1759-fake-brisk-heron"


class Launcher:
    """Writes run directories and starts the pipeline in them, with the fake recipe installed by its metadata alone."""

    def __init__(self, tmp_path: Path, home: Path) -> None:
        info = tmp_path / "site" / "fake_recipe-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-recipe\nVersion: 1.0\n")
        entry = "[wavedeck.recipes]\nfake = wavedeck.tests.fakes.recipe_fake:RECIPE\n"
        (info / "entry_points.txt").write_text(entry)
        self.data = home / "data" / "fake"
        self.run = RunDir(home / "runs" / RUN_ID)
        self.run.attempts.mkdir(parents=True)
        path = os.pathsep.join(filter(None, [str(info.parent), os.environ.get("PYTHONPATH")]))
        self.environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        for name in ("OMP_NUM_THREADS", "WAVEDECK_THREADS"):
            self.environment.pop(name, None)

    def write(self, *overrides: str, stage: str | None = None, **changes: Any) -> None:
        composed = compose(RECIPE, overrides)
        manifest = Manifest(id=RUN_ID, name="fake", created=1.0, recipe="fake", stage=stage, config=composed.resolved)
        write_record(self.run.manifest, msgspec.structs.replace(manifest, **changes))

    def attempt(self, number: int, resume: bool) -> None:
        record = Attempt(attempt=number, requested=1.0, argv=["x"], cwd="/", resume=resume, grace_s=[1.0, 1.0])
        write_record(self.run.attempt(number), record)
        self.environment["WAVEDECK_ATTEMPT"] = str(number)

    def start(self) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "wavedeck.engine.pipeline", str(self.run.path)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, env=self.environment, cwd=self.run.path.parent, stdout=pipe, stderr=pipe, text=True
        )

    def finish(self) -> tuple[int, str, str]:
        with self.start() as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def events(self) -> list[dict[str, Any]]:
        lines = self.run.events.read_text().splitlines() if self.run.events.exists() else []
        return [json.loads(line) for line in lines]

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["k"] == kind]


@pytest.fixture
def launcher(tmp_path: Path, home: Path) -> Launcher:
    return Launcher(tmp_path, home)


def test_whole_pipeline_runs_each_stage_as_a_phase(launcher: Launcher) -> None:
    launcher.write("training.lr=2e-4", "data=tiny")
    code, out, err = launcher.finish()
    assert (code, err) == (0, "")
    assert [event["name"] for event in launcher.kinds("phase")] == ["make", "train", "evaluate"]
    assert launcher.events()[0]["k"] == "start" and launcher.events()[0]["attempt"] == 1
    assert launcher.events()[-1]["k"] == "end" and launcher.events()[-1]["reason"] == "finished"
    assert launcher.kinds("metrics")[0]["v"] == {"loss": 2e-4}
    assert (launcher.data / "made").read_text() == "8 2"
    assert f"threads=1 resume=False attempt=1 data={launcher.data}" in out


def test_config_and_environment_stand_beside_the_run(launcher: Launcher) -> None:
    from omegaconf import OmegaConf

    launcher.write("training.lr=2e-4")
    assert launcher.finish()[0] == 0
    saved = OmegaConf.to_container(OmegaConf.load(launcher.run.path / "config.yaml"))
    assert saved == compose(RECIPE, ["training.lr=2e-4"]).resolved
    lines = (launcher.run.path / "environment.txt").read_text().splitlines()
    assert lines[0].startswith("# python 3.") and f"numpy=={np.__version__}" in lines
    names = [line.split("==")[0].lower() for line in lines[1:]]
    assert names == sorted(names)


def _commit(project: Path, text: str) -> GitState:
    (project / "model.py").write_text(text)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", text]):
        subprocess.run(["git", *words], cwd=project, check=True, capture_output=True)
    found = git_state(project)
    assert found is not None
    return found


def test_other_code_than_was_planned_with_is_said_and_written_down(launcher: Launcher, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    planned = _commit(project, "a")
    launcher.write(stage="make", cwd=str(project), git=planned)
    now = _commit(project, "b")
    code, _, err = launcher.finish()
    words = f"commit {now.commit} now, {planned.commit} when it was planned"
    assert (code, err) == (0, f"the code is not what this run was planned with: {words}.\n")
    assert launcher.kinds("log")[0]["level"] == "warning"
    head = (launcher.run.path / "environment.txt").read_text().splitlines()[0]
    assert head.startswith("# python 3.") and head.endswith(f"; code: {words}")


def test_the_code_that_was_planned_with_is_no_news(launcher: Launcher, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    planned = _commit(project, "a")
    launcher.write(stage="make", cwd=str(project), git=planned)
    assert launcher.finish()[2] == ""
    assert f"; code: commit {planned.commit}\n" in (launcher.run.path / "environment.txt").read_text()
    (project / "model.py").write_text("c")
    here = Manifest("x", "x", 1.0, cwd=str(project), git=planned)
    assert _code(here) == (f"commit {planned.commit} with changes now, {planned.commit} when it was planned", True)
    elsewhere = msgspec.structs.replace(here, host="gpu1")
    assert _code(elsewhere) == ("", False), "there the code lies in a copy of its own"
    gone = msgspec.structs.replace(here, cwd=str(tmp_path / "gone"))
    assert _code(gone) == (f"commit {planned.commit} when it was planned, no repository now", False)


def test_what_is_done_is_skipped_with_a_word(launcher: Launcher) -> None:
    launcher.data.mkdir(parents=True)
    (launcher.data / "made").touch()
    launcher.write()
    code, out, _ = launcher.finish()
    assert code == 0 and "make: already done, skipped." in out
    assert [event["name"] for event in launcher.kinds("phase")] == ["train", "evaluate"]
    assert launcher.kinds("log")[0]["text"] == "make: already done, skipped."


def test_one_stage_runs_even_if_it_is_done(launcher: Launcher) -> None:
    launcher.data.mkdir(parents=True)
    (launcher.data / "made").touch()
    launcher.write(stage="make")
    assert launcher.finish()[0] == 0
    assert [event["name"] for event in launcher.kinds("phase")] == ["make"]
    assert (launcher.data / "made").read_text() == "1000 2"


def test_a_resume_says_its_attempt_and_the_stage_knows(launcher: Launcher) -> None:
    launcher.write(stage="train")
    launcher.attempt(1, resume=False)
    assert launcher.finish()[0] == 0
    launcher.attempt(2, resume=True)
    code, out, _ = launcher.finish()
    assert code == 0 and "resume=True attempt=2" in out
    assert [event["attempt"] for event in launcher.kinds("start")] == [1, 2]
    assert [event["attempt"] for event in launcher.kinds("end")] == [1, 2]


@pytest.mark.parametrize(
    ("variables", "threads"),
    [({}, "1"), ({"WAVEDECK_THREADS": "2"}, "2"), ({"OMP_NUM_THREADS": "3"}, "3")],
)
def test_threads_are_limited_before_anything_heavy_loads(
    launcher: Launcher, variables: dict[str, str], threads: str
) -> None:
    launcher.environment |= variables
    launcher.write(stage="train")
    assert f"threads={threads} " in launcher.finish()[1]


def test_a_failure_in_words_has_no_traceback(launcher: Launcher) -> None:
    launcher.write("ending=sentence")
    code, _, err = launcher.finish()
    assert (code, err) == (1, "the data set is empty: make it first.\n")
    end = launcher.events()[-1]
    assert (end["reason"], end["text"]) == ("failed", "the data set is empty: make it first.")
    assert "evaluate" not in [event["name"] for event in launcher.kinds("phase")]


def test_a_bug_has_its_traceback(launcher: Launcher) -> None:
    launcher.write("ending=bug", stage="train")
    code, _, err = launcher.finish()
    assert code == 1 and "Traceback" in err and "ZeroDivisionError: a bug" in err
    end = launcher.events()[-1]
    assert (end["k"], end["reason"], end["text"]) == ("end", "failed", "ZeroDivisionError: a bug")


def test_a_stage_that_exits_with_a_code_has_failed(launcher: Launcher) -> None:
    launcher.write("ending=exit", stage="train")
    assert launcher.finish()[0] == 3
    assert launcher.events()[-1]["text"] == "the stage exited with code 3"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("asked", "expected"), [(True, 0), (False, 130)])
def test_a_stop_ends_the_run_cleanly(
    launcher: Launcher, wait_for: Callable[..., object], number: signal.Signals, asked: bool, expected: int
) -> None:
    launcher.write("ending=wait")
    with launcher.start() as process:
        wait_for(lambda: launcher.kinds("metrics"), what="the stage to be under way")
        if asked:
            write_record(launcher.run.stop, StopRequest(attempt=1, t=1.0))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (expected, "")
    assert launcher.events()[-1]["reason"] == "stopped"
    assert [event["name"] for event in launcher.kinds("phase")] == ["make", "train"]


def test_a_second_signal_does_not_cut_short_the_saving(launcher: Launcher) -> None:
    launcher.write("ending=term", stage="train")
    code, out, _ = launcher.finish()
    assert code == 130 and "saved" in out
    assert launcher.events()[-1]["reason"] == "stopped"


def test_after_a_stop_no_further_stage_begins(launcher: Launcher) -> None:
    """A stage may take the signal itself, save and return: what follows must not start all the same."""
    launcher.write()
    write_record(launcher.run.stop, StopRequest(attempt=1, t=1.0))
    assert launcher.finish()[0] == 0
    assert [event["name"] for event in launcher.kinds("phase")] == ["make"]
    assert launcher.events()[-1]["reason"] == "stopped"


def test_a_stop_of_an_earlier_attempt_is_history(launcher: Launcher) -> None:
    launcher.write()
    write_record(launcher.run.stop, StopRequest(attempt=1, t=1.0))
    launcher.attempt(2, resume=True)
    assert launcher.finish()[0] == 0
    assert launcher.events()[-1]["reason"] == "finished"


def test_other_ranks_write_no_lines(launcher: Launcher) -> None:
    launcher.environment["RANK"] = "1"
    launcher.write(stage="train")
    assert launcher.finish()[0] == 0
    assert launcher.events() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe": None}, "a foreign command"),
        ({"recipe": "fakee"}, "there is no recipe 'fakee'. Did you mean fake"),
        ({"stage": "trian"}, "fake has no stage 'trian'. Did you mean train?"),
        ({"config": {"sede": 1}}, "the saved config has 'sede', which this version of the recipe does not know."),
        ({"config": {"training": {"lr": 7}}}, "in the saved config, training.lr=7: expected a number > 0 and ≤ 1."),
    ],
)
def test_a_manifest_that_cannot_run_is_a_sentence(launcher: Launcher, changes: dict[str, Any], sentence: str) -> None:
    launcher.write(**changes)
    code, _, err = launcher.finish()
    assert code == 1 and sentence in err and err.count("\n") == 1
    assert launcher.events()[-1]["reason"] == "failed"


def test_no_manifest_is_a_sentence(launcher: Launcher) -> None:
    code, _, err = launcher.finish()
    assert code == 1 and "there is no manifest.json" in err and "Traceback" not in err


def test_called_without_a_directory(launcher: Launcher) -> None:
    argv = [sys.executable, "-m", "wavedeck.engine.pipeline"]
    done = subprocess.run(argv, capture_output=True, text=True, env=launcher.environment, timeout=60)
    assert done.returncode == 2 and "RUN_DIR" in done.stderr
    missing = str(launcher.run.path / "missing")
    done = subprocess.run([*argv, missing], capture_output=True, text=True, env=launcher.environment, timeout=60)
    assert done.returncode == 1 and "is not a run directory" in done.stderr


def test_a_stop_in_the_last_moment_of_the_last_stage_leaves_a_finished_run(launcher: Launcher) -> None:
    launcher.write(stage="train")
    write_record(launcher.run.stop, StopRequest(attempt=1, t=1.0))
    assert launcher.finish()[0] == 0
    assert launcher.kinds("metrics") and launcher.events()[-1]["reason"] == "finished"
