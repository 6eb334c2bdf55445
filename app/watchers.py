"""The deck's eyes: threads that read files and post what they saw. They never draw and never wait for the screen.

Each has a name; a failure ends in a `WatchFailed` on screen and the watcher goes on trying, so a directory that comes
back (a remounted disk) heals by itself.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..engine.backup.places import places
from ..engine.backup.policy import policy_words, read_policy
from ..engine.catalog import Catalog
from ..engine.console import ConsoleReader
from ..engine.errors import WavedeckError
from ..engine.feed import RunFeed
from ..engine.journal import LIVE
from ..engine.machine_series import MachineFeed
from ..engine.run_view import RunView
from ..engine.rundir import Home, RunDir
from ..remote.backup.state import RunBackup, read_state
from ..widgets.backup_line import Copying
from .messages import CheckpointsSeen, ConsoleSeen, MachineHistorySeen, RunPicture, RunSeen, RunsSeen, WatchFailed

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

RUNS_EVERY_S = 0.5
COPYING_EVERY_S = 0.25
FRAME_S = 0.1
"""Frames are capped at ten a second, however fast rows arrive; data never is."""
SLOWEST_FRAME_S = 0.4
"""Even where a frame is dear (many charts, a slow machine) the newest row is not older than this."""
FRAME_SHARE = 0.025
"""Part of one core that drawing may take: the dearer a frame, the fewer of them."""
FRAMES_AVERAGED = 4
RETRY_S = 2.0


class Watcher(threading.Thread):
    """A named daemon thread that calls `look` until it is stopped."""

    def __init__(self, name: str, target: MessagePump) -> None:
        super().__init__(name=name, daemon=True)
        self.target = target
        self._ended = threading.Event()
        self._nudged = threading.Event()
        self._going = threading.Event()
        self._going.set()

    def stop(self) -> None:
        """End after the current look."""
        self._ended.set()
        self._going.set()
        self._nudged.set()

    def pause(self) -> None:
        """Look at nothing until `go_on`: nobody is there to take what would be posted."""
        self._going.clear()

    def go_on(self) -> None:
        """Look again, at once. What was read before is kept."""
        self._going.set()
        self._nudged.set()

    def nudge(self) -> None:
        """Look now instead of at the next turn."""
        self._nudged.set()

    def run(self) -> None:
        """Look, rest, look again; failures become words on screen, once each."""
        told = ""
        while self._going.wait() and not self._ended.is_set():
            try:
                rest = self.look()
                told = ""
            except Exception as error:  # a thread that dies silently would leave an old picture that looks alive
                rest = RETRY_S
                known = isinstance(error, OSError | WavedeckError)
                sentence = str(error) if known else f"{type(error).__name__}: {error}"
                if sentence != told:
                    told = sentence
                    self.target.post_message(WatchFailed(self.name, told))
            self._nudged.wait(rest)
            self._nudged.clear()

    def look(self) -> float:
        """Read and post what is new; returns the seconds to rest."""
        raise NotImplementedError


class RunsWatcher(Watcher):
    """Keeps the list of all runs true."""

    def __init__(self, catalog: Catalog, target: MessagePump) -> None:
        super().__init__("runs", target)
        self._catalog = catalog
        self._seen: tuple[RunView, ...] | None = None

    def look(self) -> float:
        """Post the list when anything in it changed."""
        views = tuple(self._catalog.views(LIVE))
        if views != self._seen:
            self._seen = views
            self.target.post_message(RunsSeen(views))
        return 0.05 if self._catalog.more else RUNS_EVERY_S


class RunWatcher(Watcher):
    """Reads one run's metrics from first paint to the newest row."""

    def __init__(self, run: RunDir, target: MessagePump) -> None:
        super().__init__(f"metrics of {run.id}", target)
        self.run_dir = run
        self._feed = RunFeed(run)
        self._posted = 0.0
        self._pending = True
        self._frame_cost_s = 0.0

    def drawn(self, cost_s: float) -> None:
        """A picture was drawn and took so much CPU time; the next one waits accordingly. From the screen's thread."""
        self._frame_cost_s += (cost_s - self._frame_cost_s) / FRAMES_AVERAGED

    @property
    def frame_s(self) -> float:
        """Seconds from one picture to the next."""
        return min(max(self._frame_cost_s / FRAME_SHARE, FRAME_S), SLOWEST_FRAME_S)

    def look(self) -> float:
        """Read one budget's worth; post at most ten pictures a second, fewer where they are dear."""
        changed = self._feed.poll()
        self._pending = self._pending or changed
        now = time.monotonic()
        settled = not self._feed.more
        if self._pending and (settled or now - self._posted >= 3 * FRAME_S):
            self._posted = now
            self._pending = False
            self.target.post_message(RunSeen(RunPicture(self.run_dir.id, self._feed.views(), self._feed.loading)))
        return self.frame_s if settled else 0.002


class ConsoleWatcher(Watcher):
    """Follows what one run prints, within a budget: a flood is skipped over and said, never chased."""

    def __init__(self, run: RunDir, target: MessagePump) -> None:
        super().__init__(f"console of {run.id}", target)
        self._run_id = run.id
        self._reader = ConsoleReader(run.console)
        self._first = True

    def look(self) -> float:
        """Post the lines when they changed; an absent console is posted once, so that it can be said."""
        if self._reader.poll() or self._first:
            self._first = False
            self.target.post_message(ConsoleSeen(self._run_id, self._reader.picture()))
        return FRAME_S / 4 if self._reader.more else FRAME_S


class MachineWatcher(Watcher):
    """Reads one run's machine readings."""

    def __init__(self, run: RunDir, target: MessagePump) -> None:
        super().__init__(f"machine of {run.id}", target)
        self._run_id = run.id
        self._feed = MachineFeed(run)

    def look(self) -> float:
        """Post the whole history when it grew."""
        if self._feed.poll():
            self.target.post_message(MachineHistorySeen(self._run_id, self._feed.views()))
        return RUNS_EVERY_S


class CheckpointsWatcher(Watcher):
    """Reads where one run's checkpoints are and what the backup does for it."""

    def __init__(self, view: Callable[[], RunView | None], run: RunDir, target: MessagePump) -> None:
        super().__init__(f"checkpoints of {run.id}", target)
        self._view = view
        self._run = run
        self._home = Home(run.path.parent.parent)
        self._posted: object = None

    def look(self) -> float:
        """Post the rows when anything in them changed."""
        view = self._view()
        if view is None:
            return FRAME_S
        rows = places(view)
        state = read_state(self._home)
        copying = copying_of(state.runs.get(view.id, RunBackup())) if state is not None and state.fresh else None
        policy = shlex.join(policy_words(read_policy(self._home, self._run)))
        picture = (rows, copying, policy)
        if picture != self._posted:
            self._posted = picture
            self.target.post_message(CheckpointsSeen(self._run.id, rows, copying, policy))
        return RUNS_EVERY_S if copying is None or copying.what is None else COPYING_EVERY_S


def copying_of(now: RunBackup) -> Copying:
    """What the backup says of a run, for the line under its checkpoints."""
    return Copying(now.doing, now.bytes, now.total, now.rate, now.eta_s, now.error, now.second_error)


class CallWatcher(Watcher):
    """Calls a function again and again and hands its result to `deliver` in this thread."""

    def __init__(self, name: str, target: MessagePump, look: Callable[[], float]) -> None:
        super().__init__(name, target)
        self._look = look

    def look(self) -> float:
        """Call it."""
        return self._look()
