"""The memory that the deck and the sound process share: wishes one way, tapes of samples one way, facts the other way.

Nobody ever waits for the other: every field has one writer, and what must be read together is guarded by a sequence
number or by being published last. The memory has no name (a memory file, or an unlinked one), so nothing is left behind
however the two processes end.

A *tape* is a ring of float32 frames at the device's rate and channels, rendered ahead by the deck. Frames of a tape are
numbered on an *axis* that goes on through loops (`tape.Timeline` knows the position in the clip). Generations count
tapes; the sound process moves to the tape of the generation that it is asked for once its first samples are there: at
the same frame where that is on the same axis (a switch), at the tape's first frame where it is not (a seek).
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .model import FloatArray

SLOTS = 8
"""Tapes at a time. Two are in use at most; a slot that was left is not taken again for some commands."""
SLOT_BYTES = 4 << 20
RECORDS = 256
"""Blocks whose time of being heard is remembered: more than two seconds."""
NO_END = -1

CONTROL = np.dtype([(name, "<i8") for name in ("sequence", "generation", "slot", "playing")] + [("amplitude", "<f8")])
STATUS = np.dtype(
    [(name, "<i8") for name in ("sequence", "generation", "axis", "frame", "slot", "ended", "starving")]
    + [(name, "<i8") for name in ("underruns", "clipped")]
    + [("beat", "<f8"), ("latency_s", "<f8")]
)
RECORD = np.dtype(
    [("number", "<i8"), ("time", "<f8"), ("generation", "<i8"), ("frame", "<i8"), ("advance", "<i8"), ("check", "<i8")]
)
TAPE = np.dtype([(name, "<i8") for name in ("generation", "axis", "origin", "written", "end", "capacity", "sharp")])

_CONTROL_AT, _STATUS_AT, _TAPES_AT, _RECORDS_AT, _DATA_AT = 0, 128, 512, 1024, 16384
SIZE = _DATA_AT + SLOTS * SLOT_BYTES
"""Bytes of the mapping; only those that were touched take memory."""

_BARRIER = threading.Lock()


def fence() -> None:
    """Make stores before this visible before stores after it, on processors that would reorder them (ARM)."""
    for _ in range(2):  # one pair lets both neighbours slip inside the lock; two do not
        with _BARRIER:
            pass


class Control(NamedTuple):
    """What the deck wishes."""

    generation: int = 0
    slot: int = 0
    playing: bool = False
    amplitude: float = 1.0


def create_memory() -> int:
    """A file descriptor of `SIZE` zero bytes that no path leads to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("wavedeck-sound", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # macOS: unlinked as soon as it is made
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Board:
    """Views on the shared memory of an open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._memory = memory = mmap.mmap(descriptor, SIZE)
        self._control: npt.NDArray[Any] = np.ndarray((), CONTROL, memory, _CONTROL_AT)
        self._records: npt.NDArray[Any] = np.ndarray((RECORDS,), RECORD, memory, _RECORDS_AT)
        self._last = Control()
        self.status: npt.NDArray[Any] = np.ndarray((), STATUS, memory, _STATUS_AT)
        self.tapes: npt.NDArray[Any] = np.ndarray((SLOTS,), TAPE, memory, _TAPES_AT)

    def ask(self, control: Control) -> None:
        """Publish what is wished (deck only)."""
        view = self._control
        view["sequence"] += 1
        fence()
        for name, value in control._asdict().items():
            view[name] = value
        fence()
        view["sequence"] += 1

    def asked(self) -> Control:
        """What is wished; what was read last where the deck is just writing."""
        view = self._control
        before = int(view["sequence"])
        _, generation, slot, playing, amplitude = view.item()
        fence()
        if before % 2 == 0 and before == int(view["sequence"]):
            self._last = Control(generation, slot, bool(playing), amplitude)
        return self._last

    def samples(self, slot: int, channels: int) -> FloatArray:
        """The ring of a slot, shape (capacity, channels)."""
        capacity = int(self.tapes[slot]["capacity"])
        return np.ndarray((capacity, channels), np.float32, self._memory, _DATA_AT + slot * SLOT_BYTES)

    def begin(self, slot: int, generation: int, axis: int, origin: int, capacity: int, sharp: bool) -> None:
        """Make a slot the empty tape of a generation (deck only). `sharp`: its first frame must not be faded in."""
        tape = self.tapes[slot]
        tape["generation"] = -1
        fence()
        tape["origin"], tape["written"], tape["end"] = origin, origin, NO_END
        tape["axis"], tape["capacity"], tape["sharp"] = axis, capacity, sharp
        fence()
        tape["generation"] = generation

    def skip(self, slot: int, frame: int) -> None:
        """Go on writing at `frame`; what lies before it is not to be read (deck only)."""
        self.tapes[slot]["origin"] = frame
        fence()
        self.tapes[slot]["written"] = frame

    def read(self, slot: int, channels: int, frame: int, count: int) -> FloatArray:
        """A copy of up to `count` frames from `frame` on, as many as are written."""
        count = max(0, min(count, int(self.tapes[slot]["written"]) - frame))
        ring = self.samples(slot, channels)
        at = frame % len(ring)
        if at + count <= len(ring):
            return ring[at : at + count].copy()
        return np.concatenate((ring[at:], ring[: at + count - len(ring)]))

    def write(self, slot: int, frame: int, block: FloatArray) -> None:
        """Put frames of shape (n, channels) at `frame` and publish them (deck only)."""
        ring = self.samples(slot, block.shape[1])
        at = frame % len(ring)
        first = min(len(block), len(ring) - at)
        ring[at : at + first] = block[:first]
        ring[: len(block) - first] = block[first:]
        fence()
        self.tapes[slot]["written"] = frame + len(block)

    def finish(self, slot: int, frame: int) -> None:
        """Say that the tape ends before `frame`, all of it being written (deck only)."""
        fence()
        self.tapes[slot]["end"] = frame

    def tell(self, generation: int, axis: int, frame: int) -> None:
        """Publish where the sound process is: the next frame that it renders (sound process only)."""
        status = self.status
        status["sequence"] += 1
        fence()
        status["generation"], status["axis"], status["frame"] = generation, axis, frame
        fence()
        status["sequence"] += 1

    def rendered(self) -> tuple[int, int, int]:
        """Generation, axis and next frame of the sound process, which belong together."""
        for _ in range(100):  # it writes for a microsecond every ten milliseconds; killed in that moment, it stays odd
            before = int(self.status["sequence"])
            found = tuple(int(self.status[name]) for name in ("generation", "axis", "frame"))
            fence()
            if before % 2 == 0 and before == int(self.status["sequence"]):
                break
        return found  # type: ignore[return-value]

    def note(self, number: int, time_s: float, generation: int, frame: int, advance: int) -> None:
        """Remember that a block is heard from `time_s` on: `advance` frames from `frame` (sound process only)."""
        record = self._records[number % RECORDS]
        record["check"] = -1
        fence()
        for name, value in zip(RECORD.names[:-1], (number, time_s, generation, frame, advance), strict=True):  # type: ignore[index]
            record[name] = value
        fence()
        record["check"] = number

    def records(self) -> npt.NDArray[Any]:
        """A copy of the blocks that were noted, unordered, without any that is just being written."""
        records = self._records.copy()
        return records[(records["number"] == records["check"]) & (records["time"] > 0)]


def heard(records: npt.NDArray[Any], now: float, rate: int) -> tuple[int, int] | None:
    """Generation and frame that are heard at `now`; None before the first block is heard."""
    begun = records[records["time"] <= now]
    if not len(begun):
        return None
    _, time_s, generation, frame, advance, _ = begun[int(np.argmax(begun["number"]))].item()
    return generation, frame + min(advance, int((now - time_s) * rate))
