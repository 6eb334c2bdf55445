"""The backup of all runs: hosts at the same time, the runs of one host one after the other, for ever or once.

A host that does not answer is asked again when its link is back; a run that fails says so and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ...engine.backup.policy import BackupPolicy, host_of, read_policy
from ...engine.errors import UsageError, WavedeckError
from ...engine.format import plain
from ...engine.hosts import LOCAL
from ...engine.names import RUN_ID
from ...engine.rundir import Home, RunDir
from ..fleet import Fleet
from ..host import Host, LinkDown
from ..hosts_file import host_entry, load_hosts
from ..link import Link
from .disk import Disk, RealDisk
from .pull import Moving
from .state import Board
from .transfer import DiskFull
from .turn import RunTurns, Said, sentence

IDLE_S = 0.5
"""Between two looks at runs that have nothing to do: a few `stat` calls each."""
LIST_S, FOLLOW_S = 2.0, 5.0
HEAR_S = 20.0
"""How long a host may take to answer before its runs wait."""
OTHERS_S = 2.0
"""Who does not mirror after so long leaves it to another process."""
DOWN_S = 2.0
FAILED_S = 15.0
"""How long a run whose backup failed is left alone."""
ONCE_ROUNDS = 100_000


@dataclass(slots=True)
class Done:
    """What `once` came to: sentences about runs whose backup does not go on, and how many turns did something.

    `second` are sentences about second places; what is here is none the worse for them.
    """

    failed: dict[str, str] = field(default_factory=dict)
    second: dict[str, str] = field(default_factory=dict)
    moved: int = 0


class Keeper:
    """Backs up the runs of a home. Everything here belongs to one event loop.

    Parameters
    ----------
    run_ids: only these runs; None is every run of the home, those still to come included.
    said: is told what moves.
    """

    def __init__(
        self,
        home: Home,
        fleet: Fleet,
        run_ids: Collection[str] | None = None,
        said: Said | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.board = Board(home)
        self._home = home
        self._fleet = fleet
        self._only = None if run_ids is None else frozenset(run_ids)
        self._said = said or (lambda run_id, moving: None)
        self._disk = disk or RealDisk()
        self._turns: dict[str, RunTurns] = {}
        self._again: dict[str, float] = {}
        self._listed = self._followed = -1e9

    # --- for ever

    async def forever(self) -> None:
        """Go on until it is cancelled."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for host in self._hosts():
                    if host not in tasks or tasks[host].done():
                        tasks[host] = asyncio.create_task(self._keep(host), name=f"backup of {host}")
                self.board.publish()
                await self._follow_hosts()
                await asyncio.sleep(IDLE_S)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _follow_hosts(self) -> None:
        """Drop links that hosts.toml has changed or removed since: the next use makes them anew."""
        if time.monotonic() - self._followed < FOLLOW_S:
            return
        self._followed = time.monotonic()
        for name, link in list(self._fleet.links.items()):
            entry = None
            with contextlib.suppress(WavedeckError):
                entry = host_entry(self._home, name)
            if entry is None or (entry.ssh, entry.home) != (link.entry.ssh, link.entry.home):
                await self._fleet.drop(name)

    async def _keep(self, host: str) -> None:
        while True:
            moved = await self._round(host, Done())
            if not moved:
                await asyncio.sleep(IDLE_S)

    # --- once

    async def once(self, deadline_s: float | None = None) -> Done:
        """Go on until nothing is left to do, or what is left cannot be done now."""
        done = Done()
        hosts = self._hosts()
        ends = None if deadline_s is None else time.monotonic() + deadline_s
        await asyncio.gather(*(self._finish(host, done, ends) for host in hosts))
        for run_id in self._turns:
            error = self.board.run(run_id).second_error
            if error is not None:
                done.second[run_id] = error
        self.board.publish(now=True)
        return done

    async def _finish(self, host: str, done: Done, ends: float | None) -> None:
        for _ in range(ONCE_ROUNDS):
            moved = await self._round(host, done)
            waiting = any(turns.waiting for turns in self._of(host) if turns.run.id not in done.failed)
            if (not moved and not waiting) or (ends is not None and time.monotonic() > ends):
                return
            if not moved:
                await asyncio.sleep(IDLE_S)

    # --- one round

    async def _round(self, host: str, done: Done) -> bool:
        """A turn for each run of a host; whether any did something."""
        moved = False
        for turns in self._of(host):
            if time.monotonic() < self._again.get(turns.run.id, 0.0) or not turns.due():
                continue
            try:
                did = await turns.turn()
            except LinkDown as error:
                self._failed(turns, error, done, DOWN_S)
                continue
            except (WavedeckError, OSError) as error:
                self._failed(turns, error, done, FAILED_S)
                continue
            except Exception as error:  # a defect here must not end the backup of the other runs
                self._failed(turns, WavedeckError(_defect(error)), done, 4 * FAILED_S)
                continue
            done.failed.pop(turns.run.id, None)
            done.moved += did
            moved = moved or did
        return moved

    def _failed(self, turns: RunTurns, error: Exception, done: Done, again_s: float) -> None:
        full = isinstance(error, DiskFull) or (
            isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        )
        done.failed[turns.run.id] = sentence(error)
        self._again[turns.run.id] = time.monotonic() + again_s
        self.board.note(
            turns.run.id, error=sentence(error), disk_full=full, doing=None, bytes=0, total=0, rate=None, eta_s=None
        )

    # --- which runs

    def _hosts(self) -> list[str]:
        self._list()
        return sorted({turns.host for turns in self._turns.values()})

    def _of(self, host: str) -> list[RunTurns]:
        """The runs of a host: those that train first, then the newest."""
        self._list()
        mine = [turns for turns in self._turns.values() if turns.host == host]
        mine.sort(key=lambda turns: turns.run.id, reverse=True)
        return sorted(mine, key=lambda turns: not turns.active)

    def _list(self) -> None:
        if time.monotonic() - self._listed < LIST_S:
            return
        self._listed = time.monotonic()
        wanted = [name for name in _ids(self._home) if self._only is None or name in self._only]
        for gone in set(self._turns) - set(wanted):
            del self._turns[gone]
            self.board.forget(gone)
        for name in wanted:
            if name not in self._turns:
                run = RunDir(self._home.runs / name)
                self._turns[name] = RunTurns(self._home, run, self._host, self._disk, self.board, self._said)

    def _host(self, name: str) -> Host:
        return self._fleet.host(name)


