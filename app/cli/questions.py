"""Questions on the controlling terminal, for headless verbs: host keys, passphrases, one-time codes.

The terminal is `/dev/tty` and never standard input or output, so that pipes carry data only. Where there is none, every
question is declined. What was typed ahead is thrown away before a question: an old `yes` accepts no new key.
"""

from __future__ import annotations

import asyncio
import os
import select
import termios
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...engine.format import plain
from .common import say

if TYPE_CHECKING:
    from ...remote.ssh.questions import Question

TERMINAL = "/dev/tty"
TRIES = 3
MAX_ANSWER = 4096


class TerminalAsker:
    """Puts questions to whoever sits at the terminal, one at a time.

    Parameters
    ----------
    accepted: fingerprints (`SHA256:…`) the user has compared already; no other key is accepted then, nor asked about.
    """

    def __init__(self, accepted: Iterable[str] = (), terminal: str = TERMINAL) -> None:
        self._accepted = frozenset(accepted)
        self._terminal = terminal
        self._one = asyncio.Lock()
        self.quiet = False
        """Whether the screen is in use: questions are then declined."""
        self.waited_s = 0.0
        """How long its user has taken to answer, so far."""

    async def ask(self, question: Question) -> str | None:
        """The answer; None when the user declines or is not there. For a host key only `yes` accepts."""
        from ...remote.ssh.questions import QuestionKind

        if question.kind is QuestionKind.HOST_KEY and self._accepted:
            if question.fingerprint in self._accepted:
                return "yes"
            say(f"the key that {plain(question.host, 60)} shows is not the one you named: {question.fingerprint}.")
            return None
        async with self._one:
            began = time.monotonic()
            try:
                return await self._on_terminal(question.kind is QuestionKind.HOST_KEY, question)
            finally:
                self.waited_s += time.monotonic() - began

    async def _on_terminal(self, host_key: bool, question: Question) -> str | None:
        from ...remote.ssh.questions import QuestionKind

        with self._opened() as terminal:
            if terminal is None:
                return None
            _write(terminal, _page(question))
            if host_key:
                prompt = "Is that its fingerprint? (yes/no or the fingerprint) "
                return await _yes(terminal, prompt, question.fingerprint)
            hidden = question.secret and not question.echo
            answer = await _line(terminal, "(not shown) " if hidden else "> ", hidden=hidden)
            needed = question.kind in (QuestionKind.PASSPHRASE, QuestionKind.PASSWORD)
            return None if needed and not answer else answer

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The terminal, for as long as a question lasts; None where there is none."""
        terminal = None
        if not self.quiet:
            with suppress(OSError):
                terminal = os.open(self._terminal, os.O_RDWR | os.O_NOCTTY)
        try:
            yield terminal if terminal is not None and os.isatty(terminal) else None
        finally:
            if terminal is not None:
                os.close(terminal)


async def _yes(terminal: int, prompt: str, fingerprint: str = "") -> str | None:
    """`yes` when the user types that, or the very fingerprint; None for everything else, after TRIES tries."""
    for _ in range(TRIES):
        answer = await _line(terminal, prompt, hidden=False)
        if answer is None:
            return None
        word = answer.strip()
        if word.lower() == "yes" or (fingerprint and word == fingerprint):
            return "yes"
        if word.lower() in ("no", "n", ""):
            return None
        prompt = "Please type yes or no: "
    return None


def _page(question: Question) -> str:
    """The question's lines. Its text may come from the host, so control characters are taken out of every line."""
    lines = [plain(question.title, 300)]
    lines += [plain(line, 500) for line in question.text.splitlines()[:12]]
    if question.fingerprint and question.fingerprint not in question.text:
        lines.append(f"{plain(question.key_type, 40)} key fingerprint is {plain(question.fingerprint, 100)}".strip())
    return "\n".join(line for line in lines if line) + "\n"


async def _line(terminal: int, prompt: str, *, hidden: bool) -> str | None:
    """One line from the terminal; None at its end. Cancelling gives the terminal back at once."""
    wake_read, wake_write = os.pipe()
    with _echo(terminal, not hidden):
        _write(terminal, prompt)
        reading = asyncio.ensure_future(asyncio.to_thread(_read_line, terminal, wake_read))
        try:
            return await asyncio.shield(reading)
        finally:
            os.write(wake_write, b"x")
            await asyncio.wait([reading])
            os.close(wake_read)
            os.close(wake_write)
            if hidden:
                _write(terminal, "\n")


def _read_line(terminal: int, wake: int) -> str | None:
    typed = b""
    while len(typed) < MAX_ANSWER:
        ready, _, _ = select.select([terminal, wake], [], [])
        if wake in ready:
            return None
        piece = os.read(terminal, 1024)
        if not piece:
            return typed.decode("utf-8", "replace") if typed else None
        typed += piece
        if b"\n" in typed:
            break
    return typed.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")


@contextmanager
def _echo(terminal: int, shown: bool) -> Iterator[None]:
    """Whole lines with or without echo for as long as it lasts; typed-ahead input is dropped."""
    before = termios.tcgetattr(terminal)
    during = termios.tcgetattr(terminal)
    during[3] |= termios.ICANON | termios.ISIG
    during[3] = during[3] | termios.ECHO if shown else during[3] & ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, during)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _write(terminal: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(terminal, data) :]
