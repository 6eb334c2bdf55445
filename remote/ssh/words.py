"""The words of an ssh command line: what a provider shows, brought into an order that can be kept.

Pure functions. `-L` and its kin are dropped (Wavedeck forwards nothing), so is what changes only how a shell behaves; a
remote command is refused, because it would never run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ...engine.errors import UsageError
from ...engine.format import plain

_KEPT = "plioJF"
"""Options with a value that say where the host is and how to log in."""
_DROPPED_WITH_VALUE = "LRDcmeESQ"
_DROPPED = "46AaCfGgKkMNnqsTtvXxYy"
_REFUSED = "OWwVIbB"
_PLACE = re.compile(r"(?P<user>[^@]+@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^:@\[\]/]+)):(?P<port>[0-9]{1,5})")
_FORBIDDEN = set("'`\"$\\;&<>|(){}*?!#, \t")


def parse_words(text: str) -> tuple[str, ...]:
    """The words of `ssh -p 10648 root@HOST -L 8080:localhost:8080`, without `ssh` and without what forwards ports.

    Options come first, the destination last; `user@host:port` becomes `-p port user@host`.

    Raises
    ------
    UsageError: it is no ssh command line, names no host, or carries a command to run there.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"That is no ssh command line ({error}): paste what the provider shows, on one line."
        ) from None
    options, destination = sort_words(words[1:] if words[:1] == ["ssh"] else words)
    return (*options, destination)


def sort_words(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The options that are kept, and the destination.

    Raises
    ------
    UsageError: as for `parse_words`.
    """
    for word in words:
        if not word.isprintable():
            raise UsageError("An ssh command line may not hold line breaks or control characters.")
    rest = list(words)
    if len(rest) > 1 and rest[0].rpartition("/")[2] == "ssh":  # alone it is a host of that name
        rest.pop(0)
    options: list[str] = []
    destination: str | None = None
    while rest:
        word = rest.pop(0)
        if word == "--":
            word = rest.pop(0) if rest else ""
            if destination is not None:
                raise _command_refused([word, *rest])
            destination = word
        elif word.startswith("-") and len(word) > 1:
            options += _option(word, rest)
        elif destination is None:
            destination = word
        else:
            raise _command_refused([word, *rest])
    if not destination:
        raise UsageError("No host is named: give the words after ssh, for example `-p 10648 root@203.0.113.20`.")
    more, destination = destination_of(destination)
    return (*options, *more), destination


def destination_of(text: str) -> tuple[tuple[str, ...], str]:
    """`user@host`, `user@host:port` or `ssh://…` as options and a destination that ssh takes.

    Raises
    ------
    UsageError: no host, or characters that are in no host's name.
    """
    place = text.removeprefix("ssh://").removesuffix("/") if text.startswith("ssh://") else text
    options: tuple[str, ...] = ()
    if found := _PLACE.fullmatch(place):
        if not 0 < int(found["port"]) < 65536:
            raise UsageError(f"{plain(text, 80)} names no port: a port is a number from 1 to 65535.")
        options = ("-p", found["port"])
        place = (found["user"] or "") + (found["v6"] or found["name"])
    elif bracketed := re.fullmatch(r"([^@]+@)?\[([0-9A-Fa-f:.%\w]+)\]", place):
        place = (bracketed[1] or "") + bracketed[2]
    user, at, host = place.rpartition("@")
    if not host or (at and not user) or place.startswith("-") or host.startswith("-"):
        raise UsageError(f"{plain(text, 80)!r} names no host: write `user@host`.")
    if not place.isprintable() or _FORBIDDEN & set(host) or set("'`\"$\\;&<>|(){} \t") & set(user):
        raise UsageError(f"{plain(text, 80)!r} cannot be the name of a host.")
    return options, place


def _option(word: str, rest: list[str]) -> list[str]:
    """The words to keep of one option word (`-p22`, `-Np 22`); takes its value from `rest`."""
    kept: list[str] = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in _DROPPED:
            kept += [f"-{letter}"] if letter in "46" else []
        elif letter in _KEPT or letter in _DROPPED_WITH_VALUE:
            value = letters or (rest.pop(0) if rest else "")
            letters = ""
            if not value:
                raise UsageError(f"ssh -{letter} needs a value after it.")
            if letter in _KEPT:
                kept += _kept(letter, value)
        elif letter in _REFUSED:
            raise UsageError(f"ssh -{letter} has no meaning here: leave it out, or say it in ~/.ssh/config.")
        else:
            raise UsageError(f"ssh has no option -{plain(letter, 4)}.")
    return kept


def _kept(letter: str, value: str) -> list[str]:
    if letter == "p" and not (value.isascii() and value.isdecimal() and 0 < int(value) < 65536):
        raise UsageError(f"ssh -p {plain(value, 20)}: a port is a number from 1 to 65535.")
    if letter in "Fi" and value.startswith("~"):
        try:
            value = str(Path(value).expanduser())
        except RuntimeError:
            raise UsageError(f"There is no home directory for {plain(value, 80)}: write the whole path.") from None
    return [f"-{letter}", value]


def _command_refused(command: Sequence[str]) -> UsageError:
    return UsageError(
        f"`{plain(' '.join(command), 80)}` after the host would be a command to run there, and Wavedeck runs its own: "
        "leave it out."
    )
