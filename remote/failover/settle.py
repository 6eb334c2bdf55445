"""After a host came back: what was moved away from it may not write there any more, and nothing of it goes on there.

A supervisor obeys the lease and stops its trainer. A trainer that has outlived its supervisor obeys nobody, and is
ended. What cannot be fenced or ended now is said and tried again: it is settled once no process is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ...engine.errors import RunDirError, UsageError, WavedeckError
from ...engine.files import sync_directory
from ...engine.hosts import LOCAL, read_mirror
from ...engine.lineage import Moved, read_moved
from ...engine.rundir import Home, RunDir
from .. import run_folders
from ..host import Host, LinkDown
from ..mirror_files import forget_run, forgotten
from ..payload import end_orphan
from ..provision.there import ask
from .lease import GONE_S, LOOK_S, BeingMoved, fence, lease_there, moving

END_S = 40.0
"""How long the helper there may take; its own patience with a trainer is shorter."""


class NotSettled(WavedeckError):
    """Something that was moved away may still write there: call `settle` again. `told` is what was done beside it."""

    def __init__(self, sentence: str, told: list[str]) -> None:
        super().__init__(sentence)
        self.told = tuple(told)


async def settle(home: Home, host: Host, off: Callable[[RunDir, Moved], None] = lambda run, moved: None) -> list[str]:
    """Fence every run of a host that was moved away meanwhile, and wait until nothing of it lives there.

    To be called whenever a host has become connected, before anything of it is believed to be current, and again until
    it returns. Cheap where nothing was moved. Returns a sentence for each run that was fenced now.

    Parameters
    ----------
    off: told of each move that was taken back; its claim on the target still stands.

    Raises
    ------
    NotSettled: something is left to be done. HostUnreachable: it went away again; call this again when it is back.
    """
    work = _Settling(home, host, off)
    try:
        await work.whole()
    except LinkDown as error:
        if not work.told:
            raise
        raise NotSettled(str(error), work.told) from error
    if work.left:
        raise NotSettled(" ".join(work.left), work.told)
    return work.told


@dataclass(slots=True)
class _Settling:
    """One look at a host. `told` are sentences for its user, `left` is what is to be tried again."""

    home: Home
    host: Host
    off: Callable[[RunDir, Moved], None]
    told: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    async def whole(self) -> None:
        """All are fenced before anything is waited for."""
        fenced = []
        for run, moved in await asyncio.to_thread(_moved_away, self.home, self.host.name):
            new = await self._fence(run, moved)
            if new is not None:
                fenced.append((run, moved, new))
        for run, moved, new in fenced:
            await self._end(run, moved, new)

    async def _fence(self, run: RunDir, moved: Moved) -> bool | None:
        """Whether it was fenced just now, or had been before; None when nothing is to be ended there (now)."""
        name = self.host.name
        try:
            before = await lease_there(self.host, run)
        except LinkDown:
            raise
        except WavedeckError:
            before = None
        if before is not None and before.holder == moved.child:
            return False
        try:
            there = await self._fence_or_withdraw(run, moved)
        except LinkDown:
            raise
        except BeingMoved as error:
            self.left.append(str(error))
            return None
        except UsageError as error:
            self.told.append(f"{error} It was also moved from here, to {moved.child}: stop one of them.")
            return None
        except WavedeckError as error:
            self.left.append(
                f"{run.id} cannot be fenced on {name} and may go on there beside {moved.child} on {moved.host}: {error}"
            )
            return None
        return True if there else None

    async def _fence_or_withdraw(self, run: RunDir, moved: Moved) -> bool:
        """Fence it, unless its move is off. A mover at work that may still take its claim back is not anticipated."""
        child = self.home.run(moved.child)
        try:
            with moving(run):
                if read_moved(run) != moved:
                    return False
                if await self._is_off(run, child, moved):
                    await asyncio.to_thread(_forget_move, self.home, run, child, moved)
                    self.off(run, moved)
                    self.told.append(
                        f"{self.host.name} is back, and {run.id} goes on there: its move to {moved.host} had not "
                        f"begun, and is off."
                    )
                    return False
                return await fence(self.host, run, moved.child)
        except BeingMoved:
            if not child.path.exists():
                raise
            return await fence(self.host, run, moved.child)  # from its record on the child is started in any case

    async def _is_off(self, run: RunDir, child: RunDir, moved: Moved) -> bool:
        """Whether a child was never started while the old trainer lives, which is further than any checkpoint.

        Without an attempt on record here nothing of the child was ever started; nobody does while we hold the lock.
        """
        if any(child.attempts.glob("[0-9]*.json")):
            return False
        if not child.path.exists() and child.id in forgotten(self.home, moved.host):
            return False  # it was there, and its copy was deleted since
        return bool((await self.host.living(run.id)).supervisors)

    async def _end(self, run: RunDir, moved: Moved, new: bool) -> None:
        """Wait until nothing of a fenced run lives there any more."""
        name, why = self.host.name, f"because it goes on as {moved.child} on {moved.host}"
        deadline, how = time.monotonic() + GONE_S, None
        while True:
            living = await self.host.living(run.id)
            if not living.supervisors and living.orphan is None:
                break
            if time.monotonic() >= deadline:
                self._still_there(run, moved, living.orphan or living.supervisors[0][0], "")
                return
            if living.orphan is not None and not living.supervisors:
                how = f" without its supervisor: process {living.orphan} was ended"
                said = await _end_orphan(self.host, run, living.orphan)
                if said is not None:
                    self._still_there(run, moved, living.orphan, said)
                    return
            how = how or ": it was stopped"
            await asyncio.sleep(LOOK_S)
        if how is not None:
            kept = "What it wrote since stays in its own log."
            self.told.append(f"{name} is back, and {run.id} was still training there{how}, {why}. {kept}")
        elif new:
            self.told.append(f"{name} is back: {run.id} went on as {moved.child} and cannot be resumed there any more.")

    def _still_there(self, run: RunDir, moved: Moved, pid: int, said: str) -> None:
        self.left.append(
            f"{run.id} still trains on {self.host.name} (process {pid}{said}) although it goes on as {moved.child} on "
            f"{moved.host}: end that process there."
        )


async def _end_orphan(host: Host, run: RunDir, pid: int) -> str | None:
    """End a trainer without a supervisor; None when it is gone, else what stands behind its pid."""
    from ..ssh_host import SshHost

    if isinstance(host, SshHost):
        try:
            answer = await ask(host, "end_orphan.py", {"run": run.id, "pid": pid}, timeout_s=END_S)
        except LinkDown:
            raise
        except WavedeckError:
            return ", which cannot be ended from here"
    else:
        answer = await asyncio.to_thread(end_orphan.end, run.id, pid)
    if answer.get("left") == []:
        return None
    return ", which does not end"


def _forget_move(home: Home, run: RunDir, child: RunDir, moved: Moved) -> None:
    """The claim goes first: a child without a claim is a leftover, a claim without a child would bind the run."""
    run.moved.unlink()
    sync_directory(run.path)
    if not child.path.exists():
        return
    if moved.host != LOCAL:
        forget_run(home, moved.host, child.id)
    run_folders.discard(home, child)


def _moved_away(home: Home, host: str) -> list[tuple[RunDir, Moved]]:
    """Runs of a host that go on elsewhere. Whether the host knows is for it to say: what is here may be older."""
    found = []
    for path in sorted(home.runs.glob("*/moved.json")):
        run = RunDir(path.parent)
        with suppress(RunDirError, OSError):
            mirror, moved = read_mirror(run.path), read_moved(run)
            if moved is not None and (mirror.host if mirror else LOCAL) == host:
                found.append((run, moved))
    return found
