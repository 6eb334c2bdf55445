"""Real supervisors on real ptys; every process a test has started is gone when it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.files import create_exclusive
from wavedeck.engine.manifest import Attempt, ExitRecord, SupervisorRecord, encode, read_record
from wavedeck.engine.rundir import RunDir
from wavedeck.remote import local
from wavedeck.tests.servers.fixtures import jump, network, proxy, sshd  # noqa: F401  fixtures

RUN_ID = "20261120-1759-drums-brisk-heron"
PYTHON = [sys.executable, "-IS", "-c"]


@dataclass
class Supervised:
    """A run directory and the supervisor that works in it."""

    run: RunDir
    process: subprocess.Popen[bytes]
    number: int = 1

    def record(self) -> SupervisorRecord:
        """The supervisor's record, once it is there."""
        return until(lambda: self._current(read_record(self.run.supervisor, SupervisorRecord)), "supervisor.json")

    def ended(self) -> ExitRecord:
        """The exit record, once it is there; the supervisor has then gone as well."""
        record = until(lambda: self._current(read_record(self.run.exit, ExitRecord)), "exit.json")
        self.process.wait(10)
        return record

    def console(self) -> bytes:
        """What is in console.log now."""
        return self.run.console.read_bytes() if self.run.console.exists() else b""

    def printed(self, text: bytes) -> None:
        """Wait until the trainer has printed `text`."""
        until(lambda: text in self.console(), f"{text!r} in the console")

    def _current(self, record: object) -> object:
        return record if record is not None and record.attempt == self.number else None  # type: ignore[attr-defined]


def until(condition: Callable[[], object], what: str, timeout: float = 20.0) -> object:
    """Poll until `condition` is truthy; fail with `what` otherwise."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.01)
    return value


def mine(root: Path) -> list[psutil.Process]:
    """Processes that belong to a test: its directory stands in their command line or environment."""
    found = []
    mark = str(root)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(mark in word for word in process.cmdline()) or mark in process.environ().get("WAVEDECK_RUN_DIR", ""):
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def reaper(tmp_path: Path) -> Iterator[None]:
    """Kill whatever a test left running."""
    yield
    for process in mine(tmp_path):
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.fixture
def run_dir(home: Path) -> RunDir:
    """An empty run directory."""
    run = RunDir(home / "runs" / RUN_ID)
    run.attempts.mkdir(parents=True)
    return run


@pytest.fixture
def supervise(run_dir: RunDir) -> Iterator[Callable[..., Supervised]]:
    """`supervise(argv, **attempt fields)` starts the real supervisor script on a command."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        argv: list[str],
        *,
        number: int = 1,
        environ: dict[str, str] | None = None,
        run: RunDir = run_dir,
        script: list[str] | None = None,
        popen: dict[str, object] | None = None,
        **fields: object,
    ) -> Supervised:
        attempt = Attempt(attempt=number, requested=time.time(), argv=argv, **({"cwd": "/"} | fields))  # type: ignore[arg-type]
        assert create_exclusive(run.attempt(number), encode(attempt))
        local.hand_over(run.path, number, environ or dict(os.environ))
        command = script or [sys.executable, "-IS", str(local.SUPERVISOR), "--env"]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | (popen or {})
        process = subprocess.Popen([*command, str(run.path), str(number)], **options)  # type: ignore[call-overload]
        started.append(process)
        return Supervised(run, process, number)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stderr:
            process.stderr.close()
