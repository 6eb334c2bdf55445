"""Accepting the new key of a host that was set up anew: the old one is forgotten only once its user has said yes."""

from __future__ import annotations

import asyncio

from ..engine.errors import UsageError
from ..engine.rundir import Home
from .host import AccessRefused, HostKeyChanged
from .hosts_file import host_entry
from .ssh import known_keys
from .ssh.connection import connect
from .ssh.keys import Secrets
from .ssh.questions import Asker, Question, QuestionKind
from .ssh.target import Target, resolve


async def trust_again(home: Home, name: str, asker: Asker) -> None:
    """Look which key a host (or a machine on the way to it) shows, ask, and take it in place of the old one.

    Raises
    ------
    UsageError: there is no such host, or the old key stands in a file of the user's own, which is never edited.
    HostKeyChanged: the new key was not accepted. LinkDown: the host does not answer.
    """
    target = await asyncio.to_thread(lambda: resolve(host_entry(home, name).ssh))
    secrets = Secrets()
    asker = _Accepting(asker)
    for _ in range(len(target.jump) + 1):
        try:
            await (await connect(name, target, home, asker, secrets)).close()
            return
        except AccessRefused:
            return  # the key was settled before anybody was let in
        except HostKeyChanged as error:
            await _replace(home, name, target, asker, error)


class _Accepting:
    """Does not ask a second time about a key that was just accepted."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._accepted: set[str] = set()

    async def ask(self, question: Question) -> str | None:
        """The answer; the one that was given before where it is about the same key."""
        if question.kind is QuestionKind.HOST_KEY and question.fingerprint in self._accepted:
            return "yes"
        answer = await self._asker.ask(question)
        if answer is not None and question.kind is QuestionKind.HOST_KEY:
            self._accepted.add(question.fingerprint)
        return answer


async def _replace(home: Home, name: str, target: Target, asker: Asker, changed: HostKeyChanged) -> None:
    question = Question(
        QuestionKind.HOST_KEY,
        name,
        f"Trust the new key of {name}?",
        f"{name} shows another key than before. Accepted was {changed.known}; now it shows {changed.shown}. A machine "
        "that was set up anew has a new key; compare it with what the provider shows. If nobody set it up anew, "
        "somebody may be in between.",
        fingerprint=changed.shown,
    )
    if await asker.ask(question) is None:
        raise changed
    forgotten = 0
    for hop in (*target.jump, target):
        ours = [entry for entry in known_keys.entries(home, hop) if entry.path == known_keys.our_file(home)]
        if any(known_keys.fingerprint(entry.key) == changed.known for entry in ours):
            forgotten += known_keys.forget(home, hop)
    if not forgotten:
        raise UsageError(str(changed))
