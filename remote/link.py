"""The link to one host: a state machine that connects, listens, notices loss, and connects again by itself.

    connecting → connected ⇄ slow → reconnecting (after 0.5 s, 1 s, … 30 s, with jitter) → connecting
                     ⇅ paused (the disk here is full, or the process that mirrors has stopped)
    refused, unknown host key, host key changed: tried again every half minute, since the cause may go away by itself;
    nothing is sent to a host whose key is not trusted.

A link that is down says nothing about the runs on that host: only the records that the host's supervisors wrote, and
the agent's look at the process table, do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.errors import WavedeckError
from ..engine.format import plain
from ..engine.hosts import HostView, LinkRecord, LinkState
from ..engine.rundir import Home
from .agent_client import AgentClient, NoPython
from .bundle import posix_command, posix_input
from .host import LinkDown
from .host_picture import Picture
from .link_news import FRESH_S, MirrorLock, is_fresh, link_record, write_link_record
from .mirror import Mirror, MirrorFull
from .posix_reading import BlockReader

if TYPE_CHECKING:
    from .hosts_file import HostEntry
    from .ssh.connection import Connection

Connect = Callable[[], Awaitable["Connection"]]
ACK_BYTES = 192 << 10
"""Acknowledged at once; the agent has a credit of 1 MiB."""
ACK_S = 0.05
ASKING_S = 0.25
"""How often a waiter looks whether a question has come up meanwhile."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Every waiting time of a link, in seconds."""

    ping_s: float = 2.0
    slow_s: float = 3.0
    """A question unanswered for that long makes the link slow."""
    lost_s: float = 9.0
    """Unanswered for that long it is lost, whatever TCP believes."""
    first_retry_s: float = 0.5
    longest_retry_s: float = 30.0
    refused_retry_s: float = 30.0
    settled_s: float = 3.0
    """Connected for that long, the first retry after its loss is a quick one."""
    python_retry_s: float = 60.0
    record_s: float = 3.0
    lock_s: float = 1.0


