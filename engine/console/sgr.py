"""Select Graphic Rendition: the escape sequence that styles text (ECMA-48 8.3.117; colours as ITU T.416 / xterm)."""

from __future__ import annotations

import re
from functools import lru_cache

from .lines import PLAIN, Colour, TextStyle

_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike", 21: "underline"}
_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",), 29: ("strike",)}


@lru_cache(maxsize=4096)
def styled(style: TextStyle, parameters: str) -> TextStyle:
    """`style` after one sequence, whose parameters are `1;38;5;208` or `38:2::255:0:0`. What is unknown is ignored."""
    codes = [_codes(field) for field in re.split(";", parameters)] if parameters else [[0]]
    at = 0
    while at < len(codes):
        code, *subcodes = codes[at]
        at += 1
        if code in (38, 48):
            if not subcodes:
                subcodes, at = _following(codes, at)
            colour = _extended(subcodes)
            if colour is not None:
                style = style._replace(fg=colour) if code == 38 else style._replace(bg=colour)
        else:
            style = _simple(style, code, subcodes)
    return style


def _codes(field: str) -> list[int]:
    return [int(part) if part.isdigit() and len(part) < 6 else 0 for part in field.split(":")]


def _following(codes: list[list[int]], at: int) -> tuple[list[int], int]:
    """The parameters of an extended colour that uses semicolons."""
    if at >= len(codes):
        return [], at
    length = {5: 2, 2: 4}.get(codes[at][0], 1)
    return [code[0] for code in codes[at : at + length]], at + length


def _extended(codes: list[int]) -> Colour:
    if len(codes) >= 2 and codes[0] == 5 and codes[1] < 256:
        return codes[1]
    if codes[:1] == [2] and len(codes) >= 4:
        red, green, blue = codes[-3:] if len(codes) < 6 else codes[2:5]
        return (red, green, blue) if max(red, green, blue) < 256 else None
    return None


def _simple(style: TextStyle, code: int, subcodes: list[int]) -> TextStyle:
    if code == 0:
        return PLAIN
    if code in _ON:
        return style._replace(**{_ON[code]: not (code == 4 and subcodes == [0])})
    if code in _OFF:
        return style._replace(**dict.fromkeys(_OFF[code], False))
    for base, shift in ((30, 0), (90, 8)):
        if base <= code < base + 8:
            return style._replace(fg=code - base + shift)
        if base + 10 <= code < base + 18:
            return style._replace(bg=code - base - 10 + shift)
    if code in (39, 49):
        return style._replace(fg=None) if code == 39 else style._replace(bg=None)
    return style
