"""The backup as a process: one at a time, tied to whoever started it, mirroring first where nobody does."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.errors import ExitCode, UsageError
from wavedeck.engine.rundir import Home
from wavedeck.remote.backup.state import read_state
from wavedeck.remote.backup.transfer import Cut, DiskFull, SourceGone, failure
from wavedeck.remote.backup.worker import BackupLock, answer_of, holder, start_worker
from wavedeck.remote.ssh.questions import Question, QuestionKind
from wavedeck.tests.remote.backup.conftest import Lab, accepted, noise, until

WORKER = [sys.executable, "-m", "wavedeck.remote.backup.worker"]


async def test_started_and_tied(lab: Lab) -> None:
    """It backs up, with a low priority, and is gone when the pipe to it is."""
    lab.save("s1.ckpt", noise(100_000))
    handle = start_worker(lab.home, {"passwords": {"x": "secret"}})
    try:
        await until(lambda: lab.accepted() == {"s1.ckpt"}, "the copy")
        assert handle.alive and holder(lab.home) == handle.pid
        assert psutil.Process(handle.pid).nice() > os.nice(0)
        assert "secret" not in " ".join(psutil.Process(handle.pid).cmdline())
        state = read_state(lab.home)
        assert state is not None and state.pid == handle.pid and state.fresh
        other = subprocess.run([*WORKER, "--once"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert other.returncode == ExitCode.USAGE and f"process {handle.pid}" in other.stderr
    finally:
        handle.stop()
    assert not handle.alive and holder(lab.home) is None and not state.fresh


async def test_it_ends_with_whoever_started_it(lab: Lab, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom wavedeck.engine.rundir import Home\nfrom wavedeck.remote.backup.worker import start_worker\n"
        "handle = start_worker(Home.default()); print(handle.pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(await asyncio.to_thread(starter.stdout.readline))
    await until(lambda: holder(lab.home) == pid, "the worker")
    starter.kill()
    starter.communicate()
    await until(lambda: holder(lab.home) is None, "its end")


def test_one_at_a_time(home: Path) -> None:
    with BackupLock(Home(home)), pytest.raises(UsageError, match=f"process {os.getpid()} backs up already"):
        BackupLock(Home(home)).__enter__()
    with BackupLock(Home(home)):
        assert holder(Home(home)) == os.getpid()
    assert holder(Home(home)) is None


async def test_once_mirrors_first(lab: Lab) -> None:
    """A run that only its host knows of: the list of checkpoints comes first, then they do."""
    line = lab.save("s1.ckpt", noise(100_000))
    os.utime(lab.there.manifest)
    shutil.rmtree(lab.run.path)
    (lab.home.root / "hosts.toml").write_text('[gpu1]\nssh = ["gpu1"]\n')
    done = await asyncio.to_thread(
        subprocess.run, [*WORKER, "--once"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert accepted(lab.run) == {line.name}


async def test_once_says_what_it_cannot_do(lab: Lab) -> None:
    lab.save("s1.ckpt", noise(1000))
    lab.sshd.stop()
    done = await asyncio.to_thread(
        subprocess.run, [*WORKER, "--once"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == ExitCode.FAILED and lab.run_id in done.stderr and "gpu1" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_secrets_that_were_handed_over_are_answered() -> None:
    passwords = {"root@203.0.113.20:22": "one", "gpu2": "two"}
    asked = Question(QuestionKind.PASSWORD, "gpu1", "Password for root@203.0.113.20:22", "")
    assert answer_of(asked, passwords) == "one"
    assert answer_of(Question(QuestionKind.PASSWORD, "gpu2", "Password", ""), passwords) == "two"
    assert answer_of(Question(QuestionKind.PASSWORD, "gpu3", "Password", ""), passwords) is None
    assert answer_of(Question(QuestionKind.HOST_KEY, "gpu2", "Is this gpu2?", ""), passwords) is None


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (11, b"rsync: write failed: No space left on device (28)", DiskFull, "disk of this machine is full"),
        (12, b"bash: line 1: rsync: No such file or directory", Exception, "not installed on gpu1"),
        (127, b"sh: rsync: not found", Exception, "not installed on gpu1"),
        (2, b"protocol version mismatch -- is your shell clean?", Exception, "login shell of gpu1"),
        (23, b"rsync: link_stat \"/x\" failed: No such file", SourceGone, "not every file"),
        (24, b"some files vanished before they could be transferred", SourceGone, "not every file"),
        (255, b"wavedeck: the connection was lost", Cut, "connection to gpu1 broke"),
        (12, b"rsync: connection unexpectedly closed", Cut, "connection to gpu1 broke"),
        (30, b"io timeout", Cut, "nothing has arrived"),
        (20, b"", Cut, "interrupted"),
        (5, b"something\x1b[31m new", Exception, "failed"),
    ],
)  # fmt: skip
def test_what_rsync_means(status: int, said: bytes, kind: type[Exception], words: str) -> None:
    error = failure("gpu1", status, said)
    assert isinstance(error, kind) and words in str(error) and "\x1b" not in str(error)
