"""Perceptual colour maps for pictures of sound: equal steps in level look like equal steps in light.

Anchors are nine even samples of matplotlib's maps (CC0, Smith and van der Walt 2015), joined by straight lines.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Colours = npt.NDArray[np.uint8]

ANCHORS = {
    "magma": ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf"),
    "viridis": ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"),
}
"""Dark to light, hexadecimal."""


def colour_map(name: str, levels: int, background: tuple[int, int, int], *, dark: bool) -> Colours:
    """`levels` colours from silence to loud, uint8 of shape (levels, 3).

    The quiet end melts into `background`: on a dark theme the map begins there and ends in light; on a light theme it
    runs the other way round, so that sound is always what stands out.
    """
    anchors = np.array([[int(text[at : at + 2], 16) for at in (0, 2, 4)] for text in ANCHORS[name]], np.float64)
    if not dark:
        anchors = anchors[::-1]
    anchors[0] = background
    at = np.linspace(0.0, 1.0, levels)
    places = np.linspace(0.0, 1.0, len(anchors))
    return np.rint(np.stack([np.interp(at, places, anchors[:, part]) for part in range(3)], axis=1)).astype(np.uint8)
