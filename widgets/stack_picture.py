"""The picture of a `TrackStack`: who gets which rows, and everything painted but the playhead.

A picture is painted once for some tracks, a window and a size. The playhead is laid over single columns of it later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..engine import format as fmt
from .cell_grid import CellGrid, one_cell
from .spectrogram import frequency_labels, loudest_db, paint_spectrogram, pixels
from .stack_colours import ACCENT, BAD, BAR, DIM, GROUND, LEVELS, MAP, MUTED, ROLES, STRONG, TEXT, wave_ink
from .time_axis import TimeWindow, ruler
from .track_view import TrackView, label_facts, track_name
from .waveform import paint_wave

Show = Literal["both", "waveform", "spectrogram"]
SHOWS: tuple[Show, ...] = ("both", "waveform", "spectrogram")
GUTTER = 5
WIDE = 40
"""From this width on there is a gutter with frequencies and channels."""
LEAST_ROWS = 2
GAINS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
AUDIBLE, LOUDSPEAKER = "┃", "♪"


@dataclass(frozen=True, slots=True, eq=False)
class StackScene:
    """All that a picture shows. `window`: the visible seconds; `loop`: start and end in seconds, or None."""

    tracks: Sequence[TrackView] = ()
    audible: int = 0
    window: TimeWindow = TimeWindow(0.0, 1.0)  # noqa: RUF009
    loop: tuple[float, float] | None = None
    show: Show = "both"
    focused: bool = False
    words: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """Rows of one track: its label line at `top`, then `wave` rows and `spectrum` rows."""

    track: int
    top: int
    wave: int
    spectrum: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.top + 1 + self.wave + self.spectrum


@dataclass(frozen=True, slots=True, eq=False)
class StackPicture:
    """Painted cells; `left` is the first of `columns` columns that show time, `lanes` are the tracks on screen."""

    grid: CellGrid
    left: int
    columns: int
    lanes: tuple[Lane, ...]
    window: TimeWindow
    crossed: frozenset[int] = frozenset()
    """Rows that the playhead crosses: the ruler and the pictures, not the labels."""

    def column_of(self, seconds: float) -> int | None:
        """The cell column of a moment; None outside of the window."""
        column = self.window.column(seconds, self.columns)
        return None if column is None else self.left + column

    def seconds_at(self, x: int) -> float:
        """The moment in the middle of a cell column, inside the window."""
        column = min(max(x - self.left, 0), max(0, self.columns - 1))
        return self.window.seconds(column + 0.5, self.columns)

    def lane_at(self, y: int) -> Lane | None:
        """The lane that a row belongs to."""
        return next((lane for lane in self.lanes if lane.top <= y < lane.end), None)


def lay_out(count: int, audible: int, height: int, show: Show) -> tuple[Lane, ...]:
    """Rows for as many of `count` tracks as fit below the ruler; those near the audible one when not all do."""
    room = height - 1
    shown = min(count, max(1, room // LEAST_ROWS))
    if count <= 0 or room <= 0:
        return ()
    first = min(max(0, audible - shown // 2), count - shown)
    # A last line is kept for "… more" when tracks are left out.
    if shown < count and room >= LEAST_ROWS + 1:
        room -= 1
        shown = min(shown, max(1, room // LEAST_ROWS))
        first = min(max(0, audible - shown // 2), count - shown)
    lanes, top = [], 1
    # Every lane has the same kinds of pictures, so that they can be compared; rows that are over make some taller.
    rows = room // shown
    for place in range(shown):
        wave, spectrum = _share(rows - 1, show)
        if place < room % shown:
            wave, spectrum = (wave, spectrum + 1) if spectrum else (wave + 1, 0)
        lanes.append(Lane(first + place, top, wave, spectrum))
        top = lanes[-1].end
    return tuple(lanes)


def _share(rows: int, show: Show) -> tuple[int, int]:
    """Rows for the waveform and for the spectrogram; even waveforms have their middle between two cells."""
    if rows <= 0:
        return 0, 0
    if show == "waveform":
        return rows, 0
    if show == "spectrogram":
        return 0, rows
    if rows < 5:
        return (rows, 0) if rows < 3 else (0, rows)
    wave = max(2, 2 * round(rows / 6))
    return wave, rows - wave


def paint_stack(scene: StackScene, width: int, height: int) -> StackPicture:
    """The whole picture without its playhead."""
    grid = CellGrid(width, height, TEXT, GROUND)
    left = GUTTER if width >= WIDE else 1 if width >= 4 else 0
    columns = max(0, width - left)
    lanes = lay_out(len(scene.tracks), scene.audible, height, scene.show) if width else ()
    pictures = [lane for lane in lanes if _why_empty(scene.tracks[lane.track]) is None]
    crossed = frozenset((0, *(y for lane in pictures for y in range(lane.top + 1, lane.end)))) if lanes else frozenset()
    picture = StackPicture(grid, left, columns, lanes, scene.window, crossed)
    if not lanes:
        _say(grid, 0, height, scene.words or "no sound in this item", BAD if scene.failed else MUTED)
        return picture
    gain = _gain(scene.tracks)
    tops = [loudest_db(track.spectrogram) for track in scene.tracks if track.spectrogram is not None]
    top_db = max(tops, default=-math.inf)
    for lane in lanes:
        _paint_lane(picture, scene, lane, gain, top_db)
    left_out = len(scene.tracks) - len(lanes)
    if left_out and lanes[-1].end < height:
        grid.text(left, lanes[-1].end, f"… {left_out} more tracks: switch to one to see it"[:columns], MUTED)
    _shade(picture, scene)
    _paint_ruler(picture, scene, gain)
    return picture


def _gain(tracks: Sequence[TrackView]) -> float:
    """One factor for all tracks, a round one, with which the largest peak nearly fills its lane."""
    peak = max((track.peak() for track in tracks), default=0.0)
    return max((gain for gain in GAINS if gain * peak <= 1), default=1.0) if peak > 0 else 1.0


def _paint_lane(picture: StackPicture, scene: StackScene, lane: Lane, gain: float, top_db: float) -> None:
    track = scene.tracks[lane.track]
    _paint_label(picture, scene, lane)
    grid = picture.grid
    top, rows = lane.top + 1, lane.wave + lane.spectrum
    if lane.track == scene.audible and picture.left:
        for y in range(top, lane.end):
            grid.text(0, y, AUDIBLE, ACCENT)
    words = _why_empty(track)
    if words is not None:
        _say(grid, top, rows, words, BAD if track.problem else MUTED, picture.left)
        return
    if lane.wave:
        _paint_waves(picture, scene, track, lane, gain)
    if lane.spectrum:
        _paint_spectrum(picture, scene, track, lane, top_db)


def _why_empty(track: TrackView) -> str | None:
    """What stands in place of a track's picture; None when there is something to draw."""
    if track.problem is not None:
        return f"! {fmt.plain(track.problem, 300)}"
    return "reading the sound…" if track.overview is None and track.spectrogram is None else None


