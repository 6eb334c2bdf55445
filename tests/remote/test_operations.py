"""Launch, resume, stop, attach, remove: with a real tmux, real supervisors, and things that go wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import UsageError
from wavedeck.engine.manifest import Attempt, Manifest, StopRequest, SupervisorRecord, read_record, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import RunState
from wavedeck.remote import local, operations, run_folders, tmux
from wavedeck.remote.host import CommandFailed, CommandTimeout
from wavedeck.remote.liveness import alive
from wavedeck.remote.local import LocalHost

RUN_ID = "20261120-1759-drums-brisk-heron"
SECRET = "s3cr3t-value-of-a-key"
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@pytest.fixture
def place(home: Path, tmux_socket: str) -> Home:
    """A home and a tmux server of this test's own."""
    return Home(home)


def manifest(run_id: str = RUN_ID) -> Manifest:
    return Manifest(id=run_id, name="drums", created=time.time())


def attempt(script: str, **fields: Any) -> Attempt:
    return Attempt(**({"attempt": 1, "requested": time.time(), "argv": ["sh", "-c", script], "cwd": "/"} | fields))


async def launch(place: Home, script: str, run_id: str = RUN_ID, **options: Any) -> operations.LaunchResult:
    return await operations.launch(place, LocalHost(), manifest(run_id), attempt(script), **options)


def state(place: Home, run: RunDir) -> RunState:
    return Catalog(place, alive).view(run).state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sessions() -> list[str]:
    done = subprocess.run(tmux.list_sessions_argv(), capture_output=True, text=True, timeout=20)
    return [session.name for session in tmux.parse_sessions(done.stdout)]


async def test_a_launch_runs_in_a_session_of_its_own_and_ends_there(place: Home, tmp_path: Path) -> None:
    result = await launch(place, f"echo here; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; exit 3")
    assert result.session == f"wd-{RUN_ID}" and result.notice is None and result.attempt == 1
    assert result.supervisor is not None and result.supervisor.session == result.session
    assert sessions() == [result.session] and state(place, result.run) is RunState.RUNNING
    assert operations.attach_argv(result.run)[-2:] == ["-t", f"={result.session}"]
    (tmp_path / "go").touch()
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.exit_code == 3 and state(place, result.run) is RunState.FAILED
    with pytest.raises(UsageError, match="not running"):
        operations.attach_argv(result.run)
    with pytest.raises(UsageError, match="ended already"):
        await operations.request_stop(LocalHost(), result.run)
    assert result.run.console.read_bytes() == b"here\r\n"


async def test_the_session_shows_what_the_trainer_prints_and_takes_keys(
    place: Home, wait_for: Callable[..., object]
) -> None:
    result = await launch(place, "read line; echo heard $line; sleep 60")
    keys = [*tmux.base_argv(), "send-keys", "-t", f"={result.session}:", "hello", "Enter"]
    assert subprocess.run(keys, timeout=20).returncode == 0
    peek = [*tmux.base_argv(), "capture-pane", "-p", "-t", f"={result.session}:"]
    wait_for(lambda: b"heard hello" in subprocess.run(peek, capture_output=True, timeout=20).stdout, what="the echo")
    subprocess.run([*tmux.base_argv(), "send-keys", "-t", f"={result.session}:", "C-c"], timeout=20)
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.signal == signal.SIGINT


async def test_a_command_that_is_not_there_is_known_at_once(place: Home) -> None:
    missing = attempt("", argv=["no-such-trainer"])
    result = await operations.launch(place, LocalHost(), manifest(), missing)
    assert result.exit is not None and result.exit.exit_code == 127 and "not found" in (result.exit.error or "")
    assert state(place, result.run) is RunState.FAILED


async def test_no_secret_stays_anywhere(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    first = await launch(place, "sleep 60", RUN_ID)
    second = await launch(place, "echo ${#WANDB_API_KEY}; echo tag $TAG; sleep 60", "20261120-1759-x-calm-otter")
    for result in (first, second):
        assert result.supervisor is not None
        assert SECRET not in _environment(result.supervisor.pid)
        assert not list(result.run.attempts.glob(".env*"))
        assert stat.S_IMODE(result.run.attempts.stat().st_mode) == 0o700
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, timeout=20).stdout
    shown += subprocess.run([*tmux.base_argv(), "show-environment", "-g"], capture_output=True, text=True).stdout
    assert SECRET not in shown
    files = [path for path in place.root.rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)
    await operations.request_stop(LocalHost(), second.run)
    ended = await operations.wait_ended(second.run, 20)
    assert ended is not None and ended.tail[0] == str(len(SECRET)), "the trainer itself has it"


def _environment(pid: int) -> str:
    return str(psutil.Process(pid).environ())


