"""One followed run: which of its files have changed, whether it lives, and what the deck is told next.

Its directory's own time tells when a record was replaced or a file created, so that a look at a quiet run is a handful
of `lstat`. Nobody may see an end before the log is drained: `exit.json`, and that the supervisor is gone, are told once
every appended file was sent up to the size it had when the end was seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import agent_living
from .agent_files import open_folder, open_inside
from .agent_frames import PIECE, Frame
from .agent_tails import Tail, have_of

FILES = (
    "events.jsonl",
    "console.jsonl",
    "machine.jsonl",
    "console.log",
    "supervisor.log",
    "checkpoints/manifest.jsonl",
)
RECORDS = ("manifest.json", "supervisor.json", "stop.json", "policy.json", "lease.json", "evaluation.json")
EXIT = "exit.json"
MAX_RECORD = 1 << 20
MAX_ATTEMPTS = 500
MAX_SETS = 64
MAX_NAMES = 1000
NAMES_BYTES = 48 << 10
BEHIND_BYTES = 256 << 10
"""A run that was behind by more is told to have caught up afterwards."""
FULL_ACTIVE_S, FULL_QUIET_S = 1.0, 10.0
"""How often everything is looked at, whatever the directory's time says: some file systems are late with it."""
ALIVE_S, QUIET_ALIVE_S = 0.5, 4.0
STARTING_S = 60.0
LATELY_S = 10.0
_ATTEMPT = re.compile(r"[0-9]{4}\.json")
SET_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}"
"""As `engine.names` has it."""
_SET = re.compile(SET_NAME)

Send = Callable[[Frame, Optional[bytes]], None]


