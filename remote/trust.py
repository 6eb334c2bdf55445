"""Accepting the new key of a host that was set up anew: the old one is forgotten only once its user has said yes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import asyncssh

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

    The new key is looked for with a copy of our known_hosts and written into ours in one step: whoever connects
    meanwhile finds the old key or the new one, never none, and so nobody is asked a second time.

    Raises
    ------
    UsageError: there is no such host, or the old key stands in a file of the user's own, which is never edited.
    HostKeyChanged: the new key was not accepted. LinkDown: the host does not answer.
    """
    target = await asyncio.to_thread(lambda: resolve(host_entry(home, name).ssh))
    with tempfile.TemporaryDirectory(prefix="wavedeck-trust-") as place:
        trial = Home(Path(place))
        if known_keys.our_file(home).exists():
            shutil.copyfile(known_keys.our_file(home), known_keys.our_file(trial))
        try:
            await _settle(trial, name, target, _Accepting(asker))
        except HostKeyChanged as error:
            sentence = str(error).replace(str(trial.root), str(home.root))
            raise HostKeyChanged(error.host, error.known, error.shown, sentence) from error
        finally:  # what was accepted is kept, whatever came after it
            for hop in (*target.jump, target):
                _take_over(home, trial, hop)


async def _settle(home: Home, name: str, target: Target, asker: Asker) -> None:
    """Log in with what `home` knows, asking about one key after another."""
    secrets = Secrets()
    for left in range(len(target.jump) + 1, -1, -1):
        try:
            await (await connect(name, target, home, asker, secrets)).close()
            return
        except AccessRefused:
            return  # the key was settled before anybody was let in
        except HostKeyChanged as error:
            if not left or not error.known or error.known == error.shown:
                raise  # revoked, or another one each time: nothing to accept
            await _forget(home, name, target, asker, error)


def _take_over(home: Home, trial: Home, hop: Target) -> None:
    """Know of one machine what was accepted on trial."""
    accepted, known = _ours(trial, hop), _ours(home, hop)
    new = [key for key in accepted if key not in known]
    if new:
        known_keys.forget(home, hop)
        for key in accepted:
            known_keys.accept(home, hop, key)


def _ours(home: Home, hop: Target) -> list[asyncssh.SSHKey]:
    found = known_keys.entries(home, hop)
    return [entry.key for entry in found if entry.path == known_keys.our_file(home) and entry.exact]


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
        if answer == "yes" and question.kind is QuestionKind.HOST_KEY:
            self._accepted.add(question.fingerprint)
        return answer


async def _forget(home: Home, name: str, target: Target, asker: Asker, changed: HostKeyChanged) -> None:
    """Ask once, then forget the old key in `home`."""
    question = Question(
        QuestionKind.HOST_KEY,
        name,
        f"Trust the new key of {name}?",
        f"{name} shows another key than before. Accepted was {changed.known}; now it shows {changed.shown}. A machine "
        "that was set up anew has a new key; compare it with what the provider shows. If nobody set it up anew, "
        "somebody may be in between.",
        fingerprint=changed.shown,
    )
    if await asker.ask(question) != "yes":
        raise changed
    forgotten = 0
    for hop in (*target.jump, target):
        ours = [entry for entry in known_keys.entries(home, hop) if entry.path == known_keys.our_file(home)]
        if any(known_keys.fingerprint(entry.key) == changed.known for entry in ours):
            forgotten += known_keys.forget(home, hop)
    if not forgotten:
        raise UsageError(str(changed))
