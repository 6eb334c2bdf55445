"""All hosts of this user: their links, from one event loop; and that loop in a thread of its own, for front doors.

The deck's own loop draws and never encrypts: whatever has to do with a network happens in the fleet's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from ..engine.errors import UsageError
from ..engine.hosts import LOCAL, HostView, read_mirror
from ..engine.rundir import Home, RunDir
from .daemon import in_daemon_thread
from .link import Link, Rhythm
from .local import LocalHost
from .ssh_host import SshHost

if TYPE_CHECKING:
    from .host import Host
    from .hosts_file import HostEntry
    from .ssh.connection import Connection
    from .ssh.keys import Secrets
    from .ssh.questions import Asker, Question

T = TypeVar("T")
HEAR_S = 20.0


class Fleet:
    """The links to hosts. Everything but `views` belongs to one event loop.

    Parameters
    ----------
    asker: who answers questions about keys and passwords; nobody by default.
    mirrors: whether runs are copied here.
    changed: called whenever a view may have changed.
    """

    def __init__(
        self,
        home: Home,
        asker: Asker | None = None,
        *,
        rhythm: Rhythm | None = None,
        mirrors: bool = True,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self.home = home
        self.links: dict[str, Link] = {}
        self._listed: set[str] = set()
        self._secrets: dict[str, Secrets] = {}
        self._asker = asker
        self._rhythm = rhythm
        self._mirrors = mirrors
        self._changed = changed or (lambda: None)

    def watch(self, name: str) -> Link:
        """The link to a host, begun if it is not there yet.

        Raises
        ------
        UsageError: there is no such host.
        """
        link = self.links.get(name)
        if link is None:
            from .hosts_file import host_entry

            link = self._link(host_entry(self.home, name))
            self.links[name] = link
            link.start()
            self._changed()
        return link

    async def refresh(self) -> None:
        """Follow hosts.toml: watch what is new, drop what was removed, take over what was changed.

        Raises
        ------
        UsageError: it cannot be read; nothing changes then.
        """
        from .hosts_file import load_hosts

        entries = load_hosts(self.home)
        for name, link in list(self.links.items()):
            entry = entries.get(name)
            if entry is None and name in self._listed:
                await self.drop(name)
            elif entry is not None and entry != link.entry:
                if (entry.ssh, entry.home) != (link.entry.ssh, link.entry.home):
                    await self.drop(name)
                else:
                    link.entry = entry
        self._listed = set(entries)
        for name in entries:
            self.watch(name)
        self._changed()

    def _link(self, entry: HostEntry) -> Link:
        from .ssh.connection import connect
        from .ssh.keys import Secrets
        from .ssh.questions import NobodyAsks
        from .ssh.target import Target, resolve

        secrets = self._secrets[entry.name] = Secrets()
        asker = _Asking(self._asker or NobodyAsks())

        async def opened() -> Connection:
            target: Target = await in_daemon_thread(lambda: resolve(link.entry.ssh))
            link.target = target.label
            return await connect(entry.name, target, self.home, asker, secrets)

        link = Link(
            self.home,
            entry,
            opened,
            target=" ".join(entry.ssh),
            rhythm=self._rhythm,
            mirrors=self._mirrors,
            changed=self._changed,
        )
        asker.link = link
        return link

    async def drop(self, name: str) -> None:
        """End a link."""
        link = self.links.pop(name, None)
        if link is not None:
            await link.stop()
            self._changed()

    async def close(self) -> None:
        """End all links."""
        for name in list(self.links):
            await self.drop(name)

    def host(self, name: str) -> Host:
        """A host to do something on.

        Raises
        ------
        UsageError: there is none of that name.
        """
        return LocalHost(home=self.home) if name == LOCAL else SshHost(self.watch(name))

    def passwords(self) -> dict[str, str]:
        """Label of the target -> password that was let in, for the backup of this very process."""
        secrets = list(self._secrets.values())
        return {label: word for one in secrets for label, word in list(one.passwords.items())}

    def views(self) -> tuple[HostView, ...]:
        """What is known of every host, in the order they were begun."""
        return tuple(link.view() for link in list(self.links.values()))


class _Asking:
    """Notes on the link that its user is being asked: waiting for a person is no silence of the host."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.link: Link | None = None

    async def ask(self, question: Question) -> str | None:
        """Pass the question on; one that was declined is not put again before its user tries again."""
        assert self.link is not None
        what = (str(question.kind), question.title)
        if what in self.link.declined:
            return None
        self.link.asking += 1
        try:
            answer = await self._asker.ask(question)
        finally:
            self.link.asking -= 1
        if answer is None:
            self.link.declined.add(what)
        return answer


class FleetThread:
    """A fleet in a daemon thread with an event loop of its own.

    Coroutines are handed in by `submit` (waited for in another loop) or `call` (waited for in a plain thread).
    """

    def __init__(self, make: Callable[[], Fleet]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._ended = threading.Event()
        self.fleet = make()

    def start(self) -> FleetThread:
        """Begin."""
        self._thread.start()
        return self

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()
            self._ended.set()

    async def submit(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work()` there, from another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(work), self._loop))

    def call(self, work: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Await `work()` there, from a plain thread."""
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def post(self, work: Callable[[], object]) -> None:
        """Call `work` there soon, and do not wait."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End every link and the thread. Returns within a few seconds whatever the hosts do."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.call(self.fleet.close, 5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._ended.wait(5.0)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


@asynccontextmanager
async def open_host(
    home: Home, name: str, asker: Asker | None = None, *, mirrors: bool = True, wait_s: float = HEAR_S
) -> AsyncIterator[Host]:
    """A connected host for as long as the block lasts; this machine for `local`.

    Raises
    ------
    UsageError: there is no such host. LinkDown: it does not answer, or does not let us in.
    """
    if name == LOCAL:
        host = LocalHost(home=home)
        try:
            yield host
        finally:
            host.close()
        return
    fleet = Fleet(home, asker, mirrors=mirrors)
    try:
        link = fleet.watch(name)
        await link.ready(wait_s)
        yield SshHost(link)
    finally:
        await fleet.close()


def host_of(run: RunDir) -> str:
    """The name of the host a run lives on: `local`, or the one it is a copy of."""
    mirror = read_mirror(run.path)
    return LOCAL if mirror is None else mirror.host


def known_hosts(home: Home, names: Iterable[str]) -> list[str]:
    """Those of `names` that hosts.toml or the ssh configuration know; the others were removed since."""
    from .hosts_file import host_entry

    found = []
    for name in names:
        with contextlib.suppress(UsageError):
            host_entry(home, name)
            found.append(name)
    return found
