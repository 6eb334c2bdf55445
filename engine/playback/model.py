"""The values and the protocol of playback.

Positions and durations are in seconds of the clip (`_s`), levels in decibels. Audio is float32 of shape
(frames, channels), full scale ±1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..format import plain

FloatArray = npt.NDArray[np.float32]

FADE_S = 0.005
"""Length of the crossfade of a switch, and of the fades of pause and seek."""
MIN_LOOP_S = 0.010
"""Shorter loops are widened to this: a loop of a few samples is a tone, not a region."""
MAX_RATE = 768_000
MAX_CHANNELS = 64
MAX_GAIN_DB = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One track that can be heard, read by parts.

    Parameters
    ----------
    read: `(start, frames)` to float32 of shape (up to `frames`, `channels`), from a thread of the player, one call at a
        time for each source. It may take its time (bytes of a remote run are fetched), and it may raise: what
        cannot be read is silent, and `PlayerState.warning` says so.
    rate: samples a second.
    channels, frames: the whole track's.
    name: what the user calls it, for messages.
    gain_db: applied to this source only; this is where level matching goes.
    """

    read: Callable[[int, int], npt.NDArray[np.floating]]
    rate: int
    channels: int
    frames: int
    name: str = ""
    gain_db: float = 0.0

    @property
    def duration_s(self) -> float:
        """Length in seconds; 0 where rate or length make no sense."""
        return self.frames / self.rate if self.rate > 0 and self.frames > 0 else 0.0

    @property
    def label(self) -> str:
        """The name made safe for a terminal, in quotes."""
        return f"“{plain(self.name, 60)}”" if self.name else "the clip"

    @property
    def problem(self) -> str | None:
        """Why this cannot be played at all, as a sentence; None when it can."""
        if not 0 < self.rate <= MAX_RATE:
            return f"{self.label} has a sample rate of {self.rate} Hz, which cannot be played."
        if not 0 < self.channels <= MAX_CHANNELS:
            return f"{self.label} has {self.channels} channels, which cannot be played."
        if self.frames <= 0:
            return f"{self.label} has no samples."
        return None


@dataclass(frozen=True, slots=True)
class Output:
    """Which device, and how it is driven; everything has a sensible default.

    Parameters
    ----------
    device: a device's name, part of it, or its index as text; None is the system's default.
    rate: samples a second of the stream; None lets the device decide (48 kHz where it takes that).
    channels: None is stereo where the device has two channels.
    sample_format: `float32`, `int16`, `int24` or `int32`; None takes the first of these that the device accepts.
    latency_s: the output buffer; None is PortAudio's value for robust playing.
    """

    device: str | None = None
    rate: int | None = None
    channels: int | None = None
    sample_format: str | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class PlayerState:
    """A complete picture of a player at one moment.

    Parameters
    ----------
    position_s: what is *heard* now: the output latency is taken off.
    playing: the user pressed play and the end is not reached; also true while `buffering`.
    source: index of the source that is heard, or will be as soon as its first samples are there.
    device: name of the device; empty while there is none.
    underruns: gaps so far, because the device was served late or the samples came late.
    error: why there is no sound, and what to do; None when there is sound.
    warning: what is wrong with a source that plays all the same (NaN samples, unreadable parts); None when nothing is.
    duration_s: of the longest source.
    loop: start and end in seconds, or None.
    gain_db: the volume.
    buffering: playing, but waiting for the first samples or for late ones.
    clipped: samples beyond full scale, cut to it on their way out, so far.
    rate: samples a second of the device, 0 while there is none.
    latency_s: from a sample's last change to its being heard.
    """

    position_s: float = 0.0
    playing: bool = False
    source: int = 0
    device: str = ""
    underruns: int = 0
    error: str | None = None
    warning: str | None = None
    duration_s: float = 0.0
    loop: tuple[float, float] | None = None
    gain_db: float = 0.0
    buffering: bool = False
    clipped: int = 0
    rate: int = 0
    latency_s: float = 0.0


class Player(Protocol):
    """Plays one of several aligned sources. Every call returns at once; `state()` may be called 20 times a second."""

    gain_db: float
    """The volume; -inf is mute. Set it at any time: changes are ramped."""

    def load(self, sources: Sequence[Source]) -> None:
        """Take other sources: paused at 0, no loop, source 0. Unlike lengths share the time axis of the longest."""

    def play(self) -> None:
        """Play from where the playhead is; from the start where it is at the end. Looks for a lost device again."""

    def pause(self) -> None:
        """Stop where the playhead is."""

    def seek(self, seconds: float) -> None:
        """Put the playhead there, clamped to the clip; goes on playing if it was."""

    def loop(self, start: float | None, end: float | None = None) -> None:
        """Repeat from `start` to `end` seconds (`None`: no loop); a playhead outside the region goes to its start."""

    def switch(self, index: int) -> None:
        """Hear another source from the same playhead, with a short crossfade and no gap."""

    def match(self, gains_db: Sequence[float]) -> None:
        """Give each source another gain (level matching on or off) without interrupting."""

    def state(self) -> PlayerState:
        """What is going on now."""

    def close(self) -> None:
        """Let go of the device; the player is of no use afterwards. Closing twice is fine."""


def duration_of(sources: Sequence[Source]) -> float:
    """Seconds of the longest source that can be played at all."""
    return max((source.duration_s for source in sources if source.problem is None), default=0.0)


def clamped(seconds: float, duration_s: float) -> float:
    """A position inside the clip; 0 for what is not a number."""
    return min(max(seconds, 0.0), duration_s) if not math.isnan(seconds) else 0.0


def loop_region(start: float | None, end: float | None, duration_s: float) -> tuple[float, float] | None:
    """The region to repeat inside a clip: in order, inside, at least `MIN_LOOP_S` long; None for no loop."""
    if start is None or duration_s <= 0:
        return None
    first, last = sorted((clamped(start, duration_s), clamped(duration_s if end is None else end, duration_s)))
    length = min(MIN_LOOP_S, duration_s)
    if last - first < length:
        first = min(first, duration_s - length)
        last = first + length
    return first, last


def position_at(start: float, elapsed: float, length: float, loop: tuple[float, float] | None) -> float:
    """Where the playhead is after `elapsed` from `start`; the same arithmetic for seconds and for frames (as int)."""
    at = start + elapsed
    if loop is not None and start < loop[1]:
        return at if at < loop[1] else loop[0] + (at - loop[1]) % (loop[1] - loop[0])
    return min(at, length)


def checked_gain(gain_db: float) -> float:
    """A gain that harms nobody's ears by a typing error: NaN is 0, at most `MAX_GAIN_DB`."""
    return 0.0 if math.isnan(gain_db) else min(gain_db, MAX_GAIN_DB)


def amplitude(gain_db: float) -> float:
    """The factor of a level in decibels."""
    return float(10.0 ** (checked_gain(gain_db) / 20.0))
