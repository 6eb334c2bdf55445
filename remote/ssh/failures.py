"""Why a login failed, as one sentence that says what to do. asyncssh and the operating system say it in many ways."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import asyncssh

from ...engine.format import plain
from ..host import AccessRefused, HostKeyChanged, HostKeyUnknown, LinkDown
from .known_keys import Standing, Verdict, how_to_forget
from .target import Target

_NET = {
    errno.ECONNREFUSED: "refuses the connection: is sshd running there, and is it the right port?",
    errno.EHOSTUNREACH: "cannot be reached: there is no way to it from here. Is this machine online?",
    errno.ENETUNREACH: "cannot be reached: there is no way to it from here. Is this machine online?",
    errno.ETIMEDOUT: "does not answer: is the machine running, and its port open?",
    errno.ECONNRESET: "closed the connection before the login: it may be starting up, or overloaded.",
}


def unresolvable(name: str, target: Target, error: OSError) -> LinkDown:
    """The name is in no address book."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        why = "the name service does not answer. Is this machine online?"
    else:
        why = "no address is known for that name. Is it written correctly, and is this machine online?"
    return LinkDown(name, f"{_who(name, target)}: {plain(target.host, 80)} cannot be found: {why}")


def no_answer(name: str, target: Target, seconds: float, *, connected: bool) -> LinkDown:
    """It took too long."""
    if connected:
        text = f"did not let us in within {seconds:g} s: the line is up, but what answers there may be no sshd."
    else:
        text = f"does not answer within {seconds:g} s: is the machine running, and its port {target.port} open?"
    return LinkDown(name, f"{_who(name, target)} {text}")


def failure(
    name: str, target: Target, error: Exception, tried: Sequence[str], *, passwords: bool, via: str | None
) -> LinkDown:
    """What an exception of asyncssh or of the operating system means for the user."""
    who = _who(name, target)
    if isinstance(error, asyncssh.PermissionDenied) or _too_many(error):
        return AccessRefused(name, f"{who} does not let us in: {_refusal(target, error, tried, passwords)}")
    if isinstance(error, asyncssh.ChannelOpenError):
        reason = plain(error.reason, 120).rstrip(".") or "it does not say why"
        return LinkDown(name, f"{who} cannot be reached from {via or 'the host before it'}: {reason}.")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return LinkDown(name, f"{who} and this machine have no cipher in common: {plain(error.reason, 160)}.")
    if isinstance(error, asyncssh.ConnectionLost):
        by = "what ProxyCommand started" if target.proxy_command else "it"
        return LinkDown(name, f"{who}: {by} closed the connection before the login; it may be starting up.")
    if isinstance(error, asyncssh.DisconnectError):
        return LinkDown(name, f"{who} is no SSH server we understand: {plain(error.reason, 160).rstrip('.')}.")
    if isinstance(error, OSError):
        known = _NET.get(error.errno or 0)
        if target.proxy_command and not known:
            return LinkDown(name, f"{who}: what ProxyCommand started ended before the login.")
        text = known or f"cannot be reached: {plain(error.strerror or str(error), 160).rstrip('.')}."
        return LinkDown(name, f"{who} {text}")
    return LinkDown(name, f"{who} cannot be reached: {plain(str(error), 160).rstrip('.') or type(error).__name__}.")


def key_problem(name: str, target: Target, verdict: Verdict) -> LinkDown:
    """Why a host key is not taken, with everything that must be compared. Nothing was sent to the host."""
    who = _who(name, target)
    if verdict.standing is Standing.UNKNOWN:
        return HostKeyUnknown(
            name,
            verdict.shown,
            f"{who} was never seen before and shows the {verdict.key_type} key {verdict.shown}: compare it with what "
            f"the provider shows; if it is the same, `wavedeck hosts trust {name}` accepts it.",
        )
    where = f"{verdict.path} line {verdict.line}"
    if verdict.standing is Standing.REVOKED:
        text = f"{who} shows a key that {where} revokes ({verdict.shown}): do not use this host."
    else:
        text = (
            f"{who} shows another host key than the one accepted before: {verdict.key_type} {verdict.shown}, not "
            f"{verdict.known} ({where}). The machine was set up anew or given to somebody else, or somebody sits in "
            f"between. Nothing was sent; if the new key is right, {how_to_forget(name, target, verdict)}."
        )
    return HostKeyChanged(name, verdict.known or "", verdict.shown, text)


def bad_key(name: str, target: Target, error: Exception) -> HostKeyChanged:
    """A revoked key, or a certificate that does not hold: asyncssh refused it before anybody could compare."""
    reason = plain(str(error), 160).rstrip(".")
    return HostKeyChanged(name, "", "", f"{_who(name, target)} shows a host key that must not be used: {reason}.")


def lost_reason(error: Exception | None, silence_s: float) -> str:
    """Why an established connection ended, as words after a colon."""
    if error is None:
        return "the connection was closed"
    text = str(error)
    if "keepalive" in text:
        return f"it did not answer for {silence_s:g} s"
    if isinstance(error, asyncssh.ConnectionLost):
        return "the connection was lost"
    if isinstance(error, asyncssh.DisconnectError):
        return f"it hung up: {plain(error.reason, 120).rstrip('.')}"
    return f"the connection was lost ({plain(text, 120).rstrip('.')})"


def _too_many(error: Exception) -> bool:
    return isinstance(error, asyncssh.DisconnectError) and "too many authentication failures" in error.reason.lower()


def _refusal(target: Target, error: Exception, tried: Sequence[str], passwords: bool) -> str:
    if _too_many(error):
        return f"too many keys were offered ({', '.join(tried[:8])}); name one with IdentityFile and IdentitiesOnly."
    offered = ", ".join(tried[:8])
    if passwords:
        return f"it took no password of {plain(target.user, 40)}" + (f" and no key ({offered})." if offered else ".")
    if not offered:
        return (
            f"there is no key to offer; make one with ssh-keygen and add it to {target.user}'s authorized_keys there."
        )
    return (
        f"it takes none of the keys we have ({offered}). Is the right one among them, is {plain(target.user, 40)} the "
        "right user, or was the key withdrawn there?"
    )


def _who(name: str, target: Target) -> str:
    return f"{name} ({target.place})" if target.place != name else name
