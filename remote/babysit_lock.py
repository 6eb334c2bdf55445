"""One babysitter a home: whoever holds the lock sends alerts, backs up and moves runs; everybody else reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass

from ..engine.errors import UsageError
from ..engine.format import ago
from ..engine.rundir import Home
from .alone import AloneLock, record_of

LOCK, WANTED = "babysit.lock", "babysit.wanted"
WANTED_S = 20.0
"""For so long somebody who asked for the lock is believed to wait for it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who babysits a home."""

    pid: int
    since: float
    gives_way: bool = False
    """Whether it leaves as soon as somebody asks: a deck does, because it may be closed at any moment."""


class BabysitLock:
    """The right to babysit. It goes with the process, however that ends; no file has to be removed by anybody."""

    def __init__(self, home: Home) -> None:
        self._home, self._lock = home, AloneLock(home.root / LOCK)

    def take(self, *, gives_way: bool = False) -> None:
        """Take it; with `gives_way` until somebody else wants it (`is_wanted`).

        Raises
        ------
        UsageError: somebody has it; the sentence says who. WavedeckError: the home cannot be written.
        """
        if not self._lock.take(_record(gives_way)):
            raise UsageError(_taken(babysitter_of(self._home), self._home))

    async def take_over(self, within_s: float = WANTED_S) -> None:
        """Take it, if need be after asking a holder that gives way.

        Raises
        ------
        UsageError: somebody has it and keeps it. WavedeckError: the home cannot be written.
        """
        wanted = self._home.root / WANTED
        deadline = time.monotonic() + within_s
        try:
            while True:
                try:
                    self.take()
                    return
                except UsageError:
                    holder = babysitter_of(self._home)
                    if (holder is not None and not holder.gives_way) or time.monotonic() > deadline:
                        raise
                with contextlib.suppress(OSError):
                    wanted.touch()
                await asyncio.sleep(0.1)
        finally:
            with contextlib.suppress(OSError):
                wanted.unlink(missing_ok=True)

    def release(self) -> None:
        """Let somebody else have it."""
        self._lock.release()


def is_wanted(home: Home) -> bool:
    """Whether somebody waits for the lock; for holders that give way."""
    try:
        return abs(time.time() - (home.root / WANTED).stat().st_mtime) < WANTED_S
    except OSError:
        return False


def _record(gives_way: bool) -> bytes:
    record = {"pid": os.getpid(), "since": round(time.time(), 3), "gives_way": gives_way}
    return json.dumps(record).encode() + b"\n"


def _taken(holder: Holder | None, home: Home) -> str:
    if holder is None:
        return f"Another babysitter watches {home.root}: it sends the alerts, and one is enough."
    return (
        f"Another babysitter (pid {holder.pid}, since {ago(holder.since)}) watches {home.root}: one is enough; "
        "end that one first if this one is to take over."
    )


def babysitter_of(home: Home) -> Holder | None:
    """Who babysits a home now; None when nobody does. For screens and verbs."""
    record = record_of(home.root / LOCK)
    return None if record is None else _read(record) or Holder(0, 0.0)


def _read(text: bytes) -> Holder | None:
    try:
        record = json.loads(text)
        return Holder(int(record["pid"]), float(record["since"]), record.get("gives_way") is True)
    except (ValueError, KeyError, TypeError):
        return None
