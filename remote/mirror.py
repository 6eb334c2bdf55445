"""The copies of a host's runs here: byte for byte, exactly once, across reconnects and restarts of either side.

The size of the copy *is* the offset to go on from, so a crash between writing and noting what was written can neither
lose nor repeat a byte. Before a copy is continued the agent compares the hash of its last bytes; what does not fit (a
file that was truncated or replaced) is kept beside under another name and begun anew.

What a host names is data: only the files of a run directory, only under their own names, only up to a size. A run that
exists here and is not the copy of this very host is never touched.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..engine.errors import RunDirError
from ..engine.files import write_atomic
from ..engine.format import size
from ..engine.hosts import GONE, MirrorRecord, read_mirror, write_mirror
from ..engine.names import RUN_ID
from ..engine.rundir import Home
from . import copy_bytes
from .copy_bytes import Appended, CopyBytes, free_bytes
from .mirror_files import (
    NAME,
    Copy,
    forgotten,
    have,
    is_appended,
    is_record,
    records,
    stays,
)

HELD_LIMIT = 8 << 20
"""What may wait for room on a full disk; the agent sends no more than its credit, which is less."""
RECENT_S = 14 * 86400.0
"""Runs of others, or from before: copied when they changed within this time."""
MOST_RUNS = 2000
MOST_CHECKPOINTS = 4000
"""Names in `checkpoints/` that are remembered: the last in the alphabet, which are the newest."""
SYNC_S = 1.0

Send = Callable[..., None]


class MirrorFull(Exception):
    """The disk here is full; the sentence says where."""


class Mirror:
    """The copies of one host's runs. Everything here is called from one event loop.

    Parameters
    ----------
    free: bytes free for this user on the disk of a path; replaced in tests.
    """

    def __init__(self, home: Home, host: str, free: Callable[[Path], int] | None = None) -> None:
        self.home = home
        self.host = host
        self.news = False
        """Whether something about processes is new since somebody last looked and set it to False."""
        self.notices: deque[str] = deque(maxlen=20)
        self.full: str | None = None
        """Why nothing is written at the moment, as a sentence."""
        self.behind: int | None = None
        self.caught_up: set[str] = set()
        self.skew_s = 0.0
        self._alive: dict[str, tuple[int, bool]] = {}
        self._gone: set[str] = set()
        self._there: set[str] = set()
        self._bytes = CopyBytes(home.root, free or free_bytes)
        self._send: Send | None = None
        self._copies: dict[str, Copy] = {}
        self._held: deque[tuple[dict[str, Any], bytes]] = deque()
        self._held_bytes = 0
        self._unacknowledged = 0
        self._refused: set[str] = set()
        self.announced = False
        """Whether the agent has told which runs there are."""

    def copies(self, run_id: str) -> bool:
        """Whether a run is copied."""
        return run_id in self._copies

    @property
    def runs(self) -> int:
        """How many runs are copied."""
        return len(self._copies)

    # --- a connection comes and goes

    async def attach(self, send: Send) -> None:
        """An agent is there: have it announce its runs."""
        self._send = send
        self._copies.clear()
        self.announced = False
        self.caught_up.clear()
        self._alive.clear()
        self._gone.clear()
        self._there.clear()
        self._bytes.close()
        self._sweep()
        self._held.clear()
        self._held_bytes = 0
        self._unacknowledged = 0
        send("watch")

    def detach(self) -> None:
        """The agent is gone. What is here stays as it is; nothing is known about processes any more."""
        self._send = None
        self._alive.clear()
        self._gone.clear()
        self.caught_up.clear()
        self._bytes.close()

    def close(self) -> None:
        """Close every file."""
        self.detach()

    # --- what the agent says

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        """One message of the agent. Raises OSError only for a disk that fails in another way than being full."""
        if self._held:
            self._hold(header, payload)
            return
        try:
            self._take(header, payload)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._say_full()
            self._hold(header, payload)

    @property
    def unacknowledged(self) -> int:
        """Bytes that were written and not yet acknowledged."""
        return self._unacknowledged

    def acknowledge(self) -> None:
        """Give the agent credit for what was written since the last call."""
        if self._unacknowledged and self._send is not None:
            count, self._unacknowledged = self._unacknowledged, 0
            self._send("ack", bytes=count)

    def try_again(self) -> None:
        """After the disk was full: write what waits, as far as it goes."""
        while self._held:
            header, payload = self._held[0]
            try:
                self._take(header, payload)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._say_full()
                return
            self._held.popleft()
            self._held_bytes -= len(payload) + 200
        self.full = None
        self.acknowledge()

    def _hold(self, header: dict[str, Any], payload: bytes) -> None:
        self._held.append((header, payload))
        self._held_bytes += len(payload) + 200
        if self._held_bytes > HELD_LIMIT:
            raise MirrorFull(f"{self.host} sends more than it may while the disk here is full")

    def _say_full(self) -> None:
        self.full = (
            f"the disk here is full: nothing of {self.host} is copied until there is room under {self.home.root}."
        )

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        self._obey(header, payload)
        if header["op"] == "data":
            self._unacknowledged += len(payload)  # whatever became of it: it is off the agent's credit

    def _obey(self, header: dict[str, Any], payload: bytes) -> None:
        op = header["op"]
        if op == "runs":
            self._runs_announced(header.get("runs"))
            if not header.get("more"):
                self.announced = True
                self._look_for_gone()
        elif op == "run_new":
            self._announce(header.get("run"), time.time() + self.skew_s)
        elif op == "behind":
            count = header.get("bytes")
            self.behind = count if type(count) is int and count >= 0 else None
        else:
            copy = self._copies.get(str(header.get("run")))
            if copy is not None:
                if copy.path.is_dir():
                    self._take_of_run(op, copy, header, payload)
                else:
                    self._drop(copy.id)  # deleted here meanwhile

    def _take_of_run(self, op: str, copy: Copy, header: dict[str, Any], payload: bytes) -> None:
        name = header.get("file")
        if op == "data" and isinstance(name, str) and is_appended(name):
            self._append(copy, name, header.get("offset"), payload)
        elif op == "reset" and isinstance(name, str) and is_appended(name):
            self._bytes.begin_anew(copy, name)
        elif op == "record" and isinstance(name, str) and is_record(name):
            self._replace(copy, name, None if header.get("gone") else payload)
        elif op == "alive":
            attempt = header.get("attempt")
            self._alive[copy.id] = (attempt if type(attempt) is int else 0, header.get("alive") is True)
            self.news = True
        elif op == "present":
            names = header.get("names")
            known = [n for n in names if isinstance(n, str) and NAME.fullmatch(n)] if isinstance(names, list) else []
            copy.note(checkpoints=sorted(known)[-MOST_CHECKPOINTS:])
        elif op == "caught_up":
            self.caught_up.add(copy.id)
            self.news = True
            copy.note(skew_s=round(self.skew_s, 1))
        elif op == "run_gone":
            self._say_gone(copy.id)
            self._drop(copy.id)

    # --- which runs

    def _runs_announced(self, runs: object) -> None:
        for item in (runs if isinstance(runs, list) else [])[:MOST_RUNS]:
            if isinstance(item, list) and len(item) == 2 and isinstance(item[1], int | float):
                self._announce(item[0], float(item[1]))

    def _announce(self, run_id: object, changed: float) -> None:
        if not isinstance(run_id, str) or RUN_ID.fullmatch(run_id) is None or len(self._there) > 2 * MOST_RUNS:
            return
        self._there.add(run_id)  # copied or not: what is there is not gone
        self._gone.discard(run_id)
        if len(self._copies) >= MOST_RUNS:
            return
        known = (self.home.runs / run_id).is_dir()
        recent = time.time() + self.skew_s - changed < RECENT_S
        if run_id not in self._copies and (known or recent) and run_id not in forgotten(self.home, self.host):
            self._follow(run_id)

    def _follow(self, run_id: str) -> None:
        place = self.home.runs / run_id
        try:
            mirror = read_mirror(place) if place.is_dir() else None
        except RunDirError:
            mirror = None
        if place.exists() and (mirror is None or mirror.host != self.host):
            if run_id not in self._refused:
                self._refused.add(run_id)
                whose = f"is a copy of {mirror.host}" if mirror else "is a run of this machine"
                self.notices.append(f"{run_id} on {self.host} is not copied: the run of that name here {whose}.")
            return
        if mirror is None:
            place = self._hidden(run_id)
            mirror = MirrorRecord(host=self.host)
            write_mirror(place, mirror)
        copy = Copy(run_id, place, mirror)
        self._copies[run_id] = copy
        if self._send is not None:
            self._send("follow", run=run_id, have=have(place), records=records(place))

    def _hidden(self, run_id: str) -> Path:
        """Where a new copy grows until it has its manifest: no reader sees half a run."""
        for old in self.home.runs.glob(f".{run_id}.*.mirror"):
            shutil.rmtree(old, ignore_errors=True)
        place = self.home.runs / f".{run_id}.{secrets.token_hex(4)}.mirror"
        place.mkdir(mode=0o700, parents=True)
        return place

    def refollow(self, run_id: str) -> None:
        """Begin with a run again from what is here, after it made no sense."""
        if self._copies.pop(run_id, None) is not None:
            self._bytes.forget(run_id)
            if self._send is not None:
                self._send("unfollow", run=run_id)
        self._follow(run_id)

    def adopt(self, run_id: str) -> None:
        """A run of this host was just created here and there: copy it from now on."""
        if run_id not in self._copies and self._send is not None:
            self._follow(run_id)

    def _drop(self, run_id: str) -> None:
        """Go on without a run: the original was deleted there, or the copy here."""
        if self._copies.pop(run_id, None) is not None and self._send is not None:
            self._send("unfollow", run=run_id)
        self._alive.pop(run_id, None)
        self.caught_up.discard(run_id)
        self._bytes.forget(run_id)

    # --- what is known of processes

    def signs(self) -> dict[str, tuple[int, bool]]:
        """For each run that is known: the attempt that was last spoken of, and whether its supervisor lives.

        See `LinkRecord.signs`. A run that has not caught up is not in it: its records here may be older than the word.
        """
        found: dict[str, tuple[int, bool]] = dict.fromkeys(self._gone, (GONE, False))
        for run_id in self.caught_up:
            known = self._alive.get(run_id)
            if known is not None:
                found[run_id] = known
            elif run_id in self._copies and not (self._copies[run_id].path / "exit.json").exists():
                found[run_id] = (0, True)
        return found

    def sign(self, run_id: str) -> tuple[int, bool] | None:
        """The same for one run; None when nothing is known of it."""
        if run_id in self._gone:
            return GONE, False
        return self._alive.get(run_id, (0, True)) if run_id in self.caught_up else None

    def _look_for_gone(self) -> None:
        """Copies of runs that had not ended and that their host does not have any more."""
        if len(self._there) >= MOST_RUNS:
            return  # the agent names no more than so many: one that is not named may be there all the same
        try:
            places = list(self.home.runs.iterdir())
        except OSError:
            return
        for place in places:
            if place.name in self._there or RUN_ID.fullmatch(place.name) is None or (place / "exit.json").exists():
                continue
            with contextlib.suppress(RunDirError, OSError):
                mirror = read_mirror(place)
                if mirror is not None and mirror.host == self.host:
                    self._say_gone(place.name)

    def _say_gone(self, run_id: str) -> None:
        self._gone.add(run_id)
        self.news = True
        place = self.home.runs / run_id
        with contextlib.suppress(RunDirError, OSError):
            mirror = read_mirror(place)
            if mirror is not None:
                words = f"{self.host} does not have this run any more: what is here is all there is."
                write_mirror(place, msgspec.structs.replace(mirror, notices=[words]))

    def _sweep(self) -> None:
        """Hidden copies of this host that never got their manifest, from a process that ended."""
        for place in self.home.runs.glob(".*.mirror"):
            with contextlib.suppress(RunDirError, OSError):
                mirror = read_mirror(place)
                if mirror is not None and mirror.host == self.host:
                    shutil.rmtree(place, ignore_errors=True)

    # --- bytes

    def _append(self, copy: Copy, name: str, offset: object, data: bytes) -> None:
        if type(offset) is not int or offset < 0:
            return
        became = self._bytes.append(copy, name, offset, data)
        if became is Appended.GAP:
            self.refollow(copy.id)
        elif became is Appended.OVER:
            copy.over = True  # its records go on, so that its end is seen
            words = f"only its first {size(copy_bytes.RUN_LIMIT)} are copied here: the run on {self.host} wrote more."
            copy.note(notices=[words])

    def _replace(self, copy: Copy, name: str, data: bytes | None) -> None:
        path = copy.path / name
        if stays(path, data):
            return
        if data is None:
            path.unlink(missing_ok=True)
            return
        self._bytes.check_room()
        if "/" in name:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, data, durable=name in ("manifest.json", "exit.json"))
        if name == "manifest.json" and copy.path.name.startswith("."):
            self._unveil(copy)

    def _unveil(self, copy: Copy) -> None:
        """The copy has its manifest: readers may see it."""
        place = self.home.runs / copy.id
        try:
            copy.path.rename(place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # made here meanwhile, by a launch or by hand
                self.refollow(copy.id)
                return
            raise
        copy.path = place

    async def sync(self) -> None:
        """Make what was written survive a power cut."""
        await self._bytes.sync()
