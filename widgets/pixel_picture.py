"""The spectrograms of a `TrackStack` in pixels, for terminals that show more than cells (`app.listen.pixels`).

The cells below stay what they are, half blocks: whoever takes the pixels away leaves a whole picture behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from textual.geometry import Region
from textual.strip import Strip

from .spectrogram import colour_numbers, loudest_db, pixels
from .stack_colours import DIM, GROUND, LEVELS, MAP, build_palette
from .stack_picture import Lane
from .track_stack import TrackStack

Numbers = npt.NDArray[np.uint8]
FINENESS = 4
"""Columns of a spectrogram to a cell; more is more work and no more to see."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelPicture:
    """One spectrogram: its cells on the screen, and palette numbers of shape (pixel rows, pixel columns)."""

    region: Region
    numbers: Numbers


class PixelStack(TrackStack):
    """Remembers which of its columns were drawn: on some terminals that wipes the pixels over them.

    Until somebody sets `fineness` to `FINENESS` it is a `TrackStack` and nothing else.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn: set[int] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        """As a `TrackStack`."""
        touched = set(self._touched)
        self._drawn = self._drawn | touched if touched and self._drawn is not None else None
        return super().render_lines(crop)

    def take_drawn(self) -> set[int] | None:
        """The columns drawn since this was last asked, None for all; empty when it was not drawn."""
        drawn, self._drawn = self._drawn, set()
        return drawn

    @property
    def playhead(self) -> int | None:
        """The column of the playhead, from the left edge."""
        return self._playhead_column()

    def palette(self) -> Numbers:
        """The colours of the pictures, uint8 of shape (colours, 3)."""
        _, background = self.background_colors
        return build_palette(self.app.theme_variables, self.styles.color, background, self.colours)

    def pixel_pictures(self, cell_columns: int, cell_rows: int) -> list[PixelPicture]:
        """Every spectrogram that is seen, with so many pixels to a cell."""
        picture, place = self.picture, self.region
        if not place.area:
            return []
        tops = [loudest_db(track.spectrogram) for track in self.tracks if track.spectrogram is not None]
        top_db = max(tops, default=-math.inf)
        found = []
        for lane in picture.lanes:
            numbers = self._numbers(lane, top_db, cell_columns, cell_rows)
            if numbers is not None:
                x, y = place.x + picture.left, place.y + lane.top + 1 + lane.wave
                found.append(PixelPicture(Region(x, y, picture.columns, lane.spectrum), numbers))
        return found

    def _numbers(self, lane: Lane, top_db: float, cell_columns: int, cell_rows: int) -> Numbers | None:
        track, picture = self.tracks[lane.track], self.picture
        if track.problem is not None or track.spectrogram is None or not lane.spectrum or not picture.columns:
            return None
        columns, rows = picture.columns * cell_columns, lane.spectrum * cell_rows
        levels = pixels(track.spectrogram, track.rate, picture.window, columns, rows)
        if track.closer is not None:
            close = pixels(track.closer, track.rate, picture.window, columns, rows)
            levels = np.where(np.isnan(close), levels, close)
        seconds = picture.window.start + picture.window.length * np.arange(columns) / columns
        levels[:, seconds >= track.seconds] = np.nan
        numbers = colour_numbers(levels, top_db, MAP, LEVELS, GROUND)
        if self.loop is not None:
            numbers[:, (seconds < self.loop[0]) | (seconds > self.loop[1])] += DIM
        return numbers
