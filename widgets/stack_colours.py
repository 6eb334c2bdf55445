"""The palette of a `TrackStack`: numbers for a `CellGrid`, colours from the theme, and a dimmed copy of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from textual.color import Color, ColorParseError

from .colour_maps import colour_map
from .plotting.colours import SLOTS, series_colours
from .waveform import WaveInk

GROUND, TEXT, MUTED, STRONG, WARN, BAD, ACCENT, FAINT, BAR, PLAYHEAD = range(10)
"""`BAR` is the ground of label lines, `FAINT` what should hardly be seen."""
WAVES = 10
MAP = WAVES + 2 * SLOTS
LEVELS = 40
DIM = MAP + LEVELS
"""Add this to any number for the same colour outside of a loop."""
ROLES = {"plain": TEXT, "muted": MUTED, "warn": WARN, "bad": BAD}
DIMMED = 0.62


def wave_ink(slot: int) -> WaveInk:
    """The colours of a track's waveform."""
    at = WAVES + 2 * (slot % SLOTS)
    return WaveInk(GROUND, at, at + 1, MUTED, BAD)


def build_palette(
    variables: Mapping[str, str], foreground: Color, background: Color, map_name: str
) -> npt.NDArray[np.uint8]:
    """All colours, uint8 of shape (2 * DIM, 3)."""

    def named(name: str) -> Color:
        try:
            return Color.parse(variables[name])
        except (KeyError, ColorParseError):
            return foreground

    dark = background.brightness < 0.5
    colours = [
        background,
        foreground,
        foreground.blend(background, 0.4),
        foreground,
        named("warning"),
        named("error"),
        named("accent"),
        foreground.blend(background, 0.75),
        named("panel") if "panel" in variables else background,
        Color(255, 255, 255) if dark else Color(0, 0, 0),
    ]
    for colour in series_colours(variables, foreground, background):
        colours += [colour.blend(background, 0.5), colour]
    table = np.array([(colour.r, colour.g, colour.b) for colour in colours], np.uint8)
    ground = (background.r, background.g, background.b)
    table = np.concatenate((table, colour_map(map_name, LEVELS, ground, dark=dark)))
    faint = table * (1 - DIMMED) + np.array(ground) * DIMMED
    return np.concatenate((table, np.rint(faint).astype(np.uint8)))
