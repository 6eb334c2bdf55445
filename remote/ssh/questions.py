"""What only the user can answer while a connection is made: is this the right key, what is the passphrase."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class QuestionKind(StrEnum):
    """What is asked for."""

    HOST_KEY = "host_key"
    """Whether a key that was never seen belongs to the host; `yes` accepts it."""
    PASSPHRASE = "passphrase"
    """Of the user's own key file."""
    PASSWORD = "password"
    ANSWER = "answer"
    """Whatever the host asks: a one-time code, mostly. The words are the host's."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, ready to be shown: text of the host in it is cleaned."""

    kind: QuestionKind
    host: str
    """What users call the host that is being connected."""
    title: str
    text: str
    secret: bool = True
    """Whether the answer must not be seen or kept anywhere but in memory."""
    fingerprint: str = ""
    """`SHA256:…`, for a host key."""
    key_type: str = ""
    """`ED25519`, `RSA`, …, for a host key."""
    echo: bool = False
    """Whether the answer may be seen while it is typed."""


class Asker(Protocol):
    """Somebody who can put a question to the user."""

    async def ask(self, question: Question) -> str | None:
        """The answer; None when the user declines. For a host key only `yes` accepts."""
        ...


class NobodyAsks:
    """No user is there: every question is declined."""

    async def ask(self, question: Question) -> str | None:
        """Nobody answers."""
        return None
