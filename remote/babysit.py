"""Babysitting: mirror, back up, tell and fail over for every active run, with nobody looking.

One loop looks every few seconds at everything that is here (the mirrors bring it) and compares it with the look before.
It runs in the fleet's event loop and does nothing there that may block: files are read in a thread, alerts go out in
threads of their own, bytes are moved by another process, a failover is a task. What fails (one host, one rule, one
sink, the disk) is said and costs only itself; the next look comes in any case.

A deck may be open beside it: runs are copied by whoever holds the lock of their host, and a deck shows `alerts.jsonl`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from ..engine.alerts.alert import Alert, Severity, make_alert
from ..engine.alerts.config import AlertConfig, load_alert_config
from ..engine.alerts.evidence import Evidence, MoveNews, MovePhase
from ..engine.alerts.rules import Rule, judge
from ..engine.catalog import Catalog
from ..engine.hosts import LOCAL, HostView, LinkState
from ..engine.journal import LIVE
from ..engine.rundir import Home
from .alerts.outbox import Patience
from .alerts.sinks import Write
from .alerts.telling import Telling, Ways
from .babysit_doing import BackupKeeper, Mover, heard, reached, sentence_of
from .babysit_lock import BabysitLock
from .babysit_parts import BabysitStatus, HostViews, Parts, Wanted
from .babysit_spending import Spending
from .daemon import in_daemon_thread
from .far import far_sign
from .fleet import Fleet
from .liveness import alive
from .local_machine import LocalMachine

T = TypeVar("T")
INTERVAL_S = 5.0
LEAST_REST_S = 0.2
LAST_LOOK_S = 0.3
FLUSH_S, END_S = 3.0, 4.0
ONCE_FLUSH_S = 30.0
REACH_S = 3.0
"""So long the first look waits for the hosts."""
TROUBLES_KEPT = 5


class Babysitter:
    """Watches every run of a home until `stop`.

    Parameters
    ----------
    fleet: links to use, which stay their owner's; by default its own, that ask nobody anything.
    parts: backup and failover; a function makes them for the fleet, whoever's it is.
    write: the terminal, for the bell.
    said: told what of the babysitter itself does not work, from any thread. `told`: told each alert that is sent.
    looked: told after each look how things stand.
    """

    def __init__(
        self,
        home: Home,
        fleet: Fleet | None = None,
        parts: Parts | Callable[[Fleet], Parts] | None = None,
        *,
        write: Write | None = None,
        said: Callable[[str], None] = lambda sentence: None,
        told: Callable[[Alert], None] = lambda alert: None,
        looked: Callable[[BabysitStatus], None] = lambda status: None,
        rules: tuple[Rule, ...] | None = None,
        patience: Patience | None = None,
        gives_way: bool = False,
    ) -> None:
        self.home = home
        self._fleet = fleet if fleet is not None else Fleet(home)
        self._owns_fleet = fleet is None
        self._parts = parts(self._fleet) if callable(parts) else parts or Parts()
        self._ways = Ways(write, said, told, patience)
        self._said, self._looked_at, self._rules = said, looked, rules
        self._lock = BabysitLock(home)
        self._gives_way = gives_way
        self._machine = LocalMachine()
        self._since = time.time()
        self._ending = asyncio.Event()
        self._turn = asyncio.Event()
        self._telling: Telling | None = None
        self._catalog: Catalog | None = None
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._evidence = Evidence(0.0)
        self._once = False
        """What takes longer than a look (copying, moving, stopping) is not begun in one."""
        self._troubles: dict[str, str] = {}
        self._backup = BackupKeeper(self._parts.start_backup, self._note)
        self._mover = Mover(self._parts.failover, self._note, self._turn.set)
        self._spending = Spending(self._parts.stop, self._note, self._turn.set)

    # --- from outside

    def stop(self) -> None:
        """End after what is under way, within seconds. To be called in its loop."""
        self._ending.set()
        self._turn.set()

    @property
    def status(self) -> BabysitStatus:
        """How things stand."""
        telling = self._telling
        memory = telling.memory if telling else None
        evidence = self._evidence
        return BabysitStatus(
            pid=os.getpid(),
            since=self._since,
            looked=memory.looked if memory else None,
            watching=tuple(view.id for view in evidence.runs if view.state.active),
            hosts=tuple((host.name, str(host.link)) for host in evidence.hosts if not host.is_local),
            problems=tuple(one.title for one in memory.open.values()) if memory else (),
            told=telling.count if telling else 0,
            last_alert=telling.last_alert if telling else None,
            backup=self._backup.words,
            sinks=telling.sinks() if telling else (),
            troubles=tuple(self._troubles.values())[-TROUBLES_KEPT:],
        )

    async def run(self, once: bool = False, interval_s: float = INTERVAL_S) -> None:
        """Watch until `stop`; with `once`, hear every host, look once, and deliver what there is to tell.

        Raises
        ------
        UsageError: another babysitter watches this home. WavedeckError: `alerts.toml` is wrong, the home not writable.
        """
        config = load_alert_config(self.home)
        self._once = once
        if self._gives_way:
            self._lock.take(gives_way=True)
        else:
            await self._lock.take_over()
        try:
            self._begin(config)
            await self._guarded("hosts", self._follow_hosts())
            await self._unless_ended(heard(self._fleet) if once else reached(self._fleet, REACH_S))
            while True:
                began = time.monotonic()
                await self._look_unless_ended()
                self._looked_at(self.status)
                if once or self._ending.is_set():
                    break
                self._turn.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(LEAST_REST_S, interval_s - (time.monotonic() - began))):
                        await self._turn.wait()
                if self._ending.is_set():
                    break
        finally:
            await self._end(ONCE_FLUSH_S if once and not self._ending.is_set() else FLUSH_S)

    # --- beginning and end

    def _begin(self, config: AlertConfig) -> None:
        self._catalog = Catalog(self.home, alive, far=far_sign(self.home, self._fleet))
        self._telling = Telling(self.home, config, self._ways)
        self._note("ledger", self._telling.problem)

    async def _end(self, flush_s: float) -> None:
        """Everything at once, since a supervisor of services kills what takes long."""
        self._spending.cancel()
        self._machine.close()
        endings: list[Coroutine[Any, Any, Any]] = []
        if self._telling is not None:
            telling = self._telling
            endings.append(in_daemon_thread(lambda: telling.close(flush_s)))
        endings.append(self._mover.end(FLUSH_S))
        endings.append(in_daemon_thread(self._backup.close))
        if self._owns_fleet:
            endings.append(self._fleet.close())
        if endings:
            pending = [asyncio.ensure_future(one) for one in endings]
            await asyncio.wait(pending, timeout=max(END_S, flush_s + 1.0))
            for one in pending:
                one.cancel()
        if self._telling is not None:
            self._telling.save()
        self._lock.release()

    # --- one look

    async def _look_unless_ended(self) -> None:
        """A look, which a disk that hangs may hold up for ever; the end does not wait for that."""
        look = asyncio.ensure_future(self._guarded("look", self._look()))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({look, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not look.done():
                await asyncio.wait({look}, timeout=LAST_LOOK_S)
        finally:
            look.cancel()
            ending.cancel()

    async def _look(self) -> None:
        assert self._telling is not None
        await self._guarded("hosts", self._follow_hosts())
        await self._guarded("alerts", self._follow_config())
        if not self._once:
            await self._backup.keep()
        seen = self._fleet.views()
        self._mover.follow(seen)
        evidence, wanted = await in_daemon_thread(lambda: self._read(seen), "babysitter")
        news = self._mover.news()
        refused = [
            MoveNews(one.run, MovePhase.REFUSED, one.to, evidence.now, one.reason) for one in wanted if one.refused
        ]
        self._evidence = evidence = replace(
            evidence, moves=(*news, *refused), fenced=tuple(self._mover.fenced()), fences=tuple(self._mover.fences()),
            stops=tuple(self._spending.news()),
        )  # fmt: skip
        judged = judge(evidence, self._telling.memory, self._rules)
        self._note("rules", " ".join(judged.broken) or None)
        self._telling.tell(judged, evidence.now)
        self._note("ledger", self._telling.problem)
        if not self._once:
            self._mover.begin(wanted)
            self._spending.look(evidence)

    def _read(self, seen: HostViews) -> tuple[Evidence, tuple[Wanted, ...]]:
        """All that is on disk here; in a thread, one at a time. One source that fails costs what it knows."""
        assert self._catalog is not None
        views = tuple(self._catalog.views(LIVE))
        while self._catalog.more:
            views = tuple(self._catalog.views(LIVE))
        hosts = (*seen, self._here())
        now = time.time()
        parts = self._parts
        backups = self._asked("copies", lambda: parts.backups(self.home, views, hosts) if parts.backups else ())
        budgets = self._asked("budgets", lambda: parts.budgets(self.home, views) if parts.budgets else ())
        wanted = self._asked("failover", lambda: tuple(parts.failover.look(views, hosts)) if parts.failover else ())
        evidence = Evidence(now, views, hosts, tuple(backups or ()), self._backup.problem, budgets=tuple(budgets or ()))
        return evidence, tuple(wanted or ())

    def _here(self) -> HostView:
        """This machine as a host."""
        reading = self._machine.reading(self.home.root)
        return HostView(LOCAL, link=LinkState.CONNECTED, since=self._since, heard=reading.t, reading=reading)

    def _asked(self, what: str, ask: Callable[[], T]) -> T | None:
        try:
            answer = ask()
        except Exception as error:
            self._note(what, sentence_of(what, error))
            return None
        self._note(what, None)
        return answer

    # --- what is followed

    async def _follow_hosts(self) -> None:
        """hosts.toml, at the beginning and whenever it changes."""
        stamp = _stamp(self.home, "hosts.toml")
        if self._stamps.get("hosts") != stamp:
            await self._fleet.refresh()
            self._stamps["hosts"] = stamp

    async def _follow_config(self) -> None:
        """alerts.toml, whenever it changes; one that is wrong changes nothing and is said."""
        assert self._telling is not None
        self._telling.follow_config()

    async def _unless_ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Before the first look: wait for the hosts, or for the end."""
        waiting = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        ending.cancel()

    # --- what goes wrong

    async def _guarded(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        """One part of a look; what fails is said, and the rest goes on."""
        try:
            await work
        except Exception as error:
            self._note(what, sentence_of(what, error))
        else:
            self._note(what, None)

    def _note(self, what: str, sentence: str | None) -> None:
        """Remember what does not work; it is said when it is new."""
        if sentence is None:
            self._troubles.pop(what, None)
        elif self._troubles.get(what) != sentence:
            self._troubles[what] = sentence
            self._said(sentence)


def _stamp(home: Home, name: str) -> tuple[int, ...]:
    try:
        status = (home.root / name).stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def trial_alert(now: float) -> Alert:
    """What `--test-alerts` sends."""
    text = "If you read this, alerts of Wavedeck reach you."
    return make_alert("test/alert", Severity.WARNING, "this is a test", text, t=now)


def babysit(sitter: Babysitter, *, once: bool = False, interval_s: float = INTERVAL_S) -> None:
    """Run a babysitter in this thread until it is done, SIGTERM or SIGINT; a second signal ends it at once.

    Raises
    ------
    WavedeckError: as `Babysitter.run`.
    """

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        asked = 0

        def end() -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                os._exit(130)
            sitter.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, end)
        await sitter.run(once, interval_s)

    asyncio.run(whole())
