"""Logging in to one host: the line, the host's key, then and only then the user's keys."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from ...engine.rundir import Home
from ..host import LinkDown
from . import failures, known_keys
from .dial import dial
from .keys import Keyring, Passwords, Secrets
from .known_keys import Standing, Verdict
from .questions import Asker, Question, QuestionKind
from .target import Target

# aes-gcm first: a third less work than chacha20 where the processor knows AES. The last three are for old servers.
_CIPHERS = (
    *("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"),
    *("aes256-ctr", "aes192-ctr", "aes128-ctr"),
)
_LOGINS = 3
"""Logins in a row: one may show the host's key, one may time out there while the user types."""

logging.getLogger("asyncssh").addHandler(logging.NullHandler())  # what it finds remarkable belongs on no screen


@dataclass(frozen=True, slots=True)
class Pulse:
    """How long to wait for what. A dead line is noticed after `keepalive_s` x (`keepalive_count` + 1)."""

    keepalive_s: float = 3.0
    keepalive_count: int = 2
    connect_s: float = 10.0
    """Until something answers."""
    login_s: float = 20.0
    """From there until we are in; while a question is open, the clock stands."""

    @property
    def silence_s(self) -> float:
        """How long a host may be silent before the line counts as dead."""
        return self.keepalive_s * (self.keepalive_count + 1)


@dataclass(frozen=True, slots=True)
class Context:
    """What every hop of a connection has in common."""

    name: str
    home: Home
    asker: Asker
    secrets: Secrets
    pulse: Pulse


