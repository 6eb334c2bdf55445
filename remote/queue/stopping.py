"""The end of a whole batch: what waits never begins, what runs is asked to save."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ...engine.errors import UsageError
from ...engine.queue import is_waiting
from ...engine.rundir import Home, RunDir
from .. import operations
from ..host import Host
from .waiting import is_active, take_out


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many runs were taken out of the queue, and those that were asked to end."""

    taken: int
    asked: tuple[RunDir, ...]

    @property
    def words(self) -> str:
        """For people."""
        out = f"{self.taken} taken out of the queue" if self.taken else ""
        asked = f"{len(self.asked)} asked to save and stop" if self.asked else ""
        return ", ".join(part for part in (out, asked) if part) or "nothing of it ran or waited any more"


async def stop_all(host: Host, runs: Sequence[RunDir]) -> Stopped:
    """Stop the runs of a batch, those that wait first, the last of them before the others: none begins meanwhile.

    Raises
    ------
    WavedeckError: the records of one cannot be written.
    """
    taken = 0
    for run in reversed(runs):
        if is_waiting(run):
            taken += await take_out(host, run)
    asked = []
    for run in runs:
        if not await asyncio.to_thread(is_active, run):
            continue
        try:
            await operations.request_stop(host, run)
        except UsageError:
            continue  # it has ended meanwhile
        asked.append(run)
    return Stopped(taken, tuple(asked))


async def remove_all(home: Home, host: Host, runs: Sequence[RunDir]) -> int:
    """Delete the runs of a batch for good; how many.

    Raises
    ------
    UsageError: one of them still lives; those before it are deleted. WavedeckError: one cannot be moved away.
    """
    for run in runs:
        await operations.remove(home, host, run)
    return len(runs)
