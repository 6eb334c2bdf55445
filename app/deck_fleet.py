"""The deck's way to other machines: the fleet in its thread, asked from workers, seen as plain values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..engine.errors import WavedeckError
from ..engine.hosts import LOCAL, HostFacts, HostView, LinkState, TmuxSession
from ..engine.machine import MachineReading
from ..engine.machine_series import HostHistory
from ..engine.planning import Wish
from ..engine.rundir import Home, RunDir
from ..engine.series_view import SeriesView
from ..remote.fleet import Fleet, FleetThread, host_of
from .messages import LaunchProgress, QuestionAsked, Told

if TYPE_CHECKING:
    from ..engine.backup.policy import BackupPolicy
    from ..engine.backup.safety import HostSafety
    from ..engine.catalog import Far
    from ..engine.run_view import RunView
    from ..remote.failover.move import MoveResult
    from ..remote.far_samples import Opened
    from ..remote.host import Host
    from ..remote.operations import LaunchResult
    from ..remote.provision.there import Progress, Report
    from ..remote.ssh.questions import Question
    from .babysitting import DeckBabysitter
    from .cockpit import Wavedeck

T = TypeVar("T")
SESSIONS_EVERY_S = 3.0
END_S = 5.0
LOOK_S = 10.0
"""How long the host that a run leaves may take to answer; one that does not is taken for gone."""
HEAR_S = 30.0


class DeckFleet:
    """What screens may ask of other machines; each method is awaited in the deck's loop and works in the fleet's."""

    def __init__(self, app: Wavedeck, home: Home, here: Host) -> None:
        self._app = app
        self._home = home
        self._here = here
        self._thread = FleetThread(lambda: Fleet(home, _Asker(app), changed=self._changed))
        self._histories: dict[str, HostHistory] = {}
        self._fed: dict[str, float] = {}
        self._local = HostView(LOCAL, link=LinkState.CONNECTED, since=time.time(), facts=local_facts())
        self._looked = -1e9
        self._stamp: tuple[int, ...] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._babysitter: DeckBabysitter | None = None
        self._babysitting: asyncio.Task[None] | None = None

    @property
    def fleet(self) -> Fleet:
        """The links themselves; only values may be read from here."""
        return self._thread.fleet

    @property
    def far(self) -> Far:
        """For the catalog."""
        from ..remote.far import far_sign

        return far_sign(self._home, self.fleet)

    def start(self) -> None:
        """Begin to watch every host of hosts.toml."""
        self._thread.start()
        self._thread.post(self._refresh)

    def _refresh(self) -> None:
        self._refreshing = asyncio.get_running_loop().create_task(self._follow_file())

    async def _follow_file(self) -> None:
        """hosts.toml was changed, here or by a verb; one that cannot be read is said and changes nothing."""
        try:
            await self.fleet.refresh()
        except WavedeckError as error:
            self._app.post_message(Told(str(error), "error"))

    def close(self) -> None:
        """End the links; runs go on."""
        if self._babysitter is not None:
            with contextlib.suppress(Exception):
                self._thread.call(self._end_babysitting, END_S)
        self._thread.close()

    def babysit(self, babysitter: DeckBabysitter) -> None:
        """Have somebody watch in the fleet's loop until `close`."""
        self._babysitter = babysitter
        self._thread.post(self._begin_babysitting)

    def _begin_babysitting(self) -> None:
        assert self._babysitter is not None
        self._babysitting = asyncio.get_running_loop().create_task(self._babysitter.run(self.fleet))

    async def _end_babysitting(self) -> None:
        assert self._babysitter is not None
        self._babysitter.stop()
        if self._babysitting is not None:
            await asyncio.wait({self._babysitting}, timeout=END_S)

    def _changed(self) -> None:
        """A view may have changed; the watcher looks at its next turn."""

    # --- values

    def views(self, reading: MachineReading | None) -> tuple[HostView, ...]:
        """This machine and all others; also feeds the histories. Called from one watcher thread."""
        import msgspec

        stamp = hosts_stamp(self._home)
        if stamp != self._stamp:
            first, self._stamp = self._stamp is None, stamp
            if not first:
                self._thread.post(self._refresh)
        if reading is not None:
            self._local = msgspec.structs.replace(self._local, reading=reading, heard=reading.t)
        views = (self._local, *self.fleet.views())
        for view in views:
            newest = view.reading
            if newest is not None and newest.t > self._fed.get(view.name, 0.0):
                self._fed[view.name] = newest.t
                self._histories.setdefault(view.name, HostHistory()).add(newest)
        return views

    def history(self, name: str) -> Mapping[str, SeriesView]:
        """The newest two hours of a host's readings."""
        history = self._histories.get(name)
        return {} if history is None else history.views()

    def look_at_sessions(self) -> None:
        """This machine's tmux sessions, every few seconds. Called from one watcher thread."""
        import msgspec

        from ..remote import sessions

        if time.monotonic() - self._looked < SESSIONS_EVERY_S:
            return
        self._looked = time.monotonic()
        try:
            found = asyncio.run(sessions.list_sessions(self._here))
        except WavedeckError:
            found = ()
        self._local = msgspec.structs.replace(self._local, sessions=tuple(found))

    # --- doing

    async def do(self, name: str, work: Callable[[Host], Awaitable[T]]) -> T:
        """Do something on a host."""
        if name == LOCAL:
            return await work(self._here)
        return await self._thread.submit(lambda: work(self.fleet.host(name)))

    async def retry(self, name: str) -> None:
        """Connect now."""
        await self._thread.submit(partial(self._retry, name))

    async def _retry(self, name: str) -> None:
        self.fleet.watch(name).retry()

    async def add(self, name: str, ssh_line: str) -> None:
        """Put a host on the list and connect to it."""
        from ..remote.hosts_file import HostEntry, add_host
        from ..remote.ssh.target import parse_words

        words = parse_words(ssh_line)
        await asyncio.to_thread(add_host, self._home, HostEntry(name=name, ssh=words))
        await self._thread.submit(partial(self._rewatch, name))

    async def _rewatch(self, name: str) -> None:
        await self.fleet.drop(name)
        self.fleet.watch(name)

    async def remove(self, name: str) -> None:
        """Take a host off the list; what was mirrored stays."""
        from ..remote.hosts_file import remove_host

        await asyncio.to_thread(remove_host, self._home, name)
        await self._thread.submit(partial(self.fleet.drop, name))

    async def trust(self, name: str) -> None:
        """Ask about the key that the host shows now, beside the one that was accepted; nothing is forgotten before."""
        from ..remote.trust import trust_again

        await self._thread.submit(lambda: trust_again(self._home, name, _Asker(self._app)))
        await self.retry(name)

    async def sessions_kill(self, name: str, session: TmuxSession) -> None:
        """End a tmux session."""
        from ..remote import sessions

        await self.do(name, partial(_swapped, sessions.kill, session))
        self._looked = -1e9

    async def sessions_rename(self, name: str, session: TmuxSession, new: str) -> None:
        """Rename a tmux session."""
        from ..remote import sessions

        await self.do(name, partial(_swapped, sessions.rename, session, new))
        self._looked = -1e9

    async def sessions_new(self, name: str, new: str) -> None:
        """Make a tmux session."""
        from ..remote import sessions

        await self.do(name, partial(_swapped, sessions.create, new))
        self._looked = -1e9

    def sample_opener(self, run: RunDir) -> Callable[[Path], Opened] | None:
        """How to open sample files of a run: by ranges where it lives on another host; None for one of this machine."""
        from ..remote.far_samples import sample_opener

        return sample_opener(self._home, run, self._thread) if host_of(run) != LOCAL else None

    async def attach_argv(self, name: str, session: TmuxSession) -> list[str]:
        """A command of this machine that takes over the terminal."""
        target = session.id if session.id and not session.ours else session.name
        return [*own_command(), "tmux", name, "attach", target]

    async def with_fleet(self, work: Callable[[Fleet], Awaitable[T]]) -> T:
        """Do something with several hosts at once."""
        return await self._thread.submit(lambda: work(self.fleet))

    async def safety(self, names: Sequence[str], views: Sequence[RunView]) -> list[HostSafety]:
        """What would be lost with each of these hosts, asked of those that answer."""
        from ..remote.backup.assess import assess

        async def whole(fleet: Fleet) -> list[HostSafety]:
            return list(await asyncio.gather(*(assess(self._home, name, views, fleet) for name in names)))

        return await self.with_fleet(whole)

    async def move(
        self, run: RunDir, source: str, target: str, report: Report, *, from_scratch: bool = False
    ) -> MoveResult:
        """Go on with a run on another host; `source` is asked first, as far as it answers."""
        from ..remote.failover.move import move

        async def whole(fleet: Fleet) -> MoveResult:
            if target != LOCAL:
                await fleet.watch(target).ready(HEAR_S)
            old: Host | None = None
            if source != LOCAL:
                with contextlib.suppress(WavedeckError):
                    await fleet.watch(source).ready(LOOK_S)
                    old = fleet.host(source)
            return await move(
                self._home, run, old, fleet.host(target), report, from_scratch=from_scratch, reason="asked for"
            )

        return await self.with_fleet(whole)

    async def launch(self, name: str, wish: Wish, policy: BackupPolicy | None = None) -> LaunchResult:
        """Start a training on another host: environment and code first, told on the way."""
        from ..remote import operations
        from ..remote.provision.provision import prepare_launch
        from ..remote.ssh_host import SshHost

        taken = [view.id for view in self._app.views]

        def report(progress: Progress) -> None:
            self._app.post_message(LaunchProgress(name, progress.text, progress.done, progress.total))

        async def whole(host: Host) -> LaunchResult:
            assert isinstance(host, SshHost)
            ready = await prepare_launch(self._home, host, wish, taken=taken, report=report)
            for notice in ready.notices:
                self._app.post_message(Told(notice))
            return await operations.launch(self._home, host, ready.plan.manifest, ready.plan.attempt, policy=policy)

        return await self.do(name, whole)


