"""A blind A/B/X test as a value: X is A or B at random, each answer is a trial."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...engine.samples.alignment import guessing_p

CONVINCING_P = 0.05


def toss() -> bool:
    """A fair coin that no seed repeats."""
    return bool(secrets.randbelow(2))


@dataclass(frozen=True, slots=True)
class BlindResult:
    """What came out of a test: of `trials` answers about the pair of tracks (untrusted names) so many were `right`."""

    pair: tuple[str, str]
    trials: int
    right: int
    p: float

    @property
    def tally(self) -> str:
        """`3 of 4 right, p = 0.313 by guessing`, and what that means."""
        return tally_words(self.right, self.trials, self.p)


def tally_words(right: int, trials: int, p: float) -> str:
    """`3 of 4 right, p = 0.313 by guessing`; that a difference is heard is said after five answers at the least."""
    said = f"{right} of {trials} right, p = {p:.3f} by guessing"
    return f"{said}: the difference is heard" if p < CONVINCING_P and trials >= 5 else said


@dataclass(frozen=True, slots=True)
class BlindTest:
    """A test between two voices, by their indices.

    Parameters
    ----------
    first, second: which voices A and B are.
    x_is_second: the secret of the trial that is going on.
    trials, correct: answers so far, and how many of them were right.
    heard: `a`, `b` or `x`, what is playing.
    """

    first: int
    second: int
    x_is_second: bool
    trials: int = 0
    correct: int = 0
    heard: str = "x"
    last_right: bool | None = None

    @classmethod
    def begin(cls, first: int, second: int, coin: Callable[[], bool] = toss) -> BlindTest:
        """A new test."""
        return cls(first, second, coin())

    def hear(self, letter: str) -> BlindTest:
        """Play A, B or X."""
        return replace(self, heard=letter)

    @property
    def voice(self) -> int:
        """The voice to play now."""
        if self.heard == "x":
            return self.second if self.x_is_second else self.first
        return self.second if self.heard == "b" else self.first

    def answer(self, says_second: bool, coin: Callable[[], bool] = toss) -> BlindTest:
        """Take an answer and toss for the next trial."""
        right = says_second == self.x_is_second
        return replace(
            self,
            x_is_second=coin(),
            trials=self.trials + 1,
            correct=self.correct + right,
            heard="x",
            last_right=right,
        )

    @property
    def p(self) -> float:
        """The chance to get at least so many right by guessing."""
        return guessing_p(self.correct, self.trials)

    @property
    def tally(self) -> str:
        """`3 of 4 right, p = 0.31`, and what that means."""
        return tally_words(self.correct, self.trials, self.p) if self.trials else "no answer yet"
