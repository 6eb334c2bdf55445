"""What can be heard beside each other: tracks of an item, of the same item at other steps and in other runs.

Samples are float32 of shape (frames, channels). Everything here may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...engine.playback import Source
from ...engine.samples import Audio, SampleItem, SampleSet, TrackPlace, finite

MOST_VOICES = 9
"""As many as there are keys 1 to 9."""
GIVEN = ("target", "reference", "input", "mixture")
"""Tracks that a run was given and did not make: they are the same in another run."""
Key = tuple[Path, str, int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One track of one item. `note` tells it from its neighbours: a step, a run."""

    samples: SampleSet
    item: SampleItem
    track: str
    note: str = ""

    @property
    def place(self) -> TrackPlace:
        """Where its samples lie."""
        return self.item.tracks[self.track]

    @property
    def key(self) -> Key:
        """What it is, for caches; rows are stable until an index is rewound."""
        return self.samples.directory, f"{self.samples.rewinds}", self.item.row, self.track

    @property
    def title(self) -> str:
        """Track and note, for messages."""
        return f"{self.track} {self.note}".strip()

    def read(self, start: int, frames: int) -> Audio:
        """Samples as they are, NaN included."""
        return self.samples.audio(self.item, self.track, start, frames)

    def heard(self, start: int, frames: int) -> Audio:
        """Samples as they are played: what is not finite is silent."""
        return finite(self.read(start, frames))

    def source(self) -> Source:
        """For a player."""
        place = self.place
        return Source(self.read, place.rate, place.channels, place.frames, self.title)


def own_voices(samples: SampleSet, item: SampleItem) -> list[Voice]:
    """Every track of an item, as many as there are keys for."""
    return [Voice(samples, item, track) for track in item.tracks][:MOST_VOICES]


def step_voices(samples: SampleSet, item: SampleItem, track: str) -> list[Voice]:
    """A track at each step at which its item was evaluated: the first, the last, and those between evenly."""
    items = [samples.item(row) for row in samples.history(item.id)]
    having = [other for other in items if track in other.tracks]
    if len(having) > MOST_VOICES:
        places = np.unique(np.linspace(0, len(having) - 1, MOST_VOICES).round().astype(int))
        having = [having[place] for place in places]
    return [Voice(samples, other, track, step_words(other.step)) for other in having]


def with_other_run(own: Sequence[Voice], samples: SampleSet, item: SampleItem, name: str) -> list[Voice]:
    """Our tracks, then what the other run made of the same item; what both were given is there once."""
    ours = {voice.track: voice.place for voice in own}
    theirs = []
    for track, place in item.tracks.items():
        mine = ours.get(track)
        same = mine is not None and (mine.rate, mine.frames) == (place.rate, place.frames)
        if not (track in GIVEN and same):
            theirs.append(Voice(samples, item, track, name))
    return [*own, *theirs][:MOST_VOICES]


def step_words(step: int | None) -> str:
    """`step 1,200`."""
    return "no step" if step is None else f"step {step:,}"


class Difference:
    """One voice taken from another, sample by sample: what a null test hears. The pair may change at any time."""

    def __init__(self, first: Voice, second: Voice) -> None:
        self._lock = threading.Lock()
        self._pair = (first, second)

    @property
    def pair(self) -> tuple[Voice, Voice]:
        """What is subtracted from what: second minus first."""
        with self._lock:
            return self._pair

    def set(self, first: Voice, second: Voice) -> None:
        """Subtract other voices from now on; refused ones (`impossible`) are not taken."""
        if impossible(first, second) is None:
            with self._lock:
                self._pair = (first, second)

    @property
    def rate(self) -> int:
        """Samples a second of both."""
        return self.pair[0].place.rate

    @property
    def channels(self) -> int:
        """Those of the pair when they agree, otherwise one."""
        first, second = (voice.place.channels for voice in self.pair)
        return first if first == second else 1

    @property
    def frames(self) -> int:
        """The longer one's."""
        return max(voice.place.frames for voice in self.pair)

    @property
    def title(self) -> str:
        """`prediction − target`."""
        first, second = self.pair
        return f"{second.title} − {first.title}"

    def read(self, start: int, frames: int) -> Audio:
        """Frames from `start` on; where one has ended, the other is left."""
        first, second = self.pair
        channels = self.channels
        frames = max(0, min(frames, self.frames - start))
        total = np.zeros((frames, channels), np.float32)
        for voice, sign in ((second, 1), (first, -1)):
            audio = voice.heard(start, frames)
            if audio.shape[1] != channels:
                audio = audio.mean(axis=1, keepdims=True)
            total[: len(audio)] += sign * audio
        return total

    def source(self, gain_db: float = 0.0) -> Source:
        """For a player."""
        return Source(self.read, self.rate, self.channels, self.frames, self.title, gain_db)


def impossible(first: Voice, second: Voice) -> str | None:
    """Why one cannot be taken from the other, as a sentence; None when it can."""
    if first.place.rate != second.place.rate:
        rates = f"{first.place.rate:,} and {second.place.rate:,} Hz"
        return f"No null test: {first.title} and {second.title} have different sample rates, {rates}."
    if not first.place.frames or not second.place.frames:
        return "No null test: a track without samples has nothing to subtract."
    return None
