"""A real terminal (a pty here) handed to tmux on a real sshd."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavedeck.tests.servers import attach_here
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd


class Seat:
    """A user in front of a terminal of 100 x 30."""

    def __init__(self, command: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(100, 30)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, Path(attach_here.__file__ or ""), command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def sees(self, text: bytes, timeout: float = 20) -> bytes:
        """Wait until `text` is printed; what was printed up to then is used up and returned."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                pytest.fail(f"waited in vain for {text!r} in {self.seen[-2000:]!r}")
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                pytest.fail(f"the terminal ended without {text!r}: {self.seen[-2000:]!r}")
        end = self.seen.index(text) + len(text)
        before, self.seen = self.seen[:end], self.seen[end:]
        return before

    def leave(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)


@pytest.fixture
def sit(sshd: Sshd) -> Iterator[type[Seat]]:
    """`sit(command)` is a `Seat`."""
    seats: list[Seat] = []

    def start(command: str) -> Seat:
        seats.append(Seat(command))
        return seats[-1]

    yield start  # type: ignore[misc]
    for seat in seats:
        seat.leave()


def test_tmux_is_attached_to_resized_and_left(sshd: Sshd, sit: type[Seat]) -> None:
    seat = sit(f"exec tmux -L {sshd.tmux_socket} -f /dev/null new-session -A -s x")
    seat.sees(b"[x]")
    seat.type(b"stty size; echo to''gether\r")
    assert b"29 100" in seat.sees(b"together")
    seat.resize(80, 20)
    seat.type(b"\x03clear; stty size; echo sm''aller\r")
    assert b"19 80" in seat.sees(b"smaller")
    seat.type(b"\x02d")
    seat.sees(b"status=0")
    seat.sees(b"terminal as before: True")
    listed = subprocess.run(
        ["tmux", "-L", sshd.tmux_socket, "ls"], env={**os.environ, "TMUX_TMPDIR": str(sshd.root)}, capture_output=True
    )
    assert listed.stdout.startswith(b"x:")


def test_the_status_of_a_command_arrives(sshd: Sshd, sit: type[Seat]) -> None:
    seat = sit("echo re''ady; read line; echo got:$line; exit 7")
    seat.sees(b"ready")
    seat.type(b"abc\r")
    seat.sees(b"got:abc")
    seat.sees(b"status=7")
    seat.sees(b"terminal as before: True")


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_dead_line_gives_the_terminal_back(sshd: Sshd, proxy: Proxy, sit: type[Seat], how: str) -> None:
    seat = sit(r"printf '\033[?1049h\033[?1000hre''ady\n'; sleep 60")
    seat.sees(b"ready")
    getattr(proxy, how)()
    assert b"\x1b[?1000l" in seat.sees(b"lost=gpu1 is out of reach")
    seat.sees(b"terminal as before: True")


def test_being_told_to_end_gives_the_terminal_back(sshd: Sshd, sit: type[Seat]) -> None:
    seat = sit("echo re''ady; sleep 60")
    seat.sees(b"ready")
    seat.process.send_signal(signal.SIGTERM)
    seat.sees(b"\x1b[?1049l")
    assert seat.process.wait(10) == -signal.SIGTERM
    assert termios.tcgetattr(seat.master)[3] & termios.ECHO


def test_without_a_terminal_it_is_a_sentence(sshd: Sshd) -> None:
    done = subprocess.run(
        [sys.executable, attach_here.__file__ or "", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "There is no terminal here" in done.stderr
