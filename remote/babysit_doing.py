"""What a babysitter keeps going beside its look: the backup's process, and moves to other hosts.

Each is asked at every look, begins what is due and returns at once. What fails is tried again, ever more slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from ..engine.alerts.evidence import MoveNews, MovePhase
from ..engine.errors import WavedeckError
from ..engine.format import plain
from ..engine.hosts import HostView, LinkState
from .babysit_parts import Failover, Wanted, Worker
from .daemon import in_daemon_thread
from .fleet import Fleet
from .link import Link

HEAR_S = 20.0
"""How long a single look waits for the hosts."""
COPY_S = 20.0
"""And for what is new on them."""
OTHERS_S = 2.0
"""A host that is not mirrored by us after that is mirrored by a deck."""
WORKER_AGAIN_S, MOVE_AGAIN_S, LONGEST_AGAIN_S = 10.0, 60.0, 900.0
WELL_S = 300.0
SETTLE_AGAIN_S = 2.0

Note = Callable[[str, str | None], None]
"""Takes what something is about, and what is wrong with it: a sentence, or None for nothing any more."""


class Pause:
    """Time between tries that grows."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._until = 0.0
        self.count = 0

    @property
    def over(self) -> bool:
        """Whether it may be tried now."""
        return time.monotonic() >= self._until

    @property
    def stale(self) -> bool:
        """Whether what it was about is long past."""
        return self.count > 0 and time.monotonic() > self._until + LONGEST_AGAIN_S

    def longer(self) -> None:
        """It failed once more."""
        self._until = time.monotonic() + min(self._first_s * 2 ** min(self.count, 10), LONGEST_AGAIN_S)
        self.count += 1


class BackupKeeper:
    """Starts the backup's process, and starts it again when it dies."""

    def __init__(self, start: Callable[[], Worker] | None, note: Note) -> None:
        self.problem: str | None = None
        """Why nothing is backed up, as a sentence."""
        self._start = start
        self._note = note
        self._worker: Worker | None = None
        self._started = 0.0
        self._pause = Pause(WORKER_AGAIN_S)
        self._closed = False

    @property
    def words(self) -> str:
        """`running`, `off`, or why not."""
        if self._start is None:
            return "off"
        return self.problem or ("running" if self._worker is not None else "starting")

    async def keep(self) -> None:
        """See to it that it lives."""
        if self._start is None:
            return
        if self._worker is not None and self._worker.alive():
            self.problem = None
            if time.monotonic() - self._started > WELL_S:
                self._pause = Pause(WORKER_AGAIN_S)
            return
        if self._worker is not None and self._worker.gave_way():
            self._worker = None  # a deck backed up until now
        elif self._worker is not None:
            self._worker = None
            self.problem = "its process has died; it is started again."
            self._note("backup process", f"The backup does not run: {self.problem}")
            self._pause.longer()
        if not self._pause.over:
            return
        try:
            worker = await in_daemon_thread(self._start, "backup")
        except Exception as error:
            self._pause.longer()
            self.problem = sentence_of("the backup", error)
            self._note("backup process", self.problem)
            return
        self._worker, self._started, self.problem = worker, time.monotonic(), None
        self._note("backup process", None)
        if self._closed:
            await in_daemon_thread(self.close)

    def close(self) -> None:
        """End it. Blocks."""
        self._closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


