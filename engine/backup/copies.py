"""`backup.jsonl`: where a copy of which checkpoint is, as the backup that verified it wrote down.

A file under `checkpoints/` of a copy proves nothing; a line here does. It is appended after the bytes were hashed,
synced and renamed, so a line is never about less than a whole file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..checkpoints import CheckpointLine, is_safe_name
from ..files import append_line
from ..rundir import RunDir

HERE = "here"
"""On this machine, in the run's directory."""
SECOND = "second"
"""At the second place that the run's policy names."""
VERIFIED, BAD, REMOVED, NOTE = "verified", "bad", "removed", "note"
ASKED = "its user deleted it"
"""Text of a `removed` that was no retention: what its user let go is not brought back by itself."""
_REMEMBERED = 256


class CopyLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of one copy. Times are of this machine's clock.

    `event`: `verified` (whole, hashed, durable), `bad` (its bytes are not the recorded ones; `text` says how),
    `removed` (retention or the user let it go), `note` (at `here`: its file was gone at the origin when it was to be
    fetched). `text` of one that is `verified` at the second place is that place, as the policy worded it then.
    """

    t: float
    name: str
    sha256: str
    bytes: int
    step: int
    place: str
    event: str
    text: str = ""


def copy_line(line: CheckpointLine, place: str, event: str, t: float, text: str = "") -> CopyLine:
    """The event of a checkpoint's copy."""
    return CopyLine(t, line.name, line.sha256, line.bytes, line.step, place, event, text)


@dataclass(frozen=True, slots=True)
class Copies:
    """All that `backup.jsonl` says, folded: what counts is the last event of each content at each place."""

    _verified: Mapping[str, Mapping[str, CopyLine]] = field(default_factory=dict)
    _bad: Mapping[str, Mapping[str, CopyLine]] = field(default_factory=dict)
    _tries: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    _gone: Collection[tuple[str, str]] = frozenset()
    _declined: Collection[tuple[str, str, str]] = frozenset()
    notes: tuple[CopyLine, ...] = ()
    """The newest twenty events that are neither `verified` nor `removed`, oldest first."""

    def verified(self, place: str = HERE) -> Mapping[str, CopyLine]:
        """What is whole at a place, by name. Its hash is the one that was verified: compare it with a line's
        (`holds` does)."""
        return self._verified.get(place, {})

    def bad(self, place: str = HERE) -> Mapping[str, CopyLine]:
        """What was found damaged at a place, or on the way to it, and was not verified since; by name."""
        return self._bad.get(place, {})

    def holds(self, line: CheckpointLine, place: str = HERE) -> CopyLine | None:
        """The event that vouches for exactly this checkpoint at a place; None when nothing does."""
        copy = self.verified(place).get(line.name)
        return copy if copy is not None and (copy.sha256, copy.bytes) == (line.sha256, line.bytes) else None

    def is_gone(self, line: CheckpointLine) -> bool:
        """Whether the backup found this content gone at its origin."""
        return (line.name, line.sha256) in self._gone

    def declined(self, line: CheckpointLine, place: str = HERE) -> bool:
        """Whether its user deleted exactly this content at a place, and it did not come back since."""
        return (place, line.name, line.sha256) in self._declined

    def at_second(self, second: str | None) -> Copies:
        """The same, with only those copies at the second place that are at the one a policy names now: what was
        verified at a place that it named before says nothing about this one."""
        theirs = self._verified.get(SECOND, {})
        now_there = {name: copy for name, copy in theirs.items() if second is not None and copy.text == second}
        if len(now_there) == len(theirs):
            return self
        return replace(self, _verified={**self._verified, SECOND: now_there})

    def tries(self, line: CheckpointLine, place: str = HERE) -> int:
        """How often in a row bringing this content there ended with other bytes."""
        return self._tries.get((place, line.name, line.sha256), 0)


class Folding:
    """Folds events into `Copies`, in the order written."""

    def __init__(self) -> None:
        self._verified: dict[str, dict[str, CopyLine]] = {}
        self._bad: dict[str, dict[str, CopyLine]] = {}
        self._tries: dict[tuple[str, str, str], int] = {}
        self._gone: set[tuple[str, str]] = set()
        self._declined: set[tuple[str, str, str]] = set()
        self._notes: list[CopyLine] = []

    def take(self, line: CopyLine) -> None:
        """One event more."""
        held = self._verified.setdefault(line.place, {})
        bad = self._bad.setdefault(line.place, {})
        key = (line.place, line.name, line.sha256)
        if line.event == VERIFIED:
            held[line.name] = line
            bad.pop(line.name, None)
            self._tries.pop(key, None)
            self._gone.discard(key[1:])
            self._declined.discard(key)
        elif line.event == NOTE and line.place == HERE:
            self._gone.add(key[1:])
        elif line.event in (BAD, REMOVED):
            before = held.get(line.name)
            if before is not None and (line.event == REMOVED or before.sha256 == line.sha256):
                del held[line.name]
            if line.event == REMOVED:
                bad.pop(line.name, None)
                if line.text == ASKED:
                    self._declined.add(key)
            else:
                bad[line.name] = line
                self._tries[key] = self._tries.get(key, 0) + 1
        if line.event not in (VERIFIED, REMOVED):
            self._notes = [*self._notes, line][-20:]

    def copies(self) -> Copies:
        """What they come to."""
        return Copies(self._verified, self._bad, self._tries, self._gone, self._declined, tuple(self._notes))


_decoder = msgspec.json.Decoder(CopyLine)
_encoder = msgspec.json.Encoder()
_read: dict[Path, tuple[tuple[int, int, int], Copies]] = {}


def read_copies(run: RunDir) -> Copies:
    """Where the checkpoints of a run are. No file is no copy; torn and damaged lines are left out.

    Raises
    ------
    OSError: the file is there and cannot be read.
    """
    try:
        status = run.backup.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = _read.get(run.backup)
        if known is not None and known[0] == stamp:
            return known[1]
        data = run.backup.read_bytes()
    except FileNotFoundError:
        return Copies()
    folding = Folding()
    for raw in data.split(b"\n")[:-1]:
        try:
            line = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if is_safe_name(line.name):
            folding.take(line)
    copies = folding.copies()
    if len(_read) >= _REMEMBERED:
        _read.clear()
    _read[run.backup] = (stamp, copies)
    return copies


def append_copy(run: RunDir, line: CopyLine) -> None:
    """Write down one event, durably; only the backup does this.

    Raises
    ------
    OSError: the disk is full or failing.
    """
    append_line(run.backup, _encoder.encode(line))