def _paint_label(picture: StackPicture, scene: StackScene, lane: Lane) -> None:
    """Who it is, whether it is heard, and what is to be said about it."""
    grid, track, y = picture.grid, scene.tracks[lane.track], lane.top
    heard = lane.track == scene.audible
    grid.ground[y, :] = BAR
    x = grid.text(0, y, f"{LOUDSPEAKER if heard else ' '} ", ACCENT, bold=True)
    if track.letter:
        x = grid.text(x, y, one_cell(track.letter, 1), ACCENT if heard else TEXT, bold=heard)
        x = grid.text(x, y, " ", TEXT)
    name = track_name(track, max(4, min(24, grid.width // 3)))
    x = grid.text(x, y, name, wave_ink(lane.track).rms, bold=True)
    if heard and grid.width >= 60:
        x = grid.text(x, y, " (heard)", ACCENT)
    for fact in label_facts(track, grid.width - x - 3):
        x = grid.text(x + 2, y, one_cell(fact.text, grid.width), ROLES[fact.role], bold=fact.role == "bad")


def _paint_waves(picture: StackPicture, scene: StackScene, track: TrackView, lane: Lane, gain: float) -> None:
    """One lane a channel where there is room for two rows each, otherwise all channels over each other."""
    envelope = track.envelope(scene.window, picture.columns)
    top = lane.top + 1
    if envelope is None:
        if track.overview is None:
            _say(picture.grid, top, lane.wave, "reading the waveform…", MUTED, picture.left)
        return
    channels = envelope.maximum.shape[1]
    apart = channels > 1 and lane.wave >= 2 * channels
    clips = track.measures is not None and track.measures.clipped > 0
    for place in range(channels if apart else 1):
        rows = lane.wave // channels + (1 if place < lane.wave % channels else 0) if apart else lane.wave
        cells = paint_wave(envelope, place if apart else None, rows, wave_ink(lane.track), gain=gain, clips=clips)
        picture.grid.block(picture.left, top, *cells)
        if picture.left == GUTTER and apart:
            names = "LR" if channels == 2 else "12345678"
            picture.grid.text(2, top + (rows - 1) // 2, names[place] if place < len(names) else "·", MUTED)
        top += rows
    if picture.left == GUTTER and channels > 1 and not apart:
        both = "L+R" if channels == 2 else f"{channels}ch"
        picture.grid.text(1, lane.top + 1, both[: GUTTER - 1], MUTED)


def _paint_spectrum(picture: StackPicture, scene: StackScene, track: TrackView, lane: Lane, top_db: float) -> None:
    top = lane.top + 1 + lane.wave
    view = track.spectrogram
    if view is None:
        _say(picture.grid, top, lane.spectrum, "reading the spectrogram…", MUTED, picture.left)
        return
    levels = pixels(view, track.rate, scene.window, picture.columns, 2 * lane.spectrum)
    if track.closer is not None:
        close = pixels(track.closer, track.rate, scene.window, picture.columns, 2 * lane.spectrum)
        levels = np.where(np.isnan(close), levels, close)
    beyond = scene.window.start + scene.window.length * np.arange(picture.columns) / max(1, picture.columns)
    levels[:, beyond >= track.seconds] = np.nan
    picture.grid.block(picture.left, top, *paint_spectrogram(levels, top_db, MAP, LEVELS, GROUND))
    if picture.left == GUTTER:
        for row, label in frequency_labels(view.centres_hz, lane.spectrum):
            picture.grid.text(GUTTER - 1 - len(label), top + row, label, MUTED)


def _shade(picture: StackPicture, scene: StackScene) -> None:
    """Dim what is outside of the loop, on the rows of the pictures."""
    if scene.loop is None:
        return
    seconds = scene.window.start + scene.window.length * (np.arange(picture.columns) + 0.5) / max(1, picture.columns)
    outside = np.flatnonzero((seconds < scene.loop[0]) | (seconds > scene.loop[1])) + picture.left
    for lane in picture.lanes:
        for colours in (picture.grid.ink, picture.grid.ground):
            colours[lane.top + 1 : lane.end, outside] += DIM


def _paint_ruler(picture: StackPicture, scene: StackScene, gain: float) -> None:
    """Ticks and times, the loop as a bar between brackets, and by how much waveforms are enlarged."""
    grid, left, columns = picture.grid, picture.left, picture.columns
    brackets = []
    if scene.loop is not None:
        start, end = max(scene.loop[0], scene.window.start), min(scene.loop[1], scene.window.end)
        first, last = scene.window.column(start, columns), scene.window.column(end, columns)
        if start < end and first is not None and last is not None:
            grid.text(left + first, 0, "━" * (last - first + 1), ACCENT)
        ends = zip("[]", (scene.window.column(moment, columns) for moment in scene.loop), strict=True)
        brackets = [(column, bracket) for bracket, column in ends if column is not None]
    # What is enlarged is named: a bare factor on the axis of time would be taken for a zoom.
    said = f"waveform ×{gain:g}" if gain > 1 and any(lane.wave for lane in picture.lanes) else ""
    said = said if left == GUTTER and columns >= 3 * len(said) else ""
    last = columns - len(said) - 1 if said else columns
    if said and not any(column > last for column, _ in brackets):
        grid.text(left + columns - len(said), 0, said, MUTED)
    for column, label in ruler(scene.window, columns):
        if said and column + len(label) + 1 > last:
            continue
        if not any(column - 1 <= taken <= column + len(label) + 1 for taken, _ in brackets):
            grid.text(left + column, 0, f"╷{label}", MUTED)
    for column, bracket in brackets:
        grid.text(left + column, 0, bracket, ACCENT, bold=True)
    if left == GUTTER:
        mark = "▌" if scene.focused else " "
        grid.text(0, 0, mark, STRONG)
    elif scene.focused and grid.width and grid.height:
        grid.text(0, 0, "▌", STRONG)


def _say(grid: CellGrid, top: int, rows: int, words: str, ink: int, left: int = 0) -> None:
    """Words in the middle of some rows, wrapped where there are rows for it."""
    width = grid.width - left - 2
    if rows <= 0 or width <= 0:
        return
    text = one_cell(words, width * rows)
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word[:width])
    lines = lines[:rows]
    for place, line in enumerate(lines):
        grid.text(left + 1 + max(0, (width - len(line)) // 2), top + (rows - len(lines)) // 2 + place, line, ink)
