"""The deck babysits while it is open, unless another process does: backup, alerts, failover, in the fleet's thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..engine.alerts.alert import Alert
from ..engine.alerts.ledger import LOG, STATE, open_problems, read_alerts
from ..engine.errors import UsageError, WavedeckError
from ..engine.rundir import Home
from ..remote.babysit_lock import babysitter_of, is_wanted
from .messages import AlertsSeen, AlertTold, BellRung, Told

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from ..remote.babysit import Babysitter
    from ..remote.babysit_parts import Worker
    from ..remote.backup.worker import WorkerHandle
    from ..remote.fleet import Fleet

PATIENCE_S = 60.0
"""A deck moves runs by itself that much later than a babysitter elsewhere does: it may be closed amid a move."""
AGAIN_S = 30.0
"""How often it is tried whether the one who babysits has ended."""
END_S = 6.0
LOOK_S = 1.0
MOST_TOLD = 3
"""Alerts of another babysitter that one look puts on screen; all of them stand on the alerts screen."""


class DeckBabysitter:
    """Runs in the fleet's loop; what it has to say is posted to the app."""

    def __init__(self, app: MessagePump, home: Home, wanted: Callable[[], bool]) -> None:
        self._app = app
        self._home = home
        self._ending = asyncio.Event()
        self._sitter: Babysitter | None = None
        self._trouble = ""
        self.backup = DeckBackup(home, wanted)

    @property
    def watches(self) -> bool:
        """Whether it is this deck that babysits."""
        return self._sitter is not None

    async def run(self, fleet: Fleet) -> None:
        """Babysit until `stop`, whenever nobody else does."""
        from ..remote.babysit import Babysitter
        from ..remote.babysit_failover import own_parts

        self.backup.fleet = fleet
        while not self._ending.is_set():
            if babysitter_of(self._home) is None:
                parts = replace(own_parts(self._home, fleet, PATIENCE_S), start_backup=self.backup.start)
                sitter = Babysitter(
                    self._home, fleet, parts, write=self._ring, said=self._say, told=self._tell, gives_way=True
                )
                self._sitter = sitter
                giving_way = asyncio.create_task(self._give_way(sitter))
                try:
                    await sitter.run()
                except UsageError as error:  # somebody was faster, or alerts.toml is wrong
                    if babysitter_of(self._home) is None:
                        self._say(str(error))
                except WavedeckError as error:
                    self._say(str(error))
                except Exception as error:  # nobody sees this task die
                    self._say(f"the watch failed ({type(error).__name__}: {error}); it is begun again.")
                finally:
                    giving_way.cancel()
                    self._sitter = None
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def _give_way(self, sitter: Babysitter) -> None:
        """`wavedeck babysit` was started: it goes on when the deck is closed, so it is the better one."""
        while not is_wanted(self._home):
            await asyncio.sleep(LOOK_S)
        sitter.stop()

    def stop(self) -> None:
        """End. To be called in the fleet's loop."""
        self._ending.set()
        if self._sitter is not None:
            self._sitter.stop()

    def _tell(self, alert: Alert) -> None:
        self._app.post_message(AlertTold(alert))

    def _say(self, sentence: str) -> None:
        """What of the babysitter itself does not work, once."""
        if sentence != self._trouble:
            self._trouble = sentence
            self._app.post_message(Told(sentence, "warning"))

    def _ring(self, text: str) -> None:
        """The deck has the terminal: what would be drawn over it becomes Textual's own bell."""
        if "\a" in text:
            self._app.post_message(BellRung())


class DeckBackup:
    """The backup's process as a babysitter keeps it. It is started once there is something to back up, with the
    passwords of this session, and started again when there is a new one.

    Parameters
    ----------
    wanted: whether any run is to be backed up.
    """

    def __init__(self, home: Home, wanted: Callable[[], bool]) -> None:
        self._home = home
        self._wanted = wanted
        self._handle: WorkerHandle | None = None
        self._passwords: dict[str, str] = {}
        self._held = 0
        self._lock = threading.Lock()
        self.fleet: Fleet | None = None

    def start(self) -> Worker:
        """Start it if there is anything to do. Blocks; called in a thread."""
        from ..remote.backup.worker import start_worker

        with self._lock:
            self._end()
            if self._wanted() and not self._held:
                self._passwords = self._known_passwords()
                self._handle = start_worker(self._home, {"passwords": self._passwords})
        return self

    def _known_passwords(self) -> dict[str, str]:
        return {} if self.fleet is None else self.fleet.passwords()

    def alive(self) -> bool:
        """Whether all is as it should be."""
        if self._held:
            return True
        if self._handle is not None and self._handle.alive:
            return self._passwords == self._known_passwords()
        from ..remote.backup.worker import holder

        return holder(self._home) is not None or (self._handle is None and not self._wanted())

    def gave_way(self) -> bool:
        """Whether it is to be started (again) without a word: nothing has gone wrong."""
        from ..engine.errors import ExitCode

        handle = self._handle
        return handle is None or handle.alive or handle.status == ExitCode.USAGE

    def close(self) -> None:
        """End it. Blocks for a moment at most: it ends by itself once its standard input does."""
        ending = threading.Thread(target=self._close, name="backup's end", daemon=True)
        ending.start()
        ending.join(1.0)

    def _close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.stop()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The backup's lock for this process: its own worker rests meanwhile.

        Raises
        ------
        UsageError: another process backs up.
        """
        from ..remote.backup.worker import BackupLock

        self._held += 1
        try:
            await asyncio.to_thread(self._close)
            with BackupLock(self._home):
                yield
        finally:
            self._held -= 1


class AlertsLook:
    """Reads what stands in `alerts.jsonl` when it grew, whoever writes it; for a `CallWatcher`.

    Alerts of another babysitter come on screen from here; those of this deck are told by its own.
    """

    def __init__(self, app: MessagePump, home: Home, watches: Callable[[], bool]) -> None:
        self._app = app
        self._home = home
        self._watches = watches
        self._since = time.time()
        self._stamp: object = None

    def look(self) -> float:
        """Post what is new; the seconds to rest."""
        holder = babysitter_of(self._home)
        words = self._words(holder.pid if holder is not None else None)
        stamp = (_stamp(self._home, LOG), _stamp(self._home, STATE), words)
        if stamp == self._stamp:
            return LOOK_S
        self._stamp = stamp
        alerts = read_alerts(self._home)
        problems = open_problems(self._home) if holder is not None else []
        self._app.post_message(AlertsSeen(alerts, problems, words))
        if holder is not None and not self._watches():
            new = [alert for alert in alerts if alert.t > self._since]
            for alert in new[-MOST_TOLD:]:
                self._app.post_message(AlertTold(alert))
        if alerts:
            self._since = max(self._since, alerts[-1].t)
        return LOOK_S

    def _words(self, pid: int | None) -> str:
        if self._watches():
            return "this deck watches while it is open"
        if pid is not None:
            return f"process {pid} watches" if pid else "another process watches"
        return "nobody watches"


def _stamp(home: Home, name: str) -> tuple[int, ...]:
    try:
        status = (home.root / name).stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)
