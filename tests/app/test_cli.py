"""The headless verbs as a script would call them: real processes, real tmux, exit codes, JSON, sentences."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.tests.fakes.runs import make_home, make_run, write_metrics

pytestmark = pytest.mark.usefixtures("tmux_socket")
WaitFor = Callable[..., Any]

TRAINER = """
import signal, sys, time
def save(*_):
    print("saved", flush=True); sys.exit(0)
signal.signal(signal.SIGINT, save)
for step in range(10000):
    print(f"step {step} loss={1/(step+1):.4f}", flush=True); time.sleep(0.02)
"""


def cli(*words: str, code: int | None = 0, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "wavedeck", *words],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def js(*words: str, code: int | None = 0) -> Any:
    return json.loads(cli(words[0], "--json", *words[1:], code=code).stdout)


def launch(*command: str, name: str = "toy") -> str:
    return str(js("exec", "--detach", "--name", name, "--", *command)["id"])


def test_a_run_from_launch_to_removal(wait_for: WaitFor, home: Path) -> None:
    run_id = launch(sys.executable, "-c", TRAINER)
    (row,) = js("ps")
    assert row["id"] == run_id and row["state"] in ("starting", "running")
    wait_for(lambda: (js("show", "last")["step"] or 0) > 5, what="metrics from the console")
    assert cli("rm", run_id, "--yes", code=2).stderr.count("stop it first") == 1
    stopped = js("stop", run_id)
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 0)
    assert "saved" in cli("logs", run_id, "-n", "3").stdout
    series = js("metrics", run_id, "loss")["series"]["loss"]
    assert series["step"][0] == 0 and series["value"][0] == 1.0 and len(series["t"]) == len(series["step"])
    table = cli("metrics", run_id).stdout
    assert "★" in table and "▼" in table
    assert "2 runs" not in cli("show", run_id.rsplit("-", 2)[-2]).stdout
    assert "needs a yes" in cli("rm", run_id, code=2).stderr
    assert js("rm", run_id, "--yes") == {"deleted": [run_id]}
    assert js("ps") == [] and list((home / "runs").iterdir()) == []


def test_the_foreground_run_ends_with_the_trainers_fate() -> None:
    done = cli("exec", "--name", "bad", "--", "sh", "-c", "echo last words; exit 3", code=4)
    assert "exit code 3" in done.stderr and "last words" in done.stderr
    assert cli("exec", "--name", "good", "--", "true").returncode == 0
    shown = js("show", "last")
    assert (shown["state"], shown["exit_code"]) == ("finished", 0)


def test_a_killed_trainer_is_told_with_its_signal(wait_for: WaitFor) -> None:
    run_id = launch("sh", "-c", "echo $$; sleep 100")
    pid = int(wait_for(lambda: re.search(r"\d+", cli("logs", run_id).stdout), what="the pid").group())
    os.kill(pid, signal.SIGKILL)
    done = cli("wait", run_id, "--timeout", "20", code=4)
    assert "killed by SIGKILL" in done.stderr
    assert js("show", run_id)["signal"] == 9


def test_wait_gives_up_in_time() -> None:
    run_id = launch("sleep", "60")
    assert "still" in cli("wait", run_id, "--timeout", "0.5", code=1).stderr
    cli("stop", run_id)


def test_logs_follow_until_the_end() -> None:
    run_id = launch("sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done; printf 'no newline'")
    lines = cli("logs", run_id, "-f", "-n", "0").stdout.splitlines()
    assert lines == [f"line {n}" for n in range(1, 7)] + ["no newline"]


def test_logs_collapse_bars_and_swallow_escapes() -> None:
    bars = r"for i in 1 2 3; do printf '\rstep %s/3' $i; done; "
    bars += r"printf '\n\033]0;evil title\007[red]plain[/red]\n\377\n'"
    launch("sh", "-c", bars)
    cli("wait", "last")
    assert cli("logs", "last").stdout.splitlines() == ["step 3/3", "[red]plain[/red]", "\ufffd"]
    assert "\x1b]0;" in cli("logs", "last", "--raw").stdout


def test_own_patterns_find_what_nobody_else_would(home: Path, tmp_path: Path) -> None:
    patterns = tmp_path / "p.toml"
    patterns.write_text("patterns = ['verlust (?P<verlust>[0-9.]+) bei (?P<step>\\d+)']\n")
    words = ("exec", "--patterns", str(patterns), "--", "sh", "-c", "echo verlust 0.75 bei 12; sleep 0.3")
    cli(*words)
    shown = js("show", "last")
    assert shown["last"] == {"verlust": 0.75} and shown["step"] == 12
    patterns.write_text("patterns = ['(unclosed']\n")
    assert "no regular expression" in cli(*words, code=2).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "sosua"), "Did you mean sousa"),
        (("run", "sousa.trian"), "Did you mean"),
        (("run", "sousa", "preset=debgu"), "Did you mean"),
        (("run", "sousa", "training.lrr=1"), "training.lr"),
        (("run", "sousa", "training.lr=fast"), "training.lr"),
        (("run", "sousa", "training.lr=-1"), "> 0"),
        (("run", "sousa", "training.lr"), "="),
        (("exec", "--", "no-such-program-here"), "no program"),
        (("exec", "--cwd", "/no/such/dir", "--", "true"), "is not a directory"),
        (("show", "brisk-heorn"), "Did you mean"),
        (("stop", "last"), "is not running"),
        (("attach", "last"), "is not running"),
        (("metrics", "last", "val/lss"), "Did you mean"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(home: Path, words: tuple[str, ...], sentence: str) -> None:
    write_metrics(make_run(make_home(home)), 40)
    done = cli(*words, code=2)
    assert sentence in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_dry_run_starts_nothing(home: Path) -> None:
    done = cli("run", "sousa", "preset=debug", "training.lr=2e-4", "--dry-run")
    assert "wavedeck run sousa training.lr=0.0002 --preset debug" in done.stdout
    plan = js("run", "sousa", "--preset", "debug", "--dry-run")
    assert plan["manifest"]["recipe"] == "sousa" and plan["equivalent"][:3] == ["wavedeck", "run", "sousa"]
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


def test_an_unwritable_home_names_the_variable(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "wavedeck", "exec", "--", "true"],
        env={**os.environ, "WAVEDECK_HOME": str(blocker / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "WAVEDECK_HOME" in done.stderr and "Traceback" not in done.stderr


def test_one_unreadable_run_costs_the_others_nothing(home: Path) -> None:
    at = make_home(home)
    make_run(at, "20260921-1426-sousa-calm-otter")
    make_run(at, "20260921-1427-sousa-brisk-heron").manifest.write_text('{"format": 9}')
    rows = js("ps")
    assert [row["state"] for row in rows] == ["finished", "unreadable"]
    assert "upgrade Wavedeck" in cli("show", "brisk-heron", code=2).stderr
    assert "upgrade Wavedeck" in cli("ps").stdout


def test_recipes_say_what_can_be_trained() -> None:
    assert "sousa" in cli("recipes").stdout
    page = cli("recipes", "sousa").stdout
    assert "training.lr" in page and "preset=debug" in page
    face = js("recipes", "sousa")
    field = next(field for field in face["fields"] if field["name"] == "training.lr")
    assert field["help"] and field["bounds"]


def test_csv_holds_every_point(home: Path) -> None:
    write_metrics(make_run(make_home(home)), 40, nan_at=7)
    lines = cli("metrics", "last", "--csv").stdout.splitlines()
    assert lines[0] == "step,epoch,t,metric,value"
    assert sum(",train/loss," in line for line in lines) == 40
    assert any(line.endswith("train/loss,nan") for line in lines)


@pytest.mark.parametrize("words", [("--help",), ("ps",), ("ps", "--json"), ("recipes",)])
def test_nothing_heavy_is_imported(home: Path, words: tuple[str, ...]) -> None:
    write_metrics(make_run(make_home(home)), 40)
    code = f"""