class LoggedIn(asyncssh.SSHClient):
    """Our side of one connection: it decides about the host's key, hands out our keys, and notices the end."""

    def __init__(self, context: Context, target: Target) -> None:
        self.target = target
        self.closed = asyncio.Event()
        self.why: str | None = None
        self.opened: float | None = None
        """How long it took until the line was there, in seconds: about one round trip."""
        self.reached = False
        self.verdict: Verdict | None = None
        self.shown: asyncssh.SSHKey | None = None
        self.answers = 0
        """How many questions the user has answered during this login."""
        self.keyring = Keyring(context.name, target, context.secrets, self._ask)
        self.passwords = Passwords(context.name, target, context.secrets, self._ask)
        self._context = context
        self._limit: asyncio.Timeout | None = None

    async def log_in(self, via: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        """One login, through `via` if there is a hop before. Raises whatever asyncssh and the system raise."""
        target, pulse = self.target, self._context.pulse
        line: dict[str, Any] = {}
        began = time.monotonic()
        async with asyncio.timeout(pulse.connect_s) as self._limit:
            if via is not None:
                line["tunnel"] = via
            elif target.proxy_command:
                line["proxy_command"] = ("/bin/sh", "-c", f"exec {target.proxy_command}")
            else:
                line["sock"] = await dial(target.host, target.port, target.address_family, pulse.silence_s)
                self.opened = time.monotonic() - began
            try:
                connection = await asyncssh.connect(target.host, target.port, **line, **self._options())
            except BaseException:
                if "sock" in line:
                    line["sock"].close()
                raise
            finally:
                await self.keyring.close()
        if self.opened is None:
            self.opened = time.monotonic() - began
        self.passwords.let_in()
        return connection

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The line is there. Whether anybody is at its other end only an answer tells: see `_answered`."""

    def _answered(self) -> None:
        """The host has shown its key and asks who we are: the login has its own time.

        A line that is half open accepts a connection and says nothing; waiting for it longer than for a line that
        does not open at all would only delay the next try.
        """
        if not self.reached:
            self.reached = True
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time() + self._context.pulse.login_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, whoever wanted it."""
        if self.why is None:
            self.why = failures.lost_reason(exc, self._context.pulse.silence_s)
        self.closed.set()

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Keep the key that is not trusted, so that the user can be told; the login ends here."""
        self.shown = key
        self.verdict = known_keys.decide(self._context.home, self.target, key)
        return self.verdict.standing is Standing.TRUSTED

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:  # type: ignore[override]
        """The next key to offer."""
        self._answered()
        return await self.keyring.next()

    async def password_auth_requested(self) -> str | None:  # type: ignore[override]
        """The next password."""
        self._answered()
        return await self.passwords.password()

    async def kbdint_auth_requested(self) -> str | None:  # type: ignore[override]
        """Questions of the host are put to the user."""
        self._answered()
        return ""

    async def kbdint_challenge_received(  # type: ignore[override]
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answers to questions of the host."""
        return await self.passwords.challenge(name, instructions, prompts)

    def _trusted(self, host: str, addr: str, port: int | None) -> tuple[list[Any], list[Any], list[Any]]:
        """What asyncssh compares the host's key with."""
        entries = known_keys.entries(self._context.home, self.target)
        by = {marker: [e.key for e in entries if e.marker == marker] for marker in (None, "cert-authority", "revoked")}
        return by[None], by["cert-authority"], by["revoked"]

    def _key_kinds(self) -> list[str]:
        """Kinds of host keys to ask for: those we know first, and then all, so that a new kind is seen and refused."""
        trusted, authorities, _ = self._trusted("", "", None)
        kinds = [kind for key in trusted for kind in key.sig_algorithms]
        kinds = [*(get_default_certificate_algs() if authorities else ()), *kinds, *get_default_public_key_algs()]
        allowed = {*get_default_certificate_algs(), *get_default_public_key_algs()}
        return [kind.decode("ascii") for kind in dict.fromkeys(kinds) if kind in allowed]

    def _options(self) -> dict[str, Any]:
        """Everything is said: nothing comes from a configuration that asyncssh would read by itself."""
        pulse = self._context.pulse
        return {
            "config": None,
            "client_factory": lambda: self,
            "known_hosts": self._trusted,
            "server_host_key_algs": self._key_kinds(),
            "host_key_alias": None,
            "x509_trusted_certs": None,
            "username": self.target.user,
            "client_keys": None,
            "agent_path": None,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "pkcs11_provider": None,
            "gss_kex": False,
            "gss_auth": False,
            "gss_host": None,
            "host_based_auth": False,
            "preferred_auth": ["publickey", "keyboard-interactive", "password"],
            "encryption_algs": list(_CIPHERS),
            "compression_algs": None,
            "keepalive_interval": pulse.keepalive_s,
            "keepalive_count_max": pulse.keepalive_count,
            "tcp_keepalive": True,
            "connect_timeout": None,
            "login_timeout": 0,  # ours stands still while a question is open
            "utf8_decode_errors": "replace",
            "send_env": None,
            "env": None,
            "command": None,
            "canonicalize_hostname": False,
        }

    async def _ask(self, question: Question) -> str | None:
        """Put a question to the user while the login's clock stands."""
        loop, limit = asyncio.get_running_loop(), self._limit
        due = limit.when() if limit is not None else None
        left = due - loop.time() if due is not None else None
        if limit is not None:
            limit.reschedule(None)
        try:
            answer = await self._context.asker.ask(question)
        finally:
            if limit is not None and left is not None:
                limit.reschedule(loop.time() + max(1.0, left))
        if answer is not None:
            self.answers += 1
        return answer


async def log_in(
    context: Context, target: Target, via: asyncssh.SSHClientConnection | None, via_label: str | None
) -> tuple[asyncssh.SSHClientConnection, LoggedIn]:
    """Log in to one host; ask about its key if it was never seen.

    Raises
    ------
    LinkDown, AccessRefused, HostKeyUnknown, HostKeyChanged: with a sentence for the user.
    """
    for attempt in range(_LOGINS):
        client = LoggedIn(context, target)
        try:
            return await client.log_in(via), client
        except TimeoutError as error:
            seconds = context.pulse.login_s if client.reached else context.pulse.connect_s
            raise failures.no_answer(context.name, target, seconds, connected=client.reached) from error
        except socket.gaierror as error:
            raise failures.unresolvable(context.name, target, error) from error
        except asyncssh.HostKeyNotVerifiable as error:
            await _settle_key(context, client, error)
        except (asyncssh.ConnectionLost, ConnectionError) as error:
            # It had enough of waiting while the user typed: what was typed is remembered.
            if not client.answers or attempt + 1 == _LOGINS:
                raise _failure(context, client, error, via_label) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            raise _failure(context, client, error, via_label) from error
    raise LinkDown(context.name, f"{context.name} shows another host key each time it is asked: do not use it.")


async def _settle_key(context: Context, client: LoggedIn, error: asyncssh.HostKeyNotVerifiable) -> None:
    """Return if the user accepts the key that was shown; raise what is wrong with it otherwise."""
    target, verdict = client.target, client.verdict
    if verdict is None or client.shown is None:  # revoked, or a certificate that does not hold
        raise failures.bad_key(context.name, target, error) from error
    if verdict.standing is not Standing.UNKNOWN:
        raise failures.key_problem(context.name, target, verdict) from error
    answer = await context.asker.ask(
        Question(
            QuestionKind.HOST_KEY,
            context.name,
            f"Is this {target.place}?",
            f"{target.place} was never seen before. It shows the {verdict.key_type} key {verdict.shown}. "
            "Compare it with what the provider shows; if it is the same, accept it.",
            secret=False,
            fingerprint=verdict.shown,
            key_type=verdict.key_type,
            echo=True,
        )
    )
    if answer != "yes":
        raise failures.key_problem(context.name, target, verdict) from error
    known_keys.accept(context.home, target, client.shown)


def _failure(context: Context, client: LoggedIn, error: Exception, via_label: str | None) -> LinkDown:
    return failures.failure(
        context.name, client.target, error, client.keyring.tried, passwords=client.passwords.tried, via=via_label
    )
