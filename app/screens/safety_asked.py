"""What would be lost with each host, as it was last asked: an answer that is old is none."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ...engine.backup.safety import HostSafety

EVERY_S = 10.0
OLD_S = 45.0
"""After that nothing is said: what was safe a minute ago may have trained on since."""


class SafetyAsked:
    """The answers, each with its time. One question at a time; it may take as long as the slowest host."""

    def __init__(self) -> None:
        self.asking = False
        self._answers: dict[str, tuple[float, HostSafety]] = {}
        self._asked = -1e9
        self._names: set[str] = set()

    @property
    def fresh(self) -> Mapping[str, HostSafety]:
        """What is known and not old."""
        now = time.monotonic()
        return {name: answer for name, (t, answer) in self._answers.items() if now - t < OLD_S}

    def begin(self, names: Sequence[str], *, now: bool = False) -> bool:
        """Whether it is time to ask (again); whoever hears yes asks."""
        if self.asking:
            return False
        new = not set(names) <= self._names
        if not (now or new or time.monotonic() - self._asked >= EVERY_S):
            return False
        self.asking, self._asked, self._names = True, time.monotonic(), set(names)
        return True

    async def ask(self, question: Callable[[], Awaitable[Sequence[HostSafety]]]) -> None:
        """Ask, and keep the answers."""
        try:
            for answer in await question():
                self._answers[answer.host] = (time.monotonic(), answer)
        finally:
            self.asking = False
