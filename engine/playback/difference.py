"""The null test: what is left of one source when another is taken away from it."""

from __future__ import annotations

from .model import FloatArray, Source
from .tracks import Reel, Track


def difference(first: Source, second: Source) -> Source:
    """`first` minus `second`, each with its own gain, at the rate of the first and with the channels of the wider one.

    Equal signals give silence. What cannot be read or is not finite counts as silence on its side. Like any source it
    is read by parts, so that it can be heard and drawn at once.
    """
    channels = max(first.channels, second.channels) if not (first.problem or second.problem) else first.channels
    sides = [Track(source, max(1, channels)) for source in (first, second)]
    reels: dict[int, Reel] = {}
    rate = first.rate

    def reel(side: int, start: int, frames: int) -> FloatArray:
        track = sides[side]
        found = reels.get(side)
        if found is None or found.position != start:
            found = reels[side] = Reel(track, rate, start, track.source.gain_db)
        return found.read(frames)

    def read(start: int, frames: int) -> FloatArray:
        return reel(0, start, frames) - reel(1, start, frames)

    if first.problem:
        return Source(read, first.rate, first.channels, 0, name=first.name)
    frames = max(track.frames_at(rate) for track in sides)
    return Source(read, rate, channels, frames, name=f"{first.name} − {second.name}")