async def once(
    home: Home,
    run_ids: Collection[str] | None,
    report: Callable[[str, Moving], None] | None = None,
    *,
    fleet: Fleet | None = None,
    mirror_first: bool = False,
    deadline_s: float | None = None,
) -> Done:
    """Back up what is outstanding of some runs (None: all), and return when it is done or cannot be done now.

    Whoever calls this holds the lock of the backup (`worker.BackupLock`). Without a `fleet` one is made that mirrors
    first, where nobody else does: the list of checkpoints is what a backup begins with. A `fleet` that mirrors is given
    the time for that with `mirror_first`.
    """
    own = fleet is None
    fleet = fleet or Fleet(home, mirrors=True)
    try:
        keeper = Keeper(home, fleet, run_ids, report)
        failed = await _connect(home, fleet, run_ids, own or mirror_first)
        done = await keeper.once(deadline_s)
        done.failed = {**failed, **done.failed}
        return done
    finally:
        if own:
            await fleet.close()


async def _connect(home: Home, fleet: Fleet, run_ids: Collection[str] | None, mirror_first: bool) -> dict[str, str]:
    """Wait for the hosts of runs, and until what is known of their runs is here; sentences about those that are not."""
    wanted: dict[str, list[RunDir]] = {}
    for name in _ids(home):
        run = RunDir(home.runs / name)
        if run_ids is not None and name not in run_ids:
            continue
        policy = _policy(home, run)
        if policy is not None and not policy.enabled:
            continue
        if host_of(run) != LOCAL:
            wanted.setdefault(host_of(run), []).append(run)
        if policy is not None and policy.second_host is not None:
            wanted.setdefault(policy.second_host, [])
    unknown = run_ids is None or not set(run_ids) <= set(_ids(home))
    if mirror_first and unknown:  # a host may have runs that nobody here knows of yet
        with contextlib.suppress(WavedeckError):
            wanted = {**{host: [] for host in load_hosts(home)}, **wanted}
    failed: dict[str, str] = {}

    async def reach(host: str, runs: list[RunDir]) -> None:
        try:
            link = fleet.watch(host)
            await link.ready(HEAR_S)
        except (UsageError, LinkDown) as error:
            failed.update({run.id: str(error) for run in runs})
            return
        if mirror_first:
            await _mirrored(link)

    await asyncio.gather(*(reach(host, runs) for host, runs in wanted.items()))
    return failed


async def _mirrored(link: Link) -> None:
    """Wait until what is known of a host's runs is here, if it is this process that copies them."""
    began = time.monotonic()
    while time.monotonic() - began < HEAR_S:
        if not link.mirroring and time.monotonic() - began > OTHERS_S:
            return  # another process here mirrors this host
        if link.mirroring and link.mirror.announced and len(link.mirror.caught_up) >= link.mirror.runs:
            return
        await asyncio.sleep(0.05)


def _ids(home: Home) -> list[str]:
    try:
        return [path.name for path in home.runs.iterdir() if RUN_ID.match(path.name)]
    except OSError:
        return []


def _policy(home: Home, run: RunDir) -> BackupPolicy | None:
    with contextlib.suppress(WavedeckError):
        return read_policy(home, run)
    return None  # its turn says what is wrong with it


def _defect(error: Exception) -> str:
    return f"the backup of this run met a defect of Wavedeck ({type(error).__name__}: {plain(str(error), 200)})."
