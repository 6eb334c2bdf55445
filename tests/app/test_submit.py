"""`wavedeck submit` as its user types it, where no network and no login is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from wavedeck.app.cli.main import app
from wavedeck.engine.errors import WavedeckError
from wavedeck.remote.hf_jobs import SCRIPT
from wavedeck.tests.app.test_cli import cli, js

WISH = ("sousa", "platform=hf_jobs_a10g", "model=hts_at", "strategy=lora", "data.path=null")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in anywhere."""
    for name in list(os.environ):
        if name.startswith(("HF_", "WANDB_", "HUGGING")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def test_a_dry_run_prints_the_command_and_the_script_and_starts_nothing(home: Path) -> None:
    done = cli("submit", *WISH, "--timeout", "90m", "--dry-run")
    assert "hf jobs uv run --flavor a10g-small --timeout 90m" in done.stdout
    assert done.stdout.endswith(SCRIPT.read_text())
    assert "at most $1.50 (90m of a10g-small)" in done.stderr and "time and cost unknown" in done.stderr
    assert "list of 2026-08-21" in done.stderr and "nothing was started" in done.stderr
    assert {path.suffix for path in (home / "submits").iterdir()} == {".py", ".whl", ".lock"}
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


def test_a_batch_is_a_job_for_each(home: Path) -> None:
    found = js(
        "submit",
        "sousa",
        "data.path=null",
        "-m",
        "model=ast,hts_at",
        "strategy=lora",
        "--flavor",
        "a100-large",
        "--dry-run",
    )
    assert [job["name"].rsplit("-", 1)[0] for job in found["jobs"]] == ["sousa-ast-lora", "sousa-hts_at-lora"]
    assert all(job["flavor"] == "a100-large" and job["most"] == 20.0 and job["job"] is None for job in found["jobs"])
    assert found["estimate"]["unknown"] == 2 and found["script"] == SCRIPT.read_text()
    assert "add -m" in cli("submit", "sousa", "model=ast,hts_at", "--dry-run", code=2).stderr


def test_money_is_spent_by_nobody_who_is_not_logged_in_or_did_not_say_yes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hf auth login" in cli("submit", *WISH, "--yes", code=1).stderr
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    done = cli("submit", *WISH, code=2)
    assert "this spends money: add --yes" in done.stderr and "$8.00" in done.stderr and not done.stdout


HF = """#!/bin/sh
if [ "$2" = inspect ]; then
    echo "[{\\"id\\": \\"$3\\", \\"status\\": {\\"stage\\": \\"$(cat stage)\\", \\"message\\": null}}]"
    exit 0
fi
printf '%s\\n' "$@" > words
n=$(cat sent 2>/dev/null || echo 0)
if [ "$n" = "$(cat most 2>/dev/null)" ]; then echo '402 Payment Required' >&2; exit 1; fi
n=$((n + 1)); echo $n > sent
echo "{\\"id\\": \\"job-$n\\"}"
"""


@pytest.fixture
def hf(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for `hf` that gives out job-1, job-2, … up to `most`; the folder where it runs and is told things."""
    programs, submits = tmp_path / "programs", home / "submits"
    programs.mkdir()
    submits.mkdir(parents=True)
    (programs / "hf").write_text(HF)
    (programs / "hf").chmod(0o755)
    (submits / "stage").write_text("RUNNING")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return submits


def typed(*words: str) -> Result:
    """The verb in this process: a submission packs Wavedeck anyhow, which takes long enough."""
    return CliRunner().invoke(app, ["submit", *words, "--yes"])


def test_a_submission_through_hf(hf: Path) -> None:
    (job,) = json.loads(typed(*WISH, "--price", "2", "--json").stdout)["jobs"]
    assert job["job"] == "job-1" and job["most"] == 16.0 and job["submitted"]
    assert (hf / "words").read_text().split() == job["argv"][1:]
    kept = (hf / f"{job['name']}.json").read_text()
    assert json.loads(kept)["job"] == "job-1" and "hf_secret" not in kept


MOUNT = ("--volume", "hf://datasets/band/weights:/mnt/weights")
THREE = ("sousa", "data.path=null", "-m", "model=ast,hts_at,beats", "model.weights=/mnt/weights", *MOUNT)


def test_a_refusal_in_the_middle_loses_no_job_and_the_rest_follows(hf: Path) -> None:
    (hf / "most").write_text("2")
    done = typed(*THREE, "strategy=lora")
    assert done.stdout.split() == ["job-1", "job-2"] and "`hf jobs cancel job-1` ends it" in done.stderr
    said = str(done.exception)
    assert isinstance(done.exception, WavedeckError) and "did not take sousa-beats-lora" in said
    assert "402 Payment Required" in said and "sousa-ast-lora" in said and "as job job-2" in said
    (hf / "most").unlink()
    found = json.loads(typed(*THREE, "strategy=lora", "--json").stdout)
    assert [(job["job"], job["submitted"]) for job in found["jobs"]] == [
        ("job-1", False), ("job-2", False), ("job-3", True),
    ]  # fmt: skip


def test_json_is_printed_also_when_a_job_is_refused(hf: Path) -> None:
    (hf / "most").write_text("1")
    done = typed(*THREE, "--json")
    assert [job["job"] for job in json.loads(done.stdout)["jobs"]] == ["job-1", None, None]
    assert isinstance(done.exception, WavedeckError)


def test_a_training_that_runs_is_not_paid_twice(hf: Path) -> None:
    typed(*WISH)
    again = typed(*WISH)
    said = str(again.exception)
    assert "it would be paid twice" in said and "`hf jobs cancel job-1`" in said and not again.stdout
    (hf / "stage").write_text("CANCELED")
    assert typed(*WISH).stdout.split() == ["job-2"]


def test_one_training_named_twice_is_one_job(hf: Path) -> None:
    assert typed("sousa", "data.path=null", "-m", "seed=1,1").stdout.split() == ["job-1"]
