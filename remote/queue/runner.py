"""The runner of the queue: starts what waits, one run at a time, and ends when nothing does.

`python -m wavedeck.remote.queue.runner HOME`. What it does follows from the run directories alone, so that it may be
killed at any moment: the next one waits for the run that is under way and goes on after it. It also waits for trainings
outside of the queue that use the same GPUs.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import msgspec

from ...engine.errors import ExitCode, RunDirError, UsageError, WavedeckError
from ...engine.manifest import Attempt, ExitRecord, write_record
from ...engine.queue import is_waiting, planned_attempt, read_settings, waiting
from ...engine.rundir import Home, RunDir
from .. import operations
from ..local import LocalHost
from .lock import queue_lock
from .waiting import in_the_way, is_active

POLL_S = 0.25
RETRY_S = 5.0
TRIES = 3
"""How often in a row the runner itself may fail before it gives up; its user sees the runs wait."""


class Runner:
    """Starts the waiting runs of a home on this machine. Everything here belongs to one event loop."""

    def __init__(self, home: Home, host: LocalHost) -> None:
        self._home = home
        self._host = host

    async def go(self) -> None:
        """Go on until nothing waits, or the queue is paused."""
        failures = 0
        while waiting(self._home) and not read_settings(self._home).paused:
            try:
                first = waiting(self._home)[0]
                busy = in_the_way(self._home, first)
                if busy is not None:
                    await self._until_over(busy, first)
                    continue
                await self._start(first)
                failures = 0
            except (WavedeckError, OSError, IndexError) as error:  # IndexError: the last one was just taken out
                if isinstance(error, IndexError):
                    continue
                failures += 1
                say(str(error))
                if failures >= TRIES:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _until_over(self, run: RunDir, first: RunDir) -> None:
        """Until a run has ended, or that is no matter any more for the one whose turn it is."""
        while is_active(run) and is_waiting(first) and not read_settings(self._home).paused:
            await asyncio.sleep(POLL_S)

    async def _start(self, run: RunDir) -> None:
        """Start a run whose turn it is. One that cannot be started is failed with the reason, and the queue goes on."""
        try:
            attempt = msgspec.structs.replace(planned_attempt(run), requested=time.time())
        except RunDirError as error:
            self._fail(run, str(error))
            return
        try:
            await operations.start_queued(self._host, run, attempt)
        except UsageError:
            return  # somebody has just started it, or taken it out
        except (WavedeckError, OSError) as error:
            if run.path.exists() and is_waiting(run):
                raise
            say(f"{run.id}: {error}")

    def _fail(self, run: RunDir, reason: str) -> None:
        """A run that nobody can read is out of the queue, with the reason in its records."""
        say(f"{run.id}: {reason}")
        now = time.time()
        write_record(run.attempt(1), Attempt(attempt=1, requested=now, argv=[], cwd="/"))
        write_record(run.exit, ExitRecord(1, now, exit_code=127, error=reason))


def say(text: str) -> None:
    """A line for the log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


async def work(home: Home) -> None:
    """Hold the lock and start what waits; look again after letting go, since something may have come meanwhile."""
    lock = queue_lock(home)
    while waiting(home) and not read_settings(home).paused:
        if not lock.take():
            return
        try:
            await Runner(home, LocalHost(home=home)).go()
        finally:
            lock.release()


def main(words: list[str]) -> int:
    """Run the queue of the home that is named; an exit status of the verbs."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    home = Home(Path(words[0]).absolute()) if words else Home.default()
    try:
        asyncio.run(work(home))
    except (WavedeckError, OSError) as error:
        say(f"the queue stands still: {error}")
        return int(ExitCode.FAILED)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