async def test_the_trainer_gets_the_environment_of_its_own_launch(place: Home) -> None:
    """A tmux server that runs already has an older environment."""
    base = {"PATH": os.environ["PATH"]}
    await launch(place, "sleep 60", RUN_ID, environ={**base, "ROUND": "one"})
    result = await launch(place, "echo round $ROUND", "20261120-1759-x-calm-otter", environ={**base, "ROUND": "two"})
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.tail == ["round two"]


async def test_a_run_launched_by_a_run_has_its_own_identity(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEDECK_RUN_ID", "outer")
    monkeypatch.setenv("WAVEDECK_RUN_DIR", "/outer")
    result = await launch(place, "sleep 60")
    assert result.supervisor is not None
    assert psutil.Process(result.supervisor.child).environ()["WAVEDECK_RUN_ID"] == RUN_ID
    assert "WAVEDECK_RUN_DIR" not in psutil.Process(result.supervisor.pid).environ()


LAUNCHER = """
import asyncio, sys, time
from pathlib import Path
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home
from wavedeck.remote import operations
from wavedeck.remote.local import LocalHost
home, run_id, script = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")
asyncio.run(operations.launch(Home(home), LocalHost(), Manifest(id=run_id, name="x", created=0.0), attempt))
print("launched", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("with_tmux", [True, False], ids=["tmux", "no-tmux"])
async def test_a_run_outlives_its_launcher_and_the_tmux_server(
    place: Home, tmp_path: Path, with_tmux: bool, wait_for: Callable[..., object]
) -> None:
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; echo survived; exit 7"
    environ = dict(os.environ)
    if not with_tmux:
        environ["PATH"] = str(_path_without_tmux(tmp_path))
    launcher = subprocess.Popen(
        [sys.executable, "-P", "-c", LAUNCHER, str(place.root), RUN_ID, script],
        stdout=subprocess.PIPE, env=environ, start_new_session=True,
    )  # fmt: skip
    assert launcher.stdout is not None and launcher.stdout.readline() == b"launched\n"
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    launcher.stdout.close()
    run = RunDir(place.runs / RUN_ID)
    record = read_record(run.supervisor, SupervisorRecord)
    assert record is not None and (record.session is not None) is with_tmux
    if with_tmux:
        server = subprocess.run([*tmux.base_argv(), "kill-server"], timeout=20)
        assert server.returncode == 0
        wait_for(lambda: not sessions(), what="the end of the tmux server")
    assert alive(RUN_ID, record)
    go.touch()
    ended = await operations.wait_ended(run, 20)
    assert ended is not None and ended.exit_code == 7 and ended.tail == ["survived"]


def _path_without_tmux(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep", "echo"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return folder


async def test_without_tmux_the_run_says_so(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(_path_without_tmux(tmp_path)))
        result = await launch(place, "echo here; sleep 60")
    assert result.session is None and "tmux is not installed here" in (result.notice or "")
    assert state(place, result.run) is RunState.RUNNING
    with pytest.raises(UsageError, match="without tmux"):
        operations.attach_argv(result.run)
    await operations.request_stop(LocalHost(), result.run)
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.stop_requested and state(place, result.run) is RunState.STOPPED


async def test_a_tmux_that_refuses_does_not_cost_the_run(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _path_without_tmux(tmp_path)
    (folder / "tmux").write_text("#!/bin/sh\necho 'create window failed: fork failed' >&2\nexit 1\n")
    (folder / "tmux").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(folder))
        result = await launch(place, "exit 0")
    assert result.session is None and "fork failed" in (result.notice or "")
    assert await operations.wait_ended(result.run, 20) is not None


async def test_a_supervisor_that_cannot_start_leaves_a_failed_run_and_no_environment(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LocalHost(python=str(tmp_path / "no-python"))
    (tmp_path / "no-python").symlink_to("/bin/false")
    run = RunDir(place.runs / RUN_ID)
    with monkeypatch.context() as patch, pytest.raises(CommandFailed):
        patch.setenv("PATH", str(_path_without_tmux(tmp_path)))
        await operations.launch(place, broken, manifest(), attempt("exit 0"))
    assert state(place, run) is RunState.FAILED and not list(run.attempts.glob(".env*"))


async def test_an_id_is_used_once_and_must_be_a_plain_name(place: Home) -> None:
    await launch(place, "sleep 60")
    with pytest.raises(UsageError, match="already"):
        await launch(place, "sleep 60")
    with pytest.raises(UsageError, match="cannot be a tmux name"):
        await launch(place, "true", "#(touch x)")
    assert names(place.runs) == [RUN_ID]


async def test_a_supervisor_that_never_comes_leaves_a_failed_run_and_no_environment(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "TAKE_S", 0.3)
    (tmp_path / "python").symlink_to("/bin/true")
    with pytest.raises(CommandTimeout, match=r"did not answer within 0\.3 s"):
        await operations.launch(place, LocalHost(python=str(tmp_path / "python")), manifest(), attempt("exit 0"))
    run = RunDir(place.runs / RUN_ID)
    assert state(place, run) is RunState.FAILED and not list(run.attempts.glob(".env*"))


async def test_a_session_of_the_attempt_before_is_waited_for(place: Home) -> None:
    argv = tmux.new_session_argv(tmux.session_name(RUN_ID), 80, 24, ["sleep", "0.5"])
    assert subprocess.run(argv, timeout=20).returncode == 0
    result = await launch(place, "sleep 60")
    assert result.notice is None and result.session is not None


# --- stop and resume


async def test_stop_then_resume_in_the_same_directory(place: Home) -> None:
    result = await launch(place, "echo attempt $WAVEDECK_ATTEMPT resume=$WAVEDECK_RESUME; exec sleep 60")
    with pytest.raises(UsageError, match="still running"):
        await operations.resume(place, LocalHost(), result.run)
    with pytest.raises(TimeoutError):
        await operations.wait_ended(result.run, 0.0)
    await operations.request_stop(LocalHost(), result.run)
    ended = await operations.wait_ended(result.run, 20)
    assert ended is not None and ended.stop_requested and ended.signal == signal.SIGINT
    second = await operations.resume(place, LocalHost(), result.run)
    assert second.attempt == 2 and second.exit is None and state(place, result.run) is RunState.RUNNING
    await operations.request_stop(LocalHost(), result.run)
    again = await operations.wait_ended(result.run, 20)
    assert again is not None and again.attempt == 2
    assert result.run.console.read_text().splitlines() == ["attempt 1 resume=", "attempt 2 resume=1"]


async def test_of_several_resumes_at_once_one_starts(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await launch(place, "exec sleep ${WAVEDECK_RESUME:+60}${WAVEDECK_RESUME:-0}")
    await operations.wait_ended(result.run, 20)
    host, last = LocalHost(), operations.newest_attempt(result.run)
    monkeypatch.setattr(operations, "newest_attempt", lambda run: last)  # all have looked before any has written
    outcomes = await asyncio.gather(
        *(operations.resume(place, host, result.run) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(outcome, operations.LaunchResult) for outcome in outcomes) == 1
    assert all(isinstance(o, operations.LaunchResult | UsageError) for o in outcomes)
    assert sorted(path.name for path in result.run.attempts.glob("*.json")) == ["0001.json", "0002.json"]


async def test_a_vanished_run_is_told_from_one_whose_trainer_lives_on(
    place: Home, wait_for: Callable[..., object]
) -> None:
    result = await launch(place, "trap '' HUP; echo ready; while :; do sleep 0.1; done")
    wait_for(lambda: b"ready" in result.run.console.read_bytes(), what="the trainer")
    assert result.supervisor is not None and result.supervisor.child is not None
    os.kill(result.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: state(place, result.run) is RunState.VANISHED, what="the state")
    assert await operations.wait_ended(result.run, 20) is None
    with pytest.raises(UsageError, match="no process any more"):
        await operations.request_stop(LocalHost(), result.run)
    with pytest.raises(UsageError, match=f"end process {result.supervisor.child} first"):
        await operations.resume(place, LocalHost(), result.run)
    os.killpg(result.supervisor.child, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(result.supervisor.child), what="the trainer's end")
    assert (await operations.resume(place, LocalHost(), result.run)).attempt == 2


# --- remove


async def test_a_living_run_is_not_removed_and_a_dead_one_wholly(place: Home) -> None:
    result = await launch(place, "sleep 60")
    with pytest.raises(UsageError, match="still running"):
        await operations.remove(place, LocalHost(), result.run)
    await operations.request_stop(LocalHost(), result.run)
    await operations.wait_ended(result.run, 20)
    await operations.remove(place, LocalHost(), result.run)
    assert not result.run.path.exists() and names(place.trash) == [] and names(place.runs) == []
    with pytest.raises(UsageError, match="no run"):
        await operations.remove(place, LocalHost(), result.run)


async def test_an_interrupted_removal_is_never_half_a_run(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await launch(place, "exit 0")
    await operations.wait_ended(result.run, 20)

    def cut_short(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folders, "_delete", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run_folders.discard(place, result.run)
    assert not result.run.path.exists() and len(names(place.trash)) == 1
    other = await launch(place, "exit 0", "20261120-1759-x-calm-otter")
    await operations.wait_ended(other.run, 20)
    await operations.remove(place, LocalHost(), other.run)
    assert names(place.trash) == []


async def test_a_stop_request_is_for_one_attempt(place: Home) -> None:
    result = await launch(place, "exit 0")
    await operations.wait_ended(result.run, 20)
    write_record(result.run.stop, StopRequest(1, time.time()))
    second = await operations.resume(place, LocalHost(), result.run)
    ended = await operations.wait_ended(second.run, 20)
    assert ended is not None and (ended.attempt, ended.stop_requested, ended.exit_code) == (2, False, 0)