async def _swapped(work: Callable[..., Awaitable[object]], *words: object) -> None:
    """`work(host, …)` as a function of the host alone, which comes last from `partial`."""
    *given, host = words
    await work(host, *given)


def hosts_stamp(home: Home) -> tuple[int, ...]:
    """Changes with every change of hosts.toml."""
    try:
        status = (home.root / "hosts.toml").stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)


class _Asker:
    """Puts the fleet's questions on screen and waits in the fleet's loop for the reply."""

    def __init__(self, app: Wavedeck) -> None:
        self._app = app

    async def ask(self, question: Question) -> str | None:
        """The reply; None when its user would rather not."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[str | None] = loop.create_future()

        def answer(text: str | None) -> None:
            def settle() -> None:
                if not reply.done():
                    reply.set_result(text)

            loop.call_soon_threadsafe(settle)

        self._app.post_message(QuestionAsked(question, answer))
        return await reply


def own_command() -> list[str]:
    """This Wavedeck, as a command."""
    return [sys.executable, "-P", "-m", "wavedeck"]


def local_facts() -> HostFacts:
    """This machine in the words of the others."""
    import platform
    import shutil

    names = ("tmux", "rsync", "git", "uv", "nvidia-smi")
    return HostFacts(
        hostname=platform.node(),
        user=os.environ.get("USER", ""),
        home=str(Home.default().root),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        cores=os.cpu_count(),
        programs={name: shutil.which(name) for name in names},
    )
