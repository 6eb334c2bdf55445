"""Asking a terminal: a real pseudo terminal that answers as some do, late, or not at all."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.pictures.terminal import ATTRIBUTES_QUERY, Pictures, pictures_of

ASK = {"WAVEDECK_PICTURES": "auto", "TERM": "xterm-256color"}
KITTY = b"\x1b_Gi=31;OK\x1b\\\x1b[6;20;10t\x1b[?62;c"
SIXEL = b"\x1b[6;17;8t\x1b[?62;4;22c"
PLAIN = b"\x1b[?1;2c"


class Tty:
    """The two ends of a pseudo terminal; `answer` is said once it was asked everything."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.asked = b""
        self._thread: threading.Thread | None = None

    def answers(self, answer: bytes) -> None:
        def listen() -> None:
            deadline = time.monotonic() + 10
            while ATTRIBUTES_QUERY.encode() not in self.asked and time.monotonic() < deadline:
                if select.select([self.master], [], [], 0.05)[0]:
                    self.asked += os.read(self.master, 4096)
            if answer:
                os.write(self.master, answer)

        self._thread = threading.Thread(target=listen)
        self._thread.start()

    def said(self) -> bytes:
        """What was written to the terminal since."""
        if self._thread is not None:
            self._thread.join()
        while select.select([self.master], [], [], 0.05)[0]:
            self.asked += os.read(self.master, 4096)
        return self.asked

    def pixels(self, rows: int, columns: int, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


@pytest.fixture
def tty() -> Iterator[Tty]:
    one = Tty()
    yield one
    os.close(one.master)
    os.close(one.slave)


@pytest.mark.parametrize(
    ("answer", "found"),
    [(KITTY, Pictures("kitty", 10, 20)), (SIXEL, Pictures("sixel", 8, 17)), (PLAIN, Pictures("cells"))],
    ids=["kitty", "sixel", "plain"],
)
def test_a_terminal_that_answers_is_believed_and_left_as_it_was(tty: Tty, answer: bytes, found: Pictures) -> None:
    before = termios.tcgetattr(tty.slave)
    tty.answers(answer)
    assert pictures_of(tty.slave, ASK, wait_s=5.0) == found
    assert termios.tcgetattr(tty.slave) == before
    assert tty.said().endswith(b"\x1b[c") and b"a=q" in tty.said()


def test_a_terminal_that_says_nothing_gets_cells_soon(tty: Tty) -> None:
    began = time.monotonic()
    assert pictures_of(tty.slave, ASK) == Pictures()
    assert time.monotonic() - began < 5
    tty.answers(b"")
    assert tty.said()


def test_sixel_without_the_size_of_a_cell_is_no_use(tty: Tty) -> None:
    tty.answers(b"\x1b[?62;4c")
    assert pictures_of(tty.slave, ASK, wait_s=5.0) == Pictures()


def test_the_driver_may_know_the_size_of_a_cell(tty: Tty) -> None:
    tty.pixels(50, 100, 900, 1000)
    tty.answers(b"\x1b[?62;4c")
    assert pictures_of(tty.slave, ASK, wait_s=5.0) == Pictures("sixel", 9, 20)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WAVEDECK_PICTURES": "cells"},
        {**ASK, "TMUX": "/tmp/tmux-0/default,1,0"},
        {**ASK, "STY": "1.pts"},
        {**ASK, "TERM": "tmux-256color"},
        {**ASK, "TERM": "screen"},
    ],
    ids=["no setting", "cells", "tmux", "screen", "TERM of tmux", "TERM of screen"],
)
def test_nothing_is_written_where_nothing_is_wanted_or_would_arrive(tty: Tty, environ: dict[str, str]) -> None:
    assert pictures_of(tty.slave, environ) == Pictures()
    assert tty.said() == b""


def test_the_user_is_believed(tty: Tty) -> None:
    assert pictures_of(tty.slave, {"WAVEDECK_PICTURES": "kitty"}, wait_s=0.01).kind == "kitty"
    with pytest.raises(UsageError, match="WAVEDECK_PICTURES=png: write auto, cells, sixel or kitty"):
        pictures_of(tty.slave, {"WAVEDECK_PICTURES": "png"})


def test_a_pipe_is_no_terminal() -> None:
    reading, writing = os.pipe()
    assert pictures_of(writing, ASK) == Pictures()
    os.close(reading)
    os.close(writing)
