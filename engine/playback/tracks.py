"""Sources made safe and brought to the device: any channel count to any, any rate to any, from any frame on.

`Track` reads a source and can be trusted: it never raises, never gives NaN, always gives as many frames as were asked
for, and keeps what was wrong. `Reel` plays a track from a frame on at the device's rate, by soxr.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from ..format import plain
from .model import FloatArray, Source, amplitude

LOUDEST = 64.0
"""Larger samples are cut to this before resampling, where one of 1e38 would ring through its neighbours."""
SETTLE_S = 0.05
"""Input read ahead of a position, so that the resampler's filter has forgotten that it was started there."""


def mapped(audio: FloatArray, channels: int) -> FloatArray:
    """Audio of shape (frames, m) as (frames, `channels`).

    Mono goes to the first two channels; more channels than there are go to the ears in turn (0, 2, 4 left, 1, 3, 5
    right), averaged, so that eight microphones or stems are all heard and nothing clips; further channels are silent.
    """
    frames, have = audio.shape
    if have == channels:
        return audio
    out = np.zeros((frames, channels), np.float32)
    if have == 1:
        out[:, :2] = audio
    elif have < channels:
        out[:, :have] = audio
    else:
        for channel in range(channels):
            out[:, channel] = audio[:, channel::channels].mean(axis=1)
    return out


class Track:
    """A source that can be trusted, with `channels` of the device.

    `warning` is what was found wrong with it so far, as a sentence.
    """

    def __init__(self, source: Source, channels: int) -> None:
        self.source = source
        self.channels = channels
        self.warning: str | None = source.problem
        self._playable = source.problem is None
        self._bad = 0
        self._lock = threading.Lock()

    def frames_at(self, rate: int) -> int:
        """Its length at another rate."""
        return math.ceil(self.source.frames * rate / self.source.rate) if self._playable else 0

    def read(self, start: int, frames: int) -> FloatArray:
        """Frames from `start` on at the source's own rate, shape (frames, channels); zeros where there is nothing."""
        out = np.zeros((frames, self.channels), np.float32)
        first, last = max(0, start), min(start + frames, self.source.frames)
        if self._playable and last > first:
            with self._lock:
                audio = self._checked(first, last - first)
            out[first - start : first - start + len(audio)] = mapped(audio, self.channels)
        return out

    def _checked(self, start: int, frames: int) -> FloatArray:
        source = self.source
        try:
            audio: Any = np.asarray(source.read(start, frames), dtype=np.float32)
            if audio.ndim == 1:
                audio = audio[:, None]
            if audio.ndim != 2 or audio.shape[1] != source.channels or len(audio) > frames:
                raise ValueError(f"its samples have the shape {audio.shape}, not ({frames}, {source.channels})")
        except Exception as error:  # whatever a file, a network or a caller can do wrong: this source is silent
            self.warning = f"{source.label} cannot be read and is silent there: {plain(str(error), 200)}"
            return np.zeros((0, source.channels), np.float32)
        if len(audio) < frames:
            self.warning = f"{source.label} is shorter than its index says; the rest is silent."
        return self._finite(audio)

    def _finite(self, audio: FloatArray) -> FloatArray:
        """NaN and infinities as silence, what no device can play cut."""
        # One pass tells whether anything is to be done: NaN fails the comparison too.
        if len(audio) and np.abs(audio).max() <= LOUDEST:
            return audio
        finite = np.isfinite(audio)
        self._bad += int(audio.size - np.count_nonzero(finite))
        if self._bad:
            samples = "1 sample" if self._bad == 1 else f"{self._bad:,} samples"
            self.warning = f"{samples} of {self.source.label} so far: NaN or infinite, played as silence."
        return np.clip(np.where(finite, audio, np.float32(0)), -LOUDEST, LOUDEST)


class Reel:
    """A track from one frame of the device's time axis on, at the device's rate, with the source's gain.

    The same frames come out wherever it is started: the resampler starts at an input frame that falls exactly on an
    output frame, far enough ahead for its filter to settle.
    """

    def __init__(self, track: Track, rate: int, start: int, gain_db: float) -> None:
        self._track = track
        self._gain = np.float32(amplitude(gain_db))
        self._stream: Any = None
        self._ready: FloatArray = np.empty((0, track.channels), np.float32)
        own = track.source.rate
        self._step = rate / own if track.source.problem is None else 1.0
        self._at = start
        self.position = start  # the frame that is read next
        if self._step != 1.0:
            self._start_stream(own, rate, start)

    def read(self, frames: int) -> FloatArray:
        """The next `frames` frames, shape (frames, channels); silence after the end."""
        self.position += frames
        if self._stream is None:
            out = self._track.read(self._at, frames)
            self._at += frames
        else:
            out = self._resampled(frames)
        return out if self._gain == 1.0 else out * self._gain

    def _start_stream(self, own: int, rate: int, start: int) -> None:
        import soxr

        shared = math.gcd(own, rate)
        inputs, outputs = own // shared, rate // shared  # so many input frames last exactly so many output frames
        cycle = max(0, start // outputs - math.ceil(SETTLE_S * own / inputs))
        self._at = cycle * inputs
        self._stream = soxr.ResampleStream(own, rate, self._track.channels, dtype="float32", quality="HQ")
        surplus = start - cycle * outputs
        while surplus > 0:
            surplus -= len(self._resampled(min(surplus, 8192)))

    def _resampled(self, frames: int) -> FloatArray:
        while len(self._ready) < frames:
            count = max(256, math.ceil((frames - len(self._ready)) / self._step))
            # The source is followed by silence for ever, so the stream needs no end: its tail rings out into that.
            block = self._track.read(self._at, count)
            self._at += count
            self._ready = np.concatenate((self._ready, self._stream.resample_chunk(block)))
        out, self._ready = self._ready[:frames], self._ready[frames:]
        return out
