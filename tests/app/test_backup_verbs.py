"""`backup`, `ckpt`, `safe`, `resume --host` and `babysit` as scripts use them: a real sshd, rsync and tmux."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.rundir import Home
from wavedeck.remote.backup.worker import holder
from wavedeck.tests.conftest import reap
from wavedeck.tests.fakes.runs import make_home, make_run
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture
from wavedeck.tests.servers.http_hooks import hook_server
from wavedeck.tests.servers.sshd import Sshd

WaitFor = Callable[..., Any]
TRAINER = """
import json, os, pathlib, time, zipfile
step, start = 0, os.environ.get("WAVEDECK_RESUME_FROM")
if start:
    step = json.loads(zipfile.ZipFile(start).read("state.json"))["step"]
pathlib.Path("out").mkdir(exist_ok=True)
while step < 60:
    step += 1
    print(f"step={step} loss={1 / step:.5f}", flush=True)
    if step % 10 == 0 and step <= 30:
        with zipfile.ZipFile("tmp", "w") as file:
            file.writestr("state.json", json.dumps({"step": step}))
            file.writestr("weights", os.urandom(50_000))
        os.replace("tmp", f"out/step={step}.pt")
    while step == 40 and not start:  # until it is stopped
        time.sleep(0.05)
    time.sleep(0.02)
"""


def cli(*words: str, code: int | None = 0, cwd: Path | None = None, timeout: float = 120) -> tuple[str, str]:
    """Standard output and error of a verb."""
    done = subprocess.run(
        [sys.executable, "-m", "wavedeck", *words],
        capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL, cwd=cwd,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


def js(*words: str, code: int | None = 0) -> Any:
    return json.loads(cli(*words, "--json", code=code)[0])


@pytest.fixture
def place(home: Path, tmux_socket: str, sshd: Sshd, tmp_path: Path) -> Any:  # noqa: F811
    """A project here, and a host that has its interpreter and costs something."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "hosts.toml").write_text(f"[gpu1]\npython = {json.dumps(sys.executable)}\nprice_per_hour = 36.0\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAINER)
    yield project
    reap(str(home))


@pytest.fixture
def trained(place: Path, wait_for: WaitFor) -> str:
    """A run on gpu1 that has written three checkpoints and goes on slowly."""
    words = ("--host", "gpu1", "--env", "none", "--detach", "--backup", "keep_last=2")
    run_id: str = json.loads(cli("exec", *words, "--json", "--", "python3", "train.py", cwd=place)[0])["id"]
    wait_for(lambda: [row["step"] for row in js("ckpt", run_id)] == [10, 20, 30], 60, "three checkpoints")
    return run_id


@pytest.mark.timeout(240)
def test_checkpoints_from_host_to_hand(trained: str, home: Path, tmp_path: Path, wait_for: WaitFor) -> None:
    run = Home(home).run(trained)
    unsafe = js("safe", "gpu1", code=1)
    assert not unsafe["safe"] and unsafe["runs"][0]["verified_step"] is None and unsafe["price_per_hour"] == 36.0
    assert unsafe["runs"][0]["bytes_outstanding"] > 50_000

    cli("backup", trained)
    rows = js("ckpt", trained)
    assert [(row["step"], "here" in row["where"]) for row in rows] == [(10, False), (20, True), (30, True)]
    assert all(row["verified_at"] for row in rows[1:]) and rows[2]["latest"]
    newest = rows[2]["name"]
    assert "verified to step 30" in cli("safe", "gpu1", code=1)[0]

    # rot: said, and brought again
    copy = run.checkpoints / newest
    data = bytearray(copy.read_bytes())
    data[100] ^= 1
    copy.write_bytes(data)
    assert "does not match its sha256" in cli("ckpt", trained, "verify", code=1)[1]
    cli("backup", trained)
    checked = js("ckpt", trained, "verify")
    assert [one["right"] for one in checked["copies"]] == [True, True]

    # deleting asks, knows what it means, and lasts until it is taken back
    assert "add --yes" in cli("ckpt", trained, "rm", "last", code=2)[1]
    said = cli("ckpt", trained, "rm", "last", "--yes")[1]
    assert "It is the newest there: training would go on from step 20" in said
    cli("backup", trained)
    assert not copy.exists()
    assert cli("ckpt", trained, "pull", "last")[0].strip() == str(copy) and copy.exists()

    # and to anywhere
    target = tmp_path / "restored"
    (path,) = cli("ckpt", trained, "restore", "30", "--host", "local", "--to", str(target))[0].split()
    assert Path(path).read_bytes() == copy.read_bytes()

    cli("stop", trained)
    wait_for(lambda: js("safe", "gpu1", code=None)["safe"], 30, "everything to be here")
    assert cli("safe", "gpu1")[0].startswith("gpu1  safe to destroy")
    assert js("show", trained)["cost"] > 0


