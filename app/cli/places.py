"""Where a verb does its work: on this machine, or on another host through a link that lasts as long as the verb.

While a verb follows a run of another host, that host's runs are mirrored by this very process, unless a deck or a
babysitter does so already.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ...engine.errors import WavedeckError
from ...engine.hosts import LOCAL, LinkState
from ...engine.rundir import Home, RunDir
from .common import say

if TYPE_CHECKING:
    from ...engine.catalog import Far
    from ...engine.planning import Plan, Wish
    from ...remote.fleet import FleetThread
    from ...remote.host import Host
    from ...remote.link import Link
    from ...remote.provision.provision import Command, Prepared

T = TypeVar("T")
LOOK_S = 6.0
"""How long a verb that only reads waits for a host that may be gone."""
HEAR_S = 30.0
"""How long a verb that needs the host waits for it."""
TICK_S = 0.05
TELL_S = 1.0


class Place:
    """This machine, or hosts reached through a thread of links."""

    def __init__(self, home: Home, name: str = LOCAL, thread: FleetThread | None = None) -> None:
        self.home = home
        self.name = name
        self.thread = thread
        self._told: dict[str, LinkState] = {}

    def do(self, work: Callable[[Host], Awaitable[T]]) -> T:
        """Do something on the host and wait for it."""
        if self.thread is None:
            return asyncio.run(self._here(work))
        thread = self.thread
        return thread.call(lambda: work(thread.fleet.host(self.name)))

    async def _here(self, work: Callable[[Host], Awaitable[T]]) -> T:
        from ...remote.local import LocalHost

        return await work(LocalHost(home=self.home))

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.name == LOCAL

    def prepare(self, wished: Wish | Command, taken: Collection[str], dry_run: bool) -> Plan:
        """Code and environment for a launch on another host, narrated; then the plan."""
        from ...remote.provision.provision import prepare_launch
        from ...remote.ssh_host import SshHost
        from .live_line import Narration

        narration = Narration()

        async def prepared(host: Host) -> Prepared:
            assert isinstance(host, SshHost)
            return await prepare_launch(self.home, host, wished, taken=taken, report=narration.show, dry_run=dry_run)

        try:
            done = self.do(prepared)
        except KeyboardInterrupt:
            narration.close()
            say(f"nothing was launched; what was prepared on {self.name} so far helps the next launch.")
            raise
        finally:
            narration.close()
        for notice in done.notices:
            say(notice)
        return done.plan

    def wait_ended(self, run: RunDir) -> None:
        """Wait until the run has ended, and narrate what becomes of its host meanwhile."""
        from ...remote import operations

        if self.thread is None:
            asyncio.run(operations.wait_ended(run))
            return
        from ...remote.far import Probing

        probe = Probing(self.home, self.thread.fleet)

        async def waiting() -> None:
            while True:
                try:
                    await operations.wait_ended(run, TELL_S, probe)
                    return
                except TimeoutError:
                    self.tell()

        asyncio.run(waiting())

    @property
    def far(self) -> Far:
        """For the catalog: what is known of runs of other hosts."""
        from ...remote.far import far_sign

        return far_sign(self.home, self.thread.fleet if self.thread else None)

    def tell(self) -> None:
        """Narrate what became of the links since the last call; for verbs that follow."""
        for link in list(self.thread.fleet.links.values()) if self.thread else []:
            before, now = self._told.get(link.name), link.state
            if now is before or now is LinkState.CONNECTING:
                continue
            self._told[link.name] = now
            if not now.up:
                say(f"{link.name}: {now}{f' ({link.reason})' if link.reason else ''}")
            elif before is not None and not before.up:
                say(f"{link.name}: connected again")

    def close(self) -> None:
        """End the links; runs go on."""
        if self.thread is not None:
            self.thread.close()


@contextmanager
def at(home: Home, name: str) -> Iterator[Place]:
    """A host to work on.

    Raises
    ------
    HostUnreachable: it does not answer, or does not let us in.
    """
    if name == LOCAL:
        yield Place(home)
        return
    place = reach(home, [name])
    place.name = name
    try:
        assert place.thread is not None
        link = place.thread.fleet.links[name]
        place.thread.call(lambda: link.ready(HEAR_S))
        yield place
    finally:
        place.close()


@contextmanager
def near(home: Home, names: Iterable[str], *, run: RunDir | None = None) -> Iterator[Place]:
    """Hosts to read from, as far as they answer; what does not is said, and the copies here are shown.

    Parameters
    ----------
    run: wait until this one is up to date as well.
    """
    from ...remote.fleet import known_hosts

    wanted = known_hosts(home, sorted({name for name in names if name != LOCAL}))
    if not wanted:
        yield Place(home)
        return
    place = reach(home, wanted)
    try:
        assert place.thread is not None
        deadline = time.monotonic() + LOOK_S
        for link in list(place.thread.fleet.links.values()):
            try:
                left = max(0.1, deadline - time.monotonic())
                place.thread.call(lambda link=link, left=left: link.ready(left))  # type: ignore[misc]
                _until_current(link, run, deadline)
            except WavedeckError as error:
                named = str(error) if str(error).startswith(link.name) else f"{link.name}: {error}"
                say(f"{named} What follows is the last that is known.")
                place._told[link.name] = link.state
        yield place
    finally:
        place.close()


def reach(home: Home, names: Iterable[str]) -> Place:
    """Links to hosts, begun and not waited for; close it.

    Raises
    ------
    UsageError: there is no such host.
    """
    from ...remote.fleet import Fleet, FleetThread
    from .questions import TerminalAsker

    home.ensure_writable()
    thread = FleetThread(lambda: Fleet(home, TerminalAsker())).start()
    place = Place(home, thread=thread)
    try:
        for name in names:
            thread.call(lambda name=name: _watch(thread, name))  # type: ignore[misc]
    except BaseException:
        thread.close()
        raise
    return place


async def _watch(thread: FleetThread, name: str) -> None:
    thread.fleet.watch(name)


def _until_current(link: Link, run: RunDir | None, deadline: float) -> None:
    """Wait until what was known there when we connected is here."""
    from ...remote.link_news import is_fresh, link_record

    while time.monotonic() < deadline:
        record = link_record(link.home, link.name)
        other = record is not None and record.pid != os.getpid() and record.link.up and is_fresh(record)
        if not link.mirroring and other:
            return  # another process mirrors, and is up to date
        mirror = link.mirror
        if link.mirroring and mirror.announced:
            wanted = run is not None and mirror.copies(run.id)
            if run.id in mirror.caught_up if wanted and run is not None else len(mirror.caught_up) >= mirror.runs:
                return
        time.sleep(TICK_S)
