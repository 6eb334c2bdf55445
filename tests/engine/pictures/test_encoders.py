"""Pictures as terminals would read them: decoders of our own, written from the protocols, get the same pixels back."""

from __future__ import annotations

import base64
import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wavedeck.engine.pictures.kitty import CHUNK, delete_kitty, encode_kitty, place_kitty
from wavedeck.engine.pictures.sixel import encode_sixel

PALETTE = np.array([[n, 255 - n, n * 7 % 256] for n in range(64)], np.uint8)


def draw_sixel(text: str) -> np.ndarray:
    """What a terminal shows of a sixel sequence, in per cent of red, green and blue; -1 where nothing was drawn."""
    found = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.S)
    assert found is not None
    width, height, body = int(found[1]), int(found[2]), found[3]
    screen = np.full((height + 5, width, 3), -1)
    colours: dict[int, tuple[int, ...]] = {}
    x = y = 0
    colour: tuple[int, ...] = ()
    token = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)")
    at = 0
    while at < len(body):
        match = token.match(body, at)
        assert match is not None, body[at : at + 10]
        at = match.end()
        if match[1]:
            colours[int(match[1])] = tuple(int(match[n]) for n in (2, 3, 4))
        elif match[5]:
            colour = colours[int(match[5])]
        elif match[9]:
            x = 0
        elif match[10]:
            x, y = 0, y + 6
        else:
            bits = ord(match[7] or match[8]) - 63
            count = int(match[6] or 1)
            for row in range(6):
                if bits >> row & 1:
                    assert x + count <= width
                    screen[y + row, x : x + count] = colour
            x += count
    assert (screen[height:] == -1).all()
    return screen[:height]


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 30)), elements=st.integers(0, 63)))
def test_a_sixel_terminal_shows_every_pixel(image: np.ndarray) -> None:
    shown = draw_sixel(encode_sixel(image, PALETTE))
    assert np.array_equal(shown, np.rint(PALETTE[image].astype(np.float64) * 100 / 255))


def test_runs_are_short_and_nothing_else_leaves_the_sequence() -> None:
    text = encode_sixel(np.zeros((400, 1000), np.uint8), PALETTE)
    assert len(text) < 1000 and text.count("\x1b") == 2 and text.isascii()


def show_kitty(text: str) -> tuple[dict[str, str], np.ndarray]:
    """The keys and the pixels of a picture as a terminal puts it together."""
    parts = re.findall(r"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) == text
    keys = [dict(pair.split("=") for pair in words.split(",")) for words, _ in parts]
    assert [one["m"] for one in keys] == ["1"] * (len(parts) - 1) + ["0"]
    assert all(len(data) <= CHUNK and (len(data) % 4 == 0) for _, data in parts)
    assert all(set(one) == {"m", "q"} for one in keys[1:])
    raw = zlib.decompress(base64.b64decode("".join(data for _, data in parts)))
    head = keys[0]
    return head, np.frombuffer(raw, np.uint8).reshape(int(head["v"]), int(head["s"]), 3)


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (120, 200)])
def test_a_kitty_terminal_shows_every_pixel(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    keys, shown = show_kitty(encode_kitty(rgb, 7, 30, 12))
    assert np.array_equal(shown, rgb)
    wanted = {"a": "T", "f": "24", "o": "z", "i": "7", "c": "30", "r": "12", "C": "1", "q": "2"}
    assert wanted.items() <= keys.items()


def test_pictures_are_moved_and_deleted_by_number() -> None:
    assert place_kitty(9, 1, 20, above=2) == "\x1b_Ga=p,i=9,p=1,c=1,r=20,z=2,C=1,q=2\x1b\\"
    assert delete_kitty(9) == "\x1b_Ga=d,d=I,i=9,q=2\x1b\\"