def test_whoever_gave_up_waiting_for_news_calls_nothing_safe(
    place: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavedeck.app.cli import safety
    from wavedeck.remote import babysit_doing

    (found,) = asyncio.run(safety._look(Home(home), ["gpu1"], offline=False))
    assert found.safe, found.notes

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(babysit_doing, "caught_up", never)
    (found,) = asyncio.run(safety._look(Home(home), ["gpu1"], offline=False))
    assert not found.safe and "not all that is new on it was here in time" in found.reasons[0]
    (found,) = asyncio.run(safety._look(Home(home), ["gpu1"], offline=True))
    assert not found.safe and "its link is down" in found.reasons[0]


@pytest.mark.timeout(240)
def test_a_run_goes_on_elsewhere(trained: str, home: Path, sshd: Sshd, wait_for: WaitFor) -> None:  # noqa: F811
    assert "stop it first" in cli("resume", trained, "--host", "local", "--detach", code=2)[1]
    (next(sshd.account.rglob("code/*/out"), None) or next(sshd.root.rglob("code/*/out"))).joinpath(
        "more.bin"
    ).write_bytes(bytes(2 << 20))
    cli("stop", trained)
    out, said = cli("resume", trained, "--host", "local", "--detach", "--json")
    child = json.loads(out)
    assert child["parent"] == trained and child["step"] == 30 and "from step 30" in said
    wait_for(lambda: js("show", child["id"])["state"] == "finished", 60, "the end")
    series = js("metrics", child["id"])["series"]["loss"]
    assert series["step"] == list(range(1, 61)), "one curve across the seam"
    assert js("show", "train")["id"] == child["id"], "one name for both: the one that goes on is meant"
    assert "→ moved" in cli("ps", "--all")[0]
    assert js("safe", "gpu1")["safe"], "what was left behind is given up"
    before = js("show", trained)
    assert before["moved_to"] == child["id"] and js("show", child["id"])["parent"] == trained
    assert child["id"] in cli("resume", trained, code=2)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--failover", "gpu1"), "this machine cannot take note of its own end"),
        (("--host", "gpu1", "--failover", "gpu1"), "name another host"),
        (("--host", "gpu1", "--failover", "gpu7"), "no host 'gpu7'"),
        (("--budget", "-1"), "more than 0"),
        (("--backup", "keep_lst=3"), "Did you mean keep_last"),
        (("--backup", "second=gpu9:/x"), "no host 'gpu9'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(place: Path, words: tuple[str, ...], said: str) -> None:
    assert said in cli("exec", *words, "--detach", "--", "true", code=2, cwd=place)[1]
    assert js("ps") == []


def test_a_policy_is_changed_and_a_second_place_filled(home: Path, tmp_path: Path) -> None:
    at = make_home(home)
    run = make_run(at, state="stopped")
    second = tmp_path / "nas"
    assert "no directory" in cli("backup", run.id, "--set", f"second={second}", code=2)[1]
    second.mkdir()
    cli("backup", run.id, "--set", f"second={second}")
    assert (second / "runs" / run.id / "manifest.json").read_bytes() == run.manifest.read_bytes()
    assert not list(second.rglob("attempts")), "command lines may hold secrets"
    shutil.rmtree(second)
    assert "is not there: mount it" in cli("backup", run.id, code=1)[1]
    (home / "backup.toml").write_text('[default]\nsecnd = "/mnt/nas"\n')
    for words in (("backup",), ("backup", "--all"), ("backup", run.id)):
        assert "Did you mean second" in cli(*words, code=2)[1]


def test_babysitting_once_and_its_alerts(home: Path) -> None:
    make_run(make_home(home), state="finished")
    rows = [json.loads(line) for line in cli("babysit", "--once", "--json")[0].splitlines()]
    assert rows[-1]["kind"] == "status" and rows[-1]["watching"] == []
    with hook_server() as hooks:
        (home / "alerts.toml").write_text(f'[[sink]]\nkind = "json"\nurl = "{hooks.url}"\nmin_severity = "error"\n')
        assert cli("babysit", "--test-alerts")[0].startswith("✓")
        assert hooks.titles() == ["this is a test"]
    assert cli("babysit", "--test-alerts", code=1)[0].startswith("✗"), "nobody listens any more"


def test_a_second_backup_shows_what_the_first_does(home: Path, wait_for: WaitFor) -> None:
    run = make_run(make_home(home), state="stopped")
    words = [sys.executable, "-m", "wavedeck", "backup", "--all", "--watch"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as first:
        try:
            wait_for(lambda: holder(Home(home)) == first.pid, 30, "the first")
            assert f"process {first.pid} backs up already" in cli("backup", run.id)[1]
            assert f"process {first.pid} backs up." in cli("backup")[1]
        finally:
            first.terminate()
        assert first.wait(10) == 0
