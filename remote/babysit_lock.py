"""One babysitter a home: whoever holds the lock sends alerts, backs up and moves runs; everybody else reads."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass

from ..engine.errors import UsageError, WavedeckError
from ..engine.format import ago
from ..engine.rundir import Home

LOCK = "babysit.lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who babysits a home."""

    pid: int
    since: float


class BabysitLock:
    """The right to babysit. It goes with the process, however that ends; no file has to be removed by anybody."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.root / LOCK
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take it.

        Raises
        ------
        UsageError: somebody has it; the sentence says who. WavedeckError: the home cannot be written.
        """
        try:
            self._home.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WavedeckError(f"{self._path} cannot be written ({error.strerror}): nobody can babysit.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise UsageError(_taken(holder, self._home)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": round(time.time(), 3)}).encode() + b"\n", 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let somebody else have it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _taken(holder: Holder | None, home: Home) -> str:
    if holder is None:
        return f"Another babysitter watches {home.root}: it sends the alerts, and one is enough."
    return (
        f"Another babysitter (pid {holder.pid}, since {ago(holder.since)}) watches {home.root}: one is enough; "
        "end that one first if this one is to take over."
    )


def babysitter_of(home: Home) -> Holder | None:
    """Who babysits a home now; None when nobody does. For screens and verbs."""
    try:
        descriptor = os.open(home.root / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(descriptor) or Holder(0, 0.0)
    finally:
        os.close(descriptor)
    return None


def _read(descriptor: int) -> Holder | None:
    try:
        record = json.loads(os.pread(descriptor, 200, 0))
        return Holder(int(record["pid"]), float(record["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
