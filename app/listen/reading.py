"""Reads voices into what a `TrackStack` draws, in a thread: facts first, then the waveform, then the spectrogram.

A clip of up to ten minutes is read whole. Of a longer one only as much is read as can be seen, a stretch for each
column, so that two hours open at once; its measures are then those of what was read, and it says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ...engine.format import plain
from ...engine.samples import Audio, SampleError
from ...engine.samples.measures import BLOCK_FRAMES, Meter
from ...engine.samples.overview import BUCKET, Overview
from ...engine.samples.spectrogram import read_spectrogram
from ...widgets.time_axis import TimeWindow
from ...widgets.track_view import Detail, TrackView
from .voices import Difference, Key, Voice

READ_WHOLE_S = 600.0
STRETCH_FRAMES = 16 * BUCKET
LEAST_COLUMNS = 200
KEPT_VIEWS = 32
MOST_DETAIL_FRAMES = 1 << 20
Read = Callable[[int, int], Audio]


class Cancelled(Exception):
    """Another item is wanted: what was begun is of no use."""


class ViewCache:
    """The newest whole views by voice, so that going back to an item shows it at once."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple[Key, str], TrackView] = OrderedDict()

    def get(self, key: Key, note: str) -> TrackView | None:
        """A view that was put there whole."""
        return self._views.get((key, note))

    def put(self, key: Key, note: str, view: TrackView) -> None:
        """Keep a whole view; the oldest ones go."""
        self._views[key, note] = view
        self._views.move_to_end((key, note))
        while len(self._views) > KEPT_VIEWS:
            self._views.popitem(last=False)


def first_look(voice: Voice) -> TrackView:
    """What the index line alone tells; no file is opened."""
    place = voice.place
    view = TrackView(voice.track, rate=place.rate, channels=place.channels, frames=place.frames, note=voice.note)
    return view if place.frames else replace(view, problem="This track has no samples.")


def look(view: TrackView, read: Read, columns: int, cancelled: Callable[[], bool]) -> Iterator[TrackView]:
    """The view, ever more complete; the last one is whole. Nothing that a file holds raises.

    Raises
    ------
    Cancelled: `cancelled()` became true.
    """
    if view.problem is not None:
        yield view
        return
    try:
        yield from _look(view, read, max(columns, LEAST_COLUMNS), cancelled)
    except SampleError as error:
        yield replace(view, problem=str(error))
    except (OSError, ValueError, MemoryError) as error:
        yield replace(view, problem=f"This track cannot be read ({plain(str(error), 120)}).")


def _look(view: TrackView, read: Read, columns: int, cancelled: Callable[[], bool]) -> Iterator[TrackView]:
    overview, meter = Overview(view.frames, view.channels), Meter(view.rate, view.channels)
    whole = view.seconds <= READ_WHOLE_S
    for start, frames in _stretches(view.frames, columns, whole):
        if cancelled():
            raise Cancelled
        block = read(start, frames)
        if len(block) < frames:
            raise SampleError(f"Only {start + len(block):,} of {view.frames:,} frames of this track are there.")
        overview.put(start, block)
        meter.add(block)
    note = view.note if whole else f"{view.note} measured in parts".strip()
    view = replace(view, overview=overview, note=note)
    yield replace(view, measures=meter.result())

    def guarded(start: int, frames: int) -> Audio:
        if cancelled():
            raise Cancelled
        return read(start, frames)

    spectrogram = read_spectrogram(guarded, 0, view.frames, view.rate, columns)
    yield replace(view, measures=meter.result(), spectrogram=spectrogram)


def _stretches(frames: int, columns: int, whole: bool) -> Iterator[tuple[int, int]]:
    """(start, frames) of what is read for the waveform, in whole buckets."""
    if whole:
        yield from ((start, min(BLOCK_FRAMES, frames - start)) for start in range(0, frames, BLOCK_FRAMES))
        return
    step = max(STRETCH_FRAMES, frames // columns // BUCKET * BUCKET)
    yield from ((start, min(STRETCH_FRAMES, frames - start)) for start in range(0, frames, step))


def closer_look(view: TrackView, read: Read, window: TimeWindow, columns: int) -> TrackView:
    """The visible part of a whole view in detail: samples where they are few, the waveform where it was only sketched,
    and a spectrogram of the window."""
    if view.problem is not None or view.overview is None:
        return view
    start = max(0, int(window.start * view.rate))
    end = min(view.frames, int(np.ceil(window.end * view.rate)))
    if end <= start:
        return replace(view, closer=None, detail=None)
    try:
        detail = view.detail
        if (end - start) / max(1, columns) < 2 * BUCKET and end - start <= MOST_DETAIL_FRAMES:
            first = max(0, start - BUCKET)
            detail = Detail(first, read(first, min(view.frames, end + BUCKET) - first))
        else:
            _fill(view.overview, read, start, end)
        closer = read_spectrogram(read, start, end, view.rate, max(columns, LEAST_COLUMNS))
        return replace(view, closer=closer, detail=detail)
    except (SampleError, OSError, ValueError):
        return view  # the whole view stays, and tells what is wrong when it is read again


def _fill(overview: Overview, read: Read, start: int, end: int) -> None:
    """Read what a sketch left out, where the window is short enough to read it all."""
    missing = overview.missing(start, end)
    if sum(last - first for first, last in missing) > 16 * BLOCK_FRAMES:
        return
    for first, last in missing:
        for at in range(first, last, BLOCK_FRAMES):
            overview.put(at, read(at, min(BLOCK_FRAMES, last - at)))


def difference_view(difference: Difference) -> TrackView:
    """What is known of a difference before it is read."""
    rates = sorted({voice.place.rate for voice in difference.pair})
    resampled = f", {' and '.join(f'{rate:,}' for rate in rates)} Hz brought together" if len(rates) > 1 else ""
    return TrackView(
        difference.title,
        rate=difference.rate,
        channels=difference.channels,
        frames=difference.frames,
        note=f"null test b − a{resampled}",
    )
