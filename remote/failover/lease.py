"""Who may write a lineage, said on the host it was taken from, so that a trainer which comes back is stopped there.

A run that was never moved needs no `lease.json`: without one its holder is the run itself. Of two movers on this
machine one wins by `moved.json`, of two machines by the claim on the target (`claims`); the lease on the old host
tells everybody later.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from ...engine.errors import RunDirError, UsageError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.lineage import Lease, Moved, fenced, read_lease, read_moved
from ...engine.manifest import encode, read_manifest
from ...engine.rundir import RunDir
from ..host import Host, LinkDown

LEASE = "lease.json"
GONE_S = 60.0
"""How long a trainer may take to save and end once it was fenced; its own grace periods are shorter."""
LOOK_S = 0.2
_RECORD_BYTES = 64 << 10


class BeingMoved(UsageError):
    """Another process here moves the run right now."""

    def __init__(self, run: RunDir) -> None:
        super().__init__(f"{run.id} is just being moved by another process here: `wavedeck show {run.id}` tells.")


@contextmanager
def moving(run: RunDir) -> Iterator[None]:
    """The right to move a run, for as long as the block lasts; it ends with this process, however that ends.

    Raises
    ------
    BeingMoved: another process is at it.
    """
    descriptor = os.open(run.path / ".move.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeingMoved(run) from None
        yield
    finally:
        os.close(descriptor)


def refuse_moved(run: RunDir) -> None:
    """Refuse to start anything more of a run that goes on elsewhere, or whose move has not come to its end.

    Raises
    ------
    UsageError: the sentence names the run to resume instead.
    """
    moved = read_moved(run)
    if moved is not None:
        raise UsageError(moved_words(run, moved))
    try:
        lease = read_lease(run)
    except RunDirError:
        return  # the supervisor there decides
    if lease is not None and not lease.allows(run.id):
        by = lease.fenced_by or lease.holder
        raise UsageError(f"{run.id} was moved from another machine and goes on as {by}: it is not resumed here.")
    if lease is not None and lease.generation > 1 and not any(run.attempts.glob("[0-9]*.json")):
        manifest = read_manifest(run.manifest)
        raise UsageError(
            f"{run.id} was never started: the move of {manifest.parent} was cut short. "
            f"`wavedeck resume {manifest.parent} --host {manifest.host}` goes on with it."
        )


def moved_words(run: RunDir, moved: Moved) -> str:
    """Where a run went, and what to do with it."""
    return (
        f"{run.id} was moved to {moved.host} and goes on there as {moved.child}: "
        f"`wavedeck resume {moved.child}` is the one to resume."
    )


async def lease_there(host: Host, run: RunDir) -> Lease | None:
    """The lease of a run as its host has it now; None when there is none.

    Raises
    ------
    HostUnreachable: the host does not answer. RunDirError: what it says is no lease.
    """
    data = await read_there(host, run, LEASE)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Lease)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirError(f"{LEASE} of {run.id} on {host.name} is damaged: {error}.") from error


async def read_there(host: Host, run: RunDir, name: str) -> bytes | None:
    """A small record of a run as its host has it now; None when there is none."""
    if host.name == LOCAL:
        with suppress(FileNotFoundError):
            return await asyncio.to_thread((run.path / name).read_bytes)
        return None
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)
    try:
        return (await host.read_range(run.id, name, 0, _RECORD_BYTES))[0]
    except FileNotFoundError:
        return None


async def fence(host: Host, run: RunDir, child: str) -> bool:
    """Say on a run's host that `child` writes from now on: its supervisor there stops its trainer and starts no other.

    Returns False when there is no such run there any more, so that nothing can write.

    Raises
    ------
    UsageError: it was moved from another machine, and somebody else writes. HostUnreachable.
    """
    try:
        before = await lease_there(host, run)
    except RunDirError:
        before = None
    if before is not None and before.holder not in (run.id, child):
        raise UsageError(
            f"{run.id} was moved from another machine already, and goes on as {before.holder}: "
            f"nothing is started beside it."
        )
    if before is not None and before.holder == child:
        return True
    try:
        await host.place(run.id, LEASE, encode(fenced(before, run.id, child)))
    except LinkDown:
        raise
    except WavedeckError:
        if await read_there(host, run, "manifest.json") is None:
            return False
        raise
    return True


async def until_gone(host: Host, run: RunDir, timeout_s: float = GONE_S) -> None:
    """Wait until nothing of a fenced run lives on its host.

    Raises
    ------
    WavedeckError: something still does. HostUnreachable.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        living = await host.living(run.id)
        if not living.supervisors and living.orphan is None:
            return
        if time.monotonic() >= deadline:
            pid = living.orphan or living.supervisors[0][0]
            raise WavedeckError(
                f"{run.id} still lives on {host.name} (process {pid}) although it was told to end: "
                "end that process, and move the run again."
            )
        await asyncio.sleep(LOOK_S)
