"""What can be heard beside each other: tracks of an item, of the same item at other steps and in other runs.

Samples are float32 of shape (frames, channels). Everything here may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...engine.playback import Source, difference
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
        """Track and note: `prediction · solar-fox`."""
        return f"{self.track} · {self.note}" if self.note else self.track

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


def named(voices: Sequence[Voice], names: Sequence[str], otherwise: int) -> int:
    """The item's own voice with the first of some names, if it has sound: not one of another step or run."""
    own = {voice.track.casefold(): n for n, voice in enumerate(voices) if not voice.note and voice.place.frames}
    return next((own[name] for name in names if name in own), otherwise)


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
    """One voice taken from another: what a null test hears and draws. Unlike rates and channels are brought together.

    `pair`: what is subtracted from what, second minus first.
    """

    def __init__(self, first: Voice, second: Voice) -> None:
        self.pair = (first, second)
        self._lock = threading.Lock()
        self._drawn = self._made()
        self.rate, self.channels, self.frames = self._drawn.rate, self._drawn.channels, self._drawn.frames

    @property
    def item(self) -> SampleItem:
        """The item of what is heard."""
        return self.pair[1].item

    @property
    def title(self) -> str:
        """`prediction − target`."""
        first, second = self.pair
        return f"{second.title} − {first.title}"

    def read(self, start: int, frames: int) -> Audio:
        """Frames from `start` on, for pictures and files, which say what cannot be read."""
        with self._lock:
            return np.asarray(self._drawn.read(start, frames), np.float32)

    def source(self) -> Source:
        """For a player: it keeps its place in the stream, so each reader has one of its own."""
        return self._made()

    def _made(self) -> Source:
        first, second = self.pair
        failed: list[Exception] = []

        def side(voice: Voice) -> Source:
            def read(start: int, frames: int) -> Audio:
                try:
                    return voice.read(start, frames)
                except Exception as error:
                    failed.append(error)  # the difference would go on with silence on this side
                    raise

            return replace(voice.source(), read=read)

        whole = difference(side(second), side(first))

        def read(start: int, frames: int) -> Audio:
            block = whole.read(start, max(0, min(frames, whole.frames - start)))
            if failed:
                error = failed[0]
                failed.clear()
                raise error
            return np.asarray(block, np.float32)

        return replace(whole, read=read, name=self.title)


def impossible(first: Voice, second: Voice) -> str | None:
    """Why one cannot be taken from the other, as a sentence; None when it can."""
    wrong = next((voice for voice in (first, second) if voice.source().problem is not None), None)
    return None if wrong is None else f"No null test: {wrong.source().problem}"
