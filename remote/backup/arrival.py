"""Where a file that is streamed arrives: a part that grows, is hashed meanwhile, and becomes whole.

The part lies where rsync leaves its own, and beside it is written what it was begun of. See `stream`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .there import Facts
from .transfer import PARTIAL

SOURCE = ".source"
"""Of what the part was begun: size and time, beside it."""
_BLOCK = 4 << 20
_PIECES = 512
_WRITE_OUT = 32 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a file arrives. `hold` is the descriptor of the lock: whatever still writes keeps it."""

    folder: Path
    name: str
    hold: int
    limit_kib_s: int | None = None


class Sink:
    """The part that grows here. All of it happens in one thread, for hashing and writing take time."""

    def __init__(self, arrival: Arrival, found: Facts) -> None:
        self._folder = arrival.folder
        self._name = arrival.name
        self._source = [found.size, found.mtime_ns]
        self._total = found.size
        self._digest = hashlib.sha256()
        self._size = 0
        self._written_out = 0
        self._descriptor = -1
        self._given_up = False
        self._hold = os.dup(arrival.hold)

    @property
    def _part(self) -> Path:
        return self._folder / PARTIAL / self._name

    def begin(self) -> int:
        """Open the part, or a new one if it was begun of another source; how many bytes it has."""
        record = self._folder / SOURCE
        if record.exists() and _read(record) != self._source:
            self._part.unlink(missing_ok=True)
        record.write_text(json.dumps(self._source))
        self._part.parent.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._part, flags, 0o644)
        if os.fstat(self._descriptor).st_size > self._total:
            os.ftruncate(self._descriptor, 0)
        while not self._given_up and (block := os.read(self._descriptor, _BLOCK)):
            self._digest.update(block)
            self._size += len(block)
        return self._size

    def put(self, pieces: Sequence[bytes]) -> None:
        """Append; a write that fails half way leaves what it wrote, which is right as far as it goes."""
        for start in range(0, len(pieces), _PIECES):
            some = pieces[start : start + _PIECES]
            _write_all(self._descriptor, some)
            for piece in some:
                self._digest.update(piece)
                self._size += len(piece)
        if self._size - self._written_out >= _WRITE_OUT and hasattr(os, "posix_fadvise"):
            # Begins to write them out now, or the fsync at the end would wait for all of them.
            os.posix_fadvise(self._descriptor, self._written_out, self._size, os.POSIX_FADV_DONTNEED)
            self._written_out = self._size

    def finish(self) -> str:
        """The part is whole: its digest."""
        os.fsync(self._descriptor)  # here, for an error of writing out is told to who wrote
        if os.fstat(self._descriptor).st_size != self._size:
            raise OSError(errno.EIO, "it has another size than what was written", str(self._part))
        os.replace(self._part, self._folder / self._name)
        return self._digest.hexdigest()

    def give_up(self) -> None:
        """From another thread: nobody waits for it any more."""
        self._given_up = True

    def close(self) -> None:
        """Let go of the file, and of the lock."""
        for descriptor in (self._descriptor, self._hold):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _write_all(descriptor: int, pieces: Sequence[bytes]) -> None:
    """Write all of them; a disk may take less at a time."""
    written = os.writev(descriptor, pieces)
    for piece in pieces:
        rest = memoryview(piece)[max(0, written) :]
        written -= len(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _read(record: Path) -> object:
    try:
        return json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
