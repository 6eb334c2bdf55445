"""A host asked through plain commands, without an agent: for the look at machines that no agent runs on yet.

Only what `preflight` needs of a host. Every command goes through the login shell there, so what that shell prints by
itself is measured once and taken off every answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..engine.rundir import Home
from .host import DEFAULT_TIMEOUT_S, OUTPUT_BYTES, Completed, ProgramMissing, last_line
from .ssh_host import far_shell_line

if TYPE_CHECKING:
    from .hosts_file import HostEntry
    from .ssh.connection import Connection
    from .ssh.questions import Asker

SHELL_S = 30.0
NOISE_BYTES = 256 << 10
TRIES = 3


class BareHost:
    """One connection; `measure` first."""

    def __init__(self, connection: Connection, entry: HostEntry) -> None:
        self._connection = connection
        self.entry = entry
        self.name = entry.name
        self.home = entry.home or ""
        self.noise = b""
        """What its login shell prints on standard output before every command."""
        self.latency_ms: float | None = None
        self.shell_ms: float | None = None
        """How long a command takes that does nothing."""

    async def measure(self) -> None:
        """Find out what the login shell prints, and how long everything takes.

        Raises
        ------
        HostUnreachable, HostError: it does not run even `true`.
        """
        latency = self._connection.latency
        self.latency_ms = None if latency is None else 1000 * latency
        took = []
        for _ in range(TRIES):
            began = time.monotonic()
            done = await self._connection.run("exec true", SHELL_S, limit=NOISE_BYTES)
            took.append(1000 * (time.monotonic() - began))
            self.noise = done.stdout
        self.shell_ms = statistics.median(took)

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        on_output: object = None,
    ) -> Completed:
        """As `Host.run`, with the account's own environment, in its home."""
        done = await self._connection.run(far_shell_line(argv), timeout_s, stdin, limit + len(self.noise))
        if done.status in (126, 127):
            raise ProgramMissing(self.name, argv, last_line(done.stderr) or "there is none")
        out = done.stdout.removeprefix(self.noise)
        return Completed(self.name, tuple(argv), done.status, out, done.stderr)


@asynccontextmanager
async def bare_host(home: Home, name: str, asker: Asker | None = None) -> AsyncIterator[BareHost]:
    """A host for as long as the block lasts, with nothing started on it.

    Raises
    ------
    UsageError: there is no such host. LinkDown: it does not answer, or does not let us in.
    """
    import asyncio

    from .hosts_file import host_entry
    from .ssh.connection import connect
    from .ssh.keys import Secrets
    from .ssh.questions import NobodyAsks
    from .ssh.target import resolve

    entry = host_entry(home, name)
    target = await asyncio.to_thread(resolve, entry.ssh)
    connection = await connect(name, target, home, asker or NobodyAsks(), Secrets())
    try:
        host = BareHost(connection, entry)
        await host.measure()
        yield host
    finally:
        await connection.close()