class FollowedRun:
    """One run.

    Parameters
    ----------
    have, records: what the deck has already, as it says: sizes with digests of appended files, digests of records.
    """

    def __init__(self, run: str, path: str, have: Any = None, records: Any = None) -> None:
        self.run = run
        self.gone = False
        """Its directory is not there (any more)."""
        self.looked = False
        """It was looked at at least once."""
        self.child: Optional[int] = None
        """The trainer's pid while it lives."""
        self._path = path
        have = have if isinstance(have, dict) else {}
        self._have = {str(rel): have_of(value) for rel, value in have.items()}
        records = records if isinstance(records, dict) else {}
        self._known: Dict[str, Any] = {rel: digest for rel, digest in records.items() if _is_record(rel)}
        self._marks: Dict[str, Tuple[int, int, int]] = {}
        self.tails: Dict[str, Tail] = {}
        for rel in FILES:
            self._add_tail(rel)
        self._pending: Dict[str, Optional[bytes]] = {}
        self._exit: Optional[Tuple[Optional[bytes], Dict[str, int]]] = None
        self._present: Optional[List[str]] = None
        self._present_sent: Optional[List[str]] = None
        self._alive: Optional[Tuple[int, bool, Optional[int]]] = None
        self._alive_sent: Optional[Tuple[int, bool, Optional[int]]] = None
        self._alive_gate: Dict[str, int] = {}
        self._supervisor: Dict[str, Any] = {}
        self._exit_attempt = -1
        self._newest_attempt = 0
        self._folder_mark: Optional[Tuple[int, int]] = None
        self._folder_young = True
        self._requested = 0.0
        self._next_full = self._next_alive = self._active_until = 0.0
        self._owes_caught_up = True

    # Looking

    @property
    def active(self) -> bool:
        """Whether more is to be expected soon."""
        if self._alive is not None and self._alive[1]:
            return True
        return time.monotonic() < self._active_until or (not self._over and time.time() - self._requested < STARTING_S)

    @property
    def unsent(self) -> int:
        """Bytes of its files that the deck does not have."""
        return sum([tail.size - tail.offset for tail in self.tails.values()])

    @property
    def pending_bytes(self) -> int:
        """Room that records take which wait to be sent."""
        return sum([len(data) for data in self._pending.values() if data])

    def look(self, now: float) -> bool:
        """See what has changed; whether anything is to be told now."""
        changed = self._look_at_folder()
        if self.gone:
            return False
        died = now >= self._next_alive and self._look_at_supervisor(now)
        full = changed or died or self._folder_young or now >= self._next_full
        fresh_exit = False
        if full:
            fresh_exit, died = self._look_at_all(now, died)
        grown = self._look_at_tails(full)
        if fresh_exit or died:
            self._set_gates(fresh_exit, died)
        if grown:
            self._active_until = now + LATELY_S if self.looked else 0.0
            self._owes_caught_up = self._owes_caught_up or self.unsent > BEHIND_BYTES
        self.looked = True
        return (full or grown) and self.wants

    def _look_at_all(self, now: float, died: bool) -> Tuple[bool, bool]:
        """Records first, then what else there is; whether `exit.json` is new, and whether the supervisor has gone."""
        self._next_full = now + (FULL_ACTIVE_S if self.active else FULL_QUIET_S)
        fresh_exit = self._look_at_records()
        if (not self.looked or "supervisor.json" in self._pending) and self._look_at_supervisor(now):
            fresh_exit, died = self._look_at_records() or fresh_exit, True  # written before it went
        self._find_sets()
        self._look_at_checkpoints()
        return fresh_exit, died

    def _look_at_tails(self, full: bool) -> bool:
        """Whether a file has changed. One that is not there is looked for only when the directory has changed."""
        grown = False
        for tail in self.tails.values():
            if full:
                tail.allow()
            if (full or tail.there) and tail.look():
                grown = True
        return grown

    def _set_gates(self, fresh_exit: bool, died: bool) -> None:
        """An end was seen, and the sizes of all files after it: so much goes first."""
        gate = {rel: tail.size for rel, tail in self.tails.items()}
        if fresh_exit and self._exit is not None:
            self._exit = (self._exit[0], gate)
        if died:
            self._alive_gate = gate

    def _look_at_folder(self) -> bool:
        """Whether a file was created, replaced or removed in it."""
        try:
            facts = os.stat(self._path)
        except OSError:
            self.gone = True
            return False
        mark = (facts.st_ino, facts.st_mtime_ns)
        changed = mark != self._folder_mark
        self._folder_mark = mark
        # Two changes within one tick of the file system's clock look like one: look again while it is that young.
        self._folder_young = changed and abs(time.time() - facts.st_mtime) < 0.1
        return changed

    def _look_at_records(self) -> bool:
        """Take up records that changed; whether `exit.json` did. It is looked at before the sizes of the files are."""
        fresh_exit = self._look_at_record(EXIT)
        for rel in RECORDS:
            self._look_at_record(rel)
        names = sorted(name for name in self._names("attempts") if _ATTEMPT.fullmatch(name))[-MAX_ATTEMPTS:]
        for name in names:
            self._look_at_record("attempts/" + name)
        self._newest_attempt = int(names[-1][:-5]) if names else 0
        for rel in [rel for rel in self._known if rel.startswith("attempts/") and rel[9:] not in names]:
            self._look_at_record(rel)
        return fresh_exit

    def _look_at_record(self, rel: str) -> bool:
        path = "{}/{}".format(self._path, rel)
        try:
            facts = os.lstat(path)
        except OSError:
            return self._record_gone(rel)
        mark = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if mark == self._marks.get(rel) or not stat.S_ISREG(facts.st_mode):
            return False
        data = self._content(rel)
        if data is None:
            return False
        self._marks[rel] = mark
        self._understand(rel, data, facts.st_mtime)
        digest = hashlib.sha256(data).hexdigest()
        if self._known.get(rel) == digest:
            return False
        self._known[rel] = digest
        self._queue(rel, data)
        return True

    def _record_gone(self, rel: str) -> bool:
        self._marks.pop(rel, None)
        if self._known.pop(rel, None) is None:
            return False
        self._understand(rel, b"", 0.0)
        self._queue(rel, None)
        return True

    def _queue(self, rel: str, data: Optional[bytes]) -> None:
        if rel == EXIT:
            self._exit = (data, {})
        else:
            self._pending[rel] = data

    def _content(self, rel: str) -> Optional[bytes]:
        """A record, whole; None when it is no regular file or too large."""
        try:
            descriptor = open_inside(self._path, rel.split("/"))
        except OSError:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as handle:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_RECORD:
                return None
            try:
                data = handle.read(MAX_RECORD + 1) or b""
            except OSError:
                return None
        return data if len(data) <= MAX_RECORD else None

    def _understand(self, rel: str, data: bytes, mtime: float) -> None:
        """What the agent itself needs of a record."""
        if rel.startswith("attempts/"):
            self._requested = max(self._requested, mtime)
        if rel not in ("supervisor.json", EXIT):
            return
        try:
            record = json.loads(data.decode("utf-8")) if data else {}
        except (ValueError, RecursionError):
            record = {}
        record = record if isinstance(record, dict) else {}
        if rel == EXIT:
            self._exit_attempt = _attempt(record)
        else:
            self._supervisor = record

    def _look_at_supervisor(self, now: float) -> bool:
        """Ask the process table; whether it says that the run ended, so that its files are to be drained first."""
        state: Optional[Tuple[int, bool, Optional[int]]] = None
        if self._supervisor.get("pid") is not None:
            lives = agent_living.alive(self.run, self._supervisor)
            left = None if lives else agent_living.orphan(self.run, self._supervisor)
            child = self._supervisor.get("child")
            self.child = child if lives and isinstance(child, int) else left
            state = (_attempt(self._supervisor), lives, left)
        self._next_alive = now + (ALIVE_S if self.active else QUIET_ALIVE_S)
        if state == self._alive:
            return False
        self._alive = state
        self._active_until = now + LATELY_S if self.looked else 0.0
        return state is not None and not state[1]

    @property
    def _over(self) -> bool:
        return 0 <= self._newest_attempt <= self._exit_attempt

    def _find_sets(self) -> None:
        """Indexes of evaluation samples come and go with their sets."""
        for name in sorted(self._names("samples"))[:MAX_SETS]:
            rel = "samples/{}/index.jsonl".format(name)
            if rel not in self.tails and _SET.fullmatch(name) is not None and len(self.tails) < MAX_SETS + len(FILES):
                self._add_tail(rel)

    def _add_tail(self, rel: str) -> None:
        self.tails[rel] = Tail(self._path, rel, self._have.pop(rel, None))

    def _look_at_checkpoints(self) -> None:
        names = sorted(_clean(name) for name in self._names("checkpoints") if name != "manifest.jsonl")[-MAX_NAMES:]
        size = 0
        for at in range(len(names) - 1, -1, -1):
            size += len(names[at].encode("utf-8")) + 8
            if size > NAMES_BYTES:
                names = names[at + 1 :]
                break
        if names != (self._present_sent or []):
            self._present = names

    def _names(self, folder: str) -> List[str]:
        """What is in a folder of the run, without hidden names; nothing when it is a link."""
        try:
            descriptor = open_folder(self._path, [folder])
        except OSError:
            return []
        try:
            return [name for name in os.listdir(descriptor) if not name.startswith(".")]
        except OSError:
            return []
        finally:
            os.close(descriptor)

    # Telling

    @property
    def wants(self) -> bool:
        """Whether something is to be told."""
        return bool(
            self._pending
            or self._exit is not None
            or self._present is not None
            or (self._alive is not None and self._alive != self._alive_sent)
            or self._owes_caught_up
            or self.unsent
            or any(tail.reset_due for tail in self.tails.values())
        )

    def step(self, send: Send, budget: int) -> int:
        """Tell the next thing. Returns bytes of data sent, 0 for anything else, -1 when nothing can be told now."""
        if self._tell_small(send):
            return 0
        waiting = [tail for tail in self.tails.values() if tail.reset_due or tail.size != tail.offset]
        if waiting:
            tail = min(waiting, key=lambda tail: (not tail.reset_due, tail.size - tail.offset))
            return self._tell_bytes(tail, send, budget)
        if self._owes_caught_up:
            self._owes_caught_up = False
            send({"op": "caught_up", "run": self.run}, None)
            return 0
        return -1

    def _tell_small(self, send: Send) -> bool:
        """Records, names and whether it lives, in an order that never shows an end too early."""
        if self._pending:
            rel = next((rel for rel in RECORDS if rel in self._pending), None) or min(self._pending)
            self._tell_record(rel, self._pending.pop(rel), send)
        elif self._present is not None:
            send({"op": "present", "run": self.run, "names": self._present}, None)
            self._present, self._present_sent = None, self._present
        elif self._exit is not None and self._drained(self._exit[1]):
            data, self._exit = self._exit[0], None
            self._tell_record(EXIT, data, send)
        elif self._alive is not None and self._alive != self._alive_sent and self._may_tell_alive():
            attempt, lives, left = self._alive
            send({"op": "alive", "run": self.run, "attempt": attempt, "alive": lives, "orphan": left}, None)
            self._alive_sent = self._alive
        else:
            return False
        return True

    def _may_tell_alive(self) -> bool:
        assert self._alive is not None
        return self._alive[1] or (self._exit is None and self._drained(self._alive_gate))

    def _tell_record(self, rel: str, data: Optional[bytes], send: Send) -> None:
        if data is None:
            send({"op": "record", "run": self.run, "file": rel, "gone": True}, None)
        else:
            send({"op": "record", "run": self.run, "file": rel}, data)

    def _tell_bytes(self, tail: Tail, send: Send, budget: int) -> int:
        if tail.reset_due:
            tail.reset_due = False
            send({"op": "reset", "run": self.run, "file": tail.rel}, None)
            return 0
        if budget < min(tail.unsent, PIECE // 4):
            return -1
        found = tail.read(min(PIECE, budget))
        if found is None:
            return 0
        send({"op": "data", "run": self.run, "file": tail.rel, "offset": found[0]}, found[1])
        return len(found[1])

    def _drained(self, gate: Dict[str, int]) -> bool:
        """Whether every file was sent up to its size in `gate`, or to its end where it has become shorter."""
        for rel, size in gate.items():
            tail = self.tails[rel]
            if tail.reset_due or tail.offset < min(size, tail.size):
                return False
        return True


def _attempt(record: Dict[str, Any]) -> int:
    number = record.get("attempt")
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**6 else -1


def _is_record(rel: Any) -> bool:
    if not isinstance(rel, str):
        return False
    return rel in RECORDS or rel == EXIT or (rel.startswith("attempts/") and _ATTEMPT.fullmatch(rel[9:]) is not None)


def _clean(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8", "replace")[:200]
