"""Spectrograms in pixels, laid over the cells of the Listen screen where the terminal can show them.

Textual draws cells only. So whenever it has drawn, this looks at what is on screen and writes pictures behind it:

- kitty keeps pictures over the cells until they are deleted. Each is written when it changes, the new one before the
  old one goes; the playhead is a picture of its own that is moved.
- sixel pictures are wiped by every cell that is drawn over them. They are written again where that happened, while a
  clip plays the one column that the playhead left.

Under a notification, and behind a dialog, there are no pictures: the half blocks below are whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from textual.geometry import Region
from textual.screen import Screen
from textual.widgets import Tooltip
from textual.widgets._toast import Toast

from ...engine.pictures.kitty import delete_kitty, encode_kitty, place_kitty
from ...engine.pictures.sixel import encode_sixel
from ...engine.pictures.terminal import Pictures
from ...widgets.pixel_picture import FINENESS, PixelPicture, PixelStack

ROW_PIXELS = 8
"""Pixels to a cell's height that kitty is sent; it enlarges them itself."""
PLAYHEAD_PIXELS = 8
FIRST_NUMBER = 7000
"""Of our pictures, away from those that other programs number from 1 on."""
OVER, OVER_ALL = 1, 2
_Key = tuple[Region, int]


class PixelLayer:
    """The pictures that are on the terminal now.

    Parameters
    ----------
    pictures: what the terminal can show; not `cells`.
    write: puts text on the terminal, behind what Textual has written.
    """

    def __init__(self, pictures: Pictures, write: Callable[[str], object]) -> None:
        self.pictures = pictures
        self._write = write
        self._number = FIRST_NUMBER
        self._shown: dict[_Key, int] = {}
        self._playhead: tuple[int, Region] | None = None
        self._encoded: dict[int, str] = {}
        self._seen: tuple[Any, ...] = ()
        self._wanted: dict[_Key, PixelPicture] = {}
        self._column: int | None = None

    def after_display(self, screen: Screen[Any]) -> None:
        """Textual has drawn: bring the pictures up to date. Writes nothing where nothing changed."""
        stack = next(iter(screen.query(PixelStack)), None)
        wanted = {} if stack is None or not stack.is_attached else self._look(stack, screen)
        drawn = stack.take_drawn() if stack is not None else set()
        if stack is not None:
            stack.fineness = FINENESS
        if self.pictures.kind == "kitty":
            self._kitty(stack, wanted)
        else:
            self._sixel(stack, wanted, drawn)

    def clear(self) -> None:
        """Take all pictures away."""
        said = "".join(delete_kitty(number) for number in self._shown.values())
        if self._playhead is not None:
            said += delete_kitty(self._playhead[0])
        if said and self.pictures.kind == "kitty":
            self._write(said)
        self._shown, self._playhead, self._wanted, self._seen = {}, None, {}, ()

    def _look(self, stack: PixelStack, screen: Screen[Any]) -> dict[_Key, PixelPicture]:
        """The pictures that belong on the screen; made anew only when what they show is another."""
        place = stack.region
        covers = [other.region for kind in (Toast, Tooltip) for other in screen.query(kind) if other.display]
        over = tuple(region for region in covers if region.overlaps(place))
        visible = place.area and screen.region.contains_region(place)
        seen = (id(stack), stack.picture, place, over, stack.app.theme, screen.size)
        if not visible:
            self._seen = ()
            return {}
        if len(self._seen) == len(seen) and all(a is b or a == b for a, b in zip(self._seen, seen, strict=True)):
            return self._wanted
        self._seen = seen
        pictures = stack.pixel_pictures(*self._pixels_of_a_cell)
        free = [one for one in pictures if not any(region.overlaps(one.region) for region in over)]
        colours = zlib.crc32(stack.palette().tobytes())
        self._wanted = {(one.region, zlib.crc32(one.numbers.tobytes(), colours)): one for one in free}
        return self._wanted

    @property
    def _pixels_of_a_cell(self) -> tuple[int, int]:
        if self.pictures.kind == "kitty":
            return FINENESS, ROW_PIXELS
        return self.pictures.cell_width, self.pictures.cell_height

    # --- kitty

    def _kitty(self, stack: PixelStack | None, wanted: dict[_Key, PixelPicture]) -> None:
        said = []
        for key, one in wanted.items():
            if key not in self._shown and stack is not None:
                self._number += 1
                rgb, place = stack.palette()[one.numbers], one.region
                text = encode_kitty(rgb, self._number, place.width, place.height, above=OVER)
                said.append(_at(place.x, place.y, text))
                self._shown[key] = self._number
        for key in [key for key in self._shown if key not in wanted]:
            said.append(delete_kitty(self._shown.pop(key)))
        said += self._kitty_playhead(stack, wanted)
        if said:
            self._write("".join(said))

    def _kitty_playhead(self, stack: PixelStack | None, wanted: dict[_Key, PixelPicture]) -> list[str]:
        """A line over all pictures, which is moved; from the first row of the first to the last of the last."""
        column = stack.playhead if stack is not None else None
        if stack is None or column is None or not wanted:
            if self._playhead is None:
                return []
            number, self._playhead = self._playhead[0], None
            return [delete_kitty(number)]
        return self._moved_playhead(stack.region.x + column, wanted)

    def _moved_playhead(self, x: int, wanted: dict[_Key, PixelPicture]) -> list[str]:
        regions = [one.region for one in wanted.values()]
        top, bottom = min(region.y for region in regions), max(region.bottom for region in regions)
        place = Region(x, top, 1, bottom - top)
        before, number = self._playhead, self._playhead[0] if self._playhead is not None else self._number + 1
        if before is not None and before[1] == place:
            return []
        self._playhead = (number, place)
        if before is not None:
            return [_at(x, top, place_kitty(number, 1, place.height, above=OVER_ALL))]
        self._number = number
        line = np.zeros((1, PLAYHEAD_PIXELS, 4), np.uint8)
        line[:, PLAYHEAD_PIXELS // 2 - 1] = 255
        return [_at(x, top, encode_kitty(line, number, 1, place.height, above=OVER_ALL))]

    # --- sixel

    def _sixel(self, stack: PixelStack | None, wanted: dict[_Key, PixelPicture], drawn: set[int] | None) -> None:
        before, self._shown = self._shown, dict.fromkeys(wanted, 0)
        if stack is None or not wanted:
            return
        if any(key not in wanted for key in before):  # its place is another's now: the cells must come back first
            self._shown = {}
            stack.refresh()
            return
        palette, left, playhead = stack.palette(), stack.region.x, stack.playhead
        said = []
        for key, one in wanted.items():
            if drawn is None or key not in before:
                said.append(_at(one.region.x, one.region.y, self._encode(key[1], one.numbers, palette)))
                continue
            for column in sorted(drawn - {playhead}):
                part = self._cut(one, left + column)
                if part is not None:
                    said.append(_at(left + column, one.region.y, encode_sixel(part, palette)))
        if said:
            self._write("".join(said))

    def _cut(self, one: PixelPicture, x: int) -> np.ndarray | None:
        """The pixels of one column of cells."""
        width = self.pictures.cell_width
        start = (x - one.region.x) * width
        return one.numbers[:, start : start + width] if 0 <= start < one.numbers.shape[1] else None

    def _encode(self, key: int, numbers: np.ndarray, palette: np.ndarray) -> str:
        """The picture as text; it takes a tenth of a second, and the same one is often wanted again."""
        text = self._encoded.pop(key, None) or encode_sixel(numbers, palette)
        self._encoded[key] = text
        while len(self._encoded) > 8:
            del self._encoded[next(iter(self._encoded))]
        return text


def _at(x: int, y: int, text: str) -> str:
    """`text` written at a cell, the cursor where it was."""
    return f"\x1b7\x1b[{y + 1};{x + 1}H{text}\x1b8"
