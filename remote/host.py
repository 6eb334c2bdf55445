"""What a host can be asked to do. This machine and others answer to the same protocol.

Commands are argv lists, never shell text; every call has a timeout and a bound on what it may print; every failure
names the host, the command, its exit status and what it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..engine.errors import HostUnreachable, WavedeckError
from ..engine.format import plain
from ..engine.hosts import LinkState
from ..engine.manifest import Attempt
from .run_files import HASH_S, FileFacts, FileHash, Uncovered

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


@dataclass(frozen=True, slots=True)
class Living:
    """What of a run lives on its host, asked of the process table and never of a file."""

    supervisors: tuple[tuple[int, int | None], ...] = ()
    """Pid and, as far as its command line tells, attempt of each supervisor."""
    orphan: int | None = None
    """The trainer's pid when it outlived its supervisor."""


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


class LinkDown(HostUnreachable):
    """A host does not answer, or does not let us in. Exit code 3.

    `link` is the state the link is in; `host` the name of the host.
    """

    def __init__(self, host: str, sentence: str, link: LinkState = LinkState.RECONNECTING) -> None:
        super().__init__(sentence)
        self.host = host
        self.link = link


class HostLost(LinkDown):
    """The link broke while a command was under way: whether it ran to its end is not known."""

    def __init__(self, host: str, argv: Sequence[str] = (), reason: str = "the connection was lost") -> None:
        what = f" while {argv[0]} ran" if argv else ""
        super().__init__(host, f"{host} is out of reach{what}: {reason}.")
        self.argv = tuple(argv)


class AccessRefused(LinkDown):
    """The host answers and does not let us in: no key or password it takes."""

    def __init__(self, host: str, sentence: str) -> None:
        super().__init__(host, sentence, LinkState.REFUSED)


class HostKeyUnknown(LinkDown):
    """The host was never seen before. `fingerprint` is what must be compared: `SHA256:…`."""

    def __init__(self, host: str, fingerprint: str, sentence: str) -> None:
        super().__init__(host, sentence, LinkState.KEY_UNKNOWN)
        self.fingerprint = fingerprint


class HostKeyChanged(LinkDown):
    """The host shows another key than the one that was accepted. Nothing was sent to it."""

    def __init__(self, host: str, known: str, shown: str, sentence: str) -> None:
        super().__init__(host, sentence, LinkState.KEY_CHANGED)
        self.known = known
        self.shown = shown


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
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run a command to its end, in `/`, with `env` as its whole environment (the host's own when None).

        `on_output` gets what it writes to standard output and error as it comes, for progress; it counts to `limit` all
        the same.

        Raises
        ------
        ProgramMissing, CommandTimeout, OutputTooLarge, or HostUnreachable. A status other than 0 is no exception: see
        `Completed.check`.
        """
        ...

    async def create_run(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Create a run's directory on the host, whole or not at all; `files` are paths inside it.

        Raises
        ------
        UsageError: there is a run of that id. WavedeckError: its home there cannot be written.
        """
        ...

    async def place(self, run_id: str, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Put one record into a run's directory, atomically. False when `exclusive` and there is one already."""
        ...

    async def living(self, run_id: str) -> Living:
        """Which processes of a run live there."""
        ...

    async def discard(self, run_id: str) -> None:
        """Delete a run's directory for good: renamed out of the runs first, so that never half a run is left.

        Raises
        ------
        UsageError: there is none. WavedeckError: it cannot be moved away.
        """
        ...

    async def uncovered(self, run_id: str) -> Uncovered:
        """What a run's trainer has written and no backup would have; see `RunFiles`."""
        ...

    async def file_facts(self, run_id: str, name: str | None = None, *, path: str | None = None) -> FileFacts:
        """Size, time, room and inode of a checkpoint (`name`) or of a trainer's file (`path`); see `RunFiles`."""
        ...

    async def sha256_of(
        self, run_id: str, name: str | None = None, *, path: str | None = None, timeout_s: float = HASH_S
    ) -> FileHash:
        """The digest of a checkpoint (`name`) or of a trainer's file (`path`), computed there; see `RunFiles`."""
        ...

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What of the launcher's environment a trainer gets there: all of it here, only its secrets elsewhere."""
        ...

    async def start_supervisor(self, run_dir: Path, attempt: Attempt, environ: Mapping[str, str]) -> Started:
        """Start the supervisor of an attempt whose record is in the run's directory, so that it outlives this process.

        `run_dir` is the directory here; its name is the run's id. `environ` becomes the trainer's environment, on top
        of the host's own for another host. It may hold secrets and never touches a command line.

        Raises
        ------
        HostError, OSError or (when cancelled) StartCut: nothing was started, and nothing of it will start later.
        """
        ...


def last_line(output: bytes) -> str:
    """The last thing a command said, made safe for a terminal."""
    lines = [line.strip() for line in output[-4096:].decode("utf-8", "replace").splitlines() if line.strip()]
    return plain(lines[-1], 300).rstrip(".") if lines else ""
