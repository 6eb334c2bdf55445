"""The end of a babysitter, as a process: in time whatever hangs, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home
from wavedeck.remote import operations
from wavedeck.remote.babysit_lock import babysitter_of
from wavedeck.remote.local import LocalHost
from wavedeck.tests.servers.http_hooks import HookServer, hook_server

RUN_ID = "20261120-1759-drums-brisk-heron"


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    """A webhook server."""
    with hook_server() as server:
        yield server


def configure(home: Path, url: str, more: str = "") -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "alerts.toml").write_text(f'[[sink]]\nkind = "json"\nurl = "{url}/hook/SECRET"\n{more}')


SCRIPT = """
import sys
from wavedeck.engine.rundir import Home
from wavedeck.remote.babysit import Babysitter, babysit
from wavedeck.remote.babysit_parts import Parts
parts = Parts(backups=None, budgets=None)
sitter = Babysitter(Home.default(), parts=parts, looked=lambda s: print("looked", flush=True))
babysit(sitter, interval_s=0.2)
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_time_whatever_hangs(
    home: Path,
    hooks: HookServer,
    number: signal.Signals,
    wait_for: Callable[..., Any],
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    configure(home, hooks.url, '[[sink]]\nkind = "command"\ncommand = ["sleep", "59"]\n')
    hooks.plan.extend(["hang"] * 9)
    (home / "hosts.toml").write_text('[away]\nssh = ["-p", "9", "nobody@127.0.0.1"]\n')
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    attempt = Attempt(1, time.time(), ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 1"], cwd="/")
    asyncio.run(operations.launch(Home(home), LocalHost(home=Home(home)), manifest, attempt, {}))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, env=dict(os.environ))
    try:
        assert process.stdout is not None and process.stdout.readline() == b"looked\n"
        go.touch()
        wait_for(lambda: hooks.received, 30.0, "the alert")
        process.send_signal(number)
        began = time.monotonic()
        out, _ = process.communicate(None, 20)
        assert time.monotonic() - began < 6.0 and process.returncode == 0 and out.endswith(b"ended\n")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert babysitter_of(Home(home)) is None
    hooks.plan.clear()
    again = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:  # what was not delivered is told by the next one
        wait_for(lambda: len(hooks.received) == 2, 30.0, "the alert again")
        assert hooks.titles()[1] == "drums crashed: exit code 1"
    finally:
        again.kill()
        again.wait()
