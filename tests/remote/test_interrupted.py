"""Launches that are cut short, supervisors that come late, records that are damaged: nothing runs twice or half."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.errors import RunDirError, UsageError
from wavedeck.engine.files import create_exclusive
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, encode, read_record, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.state import START_GRACE_S
from wavedeck.remote import local, operations, run_folders, tmux
from wavedeck.remote.host import Started
from wavedeck.remote.liveness import supervisors
from wavedeck.remote.local import LocalHost

RUN_ID = "20261120-1759-drums-brisk-heron"
SLOW = f'#!/bin/sh\nwhile [ ! -e {{go}} ]; do sleep 0.02; done\nexec {sys.executable} "$@"\n'
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@pytest.fixture
def place(home: Path, tmux_socket: str) -> Home:
    """A home and a tmux server of this test's own."""
    return Home(home)


@pytest.fixture
def slow_python(tmp_path: Path) -> Path:
    """An interpreter that comes up once `go` exists, as on a machine that is busy."""
    path = tmp_path / "slow-python"
    path.write_text(SLOW.format(go=tmp_path / "go"))
    path.chmod(0o755)
    return path


def launching(place: Home, host: LocalHost, script: str, **options: Any) -> Any:
    attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")
    return operations.launch(place, host, Manifest(id=RUN_ID, name="drums", created=time.time()), attempt, **options)


def vanished(place: Home) -> RunDir:
    """A run whose launcher was killed before anything started, long enough ago."""
    run = RunDir(place.runs / RUN_ID)
    run.attempts.mkdir(parents=True)
    write_record(run.manifest, Manifest(id=RUN_ID, name="drums", created=0.0))
    requested = time.time() - 2 * START_GRACE_S
    argv = ["sh", "-c", "echo round $ROUND"]
    create_exclusive(run.attempt(1), encode(Attempt(attempt=1, requested=requested, argv=argv, cwd="/")))
    return run


@contextmanager
def starting_supervisor(run: RunDir) -> Iterator[int]:
    """A process with the command line of a supervisor that has done nothing yet."""
    argv = [sys.executable, "-IS", "-c", "import time; time.sleep(60)", str(local.SUPERVISOR), str(run.path), "1"]
    process = subprocess.Popen(argv)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def in_tmux(wait: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not wait():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- cancelled launches


async def test_a_cancelled_launch_goes_on_with_its_whole_environment(
    place: Home, tmp_path: Path, slow_python: Path
) -> None:
    environ = {"PATH": os.environ["PATH"], "ROUND": "whole"}
    host = LocalHost(python=str(slow_python))
    run = RunDir(place.runs / RUN_ID)
    task = asyncio.create_task(launching(place, host, "echo round $ROUND", environ=environ))
    await in_tmux(lambda: list(run.attempts.glob(".env*")) and _has_session())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (tmp_path / "go").touch()
    ended = await operations.wait_ended(run, 20)
    assert ended is not None and ended.error is None and ended.tail == ["round whole"]
    await in_tmux(lambda: not operations._starting)


def _has_session() -> bool:
    done = subprocess.run(tmux.has_session_argv(tmux.session_name(RUN_ID)), capture_output=True, timeout=20)
    return done.returncode == 0


def test_a_launch_cut_by_the_end_of_its_program_is_recorded_and_starts_nothing(
    place: Home, tmp_path: Path, slow_python: Path, wait_for: Callable[..., object]
) -> None:
    run = RunDir(place.runs / RUN_ID)

    async def program() -> None:
        task = asyncio.create_task(launching(place, LocalHost(python=str(slow_python)), "echo ran"))
        await in_tmux(lambda: list(run.attempts.glob(".env*")) and _has_session())
        assert not task.done()

    asyncio.run(program())
    ended = read_record(run.exit, ExitRecord)
    assert ended is not None and "cut short before its environment arrived" in (ended.error or "")
    assert not list(run.attempts.glob(".env*"))
    (tmp_path / "go").touch()
    wait_for(lambda: not _has_session(), what="the end of the late supervisor")
    assert not run.console.exists() and not run.supervisor.exists()


async def test_a_cancelled_resume_goes_on(place: Home, tmp_path: Path, slow_python: Path) -> None:
    run = vanished(place)
    environ = {"PATH": os.environ["PATH"], "ROUND": "two"}
    task = asyncio.create_task(operations.resume(place, LocalHost(python=str(slow_python)), run, environ))
    await in_tmux(lambda: list(run.attempts.glob(".env-0002")) and _has_session())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (tmp_path / "go").touch()
    ended = await operations.wait_ended(run, 20)
    assert ended is not None and (ended.attempt, ended.error, ended.tail) == (2, None, ["round two"])


async def test_a_supervisor_later_than_its_launch_waits_starts_nothing(
    place: Home, tmp_path: Path, slow_python: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., object]
) -> None:
    monkeypatch.setattr(local, "TAKE_S", 0.3)

    async def nothing(*_: object) -> None:
        """As if the launcher had been killed."""

    monkeypatch.setattr(operations, "_record_failure", nothing)  # a launcher killed at that very moment
    run = RunDir(place.runs / RUN_ID)
    with pytest.raises(local.CommandTimeout):
        await launching(place, LocalHost(python=str(slow_python)), "echo ran")
    (tmp_path / "go").touch()
    wait_for(lambda: run.exit.exists(), what="exit.json")
    ended = read_record(run.exit, ExitRecord)
    assert ended is not None and "launch it again" in (ended.error or "") and not run.console.exists()


