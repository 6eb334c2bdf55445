"""A training as a rented job: the command (judged by `hf` itself), what is refused, and the script run for real."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wavedeck.assets import hf_job
from wavedeck.engine.clouds import find_flavor
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.estimate import Estimate
from wavedeck.engine.planning import check_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home
from wavedeck.remote.hf_jobs import (
    LOCK,
    SCRIPT,
    JobPlan,
    Rented,
    check_login,
    find_hf,
    plan_job,
    remember,
    running_job,
    submit,
    write_files,
)

UNKNOWN = Estimate(None, None, None, None, None, None, None, "nothing measured")
TINY = ("data.clips=24", "data.profiles=12", "data.duration_s=1.0", "data.rudiments=[flam,drag]")


def plan(home: Path, *overrides: str, estimate: Estimate = UNKNOWN, environ: Any = None, **rented: Any) -> JobPlan:
    wish = check_recipe(
        load_recipe("sousa"), overrides, preset=rented.pop("preset", None), stage=rented.pop("stage", None)
    )
    asked = Rented(find_flavor(rented.pop("flavor", "a10g-small")), **rented)
    return plan_job(Home(home), wish, asked, estimate, environ or {})


def test_the_command_names_secrets_and_holds_none(home: Path) -> None:
    environ = {"HF_TOKEN": "hf_secretsecretsecretsecret", "WANDB_API_KEY": "0123456789"}
    planned = plan(home, "model=hts_at", "strategy=lora", "logger=wandb", environ=environ, timeout="90m")
    line = planned.command_line
    assert "hf jobs uv run --flavor a10g-small --timeout 90m" in line
    assert "--secrets HF_TOKEN --secrets WANDB_API_KEY" in line and "--detach" in line
    assert "secretsecret" not in line and "0123456789" not in line
    assert line.endswith("sousa model=hts_at strategy=lora logger=wandb")
    assert planned.most == 1.5
    without = plan(home, "logger=wandb")
    assert "WANDB" not in without.command_line and "offline" in without.notices[0]


def test_the_same_training_has_the_same_name(home: Path) -> None:
    first, again = plan(home, "model=ast", "strategy=lora"), plan(home, "strategy=lora", "model=ast", timeout="2h")
    assert first.name == again.name and first.name.startswith("sousa-ast-lora-")
    assert plan(home, "model=ast", "strategy=lora", "seed=1").name != first.name
    assert "sousa.train" in plan(home, stage="train").argv


def test_the_real_hf_takes_the_command(home: Path) -> None:
    hf = find_hf()
    planned = plan(
        home, "model=hts_at", "data.rudiments=[flam,drag]", preset="debug", volumes=("hf://datasets/a/b:/mnt/set",)
    )
    write_files(planned.directory)
    argv = [word for word in planned.argv[1:] if word not in ("--detach", "--json")]
    argv[3:3] = ["--namespace", "somebody", "--dry-run"]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hf"), "HF_TOKEN": "hf_none", "NO_COLOR": "1"}
    done = subprocess.run([hf, *argv], cwd=planned.directory, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "flavor     a10g-small" in said and "timeout    8h" in said and "HF_TOKEN=***" in said
    assert "train.lock sousa model=hts_at 'data.rudiments=[flam,drag]' preset=debug" in said
    assert "hf://datasets/a/b:/mnt/set" in said


@pytest.mark.parametrize(
    ("overrides", "rented", "said"),
    [
        (("data.path=/home/me/sousa",), {}, "data.path=/home/me/sousa is not on the job's machine"),
        (("platform=hf_jobs_a10g",), {}, "--volume hf://datasets/OWNER/NAME:/mnt/sousa"),
        (("model.weights=runs/best.ckpt",), {}, "model.weights"),
        ((), {"timeout": "soon"}, "--timeout soon is no time"),
        ((), {"timeout": "0h"}, "is no time"),
        ((), {"volumes": ("a:/data/x",)}, "/data holds the job's own files"),
        ((), {"volumes": ("nowhere",)}, "write SOURCE:/PATH"),
    ],
)
def test_what_a_job_could_not_find_is_refused(home: Path, overrides: tuple[str, ...], rented: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(home, *overrides, **rented)


def test_a_mounted_set_is_there_and_a_short_timeout_is_told(home: Path) -> None:
    long = replace(UNKNOWN, seconds=4e4, low_s=3e4, high_s=5e4, price_per_hour=1.0)
    found = plan(home, "platform=hf_jobs_a10g", volumes=("hf://datasets/a/b:/mnt/sousa:ro",), estimate=long)
    assert "longer than --timeout 8h" in found.notices[0] and "submitted again" in found.notices[0]


def test_without_hf_or_a_login_there_is_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(home / "bin" / "python"))
    with pytest.raises(WavedeckError, match="pip install huggingface_hub"):
        find_hf({"PATH": str(home)})
    with pytest.raises(WavedeckError, match="hf auth login"):
        check_login({"HOME": str(home)})
    (home / "hub").mkdir(parents=True)
    (home / "hub" / "token").write_text("hf_x")
    check_login({"HOME": str(home), "HF_HOME": str(home / "hub")})
    check_login({"HOME": str(home), "HF_TOKEN": "hf_x"})


def program(home: Path, text: str) -> dict[str, str]:
    """An environment whose `hf` is a shell script of ours."""
    folder = home / "programs"
    folder.mkdir(parents=True)
    (folder / "hf").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "hf").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(home), "HF_TOKEN": "hf_x"}


def test_the_job_is_remembered(home: Path) -> None:
    planned = plan(home, "model=ast")
    environ = program(home, 'echo uploading; printf \'{"id": "abc123", "args": "%s"}\' "$PWD"')
    write_files(planned.directory)
    assert submit(planned, environ) == "abc123"
    assert running_job(planned, environ) is None
    remember(planned, "abc123")
    kept = json.loads(planned.record.read_text())
    assert kept["job"] == "abc123" and kept["argv"][0] == "hf" and "hf_x" not in json.dumps(kept)


RUNS = '[{"id": "abc123", "status": {"stage": "RUNNING", "message": null}}]'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (f"echo one moment; echo '{RUNS}'", "abc123"),
        (f"echo '{RUNS}' | sed s/RUNNING/SCHEDULING/", "abc123"),
        (f"echo '{RUNS}' | sed s/RUNNING/canceled/", None),
        (f"echo '{RUNS}' | sed s/RUNNING/COMPLETED/", None),
        ("echo 'Client error 404 Not Found' >&2; exit 1", None),
        ("echo 'no route to host' >&2; exit 1", "no route to host"),
        ("echo '[{}]'", "does not say"),
        ("echo '[]'", "does not say"),
    ],
)
def test_what_became_of_the_job_of_before_is_asked(home: Path, answer: str, found: str | None) -> None:
    planned = plan(home, namespace="band")
    planned.directory.mkdir(parents=True)
    remember(planned, "abc123")
    environ = program(home, f'echo "$@" > asked; {answer}')
    if found in ("abc123", None):
        assert running_job(planned, environ) == found
    else:
        with pytest.raises(WavedeckError, match=f"abc123 of {planned.name} may still run.*{found}"):
            running_job(planned, environ)
    asked = (planned.directory / "asked").read_text()
    assert asked == "jobs inspect abc123 --json --namespace band\n"


@pytest.mark.parametrize("record", ["", "[]", '{"job": "--help"}', '{"job": 7}'])
def test_a_damaged_record_of_a_job_asks_its_user(home: Path, record: str) -> None:
    planned = plan(home)
    planned.directory.mkdir(parents=True)
    planned.record.write_text(record)
    with pytest.raises(WavedeckError, match="is damaged: look with `hf jobs ps`"):
        running_job(planned, {})


def test_a_job_that_cannot_be_remembered_is_named(home: Path) -> None:
    planned = plan(home)
    planned.directory.parent.mkdir(parents=True, exist_ok=True)
    planned.directory.write_text("a file in the way")
    with pytest.raises(WavedeckError, match="job abc123 is submitted"):
        remember(planned, "abc123")


def test_a_refusal_is_quoted(home: Path) -> None:
    planned = plan(home)
    write_files(planned.directory)
    with pytest.raises(WavedeckError, match=r"did not take sousa-.*: 402 Payment Required"):
        submit(planned, program(home, "echo '402 Payment Required' >&2; exit 1"))


def test_the_script_says_what_it_needs_and_imports_nothing_of_ours() -> None:
    text = SCRIPT.read_text()
    header = text.split("# ///")[1]
    assert "script" in header and "huggingface-hub" in header and "requires-python" in header
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert all(name.split(".")[0] in sys.stdlib_module_names | {"huggingface_hub"} for name in names), names


def job(home: Path, work: Path, *words: str, wheel: Path | None = None) -> list[str]:
    """The script's command line with this Python in place of an environment made there."""
    if wheel is None:
        write_files(home / "submits")
        wheel = next((home / "submits").glob("*.whl"))
    options = ("--name", "one", "--every", "0.2", "--work", str(work), "--python", sys.executable)
    return [sys.executable, str(SCRIPT), *options, *words[:-1], str(wheel), str(LOCK), *words[-1].split()]


