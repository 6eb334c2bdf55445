"""What opens the door: keys of the agent, key files, passwords; in this order, and none before it is needed.

A passphrase is asked for only once the host has said that it takes the key. Decrypted keys and passwords stay in this
process's memory, so that a reconnection asks nothing again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import asyncssh

from ...engine.format import plain
from .questions import Question, QuestionKind
from .target import Target

TRIES = 3
"""How often a passphrase or a password is asked for."""
_LARGEST_KEY = 1 << 20

Ask = Callable[[Question], Awaitable[str | None]]


class Secrets:
    """What was decrypted or typed in this process; never written anywhere and never shown."""

    def __init__(self) -> None:
        self.keys: dict[Path, asyncssh.SSHKey] = {}
        self.passwords: dict[str, str] = {}
        """Label of the target -> password that was let in."""

    def __repr__(self) -> str:
        return f"Secrets({len(self.keys)} keys, {len(self.passwords)} passwords)"


class Keyring:
    """The keys for one login, one at a time; `next` is called as long as the host takes none."""

    def __init__(self, name: str, target: Target, secrets: Secrets, ask: Ask) -> None:
        self.tried: list[str] = []
        """What was offered or could not be used, as words for a sentence."""
        self._name = name
        self._target = target
        self._secrets = secrets
        self._ask = ask
        self._agent: asyncssh.SSHAgentClient | None = None
        self._keys = self._candidates()

    async def next(self) -> list[asyncssh.SSHKeyPair] | None:
        """The next key to offer; None when there are no more."""
        async for pair in self._keys:
            return [pair]
        return None

    async def close(self) -> None:
        """Let go of the agent."""
        with contextlib.suppress(RuntimeError):  # a question of it is still open: the login was given up
            await self._keys.aclose()
        if self._agent is not None:
            self._agent.close()

    async def _candidates(self) -> AsyncGenerator[asyncssh.SSHKeyPair, None]:
        offered: set[bytes] = set()
        locked: list[Path] = []
        files = [path for path in self._target.identity_files if await asyncio.to_thread(path.is_file)]
        publics = {path: _public_part(path) for path in files}
        for pair in await self._agent_keys([key for key in publics.values() if key]):
            offered.add(pair.public_data)
            self.tried.append(f"{plain(pair.get_comment('utf-8', 'replace') or 'a key', 60)} of the ssh agent")
            yield pair
        for path in files:
            public = publics[path]
            if public is not None and public.public_data in offered:
                continue
            for pair in self._from_file(path, locked):
                self.tried.append(str(path))
                yield pair
        for path in locked:
            if (public := publics[path]) is not None:
                self.tried.append(str(path))
                yield _LockedKey(public, lambda path=path: self._unlock(path))  # type: ignore[misc]
            elif (key := await self._unlock(path)) is not None:
                self.tried.append(str(path))
                for pair in asyncssh.load_keypairs([key]):
                    yield pair

    async def _agent_keys(self, preferred: Sequence[asyncssh.SSHKey]) -> list[asyncssh.SSHKeyPair]:
        """Keys of the agent, those of configured files first: hosts hang up after half a dozen wrong ones."""
        if not self._target.agent_path:
            return []
        try:
            self._agent = await asyncio.wait_for(asyncssh.connect_agent(self._target.agent_path), 5)
            keys: list[asyncssh.SSHKeyPair] = list(await asyncio.wait_for(self._agent.get_keys(), 5))
        except (OSError, ValueError, TimeoutError, asyncssh.Error):
            return []
        order = [key.public_data for key in preferred]
        first = sorted(
            (key for key in keys if key.key_public_data in order), key=lambda k: order.index(k.key_public_data)
        )
        if self._target.identities_only:
            return first
        return [*first, *(key for key in keys if key.key_public_data not in order)]

    def _from_file(self, path: Path, locked: list[Path]) -> Sequence[asyncssh.SSHKeyPair]:
        """The pairs of a file (with its certificate, if there is one); none and a note when it cannot be used."""
        if (known := self._secrets.keys.get(path)) is not None:
            return asyncssh.load_keypairs([known])
        try:
            if _is_encrypted(path):
                locked.append(path)
                return ()
            return asyncssh.load_keypairs([str(path)])
        except OSError as error:
            self.tried.append(f"{path} (cannot be read: {error.strerror})")
        except (ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            self.tried.append(f"{path} (cannot be used: {plain(str(error), 80)})")
        return ()

    async def _unlock(self, path: Path) -> asyncssh.SSHKey | None:
        """Ask for the passphrase of a key file; None when it is declined or wrong too often."""
        if (known := self._secrets.keys.get(path)) is not None:
            return known
        for attempt in range(TRIES):
            again = "That was not the passphrase. " if attempt else ""
            answer = await self._ask(
                Question(
                    QuestionKind.PASSPHRASE,
                    self._name,
                    f"Passphrase of {path}",
                    f"{again}{self._target.place} takes the key {path}, which is protected by a passphrase.",
                )
            )
            if answer is None:
                self.tried.append(f"{path} (no passphrase was given)")
                return None
            try:
                key = await asyncio.to_thread(asyncssh.read_private_key, str(path), answer)
            except asyncssh.KeyEncryptionError as error:
                if "bcrypt" in str(error):
                    self.tried.append(f"{path} (install the Python package bcrypt to read it, or `ssh-add` it)")
                    return None
                continue
            except (OSError, ValueError) as error:
                if "decrypt" in str(error):
                    continue
                self.tried.append(f"{path} (cannot be used: {plain(str(error), 80)})")
                return None
            self._secrets.keys[path] = key
            return key
        self.tried.append(f"{path} (wrong passphrase)")
        return None


class Passwords:
    """Passwords and questions of the host for one login: at most three tries together."""

    def __init__(self, name: str, target: Target, secrets: Secrets, ask: Ask) -> None:
        self._name = name
        self._target = target
        self._secrets = secrets
        self._ask = ask
        self._remembered = secrets.passwords.get(target.label)
        self._typed: str | None = None
        self._tries = 0
        self._declined = False

    @property
    def tried(self) -> bool:
        """Whether anything was given to the host."""
        return self._tries > 0

    async def password(self) -> str | None:
        """The next password to try; None when the user declines or has tried often enough."""
        if self._remembered is not None:
            remembered, self._remembered = self._remembered, None
            self._typed = remembered
            return remembered
        answer = await self._next(
            QuestionKind.PASSWORD, f"Password of {self._target.place}", f"{self._target.place} asks for a password."
        )
        self._typed = answer
        return answer

    async def challenge(self, name: str, text: str, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        """Answers to what the host asks; a lone question for a password is one like `password`."""
        if not prompts:
            return []
        if len(prompts) == 1 and not prompts[0][1] and "password" in prompts[0][0].lower():
            answer = await self.password()
            return None if answer is None else [answer]
        answers: list[str] = []
        said = plain(" ".join(part.strip() for part in (name, text) if part.strip()).replace("\n", " "), 300)
        for prompt, echo in prompts[:8]:
            words = plain(prompt.strip(), 200) or "answer"
            answer = await self._next(
                QuestionKind.ANSWER,
                f"{self._target.place} asks: {words}",
                said or f"{self._target.place} asks this before it lets you in.",
                echo=echo,
                counts=not answers,
            )
            if answer is None:
                return None
            answers.append(answer)
        return answers if len(answers) == len(prompts) else None

    def let_in(self) -> None:
        """The login worked: what was typed is worth keeping for the next one."""
        if self._typed is not None:
            self._secrets.passwords[self._target.label] = self._typed

    async def _next(
        self, kind: QuestionKind, title: str, text: str, *, echo: bool = False, counts: bool = True
    ) -> str | None:
        self._secrets.passwords.pop(self._target.label, None)  # a remembered one was wrong
        if self._declined or (counts and self._tries >= TRIES):
            return None
        again = "That was not right. " if self._tries and counts else ""
        answer = await self._ask(Question(kind, self._name, title, again + text, secret=not echo, echo=echo))
        if answer is None:
            self._declined = True
        elif counts:
            self._tries += 1
        return answer


class _LockedKey(asyncssh.SSHKeyPair):
    """A key whose public half is known: the private one is unlocked when the host has said that it takes it."""

    def __init__(self, public: asyncssh.SSHKey, unlock: Callable[[], Awaitable[asyncssh.SSHKey | None]]) -> None:
        algorithms = public.sig_algorithms
        super().__init__(public.algorithm, public.algorithm, algorithms, algorithms, public.public_data, None)
        self._unlock = unlock

    async def sign_async(self, data: bytes) -> bytes:
        """The signature.

        Raises
        ------
        ValueError: there is no passphrase; asyncssh then goes on with the next key.
        """
        key = await self._unlock()
        if key is None:
            raise ValueError("the key stays locked")
        return bytes(key.sign(data, self.sig_algorithm))


def _is_encrypted(path: Path) -> bool:
    """Whether a private key needs a passphrase."""
    if path.stat().st_size > _LARGEST_KEY:
        raise ValueError("too large")
    try:
        asyncssh.read_private_key(str(path))
    except asyncssh.KeyImportError as error:
        if "passphrase" in str(error).lower():
            return True
        raise
    return False


def _public_part(path: Path) -> asyncssh.SSHKey | None:
    """The public half, from `KEY.pub` or from the key file itself where that tells it in the clear."""
    for candidate in (path.with_name(path.name + ".pub"), path):
        with contextlib.suppress(OSError, ValueError, asyncssh.KeyImportError):
            if candidate.stat().st_size <= _LARGEST_KEY:
                return asyncssh.read_public_key(str(candidate))
    return None