async def test_an_environment_taken_at_the_last_moment_is_a_launch(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor takes it between the launcher's last look and its giving up."""

    async def too_late(self: LocalHost, handed_over: Path, command: list[str]) -> None:
        handed_over.unlink()
        raise local.CommandTimeout("local", command, 1.0)

    async def in_session(*_: object) -> None:
        return None

    monkeypatch.setattr(LocalHost, "_until_taken", too_late)
    monkeypatch.setattr(LocalHost, "_start_in_tmux", in_session)
    run = vanished(place)
    attempt = Attempt(attempt=1, requested=time.time(), argv=["true"], cwd="/")
    started = await LocalHost().start_supervisor(run.path, attempt, {})
    assert started == Started(f"wd-{RUN_ID}", None)


# --- late supervisors


async def test_a_run_whose_supervisor_is_only_coming_up_is_neither_resumed_nor_removed(place: Home) -> None:
    run = vanished(place)
    with starting_supervisor(run) as pid:
        assert [(found.pid, found.attempt) for found in supervisors(run.path)] == [(pid, 1)]
        assert supervisors(place.runs / "20261120-1759-x-calm-otter") == []
        with pytest.raises(UsageError, match="just starting"):
            await operations.resume(place, LocalHost(), run)
        with pytest.raises(UsageError, match="just starting"):
            await operations.remove(place, LocalHost(), run)
    assert supervisors(run.path) == [] and not run.attempt(2).exists()


async def test_left_over_environments_go_with_the_next_resume_or_the_run(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vanished(place)
    left = local.hand_over(run.path, 1, {"KEY": "secret"})
    seen: list[bool] = []

    async def refuse(self: LocalHost, run_dir: Path, attempt: Attempt, environ: Mapping[str, str]) -> Started:
        seen.append(left.exists())
        raise OSError("no")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no"):
        patch.setattr(LocalHost, "start_supervisor", refuse)
        await operations.resume(place, LocalHost(), run)
    assert seen == [False]
    left = local.hand_over(run.path, 2, {"KEY": "secret"})
    with monkeypatch.context() as patch:
        patch.setattr(run_folders, "_delete", lambda path: None)  # cut short right after the renaming
        await operations.remove(place, LocalHost(), run)
    assert list(place.trash.iterdir()) and not list(place.trash.rglob(".env*"))


# --- damaged records


@pytest.mark.parametrize("damaged", ["attempts/0001.json", "exit.json", "supervisor.json"])
async def test_a_damaged_run_can_be_removed_unless_it_lives(place: Home, damaged: str) -> None:
    run = vanished(place)
    (run.path / damaged).write_text("{ not json")
    with starting_supervisor(run), pytest.raises(UsageError, match="still running"):
        await operations.remove(place, LocalHost(), run)
    assert run.path.exists()
    await operations.remove(place, LocalHost(), run)
    assert not run.path.exists()


@pytest.mark.parametrize("damaged", ["manifest.json", "attempts/0001.json"])
async def test_a_living_run_with_damaged_records_can_be_stopped(
    place: Home, damaged: str, wait_for: Callable[..., object]
) -> None:
    result = await launching(place, LocalHost(), "echo ready; exec sleep 60")
    (result.run.path / damaged).write_text("{ not json")
    assert (await operations.request_stop(LocalHost(), result.run)).attempt == 1
    wait_for(lambda: result.run.exit.exists(), what="exit.json")
    ended = read_record(result.run.exit, ExitRecord)
    assert ended is not None and ended.stop_requested and ended.signal == signal.SIGINT


async def test_a_damaged_run_without_a_process_has_nothing_to_stop(place: Home) -> None:
    run = vanished(place)
    run.attempt(1).write_text("{ not json")
    with pytest.raises(RunDirError, match="damaged"):
        await operations.request_stop(LocalHost(), run)
    assert not run.stop.exists()
