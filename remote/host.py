"""What a host can be asked to do. This machine and others answer to the same protocol.

Commands are argv lists, never shell text; every call has a timeout and a bound on what it may print; every failure
names the host, the command, its exit status and what it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..engine.errors import WavedeckError
from ..engine.format import plain
from ..engine.manifest import Attempt

DEFAULT_TIMEOUT_S = 30.0
OUTPUT_BYTES = 16 << 20
"""What a command may print before it is ended: whatever comes from a host is bounded."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end. A negative status is the signal that ended it."""

    host: str
    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    def check(self) -> Completed:
        """This value, if the status is 0.

        Raises
        ------
        CommandFailed: it is not.
        """
        if self.status != 0:
            raise CommandFailed(self.host, self.argv, self.status, self.stderr or self.stdout)
        return self


@dataclass(frozen=True, slots=True)
class Started:
    """How a supervisor was started."""

    session: str | None
    """Its tmux session, or None when it runs without tmux and cannot be attached to."""
    note: str | None = None
    """What the user should know about it, as a sentence."""


class HostError(WavedeckError):
    """A command on a host went wrong. Holds `host`, `argv`, `status` (None when there is none) and `stderr`."""

    def __init__(self, host: str, argv: Sequence[str], status: int | None, stderr: bytes, sentence: str) -> None:
        super().__init__(sentence)
        self.host = host
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr


class CommandFailed(HostError):
    """A command ended with another status than 0."""

    def __init__(self, host: str, argv: Sequence[str], status: int, stderr: bytes) -> None:
        said = last_line(stderr)
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        super().__init__(
            host, argv, status, stderr, f"{argv[0]} failed on {host} ({how}){': ' + said if said else ''}."
        )


class CommandTimeout(HostError):
    """A command did not end in time and was killed."""

    def __init__(self, host: str, argv: Sequence[str], timeout_s: float) -> None:
        super().__init__(host, argv, None, b"", f"{argv[0]} on {host} did not answer within {timeout_s:g} s.")


class OutputTooLarge(HostError):
    """A command printed more than was allowed and was killed."""

    def __init__(self, host: str, argv: Sequence[str], limit: int) -> None:
        super().__init__(host, argv, None, b"", f"{argv[0]} on {host} printed more than {limit} bytes.")


class ProgramMissing(HostError):
    """There is no such program on the host, or it may not be executed."""

    def __init__(self, host: str, argv: Sequence[str], reason: str) -> None:
        super().__init__(host, argv, 127, b"", f"{argv[0]} cannot be started on {host}: {reason}.")


class StartCut(asyncio.CancelledError):
    """A start was cancelled and its environment withdrawn in time: nothing of it will ever run."""


class Host(Protocol):
    """One machine."""

    @property
    def name(self) -> str:
        """What users call it; `local` is this machine."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
    ) -> Completed:
        """Run a command to its end, in `/`, with `env` as its whole environment (the host's own when None).

        Raises
        ------
        ProgramMissing, CommandTimeout, OutputTooLarge, or HostUnreachable. A status other than 0 is no exception: see
        `Completed.check`.
        """
        ...

    async def start_supervisor(self, run_dir: Path, attempt: Attempt, environ: Mapping[str, str]) -> Started:
        """Start the supervisor of an attempt whose record is in `run_dir`, so that it outlives this process.

        `environ` becomes the trainer's environment. It may hold secrets and never touches a command line.

        Raises
        ------
        HostError, OSError or (when cancelled) StartCut: nothing was started, and nothing of it will start later.
        """
        ...


def last_line(output: bytes) -> str:
    """The last thing a command said, made safe for a terminal."""
    lines = [line.strip() for line in output[-4096:].decode("utf-8", "replace").splitlines() if line.strip()]
    return plain(lines[-1], 300).rstrip(".") if lines else ""