import sys
sys.argv = ["wavedeck", *{words!r}]
from wavedeck.app.cli.main import main
try:
    main()
except SystemExit:
    pass
heavy = {{"torch", "torchaudio", "lightning", "wandb", "transformers", "textual", "scipy", "h5py", "asyncssh"}}
print("HEAVY", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in done.stderr, done.stderr


def test_interrupting_a_foreground_run_leaves_it_running(wait_for: WaitFor) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wavedeck", "exec", "--name", "kept", "--", "sleep", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: [row for row in js("ps") if row["state"] == "running"], what="the run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in said
    assert js("show", "last")["state"] == "running"
    cli("stop", "last", code=0)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("wavedeck sh", "show"), ("wavedeck show br", "brisk-heron"), ("wavedeck run so", "sousa"),
     ("wavedeck run sousa.tr", "sousa.train"), ("wavedeck logs la", "last")],
)  # fmt: skip
def test_the_shell_completes_verbs_runs_and_recipes(home: Path, typed: str, offered: str) -> None:
    make_run(make_home(home))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("wavedeck"))],
        env={
            **os.environ,
            "_WAVEDECK_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert offered in done.stdout.split(), (done.stdout, done.stderr)


HOSTILE = [
    {"t": 1790000000.0, "k": "start", "attempt": 1},
    {"t": 1790000001.0, "k": "metrics", "step": 1, "v": {"loss\x1b]0;owned\x07": 0.5, "[/red]evil": 1.0}},
    {"t": 1790000001.2, "k": "metrics", "step": 1, "v": {"val/loss": 0.3}},
    {"t": 1790000001.5, "k": "metrics", "step": 10**30, "v": {"loss": 0.5}},
    {"t": 1790000002.0, "k": "progress", "done": 1, "total": 4, "unit": "st\x1b[2Jep", "description": "\x9b2J[bold]"},
    {"t": 1790000003.0, "k": "phase", "name": "tr\x1b[31main"},
    {"t": 1790000004.0, "k": "alert", "level": "[/x]", "text": "\x1b[2Jboo [/y]", "rule": "r"},
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.mark.parametrize("words", [("ps",), ("show", "last"), ("metrics", "last"), ("metrics", "last", "--csv"),
                                   ("wait", "last"), ("ps", "--json")])  # fmt: skip
def test_nothing_a_run_writes_steers_the_terminal(home: Path, words: tuple[str, ...]) -> None:
    run = make_run(make_home(home))
    run.events.write_text("".join(json.dumps(line) + "\n" for line in HOSTILE))
    done = cli(*words, code=None)
    assert done.returncode in (0, 4) and done.stdout + done.stderr
    assert not CONTROL.search(done.stdout + done.stderr), repr(done.stdout)


def test_last_is_the_newest_even_within_one_minute(home: Path) -> None:
    at = make_home(home)
    make_run(at, "20260921-1426-zzz-calm-otter", created=1790000000.0)
    make_run(at, "20260921-1426-aaa-brisk-heron", created=1790000005.0)
    assert js("show", "last")["id"].endswith("brisk-heron")
    assert [row["id"].split("-")[2] for row in js("ps")] == ["zzz", "aaa"]


def test_logs_lose_no_line_of_a_flood(home: Path) -> None:
    run = make_run(make_home(home))
    run.console.write_bytes(b"y\n" * 300_000)
    assert cli("logs", "last", "-n", "0").stdout.count("y") == 300_000


def test_a_live_run_with_a_damaged_manifest_can_be_stopped(home: Path) -> None:
    run_id = launch("sleep", "100")
    (home / "runs" / run_id / "manifest.json").write_text("{")
    assert js("ps")[0]["state"] == "unreadable"
    cli("stop", run_id)
    assert json.loads((home / "runs" / run_id / "exit.json").read_text())["stop_requested"] is True
    cli("rm", run_id, "--yes")
    assert js("ps") == []