class Link:
    """One host as this process sees it.

    Parameters
    ----------
    connect: opens a connection, or raises LinkDown.
    mirrors: whether this process may copy the host's runs.
    changed: called (in the event loop) whenever the view may have changed.
    """

    def __init__(
        self,
        home: Home,
        entry: HostEntry,
        connect: Connect,
        *,
        target: str = "",
        rhythm: Rhythm | None = None,
        mirrors: bool = True,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self.home = home
        self.entry = entry
        self.name = entry.name
        self.target = target
        self.mirror = Mirror(home, entry.name)
        self.picture = Picture()
        self.state = LinkState.OFF
        self.reason: str | None = None
        self.agent: AgentClient | None = None
        self.connection: Connection | None = None
        self.failure: WavedeckError | None = None
        self.python = "python3"
        """The interpreter the agent runs under, and supervisors will."""
        self.asking = 0
        """Questions to the user that are open because of this link."""
        self.declined: set[tuple[str, str]] = set()
        """Questions that its user left: they are not put again until they `retry`."""
        self._connect = connect
        self._rhythm = rhythm or Rhythm()
        self._mirrors = mirrors
        self._changed = changed or (lambda: None)
        self._since = time.time()
        self._retry_at: float | None = None
        self._mirroring = False
        self._lock = MirrorLock(home, entry.name)
        self._locked_out: float | None = None
        self._written = -1e9
        self._recorded: tuple[LinkState, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_up = False
        self._nudge = asyncio.Event()
        self._news = asyncio.Event()
        self._later_ack: asyncio.TimerHandle | None = None

    # --- from outside

    def start(self) -> None:
        """Begin to connect, and keep at it until `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"link to {self.name}")

    async def stop(self) -> None:
        """Close everything. Runs go on."""
        task, self._task = self._task, None
        while task is not None and not task.done():  # a cancellation may meet a step that swallows it
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        self._lock.release()
        self.mirror.close()

    def retry(self) -> None:
        """Try now instead of at the next turn, and ask again what was left unanswered."""
        self.declined.clear()
        self._nudge.set()

    async def ready(self, timeout_s: float) -> AgentClient:
        """The agent, once there is one. While the link's user is being asked something the clock stands still.

        Raises
        ------
        LinkDown: the reason, as soon as one is known that waiting does not mend, or after `timeout_s`.
        """
        left = timeout_s
        while left > 0:
            if self.agent is not None and not self.agent.closed.is_set():
                return self.agent
            if self.failure is not None and self.state is not LinkState.CONNECTING:
                raise self.failure
            began, asked = time.monotonic(), self.asking
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, ASKING_S)):
                    await self._news.wait()
            if not asked:
                left -= time.monotonic() - began
        raise self.failure or LinkDown(self.name, f"{self.name} does not answer within {timeout_s:g} s.")

    def view(self) -> HostView:
        """Everything known, as a value."""
        picture, entry = self.picture, self.entry
        return HostView(
            name=self.name,
            target=self.target,
            link=self.state,
            reason=self.reason,
            since=self._since,
            retry_at=self._retry_at,
            latency_ms=picture.latency_ms,
            skew_s=picture.skew_s,
            heard=picture.heard,
            facts=picture.facts,
            reading=picture.reading,
            processes=picture.processes,
            sessions=picture.sessions,
            notices=(*picture.notices, *self.mirror.notices),
            mirrored_runs=self.mirror.runs,
            mirror_behind=self.mirror.behind,
            price_per_hour=entry.price_per_hour,
            ends=entry.ends,
            gpu_idle_since=picture.gpu_idle_since,
        )

    @property
    def mirroring(self) -> bool:
        """Whether this process is the one that copies this host's runs."""
        return self._mirroring

    # --- the machine

    async def _run(self) -> None:
        delay = self._rhythm.first_retry_s
        try:
            while True:
                self._nudge.clear()
                self._set(LinkState.CONNECTING, self.reason)
                state = await self._once()
                if self._was_up:
                    delay = self._rhythm.first_retry_s
                self._was_up = False
                pause = self._rhythm.refused_retry_s if state.needs_user else delay * random.uniform(0.5, 1.0)
                delay = min(2 * delay, self._rhythm.longest_retry_s)
                self._retry_at = time.time() + pause
                self._set(state, str(self.failure))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._nudge.wait()
                        delay = self._rhythm.first_retry_s
        finally:
            self._set(LinkState.OFF, None)

    async def _once(self) -> LinkState:
        """One connection from its beginning to its end; the state that its end leads to."""
        state = LinkState.RECONNECTING
        try:
            await self._serve(await self._connect())
        except LinkDown as error:
            self.failure, state = error, error.link
        except (WavedeckError, MirrorFull, OSError) as error:
            self.failure = LinkDown(self.name, str(error) or type(error).__name__)
        except Exception as error:  # a defect here must not leave a link that looks alive
            self.failure = LinkDown(self.name, f"{self.name}: {type(error).__name__}: {plain(str(error), 200)}.")
        return LinkState.RECONNECTING if state.up else state

    async def _serve(self, connection: Connection) -> None:
        """Everything between a connection and its loss. Always ends by an exception."""
        self.connection = connection
        try:
            await self._with_agent(connection)
        except NoPython as error:
            await self._without_python(connection, str(error))
        finally:
            agent, self.agent, self.connection = self.agent, None, None
            self.mirror.detach()
            self._mirroring = False
            self._lock.release()
            connection.abort()
            if agent is not None:
                agent.end()

    async def _with_agent(self, connection: Connection) -> None:
        options = {} if self.entry.home is None else {"home": self.entry.home}
        agent = await self._started(connection, options)
        self.agent = agent
        self.picture.begin(agent.facts)
        self.failure = None
        self._retry_at = None
        self._locked_out = None
        self._set(LinkState.CONNECTED, None)
        await self._attend(agent, connection)

    async def _started(self, connection: Connection, options: dict[str, Any]) -> AgentClient:
        """An agent under `python3`, or under the interpreter that hosts.toml names where there is none."""
        try:
            agent = await AgentClient.start(connection, self._take, options)
            self.python = "python3"
        except NoPython:
            if not self.entry.python:
                raise
            agent = await AgentClient.start(connection, self._take, options, self.entry.python)
            self.python = self.entry.python
        return agent

    async def _without_python(self, connection: Connection, why: str) -> None:
        """Show what POSIX tools can tell; now and then look whether Python has come. Always ends by an exception."""
        process = await connection.open(posix_command())
        process.stdin.write(posix_input())
        reader = BlockReader()
        self.picture.begin(None)
        self.failure = LinkDown(self.name, f"{why} Until then only its load can be shown.")
        began = time.monotonic()
        try:
            while time.monotonic() - began < self._rhythm.python_retry_s:
                async with asyncio.timeout(self._rhythm.lost_s):
                    data = await process.stdout.read(1 << 16)
                if not data:
                    lost = connection.why or "its shell ended"
                    raise LinkDown(self.name, f"the link to {self.name} was lost: {lost}.")
                self.picture.hear()
                for block in reader.feed(data):
                    self.picture.take_block(block)
                    process.stdin.write(b"\n")  # it ends by itself when nobody is there any more
                    self._changed()
                self._set(LinkState.LIMITED, why)
                self._record()
        except TimeoutError:
            raise LinkDown(self.name, f"{self.name} has not answered for {self._rhythm.lost_s:.0f} s.") from None
        finally:
            process.close()
        self._nudge.set()
        raise LinkDown(self.name, why)

    async def _attend(self, agent: AgentClient, connection: Connection) -> None:
        """Ask for signs of life and keep the copies going, until the link is lost."""
        asked: asyncio.Task[None] | None = None
        began = time.monotonic()
        due, looked, synced = 0.0, -1e9, began
        try:
            while True:
                now = time.monotonic()
                if agent.closed.is_set():
                    why = connection.why if connection.closed.is_set() else agent.why
                    raise LinkDown(self.name, f"the link to {self.name} was lost: {why or agent.why}.")
                if now >= due and (asked is None or asked.done()):
                    due = now + self._rhythm.ping_s
                    asked = asyncio.get_running_loop().create_task(self._ping(agent))
                silent = self.picture.silent_s
                if silent > self._rhythm.lost_s:
                    raise LinkDown(self.name, f"{self.name} has not answered for {silent:.0f} s.")
                if self._mirrors and not self._mirroring and now - looked >= self._rhythm.lock_s:
                    looked = now
                    await self._begin_to_mirror(agent)
                if self.mirror.full is not None:
                    self.mirror.try_again()
                self._set(*self._standing(silent))
                self._was_up = self._was_up or now - began >= self._rhythm.settled_s
                if now - synced >= 1.0:
                    synced = now
                    await self.mirror.sync()
                self._record()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await agent.closed.wait()
        finally:
            if asked is not None:
                asked.cancel()

    def _standing(self, silent: float) -> tuple[LinkState, str | None]:
        if silent > self._rhythm.slow_s:
            return LinkState.SLOW, f"no answer for {silent:.0f} s"
        if self.mirror.full is not None:
            return LinkState.PAUSED, self.mirror.full
        holder = self._silent_holder()
        if holder is not None:
            return LinkState.PAUSED, f"another process here (pid {holder}) mirrors {self.name}, and is silent."
        return LinkState.CONNECTED, None

    def _silent_holder(self) -> int | None:
        """The process that has the lock and does not tell (it was stopped with Ctrl-Z); None when all is well."""
        if self._locked_out is None or time.monotonic() - self._locked_out < FRESH_S:
            return None
        record = link_record(self.home, self.name)
        return record.pid if record is not None and record.pid != os.getpid() and not is_fresh(record) else None

    async def _ping(self, agent: AgentClient) -> None:
        began, wall = time.monotonic(), time.time()
        with contextlib.suppress(WavedeckError):
            header, _ = await agent.ask("ping", timeout_s=60)
            self.picture.trip(time.monotonic() - began, wall, header.get("t"))
            self.mirror.skew_s = self.picture.skew_s or 0.0
            self.picture.hear()

    async def _begin_to_mirror(self, agent: AgentClient) -> None:
        """Copy this host's runs, unless another process here does already."""
        if not self._lock.take():
            self._locked_out = self._locked_out or time.monotonic()
            return
        self._locked_out = None
        self._mirroring = True
        self.mirror.skew_s = self.picture.skew_s or 0.0
        await self.mirror.attach(agent.send)

    # --- what arrives

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        """Something the agent said without being asked."""
        self.picture.hear()
        if self.picture.take(header):
            self._changed()
        elif self._mirroring:
            self.mirror.take(header, payload)
            self._acknowledge()
            if self.mirror.news:
                self.mirror.news = False
                self._record(now=True)

    def _acknowledge(self) -> None:
        """Many small frames have one acknowledgement: each costs both sides as much as a frame does."""
        if self.mirror.unacknowledged >= ACK_BYTES:
            self.mirror.acknowledge()
        elif self.mirror.unacknowledged and self._later_ack is None:
            self._later_ack = asyncio.get_running_loop().call_later(ACK_S, self._acknowledge_rest)

    def _acknowledge_rest(self) -> None:
        self._later_ack = None
        with contextlib.suppress(WavedeckError):  # the link is gone: the next one begins with nothing under way
            self.mirror.acknowledge()

    # --- what others are told

    def _set(self, state: LinkState, reason: str | None) -> None:
        if state is not self.state:
            self._since = time.time()
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self._record(now=True)
        self._changed()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _record(self, *, now: bool = False) -> None:
        """Tell other processes here: at once what is new, and every few seconds that we are there."""
        clock = time.monotonic()
        if not self._mirrors or not (now or clock - self._written >= self._rhythm.record_s):
            return
        if not self._lock.held and self._other_tells():
            return
        self._written = clock
        record = LinkRecord(
            pid=os.getpid(),
            written=time.time(),
            link=self.state,
            reason=self.reason,
            since=self._since,
            retry_at=self._retry_at,
            latency_ms=self.picture.latency_ms,
            skew_s=self.picture.skew_s,
            heard=self.picture.heard,
            signs=self.mirror.signs() if self._mirroring else {},
            gpu_idle_since=self.picture.gpu_idle_since,
        )
        write_link_record(self.home, self.name, record)

    def _other_tells(self) -> bool:
        """Whether another process mirrors this host, and so tells about it."""
        record = link_record(self.home, self.name)
        return record is not None and record.pid != os.getpid() and record.link.up and is_fresh(record)
