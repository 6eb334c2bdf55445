"""Reading a journal that is still being written.

Bounded twice (records and seconds), so that a million lines never freeze a screen; a line without its newline is "not
yet"; a file that shrank or was replaced is read again from its start, and the reader says so. Polling `stat` instead
of notifications, because those do not fire on network file systems.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .events import Event, decode_lines

CHUNK_BYTES = 256 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one poll may read: whichever limit is reached first ends it."""

    records: int
    seconds: float


FIRST_PAINT = Budget(records=20_000, seconds=0.10)
LIVE = Budget(records=16_000, seconds=0.05)
WHOLE = Budget(records=1 << 60, seconds=float("inf"))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll found.

    `rewound`: the file was truncated or replaced, so everything read before no longer holds. `more`: the budget
    ended before the file did. `bad_lines`: whole lines that were not events.
    """

    events: list[Event]
    bad_lines: int = 0
    more: bool = False
    rewound: bool = False


class JournalReader:
    """Reads whole lines from `offset` on; `offset` always stands at the start of a line."""

    def __init__(self, path: Path, offset: int = 0, inode: int | None = None) -> None:
        self.path = path
        self.offset = offset
        self.inode = inode
        self.size = 0
        self._skipping = False

    def poll(self, budget: Budget = LIVE) -> Batch:
        """Read what is new. A missing file is simply empty; an unreadable one raises OSError."""
        try:
            status = self.path.stat()
            if status.st_size == self.offset and status.st_ino == self.inode:
                return Batch([])  # the usual case of an idle screen: one stat
            with open(self.path, "rb") as handle:
                rewound = self._check_identity(os.fstat(handle.fileno()))
                if self.offset >= self.size:
                    return Batch([], rewound=rewound)
                return self._read(handle.fileno(), budget, rewound)
        except FileNotFoundError:
            return Batch([])

    def _check_identity(self, status: os.stat_result) -> bool:
        self.size = status.st_size
        known = self.inode
        self.inode = status.st_ino
        if (known is not None and known != status.st_ino) or status.st_size < self.offset:
            self.offset = 0
            self._skipping = False
            return True
        return False

    def _read(self, descriptor: int, budget: Budget, rewound: bool) -> Batch:
        deadline = time.monotonic() + budget.seconds
        events: list[Event] = []
        bad = 0
        carry = b""
        position = self.offset
        while True:
            data = os.pread(descriptor, CHUNK_BYTES, position)
            position += len(data)
            carry += data
            end = carry.rfind(b"\n") + 1
            if end:
                found, failed = self._decode(carry[:end])
                events += found
                bad += failed
                self.offset += end
                carry = carry[end:]
            elif len(carry) > MAX_LINE_BYTES:
                bad += 0 if self._skipping else 1
                self._skipping = True
                self.offset += len(carry)
                carry = b""
            if len(data) < CHUNK_BYTES:
                return Batch(events, bad, more=False, rewound=rewound)
            if len(events) >= budget.records or time.monotonic() >= deadline:
                return Batch(events, bad, more=True, rewound=rewound)

    def _decode(self, block: bytes) -> tuple[list[Event], int]:
        if self._skipping:
            self._skipping = False
            block = block[block.find(b"\n") + 1 :]
        return decode_lines(block) if block else ([], 0)
