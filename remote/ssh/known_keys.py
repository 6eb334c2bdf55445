"""Which host keys are trusted: the user's own known_hosts files, and one of ours.

The user's files are read and never written. What the user accepts here goes to `$WAVEDECK_HOME/known_hosts`. A host
that shows another key than the known one is refused, also when only the kind of key differs: rented addresses go to the
next customer, and then every old entry is a warning worth reading.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import asyncssh

from ...engine.errors import WavedeckError
from ...engine.rundir import Home
from ..hosts_file import write_private
from .target import Target

FILE = "known_hosts"
_LARGEST = 16 << 20


class Standing(StrEnum):
    """What is known of a key that a host shows."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to think of a key, with everything a user needs to compare."""

    standing: Standing
    shown: str
    """Fingerprint of the key that the host shows, `SHA256:…`."""
    key_type: str
    known: str | None = None
    """Fingerprint of the key that was accepted before."""
    path: Path | None = None
    line: int | None = None
    """Where the accepted one is written."""
    ours: bool = False
    """Whether that is our own file, so that `forget` can remove it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file that names the host."""

    key: asyncssh.SSHKey
    marker: str | None
    """None, `revoked` or `cert-authority`."""
    path: Path
    line: int
    exact: bool
    """It names the host with its port, not the host alone; see `entries`."""


def our_file(home: Home) -> Path:
    """Where the keys accepted here are."""
    return home.root / FILE


def pattern(target: Target) -> str:
    """How known_hosts files name a host: `[host]:port`, the bare name for port 22, the alias where there is one."""
    if target.host_key_alias:
        return target.host_key_alias.lower()
    return target.host.lower() if target.port == 22 else f"[{target.host.lower()}]:{target.port}"


def entries(home: Home, target: Target) -> list[Entry]:
    """The lines that name this host, ours first.

    A line with the bare name of a host on another port than 22 can make a key trusted, as for OpenSSH, but another key
    than the one it names is unknown and not changed: providers put many machines behind one name.
    """
    names = [pattern(target)]
    if not target.host_key_alias and target.port != 22:
        names.append(target.host.lower())
    return [entry for path in (our_file(home), *target.known_hosts) for entry in _read(path, names)]


def decide(home: Home, target: Target, key: asyncssh.SSHKey) -> Verdict:
    """Whether the key that a host shows is the one that was accepted before."""
    shown, kind = fingerprint(key), key_type(key)
    found = entries(home, target)
    for entry in found:
        if entry.marker == "revoked" and entry.key == key:
            return Verdict(Standing.REVOKED, shown, kind, shown, entry.path, entry.line)
    plain_entries = [entry for entry in found if entry.marker is None]
    if any(entry.key == key for entry in plain_entries):
        return Verdict(Standing.TRUSTED, shown, kind)
    exact = [entry for entry in plain_entries if entry.exact]
    if not exact:
        return Verdict(Standing.UNKNOWN, shown, kind)
    # The one of the same kind is the one it took the place of.
    old = next((entry for entry in exact if entry.key.algorithm == key.algorithm), exact[0])
    return Verdict(
        Standing.CHANGED, shown, kind, fingerprint(old.key), old.path, old.line, ours=old.path == our_file(home)
    )


def accept(home: Home, target: Target, key: asyncssh.SSHKey) -> None:
    """Trust this key for this host from now on.

    Raises
    ------
    WavedeckError: our file cannot be written.
    """
    algorithm, data = key.export_public_key("openssh").decode("ascii").split()[:2]
    line = f"{pattern(target)} {algorithm} {data} accepted {time.strftime('%Y-%m-%d')}\n"
    path = our_file(home)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WavedeckError(f"{path} cannot be written ({error.strerror}): the key was not accepted.") from error


def forget(home: Home, target: Target) -> int:
    """Remove what our own file knows of this host; say how many lines that were. The user's files stay as they are.

    Raises
    ------
    WavedeckError: our file cannot be written.
    """
    path = our_file(home)
    gone = {entry.line for entry in _read(path, [pattern(target)])}
    if not gone:
        return 0
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        write_private(path, b"".join(line for number, line in enumerate(lines, 1) if number not in gone))
    except OSError as error:
        raise WavedeckError(f"{path} cannot be written ({error.strerror}): nothing was forgotten.") from error
    return len(gone)


def how_to_forget(name: str, target: Target, verdict: Verdict) -> str:
    """What the user does when the new key is right after all, as the end of a sentence."""
    if verdict.ours:
        return f"`wavedeck hosts trust {name}` takes it in place of the old one"
    return f"run `ssh-keygen -f {verdict.path} -R '{pattern(target)}'`"


def fingerprint(key: asyncssh.SSHKey) -> str:
    """`SHA256:…`, as OpenSSH and every provider print it."""
    return str(key.get_fingerprint())


def key_type(key: asyncssh.SSHKey) -> str:
    """`ED25519`, `RSA`, `ECDSA`."""
    name = key.get_algorithm()
    return "ECDSA" if name.startswith("ecdsa") else name.split("@")[0].removeprefix("ssh-").removeprefix("sk-").upper()


def _read(path: Path, names: list[str]) -> Iterator[Entry]:
    """Lines of one file that name one of `names`, the first of which is the exact one. Damaged lines are skipped."""
    try:
        if path.stat().st_size > _LARGEST:
            return
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) < 3 or words[0].startswith("#"):
            continue
        hosts = words[1] if words[0].startswith("@") else words[0]
        for name in names:
            if _may_name(hosts, name) and (entry := _entry(line, name, path, number, name == names[0])):
                yield entry
                break


def _may_name(hosts: str, name: str) -> bool:
    """Whether a line could be about `name`: asyncssh's parser decides, but it reads the key of every line for that."""
    if hosts.startswith("|1|"):
        try:
            _, _, salt, digest = hosts.split("|")
            wanted = base64.b64decode(digest)
            return hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest() == wanted
        except (ValueError, binascii.Error):
            return False
    return any(sign in hosts for sign in "*?!/") or name in hosts.lower().split(",")


def _entry(line: str, name: str, path: Path, number: int, exact: bool) -> Entry | None:
    """One line as asyncssh understands it; None when it is about another host or cannot be understood."""
    words = line.split(None, 1)
    lowered = line if words[0].startswith(("@", "|")) else f"{words[0].lower()} {words[1]}"
    try:
        trusted, authorities, revoked, *_ = asyncssh.import_known_hosts(lowered).match(name, "", None)
    except (ValueError, asyncssh.KeyImportError):
        return None
    for marker, keys in ((None, trusted), ("cert-authority", authorities), ("revoked", revoked)):
        if keys:
            return Entry(keys[0], marker, path, number, exact)
    return None
