"""Where a host is and how to log in to it, as OpenSSH itself understands the user's configuration.

`ssh -G` is asked instead of parsing `~/.ssh/config` a second time: Include, Match, tokens and defaults then mean what
they mean in the user's shell. Jump hosts are asked for in the same way, one by one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...engine.errors import UsageError, WavedeckError
from ...engine.format import plain
from .aliases import CONFIG_VARIABLE, config_aliases
from .words import destination_of, parse_words, sort_words

__all__ = ["CONFIG_VARIABLE", "MAX_HOPS", "Target", "config_aliases", "parse_words", "resolve"]

MAX_HOPS = 8
SSH_TIMEOUT_S = 15.0
_DEFAULT_PORT = 22


@dataclass(frozen=True, slots=True)
class Target:
    """One place to log in to, everything decided."""

    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...] = ()
    identities_only: bool = False
    agent_path: str | None = None
    """Socket of the agent that holds keys; None when none is to be asked."""
    jump: tuple[Target, ...] = ()
    """Hosts to go through, the nearest first. Their own `jump` is empty: this is the whole way."""
    proxy_command: str | None = None
    """A command whose standard input and output are the line; `%h`, `%p`, `%r`, `%n` are already replaced."""
    known_hosts: tuple[Path, ...] = ()
    """The user's own known_hosts files; they are read and never written."""
    host_key_alias: str | None = None
    address_family: str = "any"
    """`any`, `inet` or `inet6`."""

    @property
    def place(self) -> str:
        """`root@203.0.113.20:10648`; the usual port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != _DEFAULT_PORT else "")

    @property
    def label(self) -> str:
        """`root@203.0.113.20:10648 via dev@203.0.113.10`."""
        return " via ".join([self.place, *(hop.place for hop in reversed(self.jump))])


def resolve(words: Sequence[str], config: Path | None = None) -> Target:
    """Ask OpenSSH where `ssh WORDS` would go, through which hosts and with which keys.

    `config` (else `$WAVEDECK_SSH_CONFIG`) is read instead of the user's configuration.

    Raises
    ------
    UsageError: these are no words for ssh, or the chain of jump hosts does not end. WavedeckError: no ssh program.
    """
    named = config or (Path(chosen).expanduser() if (chosen := os.environ.get(CONFIG_VARIABLE)) else None)
    options, destination = sort_words(words)
    for option, value in zip(options, options[1:], strict=False):
        if option == "-i" and not Path(value).expanduser().is_file():
            raise UsageError(f"there is no key file {plain(value, 200)}: correct the -i in the ssh line of this host.")
    prefix = ("-F", str(named)) if named else ()
    files = tuple(word for pair in zip(options, options[1:], strict=False) if pair[0] == "-F" for word in pair)
    return _resolve((*prefix, *options), destination, files or prefix, ())


def _resolve(options: tuple[str, ...], destination: str, files: tuple[str, ...], on_the_way: tuple[str, ...]) -> Target:
    """The target of one destination; `on_the_way` are the places whose answer waits for this one."""
    if len(on_the_way) > MAX_HOPS:
        raise _too_far(on_the_way[0], len(on_the_way))
    answer = _ask_ssh(options, destination)
    target = _target(answer, destination)
    if target.place in on_the_way:
        chain = plain(" → ".join([*on_the_way, target.place]), 200)
        raise UsageError(f"The jump hosts lead in a circle ({chain}): look for ProxyJump in your ssh config.")
    jumps = _last(answer, "proxyjump")
    if not jumps or jumps == "none":
        return target
    hops: list[Target] = []
    for index, jump in enumerate(jumps.split(",")):
        hop_options, hop_destination = destination_of(jump.strip())
        # As ssh does it: the first hop is reached by its own configuration, each further one through those before it.
        direct = () if index == 0 else ("-o", "ProxyJump=none", "-o", "ProxyCommand=none")
        hop = _resolve((*files, *direct, *hop_options), hop_destination, files, (*on_the_way, target.place))
        hops += [*hop.jump, replace(hop, jump=())]
    if len(hops) > MAX_HOPS:
        raise _too_far(destination, len(hops))
    return replace(target, jump=tuple(hops), proxy_command=None)


def _too_far(destination: str, hops: int) -> UsageError:
    return UsageError(f"{plain(destination, 80)} is {hops} jump hosts away; at most {MAX_HOPS} are followed.")


def _ask_ssh(options: Sequence[str], destination: str) -> dict[str, list[str]]:
    """What `ssh -G` says: keyword in lower case -> values in their order."""
    program = shutil.which("ssh")
    if program is None:
        raise WavedeckError("There is no ssh program here, and it is what reads ~/.ssh/config: install OpenSSH.")
    try:
        done = subprocess.run(
            [program, *options, "-G", "--", destination],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SSH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WavedeckError(
            f"ssh did not say within {SSH_TIMEOUT_S:g} s where {plain(destination, 80)} is: does a `Match exec` hang "
            "in your ssh config?"
        ) from None
    except OSError as error:
        raise WavedeckError(f"{program} cannot be started: {error.strerror}.") from error
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = plain(said[-1], 300).rstrip(".") if said else f"exit status {done.returncode}"
        raise UsageError(f"ssh does not understand {plain(shlex.join([*options, destination]), 200)} ({reason}).")
    answer: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        keyword, _, value = line.partition(" ")
        answer.setdefault(keyword.lower(), []).append(value.strip())
    return answer


def _target(answer: dict[str, list[str]], destination: str) -> Target:
    host = _last(answer, "hostname") or ""
    port = _last(answer, "port") or ""
    if not host or not port.isdecimal():
        raise UsageError(f"ssh did not say where {plain(destination, 80)} is: look at `ssh -G` of it.")
    user = _last(answer, "user") or ""
    alias = _last(answer, "hostkeyalias")
    name = _last(answer, "host") or host
    tokens = {"h": host, "p": port, "r": user, "n": name, "%": "%"}
    command = _last(answer, "proxycommand")
    return Target(
        host=host,
        port=int(port),
        user=user,
        identity_files=tuple(_file(value) for value in answer.get("identityfile", []) if value != "none"),
        identities_only=_last(answer, "identitiesonly") == "yes",
        agent_path=_agent(_last(answer, "identityagent")),
        proxy_command=_replaced(command, tokens) if command and command != "none" else None,
        known_hosts=tuple(
            _file(name)
            for keyword in ("userknownhostsfile", "globalknownhostsfile")
            for value in answer.get(keyword, [])
            for name in _names(value)
        ),
        host_key_alias=alias if alias and alias != "none" else None,
        address_family=_last(answer, "addressfamily") or "any",
    )


def _last(answer: dict[str, list[str]], keyword: str) -> str | None:
    values = answer.get(keyword)
    return values[-1] if values else None


def _file(value: str) -> Path:
    text = value.replace("%d", str(Path.home())).replace("%%", "%")
    return Path(text.replace("${HOME}", str(Path.home()))).expanduser()


def _names(value: str) -> Iterable[str]:
    """File names of one line. ssh prints them without quotes, so one that exists as a whole is one name."""
    if value in ("none", "/dev/null"):
        return ()
    return (value,) if " " in value and _file(value).exists() else value.split()


def _agent(value: str | None) -> str | None:
    """The socket of the key agent, from `IdentityAgent` or else the environment."""
    if value == "none":
        return None
    if value is None or value == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if value.startswith("$"):
        return os.environ.get(value[1:].strip("{}")) or None
    return str(_file(value))


def _replaced(command: str, tokens: dict[str, str]) -> str:
    """`%h` and its kin replaced, in one pass."""
    out, index = [], 0
    while index < len(command):
        if command[index] == "%" and command[index + 1 : index + 2] in tokens:
            out.append(tokens[command[index + 1]])
            index += 2
        else:
            out.append(command[index])
            index += 1
    return "".join(out)
