"""One checkpoint from here to where it is wanted, a host's copy of the run or any directory, hash-checked there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...engine.checkpoints import CheckpointLine, read_checkpoints
from ...engine.errors import UsageError, WavedeckError
from ...engine.format import plain
from ...engine.hosts import LOCAL
from ...engine.manifest import read_manifest
from ...engine.planning import choose_checkpoint
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..provision.there import Report
from .choose import whole_file
from .deliver import Parcel, deliver


async def restore(
    home: Home, run: RunDir, name: str, host: Host, into: str | None = None, report: Report = lambda progress: None
) -> str:
    """Put one checkpoint back on a host, or into a directory of it; returns the file's path there.

    Parameters
    ----------
    name: a checkpoint's name, a step, `best` or `last`.
    into: an absolute directory of that host. None is where the run itself has it: its `checkpoints/`, or for a foreign
        trainer's file the place where it lay. A file there with other bytes is replaced only when `into` is None.

    Raises
    ------
    UsageError: there is no such checkpoint, no good copy of it here, or another file has its name. WavedeckError: it
    cannot be written there. HostUnreachable.
    """
    manifest = read_manifest(run.manifest)
    line = choose_checkpoint(read_checkpoints(run.checkpoint_manifest), name, manifest.headline)
    notices: list[str] = []
    source = await asyncio.to_thread(whole_file, run, line, notices)
    if source is None:
        why = " ".join(notices) or f"`wavedeck ckpt {run.id} pull` fetches it."
        raise UsageError(f"there is no verified copy of {plain(line.name, 120)} here. {why}")
    base, below = _goal(host, run, line, manifest.cwd, into)
    if into is not None:
        await _refuse_other(host, f"{base}/{below}", line)
    scratch = home.cache / "moving" / f"{run.id}.{line.sha256[:12]}"
    await deliver(host, base, [Parcel(source, below, line.sha256, line.bytes)], scratch, report)
    return f"{base}/{below}"


def _goal(host: Host, run: RunDir, line: CheckpointLine, cwd: str | None, into: str | None) -> tuple[str, str]:
    """Directory and path below it."""
    if into is not None:
        if not into.startswith("/") or "\0" in into or "\n" in into:
            raise UsageError(f"{plain(into, 200)} is no absolute directory of {host.name}.")
        return into.rstrip("/") or "/", (line.path or line.name).rsplit("/", 1)[-1]
    if line.path is not None:
        if not cwd:
            raise UsageError(f"{run.id} does not say where it works: name a directory with --to.")
        return cwd, line.path
    if host.name == LOCAL:
        return str(run.checkpoints), line.name
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)
    return f"{host.run_dir(run.id)}/checkpoints", line.name


async def _refuse_other(host: Host, path: str, line: CheckpointLine) -> None:
    """Refuse to replace a user's file that is not this very checkpoint."""
    if host.name == LOCAL:
        there = Path(path).exists()
    else:
        done = await host.run(["test", "-e", path])
        if done.status not in (0, 1):
            raise WavedeckError(f"{host.name} cannot tell whether there is a {plain(path, 200)}.")
        there = done.status == 0
    if not there:
        return
    done = await host.run(["sha256sum", "--", path], timeout_s=60 + line.bytes / (8 << 20))
    if done.status != 0 or done.stdout.split()[:1] != [line.sha256.encode()]:
        raise UsageError(f"there is another file {plain(path, 200)} on {host.name}: name another directory with --to.")
