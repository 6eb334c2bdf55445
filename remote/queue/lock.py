"""One runner a home: who has the lock starts what waits. It goes with the process, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys

from ...engine.queue import LOG_FILE, read_settings, waiting
from ...engine.rundir import HOME_VARIABLE, Home
from ..alone import AloneLock, pid_of

LOCK = "queue.lock"
RUNNER = "wavedeck.remote.queue.runner"


def queue_lock(home: Home) -> AloneLock:
    """The right to start what waits."""
    return AloneLock(home.root / LOCK)


def runner_of(home: Home) -> int | None:
    """The process that starts what waits; None when nobody does (0 while it has not said who it is)."""
    return pid_of(home.root / LOCK)


def ensure_runner(home: Home) -> bool:
    """Start the runner where something waits and nobody starts it; whether one was started. Cheap otherwise.

    It outlives this process and its terminal, and gives its own environment to the runs that it starts.
    """
    if not waiting(home) or read_settings(home).paused or runner_of(home) is not None:
        return False
    with open(home.root / LOG_FILE, "ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", RUNNER, str(home.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            env={**os.environ, HOME_VARIABLE: str(home.root)},
            start_new_session=True,
        )
    return True