def test_the_script_stops_before_the_network_when_told_to(home: Path, tmp_path: Path) -> None:
    argv = job(home, tmp_path / "job", "--repo", "me/runs", "--check", "sousa model=ast")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["command"][3:7] == ["wavedeck", "run", "sousa", "model=ast"]
    argv = job(home, tmp_path / "job", "--repo", "me/runs", "--check", "sousa --", wheel=LOCK)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "is no wheel" in done.stderr and "Traceback" not in done.stderr


def test_a_job_trains_keeps_its_run_and_is_not_done_twice(home: Path, tmp_path: Path, tmux_socket: str) -> None:
    kept, environ = tmp_path / "kept", dict(os.environ)
    argv = job(home, tmp_path / "job1", "--repo", str(kept), f"sousa.generate {' '.join(TINY)}")
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.relative_to(kept / "one").as_posix() for path in (kept / "one").rglob("*") if path.is_file()}
    assert {"manifest.json", "events.jsonl", "console.log", "exit.json", "attempts/0001.json"} <= names
    again = job(home, tmp_path / "job2", "--repo", str(kept), f"sousa.generate {' '.join(TINY)}")
    done = subprocess.run(again, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "finished already" in done.stdout


def test_a_job_that_is_told_to_end_stops_the_training_and_keeps_it(
    home: Path, tmp_path: Path, tmux_socket: str, wait_for: Callable[..., object]
) -> None:
    kept = tmp_path / "kept"
    many = ("data.clips=20000", *TINY[1:])
    process = subprocess.Popen(job(home, tmp_path / "job", "--repo", str(kept), f"sousa.generate {' '.join(many)}"))
    try:
        wait_for(lambda: (kept / "one" / "events.jsonl").exists(), 60, "the first time the run is kept")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 4
    finally:
        process.kill()
    assert json.loads((kept / "one" / "exit.json").read_text())["stop_requested"]


def kept_run(folder: Path, exit_code: int | None, checkpoint: bool) -> Path:
    """What a repository holds of a run."""
    run = folder / "20261120-1759-one-brisk-heron"
    (run / "checkpoints").mkdir(parents=True)
    (run / "attempts").mkdir()
    (run / "attempts" / "0001.json").write_text("{}")
    (run / "manifest.json").write_text(json.dumps({"id": run.name}))
    if exit_code is not None:
        (run / "exit.json").write_text(json.dumps({"attempt": 1, "exit_code": exit_code}))
    if checkpoint:
        (run / "checkpoints" / "step-5.ckpt").write_text("weights")
        (run / "checkpoints" / "manifest.jsonl").write_text('{"name":"gone.ckpt"}\n{"name":"step-5.ckpt"}\n')
    return run


def one_job(work: Path) -> hf_job.Job:
    words = [
        "--repo",
        "x",
        "--name",
        "one",
        "--work",
        str(work),
        "--python",
        "python",
        "w.whl",
        "l.lock",
        "sousa",
        "a=1",
    ]
    return hf_job.Job(hf_job.parse(words))


@pytest.mark.parametrize(
    ("exit_code", "checkpoint", "verb"),
    [(None, True, "resume"), (1, True, "resume"), (None, False, "run"), (0, True, None)],
)
def test_what_a_job_does_with_what_is_kept(
    tmp_path: Path, exit_code: int | None, checkpoint: bool, verb: str | None
) -> None:
    run = kept_run(tmp_path / "repo", exit_code, checkpoint)
    shutil.move(run, tmp_path / "repo" / "one")
    mine = one_job(tmp_path / "work")
    restored = mine.restore(hf_job.FolderStore(tmp_path / "repo", "one"))
    assert restored is not None and restored.name == run.name and restored.parent == tmp_path / "work" / "home" / "runs"
    command = mine.command(restored)
    assert (command[4] if command else None) == verb
    assert one_job(tmp_path / "other").restore(hf_job.FolderStore(tmp_path / "repo", "another")) is None


def test_a_folder_keeps_what_changed_and_drops_what_the_training_dropped(tmp_path: Path) -> None:
    run, store = kept_run(tmp_path, None, True), hf_job.FolderStore(tmp_path / "repo", "one")
    (run / ".events.jsonl.ab.tmp").write_text("half")
    (run / "wandb" / "cache").mkdir(parents=True)
    (run / "wandb" / "cache" / "x").write_text("x")
    store.push(run)
    there = {path.relative_to(store.kept).as_posix() for path in store.kept.rglob("*") if path.is_file()}
    assert there == {"manifest.json", "attempts/0001.json", "checkpoints/step-5.ckpt", "checkpoints/manifest.jsonl"}
    (run / "checkpoints" / "step-5.ckpt").unlink()
    (run / "checkpoints" / "step-9.ckpt").write_text("newer")
    store.push(run)
    assert {path.name for path in (store.kept / "checkpoints").iterdir()} == {"step-9.ckpt", "manifest.jsonl"}


@pytest.mark.parametrize("text", ['{"id": "2026', "", "[]", '{"id": 7}', '{"id": "../../x"}', '{"id": ".."}'])
def test_a_torn_manifest_counts_as_nothing_kept(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(kept_run(tmp_path / "repo", None, True), tmp_path / "repo" / "one")
    (tmp_path / "repo" / "one" / "manifest.json").write_text(text)
    mine = one_job(tmp_path / "work")
    assert mine.restore(hf_job.FolderStore(tmp_path / "repo", "one")) is None
    assert mine.command(None)[4] == "run" and "no whole manifest.json" in capsys.readouterr().out  # type: ignore[index]


def test_torn_lines_of_a_checkpoint_list_are_passed_over(tmp_path: Path) -> None:
    run = kept_run(tmp_path, None, True)
    lines = run / "checkpoints" / "manifest.jsonl"
    lines.write_text('{"name": "st{}\n[1]\n{"name": 7}\n' + lines.read_text())
    assert hf_job.has_checkpoint(run)


class _Hub(BaseHTTPRequestHandler):
    """Takes the repository, and refuses to show what is in it."""

    def do_POST(self) -> None:
        self._answer(200, b'{"url": "http://127.0.0.1/me/runs", "name": "me/runs"}')

    def do_GET(self) -> None:
        self._answer(403, b"{}")

    do_HEAD = do_GET

    def _answer(self, code: int, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *all: object) -> None:
        """Say nothing."""


def test_a_repository_that_cannot_be_read_ends_the_job_with_a_sentence(home: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = f"http://127.0.0.1:{server.server_port}"
        environ = {**os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path / "hf")}
        environ |= {"HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
        argv = job(home, tmp_path / "job", "--repo", "me/runs", "sousa model=ast")
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60)
        server.shutdown()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "job: what me/runs keeps of this run cannot be fetched (" in done.stderr


def test_a_training_that_does_not_answer_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, store = one_job(tmp_path / "work"), hf_job.FolderStore(tmp_path / "repo", "one")
    kept_run(mine.home / "runs", None, True)
    monkeypatch.setattr(hf_job, "STOP_S", 0.2)
    monkeypatch.setattr(hf_job, "POLL_S", 0.01)
    monkeypatch.setattr(mine, "wavedeck", lambda *words: ["sleep", "30"])
    mine.told_to_end = True
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert mine.train(["sleep", "30"], store) == -signal.SIGKILL
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert (store.kept / "manifest.json").is_file() and "did not take it" in capsys.readouterr().err


def test_a_machine_without_the_program_says_so(tmp_path: Path) -> None:
    with pytest.raises(hf_job.Trouble, match="/no/such/python cannot be started"):
        one_job(tmp_path).train(["/no/such/python"], hf_job.FolderStore(tmp_path / "repo", "one"))
