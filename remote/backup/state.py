"""What the backup is doing, as a value on disk: written by the one process that backs up, read by everybody.

`$WAVEDECK_HOME/backup/state.json`, replaced as a whole. A reader must look at `pid` and `written`: a process that was
killed tells nothing any more.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from ...engine.files import write_atomic
from ...engine.rundir import Home

FRESH_S = 20.0
"""A state that is older is of a process that has ended or was stopped."""


class RunBackup(msgspec.Struct, frozen=True, omit_defaults=True):
    """The backup of one run. Bytes are bytes, times seconds since the epoch."""

    doing: str | None = None
    """Name of what is being copied or checked now."""
    bytes: int = 0
    total: int = 0
    rate: float | None = None
    """Bytes per second."""
    eta_s: float | None = None
    verified_step: int | None = None
    """Step of the newest checkpoint that is verified here."""
    outstanding: int = 0
    """Checkpoints that the policy wants here and that are not."""
    bytes_outstanding: int = 0
    behind_since: float | None = None
    """Since when something has been outstanding without a break."""
    error: str | None = None
    """Why it does not go on at the moment, as a sentence."""
    disk_full: bool = False
    second_outstanding: int = 0
    second_error: str | None = None


class BackupState(msgspec.Struct, frozen=True):
    """Everything the backup does."""

    pid: int
    written: float
    runs: dict[str, RunBackup] = {}

    @property
    def fresh(self) -> bool:
        """Whether this is of now, and its writer lives."""
        if abs(time.time() - self.written) > FRESH_S:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):
            return True
        return True


def state_file(home: Home) -> Path:
    """Where it stands."""
    return home.root / "backup" / "state.json"


def read_state(home: Home) -> BackupState | None:
    """What the backup last said of itself; None when nothing readable is there."""
    try:
        return msgspec.json.decode(state_file(home).read_bytes(), type=BackupState)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


class Board:
    """Collects what the tasks of one process say, and publishes it: often while bytes move, seldom else."""

    BUSY_S = 0.5
    IDLE_S = 5.0

    def __init__(self, home: Home) -> None:
        self._home = home
        self._runs: dict[str, RunBackup] = {}
        self._written = -1e9

    def run(self, run_id: str) -> RunBackup:
        """What is known of a run."""
        return self._runs.get(run_id, RunBackup())

    def note(self, run_id: str, **changes: object) -> None:
        """Change what is known of a run, and publish when it is time."""
        before = self.run(run_id)
        after = msgspec.structs.replace(before, **changes)
        self._runs[run_id] = after
        told = ("error", "disk_full", "verified_step", "outstanding", "second_error")
        news = any(getattr(before, name) != getattr(after, name) for name in told)
        self.publish(now=news)

    def forget(self, run_id: str) -> None:
        """A run is gone."""
        self._runs.pop(run_id, None)

    def publish(self, *, now: bool = False) -> None:
        """Write the file if it is time. A disk that is full costs readers the news, nothing else."""
        clock = time.monotonic()
        busy = any(run.doing for run in self._runs.values())
        if not now and clock - self._written < (self.BUSY_S if busy else self.IDLE_S):
            return
        self._written = clock
        state = BackupState(os.getpid(), time.time(), dict(self._runs))
        with contextlib.suppress(OSError):
            state_file(self._home).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(state_file(self._home), msgspec.json.encode(state), durable=False)
