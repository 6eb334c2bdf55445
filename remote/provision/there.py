"""What provisioning needs of a host, and how its helper scripts are run there.

A helper is a file of `remote/payload/` that is sent over standard input to the host's `python3`: nothing is installed
for it. It answers in JSON lines: any number of `{"text": …}` while it works, then one `{"answer": …}` or
`{"failed": "a sentence"}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...engine.errors import WavedeckError
from ...engine.format import plain
from ...engine.hosts import HostFacts
from ..host import Host, ProgramMissing, last_line

PAYLOAD = Path(__file__).resolve().parent.parent / "payload"
HELPER_PYTHON = (3, 8)
SHORT_S = 60.0
LIMIT = 8 << 20
_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a launch elsewhere has come. `done` and `total` are None where nobody can tell."""

    phase: str
    """`check`, `environment` or `push`."""
    text: str
    done: float | None = None
    total: float | None = None


Report = Callable[[Progress], None]


class HostEntry(Protocol):
    """What `hosts.toml` says about a host that matters for a launch."""

    @property
    def python(self) -> str | None: ...

    @property
    def price_per_hour(self) -> float | None: ...


class RemoteHost(Host, Protocol):
    """A host on which code and environments can be placed."""

    @property
    def home(self) -> str:
        """Wavedeck's home there, an absolute path."""
        ...

    @property
    def facts(self) -> HostFacts | None:
        """What the host said about itself."""
        ...

    @property
    def entry(self) -> HostEntry:
        """What `hosts.toml` says about it."""
        ...

    @property
    def python(self) -> str:
        """An interpreter that is there, for helpers."""
        ...

    def rsync_words(self) -> AbstractAsyncContextManager[Sequence[str]]:
        """The remote shell for rsync's `-e`, usable inside the context."""
        ...


async def ask(
    host: RemoteHost,
    script: str,
    request: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
    *,
    timeout_s: float = SHORT_S,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run a helper on the host and return its answer.

    Parameters
    ----------
    script: name of a file in `remote/payload/`. files: name -> content, handed over with the request.

    Raises
    ------
    WavedeckError: the host has no fitting Python, or the helper says why it could not. HostError, HostUnreachable.
    """
    _check_python(host)
    code = (PAYLOAD / script).read_bytes()
    files = files or {}
    header = {**request, "home": host.home, "host": host.name}
    header["files"] = [[name, len(data)] for name, data in files.items()]
    stdin = b"".join([code, json.dumps(header).encode(), b"\n", *files.values()])
    boot = f"import sys;exec(compile(sys.stdin.buffer.read({len(code)}),{script!r},'exec'))"
    lines = _Lines(on_event)
    try:
        done = await host.run(
            [host.python, "-I", "-u", "-c", boot], stdin=stdin, timeout_s=timeout_s, limit=LIMIT, on_output=lines.feed
        )
    except ProgramMissing:
        raise WavedeckError(_no_python(host)) from None
    for line in reversed(done.stdout.splitlines()):
        event = _event(line)
        if isinstance(event.get("answer"), dict):
            answer: dict[str, Any] = event["answer"]
            return answer
        if isinstance(event.get("failed"), str):
            raise WavedeckError(plain(event["failed"], 1000))
    said = last_line(done.stderr or done.stdout) or f"exit status {done.status}"
    raise WavedeckError(f"{script} on {host.name} gave no answer: {said}.")


def text_of(answer: Mapping[str, Any], key: str, limit: int = 4096) -> str:
    """A string in an answer, made safe for a terminal; empty when there is none."""
    value = answer.get(key)
    return plain(value, limit) if isinstance(value, str) else ""


def path_of(host: RemoteHost, answer: Mapping[str, Any], key: str) -> str:
    """A path in an answer.

    Raises
    ------
    WavedeckError: there is none, or it is not absolute or not printable.
    """
    value = answer.get(key)
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or len(value) > 4096:
        raise WavedeckError(f"{host.name} answered with something that is no path ({plain(repr(value), 80)}).")
    return value


def _check_python(host: RemoteHost) -> None:
    facts = host.facts
    if facts is None:
        return
    if not facts.python:
        raise WavedeckError(_no_python(host))
    numbers = tuple(int(part) for part in facts.python.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < HELPER_PYTHON:
        raise WavedeckError(f"python3 on {host.name} is {plain(facts.python, 20)}: launching there needs 3.8 or newer.")


def _no_python(host: RemoteHost) -> str:
    return f"there is no python3 on {host.name}: install it there (`apt-get install -y python3 python3-venv`)."


class _Lines:
    """Cuts what a helper prints into lines as it comes, and passes on those that are events."""

    def __init__(self, on_event: Callable[[dict[str, Any]], None] | None) -> None:
        self._on_event = on_event
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The next piece of output."""
        if self._on_event is None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE:]
        for line in lines:
            event = _event(line)
            if "text" in event:
                self._on_event(event)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