class Mover:
    """Moves runs, each at most once at a time, and tells how far that is.

    Parameters
    ----------
    turn: called when there is something to tell.
    """

    def __init__(self, failover: Failover | None, note: Note, turn: Callable[[], None]) -> None:
        self._failover = failover
        self._note = note
        self._turn = turn
        self._news: list[MoveNews] = []
        self._moving: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[tuple[str, str], Pause] = {}
        """By run and target."""
        self._up: set[str] = set()
        self._ended = 0
        """How many moves have come to an end, well or badly."""
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._fenced: list[tuple[str, str]] = []
        self._unfenced: dict[str, str] = {}

    def follow(self, hosts: Iterable[HostView]) -> None:
        """Fence what was moved away from each host that has come back, as soon as it is there."""
        for host in hosts if self._failover is not None else ():
            if not host.link.up or host.link is LinkState.LIMITED or host.is_local:
                self._up.discard(host.name)
                self._unfenced.pop(host.name, None)
            elif host.name not in self._up and host.name not in self._settling:
                assert self._failover is not None
                work = self._settle(self._failover, host.name)
                self._settling[host.name] = asyncio.get_running_loop().create_task(work)

    async def _settle(self, failover: Failover, host: str) -> None:
        about, ended = f"fencing on {host}", self._ended
        try:
            told = await failover.back(host)
        except Exception as error:
            self._fenced += [(host, sentence) for sentence in getattr(error, "told", ())]  # of a `NotSettled`
            self._unfenced[host] = sentence_of(about, error)
            self._note(about, self._unfenced[host])
            await asyncio.sleep(SETTLE_AGAIN_S)  # then it is begun again, if the host is there
        else:
            self._note(about, None)
            self._unfenced.pop(host, None)
            if ended == self._ended:  # else a claim may have come about after it was looked for
                self._up.add(host)
            self._fenced += [(host, sentence) for sentence in told]
            if told:
                self._turn()
        finally:
            self._settling.pop(host, None)

    def fenced(self) -> list[tuple[str, str]]:
        """Host and sentence of what was fenced since this was asked last."""
        fenced, self._fenced = self._fenced, []
        return fenced

    def fences(self) -> list[tuple[str, str | None]]:
        """Each host that is here: why fencing failed there, or None where it did not."""
        return [*self._unfenced.items(), *((host, None) for host in self._up if host not in self._unfenced)]

    def news(self) -> list[MoveNews]:
        """What happened since this was asked last."""
        news, self._news = self._news, []
        return news

    def begin(self, wanted: Iterable[Wanted]) -> None:
        """Begin the moves that are due; a run that is being moved is left alone."""
        for one in wanted:
            about = (one.run, one.to)
            if about in self._pauses and self._pauses[about].stale:
                del self._pauses[about]
            pause = self._pauses.setdefault(about, Pause(MOVE_AGAIN_S))
            if one.refused or self._failover is None or one.run in self._moving or not pause.over:
                continue
            work = self._move(self._failover, one, pause)
            self._moving[one.run] = asyncio.get_running_loop().create_task(work, name=f"move {one.run}")

    async def _move(self, failover: Failover, wanted: Wanted, pause: Pause) -> None:
        first, about = pause.count == 0, f"failover of {wanted.run}"
        try:
            if first:
                self._tell(wanted, MovePhase.BEGUN, wanted.reason)
            arrived = await failover.move(wanted)
        except Exception as error:
            pause.longer()
            sentence = sentence_of("the failover", error)
            self._note(about, sentence)
            self._tell(wanted, MovePhase.FAILED, f"{sentence}\nIt is tried again.")
        else:
            self._note(about, None)
            self._pauses.pop((wanted.run, wanted.to), None)
            self._tell(wanted, MovePhase.DONE, arrived.text, arrived.child)
        finally:
            self._moving.pop(wanted.run, None)
            self._ended += 1
            self._up.clear()  # its host may have come back, and been settled, before there was a claim

    def _tell(self, wanted: Wanted, phase: MovePhase, text: str, child: str | None = None) -> None:
        self._news.append(MoveNews(wanted.run, phase, wanted.to, time.time(), text, child))
        self._turn()

    async def end(self, within_s: float) -> None:
        """Give a move that is under way a moment, then leave it: what it wrote down says how far it is."""
        for settling in self._settling.values():
            settling.cancel()
        tasks = list(self._moving.values())
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
        for task in tasks:
            task.cancel()


async def heard(fleet: Fleet) -> None:
    """Wait until every host has answered or had the time to, and until what is new there is here."""

    async def one(link: Link) -> None:
        with contextlib.suppress(WavedeckError):
            await link.ready(HEAR_S)
        await caught_up(link, COPY_S)

    await asyncio.gather(*(one(link) for link in list(fleet.links.values())))


async def reached(fleet: Fleet, within_s: float) -> None:
    """Wait until no link is on its first try any more, or for so long."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and any(link.state is LinkState.CONNECTING for link in fleet.links.values()):
        await asyncio.sleep(0.05)


async def caught_up(link: Link, within_s: float) -> bool:
    """Wait until the copies of a host's runs are as new as they can be; False when that takes too long.

    Where another process copies them there is nothing to wait for.
    """
    began = time.monotonic()
    while link.agent is not None and (waited := time.monotonic() - began) < within_s:
        mirror = link.mirror
        if mirror.announced and len(mirror.caught_up) >= mirror.runs:
            return True
        if not link.mirroring and waited > OTHERS_S:
            return True
        await asyncio.sleep(0.05)
    return False


def sentence_of(what: str, error: Exception) -> str:
    """A failure as a sentence."""
    if isinstance(error, WavedeckError):
        return plain(str(error), 500)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{what} failed ({type(error).__name__}: {plain(reason, 200)}); it is tried again."
