"""All followed runs: who is looked at when, and whose bytes go next.

What is live and small goes before any backfill, backfills take turns, and no more than the client's credit is ever
under way: a run that has a gigabyte to catch up on delays nobody. Runs that have ended are looked at rarely, and less
often the more they are, so that a full home costs no more than a few runs.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

from .agent_files import RUN_ID, run_id
from .agent_frames import MIRROR, Frame, Output
from .agent_run import FollowedRun

ACTIVE_S = 0.08
QUIET_S = 2.0
QUIET_SHARE = 0.01
"""Of one core, for all runs that have ended."""
QUIET_SLICE = 50
WATCH_S = 0.5
RESCAN_S = 10.0
BEHIND_S = 1.0
FIRST_LOOK_S = 0.02
"""How long one turn may spend on runs that are new to it."""
QUEUE_BYTES = 256 << 10
"""No more than this waits to be written: what goes next is decided late."""
RECORD_BYTES = 4 << 20
LIVE_BYTES = 64 << 10
LIVE_SHARE = 8
"""One part in so many of the credit is kept for live lines: they need not wait for a backfill to be acknowledged."""
MAX_RUNS = 2000
FRAME_RUNS = 700
_AGE_FILES = ("events.jsonl", "console.log", "exit.json", "")


class Follower:
    """The runs that the deck follows, and the list of those there are.

    Parameters
    ----------
    credit: bytes of data that may be under way before the client has acknowledged some.
    """

    def __init__(self, runs_dir: str, output: Output, credit: int = 1 << 20) -> None:
        self._runs_dir = runs_dir
        self._output = output
        self._credit = credit
        self._under_way = 0
        self._runs: Dict[str, FollowedRun] = {}
        self._fresh: Deque[FollowedRun] = deque()
        self._ready: Tuple[Deque[FollowedRun], Deque[FollowedRun]] = (deque(), deque())
        self._queued: Set[FollowedRun] = set()
        self._active: Dict[str, FollowedRun] = {}
        self._quiet_round: Deque[FollowedRun] = deque()
        self._quiet_cost = 0.0
        self._next_active = self._next_quiet = self._next_watch = self._next_behind = 0.0
        self._behind_sent = 0
        self._watching = False
        self._listed: Dict[str, None] = {}
        self._runs_mark: Optional[Tuple[int, int]] = None
        self._next_rescan = 0.0

    # Requests

    def watch(self) -> None:
        """Announce runs from now on."""
        self._watching = True
        self._listed = {}
        self._runs_mark = None
        names = self._names()
        rows = sorted(((_newest(self._path(name)), name) for name in names), reverse=True)
        for start in range(0, max(1, len(rows)), FRAME_RUNS):
            part = [[name, mtime] for mtime, name in rows[start : start + FRAME_RUNS]]
            frame: Frame = {"op": "runs", "runs": part}
            if start + FRAME_RUNS < len(rows):
                frame["more"] = True
            self._send(frame, None)
        self._listed = dict.fromkeys(names)

    def follow(self, frame: Frame) -> None:
        """Send a run's files from what the deck has of them on. Raises Refused."""
        run = run_id(frame.get("run"))
        self.unfollow(run)
        followed = FollowedRun(run, self._path(run), frame.get("have"), frame.get("records"))
        self._runs[run] = followed
        self._fresh.append(followed)

    def unfollow(self, run: str) -> None:
        """Tell nothing more of a run."""
        old = self._runs.pop(run, None)
        self._active.pop(run, None)
        if old is not None:
            old.gone = True

    def acknowledge(self, count: Any) -> None:
        """The client has taken so many bytes of data."""
        if isinstance(count, int) and not isinstance(count, bool):
            self._under_way = max(0, self._under_way - max(0, count))

    # The loop

    def due(self) -> float:
        """When `turn` has something to do again."""
        if self._fresh:
            return 0.0
        times = [self._next_watch if self._watching else float("inf")]
        if self._runs:
            times += [self._next_active, self._next_behind]
        return min(times)

    def turn(self, now: float) -> None:
        """Look at what is due, and send what may be sent."""
        if self._watching and now >= self._next_watch:
            self._next_watch = now + WATCH_S
            self._announce(now)
        self._first_looks()
        if now >= self._next_active:
            self._next_active = now + ACTIVE_S
            self._look(now)
        self.pump()
        if self._runs and now >= self._next_behind:
            self._next_behind = now + BEHIND_S
            self._tell_behind()

    def pump(self) -> None:
        """Send what the credit and the queue allow."""
        live, bulk = self._ready
        blocked: List[FollowedRun] = []
        while (live or bulk) and self._output.waiting(MIRROR) < QUEUE_BYTES:
            queue = live or bulk
            run = queue.popleft()
            self._queued.discard(run)
            if run.gone:
                continue
            kept = self._credit // LIVE_SHARE if queue is bulk else 0
            sent = run.step(self._send, self._credit - self._under_way - kept)
            self._under_way += max(0, sent)
            if sent >= 0:
                self._enqueue(run)
            elif run.wants:
                blocked.append(run)
                if queue is bulk:
                    break  # no credit is left for anybody
        for run in reversed(blocked):
            self._queued.add(run)
            (live if run.unsent <= LIVE_BYTES else bulk).appendleft(run)

    def active_runs(self) -> List[FollowedRun]:
        """Followed runs that live."""
        return [run for run in self._runs.values() if run.child is not None]

    def _enqueue(self, run: FollowedRun) -> None:
        if run not in self._queued and run.wants:
            self._queued.add(run)
            self._ready[0 if run.unsent <= LIVE_BYTES else 1].append(run)

    def _first_looks(self) -> None:
        """Runs that were not looked at yet; a thousand of them must not stop the loop, nor fill the memory."""
        deadline = time.monotonic() + FIRST_LOOK_S
        while self._fresh and time.monotonic() < deadline:
            if len(self._fresh) % 16 == 0 and self._pending_bytes() > RECORD_BYTES:
                return
            run = self._fresh.popleft()
            if not run.gone:
                self._look_at(run, time.monotonic())

    def _pending_bytes(self) -> int:
        return sum([run.pending_bytes for queue in self._ready for run in queue])

    def _look(self, now: float) -> None:
        """Every active run, and a share of the others."""
        for run in list(self._active.values()):
            self._look_at(run, now)
        if not self._quiet_round and now >= self._next_quiet:
            self._next_quiet = now + max(QUIET_S, self._quiet_cost / QUIET_SHARE)
            self._quiet_round.extend(run for run in self._runs.values() if run.looked and run.run not in self._active)
            self._quiet_cost = 0.0
        begun = time.monotonic()
        for _ in range(min(QUIET_SLICE, len(self._quiet_round))):
            self._look_at(self._quiet_round.popleft(), now)
        self._quiet_cost += time.monotonic() - begun

    def _look_at(self, run: FollowedRun, now: float) -> None:
        if not run.gone and run.look(now):
            self._enqueue(run)
        if self._runs.get(run.run) is not run:
            return
        if run.gone:
            del self._runs[run.run]
        if run.active and not run.gone:
            self._active[run.run] = run
        else:
            self._active.pop(run.run, None)

    def _tell_behind(self) -> None:
        behind = sum([run.unsent for queue in self._ready for run in queue if not run.gone])
        if behind != self._behind_sent:
            self._behind_sent = behind
            self._send({"op": "behind", "bytes": behind}, None)

    def _send(self, frame: Frame, payload: Optional[bytes]) -> None:
        self._output.put(frame, payload, MIRROR)

    # Which runs there are

    def _announce(self, now: float) -> None:
        try:
            facts = os.stat(self._runs_dir)
        except OSError:
            mark, young = None, False
        else:
            mark = (facts.st_ino, facts.st_mtime_ns)
            young = abs(time.time() - facts.st_mtime) < 2 * WATCH_S
        if mark == self._runs_mark and not young and now < self._next_rescan:
            return
        self._runs_mark, self._next_rescan = mark, now + RESCAN_S
        names = dict.fromkeys(self._names())
        for name in [name for name in self._listed if name not in names]:
            if not os.path.isdir(self._path(name)):  # not only pushed out of a full list
                self._send({"op": "run_gone", "run": name}, None)
        for name in names:
            if name not in self._listed:
                self._send({"op": "run_new", "run": name}, None)
        self._listed = names

    def _names(self) -> List[str]:
        """Ids of the newest runs, oldest first."""
        try:
            with os.scandir(self._runs_dir) as entries:
                names = [entry.name for entry in entries if RUN_ID.fullmatch(entry.name) and entry.is_dir()]
        except OSError:
            return []
        return sorted(names)[-MAX_RUNS:]

    def _path(self, run: str) -> str:
        return "{}/{}".format(self._runs_dir, run)


def _newest(run_dir: str) -> float:
    """When something was last written there."""
    found = 0.0
    for name in _AGE_FILES:
        try:
            found = max(found, os.lstat("{}/{}".format(run_dir, name)).st_mtime)
        except OSError:
            continue
    return found
