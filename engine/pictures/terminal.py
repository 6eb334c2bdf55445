"""Asking a terminal, once and before anything else reads from it, how it shows pictures.

The setting is `WAVEDECK_PICTURES`: `cells` (as without it), `auto` asks the terminal, `sixel` and `kitty` believe the
user. Nothing is asked inside tmux or screen, which would have to pass pictures on, and a terminal that does not answer
within a tenth of a second gets cells.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import termios
import time
import tty
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ..errors import UsageError
from ..format import plain

Kind = Literal["cells", "sixel", "kitty"]
VARIABLE = "WAVEDECK_PICTURES"
WAIT_S = 0.1
KITTY_QUERY = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
CELL_QUERY = "\x1b[16t"
ATTRIBUTES_QUERY = "\x1b[c"
"""Every terminal answers this one, and answers come in the order of the questions: it is asked last."""
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_SIXEL = b"4"
_LARGEST_CELL = 200


@dataclass(frozen=True, slots=True)
class Pictures:
    """How a terminal shows pictures, and how many pixels one of its cells has; 0 where that is not known."""

    kind: Kind = "cells"
    cell_width: int = 0
    cell_height: int = 0


CELLS = Pictures()
"""What every terminal can."""


def pictures_of(terminal: int, environ: Mapping[str, str] | None = None, wait_s: float = WAIT_S) -> Pictures:
    """How the terminal behind the descriptor `terminal` shows pictures, by setting or by its own answer.

    Raises
    ------
    UsageError: the setting is none.
    """
    environ = os.environ if environ is None else environ
    wish = environ.get(VARIABLE, "") or "cells"
    if wish not in ("auto", *get_args(Kind)):
        raise UsageError(f"{VARIABLE}={plain(wish, 40)}: write auto, cells, sixel or kitty.")
    if wish == "cells" or (wish == "auto" and _is_multiplexed(environ)):
        return CELLS
    answer = _ask(terminal, wait_s)
    width, height = cell_pixels(terminal) or _cell(answer) or (0, 0)
    kind = _spoken(answer) if wish == "auto" else cast(Kind, wish)
    if kind == "sixel" and not (width and height):
        return CELLS  # a picture that fits no cells cannot be put among them
    return Pictures(kind, width, height)


def cell_pixels(terminal: int) -> tuple[int, int] | None:
    """Width and height of a cell as the terminal's driver has them; many leave them 0, then None."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return _sane(width // columns, height // rows) if rows and columns else None


def _is_multiplexed(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("TMUX") or environ.get("STY")) or environ.get("TERM", "").startswith(("tmux", "screen"))


def _ask(terminal: int, wait_s: float) -> bytes:
    """What the terminal answers to all questions, until it has answered the last or the time is over."""
    try:
        before = termios.tcgetattr(terminal)
    except termios.error:
        return b""
    answer, deadline = b"", time.monotonic() + wait_s
    try:
        tty.setcbreak(terminal, termios.TCSANOW)  # no echo, and no waiting for a line's end
        os.write(terminal, f"{KITTY_QUERY}{CELL_QUERY}{ATTRIBUTES_QUERY}".encode())
        while not _ATTRIBUTES.search(answer) and len(answer) < 4096:
            ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(terminal, 1024) if ready else b""
            if not data:
                break
            answer += data
    except OSError:
        pass
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSANOW, before)
    return answer


def _spoken(answer: bytes) -> Kind:
    if b"\x1b_Gi=31;OK\x1b\\" in answer:
        return "kitty"
    attributes = _ATTRIBUTES.search(answer)
    return "sixel" if attributes is not None and _SIXEL in attributes[1].split(b";")[1:] else "cells"


def _cell(answer: bytes) -> tuple[int, int] | None:
    found = _CELL.search(answer)
    return _sane(int(found[2]), int(found[1])) if found is not None else None


def _sane(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if 2 <= width <= _LARGEST_CELL and 2 <= height <= _LARGEST_CELL else None
