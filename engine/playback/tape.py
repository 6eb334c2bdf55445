"""Rendering ahead: one thread for each tape fills its ring on the board, while the sound process empties it.

A command that changes what comes next (seek, loop, switch, other gains) never edits a tape: it cancels the writer and
starts another tape. So a source that hangs in a read of a remote file holds up nobody but itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .board import Board
from .model import FloatArray, position_at
from .tracks import Reel, Track

AHEAD_S = 1.5
"""Rendered ahead of the playhead: longer than any redraw or garbage collection of the deck."""
CATCH_UP_S = 0.25
"""A tape that is so far behind the playhead begins again at the playhead."""
FIRST_FRAMES, BLOCK_FRAMES = 4096, 8192
KEEP_LOOP_S = 20.0
"""A shorter loop is resampled once and then repeated from memory."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is heard at which frame of an axis; positions are frames of the clip at the device's rate.

    Parameters
    ----------
    start: position at frame `base` of the axis.
    length: of the clip.
    region: positions between which it loops, or None.
    """

    start: int
    base: int
    length: int
    region: tuple[int, int] | None = None

    @property
    def loops(self) -> bool:
        """The region is ahead or around the start; one that lies behind is never reached."""
        return self.region is not None and self.start < self.region[1]

    @property
    def end(self) -> int | None:
        """Frame of the axis at which the clip is over; None when it never is."""
        return None if self.loops else self.base + self.length - self.start

    def position(self, frame: int) -> int:
        """Position at a frame of the axis."""
        return int(position_at(self.start, max(0, frame - self.base), self.length, self.region))

    def stretch(self, frame: int) -> tuple[int, int]:
        """Position at `frame`, and how many frames follow it without a jump."""
        position = self.position(frame)
        stop = self.region[1] if self.loops and self.region is not None else self.length
        return position, stop - position


class Renderer:
    """Frames of a timeline, one block after the other."""

    def __init__(self, track: Track, rate: int, gain_db: float, timeline: Timeline) -> None:
        self._track = track
        self._rate = rate
        self._gain_db = gain_db
        self._timeline = timeline
        self._reel: Reel | None = None
        self._next = -1  # position that the reel gives next
        self._pass: list[FloatArray] = []  # blocks of a loop from its start on
        self._loop: FloatArray | None = None

    def render(self, frame: int, count: int) -> FloatArray:
        """Up to `count` frames from `frame` on, shape (n, channels): to the next jump, none after the end."""
        position, left = self._timeline.stretch(frame)
        count = min(count, left)
        region = self._timeline.region
        if self._loop is not None and region is not None and region[0] <= position:
            return self._loop[position - region[0] : position - region[0] + count]
        if self._reel is None or position != self._next:
            self._reel = Reel(self._track, self._rate, position, self._gain_db)
        self._next = position + count
        block = self._reel.read(count)
        if self._timeline.loops and region is not None and region[1] - region[0] <= KEEP_LOOP_S * self._rate:
            self._remember(block, position, region)
        return block

    def _remember(self, block: FloatArray, position: int, region: tuple[int, int]) -> None:
        """Keep a loop from its first whole pass on; its second needs no reading and no resampling."""
        if position == region[0]:
            self._pass = [block]
        elif self._pass:
            self._pass.append(block)
        if self._pass and position + len(block) == region[1]:
            self._loop = np.concatenate(self._pass)


class TapeWriter:
    """Fills the tape of one generation, in a thread of its own, until it is whole, cancelled or left behind."""

    def __init__(self, board: Board, slot: int, renderer: Renderer, timeline: Timeline, rate: int) -> None:
        tape = board.tapes[slot]
        self.generation, self._axis = int(tape["generation"]), int(tape["axis"])
        self._origin = int(tape["origin"])
        self._board = board
        self._slot = slot
        self._renderer = renderer
        self._timeline = timeline
        self._rate = rate
        self._ahead = min(round(AHEAD_S * rate), int(tape["capacity"]) - BLOCK_FRAMES)
        self._cancelled = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name=f"wavedeck-tape-{self.generation}", daemon=True).start()

    def cancel(self) -> None:
        """Write nothing more; a read under way may take its time, its samples are thrown away."""
        with self._writing:
            self._cancelled.set()

    def _run(self) -> None:
        frame, count = self._origin, FIRST_FRAMES
        while not self._cancelled.is_set():
            generation, axis, now = self._board.rendered()
            if generation > self.generation:
                return
            if axis != self._axis:
                now = self._origin
            if frame < now - CATCH_UP_S * self._rate:  # a slow source: what has passed is not rendered any more
                frame = now
                self._publish(self._board.skip, now)
            end = self._timeline.end
            if end is not None and frame >= end:
                self._publish(self._board.finish, end)
                return
            if frame + count > now + self._ahead:
                self._cancelled.wait(AHEAD_S / 10)
                continue
            block = self._renderer.render(frame, count)
            self._publish(self._board.write, frame, block)
            count = BLOCK_FRAMES if frame > self._origin else FIRST_FRAMES
            frame += len(block)

    def _publish(self, change: Callable[..., None], *values: Any) -> None:
        """Change the tape, unless it is not ours any more."""
        with self._writing:
            if not self._cancelled.is_set():
                change(self._slot, *values)
