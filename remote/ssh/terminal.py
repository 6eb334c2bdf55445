"""This process's terminal, handed to a command on another host: `tmux attach`, as if one sat there.

The terminal is given back as it was, whatever happens: the command ends, the line dies, or this process is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

import asyncssh

from ...engine.errors import UsageError
from ..host import HostLost
from .connection import Connection, Pty

_PIECE = 64 << 10
# What a program over there may have switched on and can no longer switch off: mouse, paste and focus reports, keypad
# and cursor modes, colours, hidden cursor, the alternate screen.
_RESTORED = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1004l"
    b"\x1b>\x1b[?1l\x1b[>4m\x1b[0m\x1b[?25h\x1b[?1049l\r\n"
)
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


async def attach(connection: Connection, command: str) -> int:
    """Run a command there in this terminal until it ends; its exit status (128 + N for signal N, as a shell says it).

    Raises
    ------
    HostLost: the line died. The command may live on there. UsageError: there is no terminal here to hand over.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("There is no terminal here: run this in one.")
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    columns, rows = _size()
    process = await connection.open(command, pty=Pty(os.environ.get("TERM") or "xterm-256color", columns, rows))
    whole = False
    try:
        with _raw(keys), _signals(process):
            relay = asyncio.create_task(_type(keys, process))
            try:
                await _show(process, screen)
                await process.wait_closed()
            except (asyncssh.Error, OSError) as error:
                raise _lost(connection, command) from error
            finally:
                relay.cancel()
                await asyncio.gather(relay, return_exceptions=True)
        if process.exit_status is None:
            raise _lost(connection, command)
        whole = True
        status = process.returncode or 0
        return status if status >= 0 else 128 - status
    finally:
        process.close()
        if not whole:
            with contextlib.suppress(OSError):
                os.write(screen, _RESTORED)


async def _show(process: asyncssh.SSHClientProcess[bytes], screen: int) -> None:
    """Everything it prints, to the screen; a screen that is slow slows it down, and not this process."""
    while piece := await process.stdout.read(_PIECE):
        await asyncio.to_thread(_write, screen, piece)


async def _type(keys: int, process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Every key, to the command."""
    while True:
        await _readable(keys)
        data = os.read(keys, _PIECE)
        if not data:
            process.stdin.write_eof()
            return
        process.stdin.write(data)
        await process.stdin.drain()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def _raw(keys: int) -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too."""
    before = termios.tcgetattr(keys)
    tty.setraw(keys, termios.TCSANOW)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSANOW, before)


@contextlib.contextmanager
def _signals(process: asyncssh.SSHClientProcess[bytes]) -> Iterator[None]:
    """A resized window is told to the host. Being told to end waits until the terminal is given back."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    told: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def resized() -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.change_terminal_size(*_size())

    def end(number: signal.Signals) -> None:
        told.append(number)
        if task is not None:
            task.cancel()

    with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: then without
        for number in (signal.SIGWINCH, *_ENDINGS):
            before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, *((resized,) if number is signal.SIGWINCH else (end, number)))
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if told:
            # After the terminal is restored: the loop comes back to this when `attach` has unwound.
            loop.call_soon(signal.raise_signal, told[0])


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(sys.stdout.fileno())
    return max(2, size.columns), max(2, size.lines)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _lost(connection: Connection, command: str) -> HostLost:
    return HostLost(connection.name, command.split()[:1], connection.why or "the connection was lost")
