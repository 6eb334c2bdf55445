"""A project's files on their way to a host, by rsync over the connection that is open already.

They are sent to a hidden directory that is empty, with the push before as a source of files that are the same (by their
checksums), and renamed when all is there. Nothing is deleted or changed in place, so the code of a run that goes on is
never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from ...engine import format as fmt
from ...engine.errors import WavedeckError
from ..host import HostError, LinkDown
from ..rsync import RsyncProgress, run_rsync, said_by_rsync, shell_prints
from .project import Listing, Project
from .there import Progress, RemoteHost, Report, ask, path_of

PHASE = "push"
SCRIPT = "place_code.py"
STALL_S = 120
"""rsync gives up when nothing moves for so long."""
END_S = 5.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """A project's code on a host."""

    root: str
    """Its directory there."""
    cwd: str
    """The directory there that corresponds to the one the user is in."""


async def push(host: RemoteHost, project: Project, listing: Listing, run_id: str, report: Report) -> Pushed:
    """Send the files of `listing` to `<home>/code/<run_id>` on the host.

    Raises
    ------
    WavedeckError: rsync is missing on a side, the disk there is full, a file cannot be read; the sentence says so.
    HostError, HostUnreachable.
    """
    await _check_rsync(host)
    request = {"run": run_id, "project": project.key}
    begun = await ask(host, SCRIPT, {"op": "begin", **request})
    free = begun.get("free")
    if isinstance(free, int) and free < listing.size:
        await _abandon(host, request)
        raise WavedeckError(
            f"{host.name} has {fmt.size(free)} free for {fmt.size(listing.size)} of code: free some space there, "
            "or set home= in hosts.toml to a larger disk."
        )
    staging = path_of(host, begun, "staging")
    before = path_of(host, begun, "before") if begun.get("before") else None
    text = f"{fmt.count(len(listing.paths))} files, {fmt.size(listing.size)}"
    report(Progress(PHASE, text, 0, listing.size))

    def tell(now: RsyncProgress) -> None:
        done = listing.size * now.percent / 100
        report(Progress(PHASE, f"{text}, {fmt.size(now.rate)}/s", done, listing.size))

    try:
        if listing.paths:
            await _rsync(host, project, listing, staging, before, tell)
        finished = await ask(host, SCRIPT, {"op": "finish", "inside": project.subdirectory, **request})
    except LinkDown:
        raise
    except BaseException:
        await _abandon(host, request)
        raise
    root = path_of(host, finished, "place")
    report(Progress(PHASE, text, listing.size, listing.size))
    return Pushed(root, f"{root}/{project.subdirectory}" if project.subdirectory else root)


async def _abandon(host: RemoteHost, request: dict[str, str]) -> None:
    with contextlib.suppress(WavedeckError, HostError, asyncio.CancelledError):
        await asyncio.wait_for(ask(host, SCRIPT, {"op": "abandon", **request}), END_S)


async def _check_rsync(host: RemoteHost) -> None:
    """Refuse early what rsync would say in riddles."""
    if shutil.which("rsync") is None:
        raise WavedeckError("rsync is not installed here: install it (`apt-get install rsync`, `brew install rsync`).")
    facts = host.facts
    if facts is not None and facts.programs.get("rsync", "?") is None:
        raise WavedeckError(_missing_there(host.name))
    process = await asyncio.create_subprocess_exec(
        "rsync", "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    match = re.match(rb"rsync\s+version\s+v?(\d+)\.(\d+)", out)
    if match is None or (int(match[1]), int(match[2])) < (3, 1):
        raise WavedeckError("the rsync here is too old or not the usual one: install version 3.1 or newer.")


def _missing_there(name: str) -> str:
    advice = "run `apt-get install -y rsync` there, or push nothing (--no-push --cwd DIR)"
    return f"rsync is not installed on {name}: {advice}."


def rsync_argv(root: bytes, words: list[str], target: str, before: str | None) -> list[str | bytes]:
    """The command line: names come over standard input, so none can be taken for an option."""
    argv: list[str | bytes] = [
        "rsync", "--secluded-args", "--links", "--perms", "--times", "--checksum", "--compress", "--no-implied-dirs",
        "--from0", "--files-from=-", "--info=progress2", "--outbuf=L", "--no-human-readable", f"--timeout={STALL_S}",
    ]  # fmt: skip
    if before is not None:
        argv.append(f"--copy-dest={before}")
    return [*argv, "-e", shlex.join(words), "--", root + b"/", target]


async def _rsync(
    host: RemoteHost,
    project: Project,
    listing: Listing,
    staging: str,
    before: str | None,
    tell: Callable[[RsyncProgress], None],
) -> None:
    names = [b"./" + path for path in listing.paths]  # a name may begin with `#`, `;` or `-`
    async with host.rsync_words() as words:
        argv = rsync_argv(os.fsencode(project.root), list(words), f"{host.name}:{staging}/", before)
        status, said = await run_rsync(argv, names, listing.size, tell)
    if status != 0:
        raise rsync_failure(host.name, project, status, said)


def rsync_failure(host: str, project: Project, status: int, stderr: bytes) -> WavedeckError:
    """What an exit status of rsync means, as a sentence."""
    said = said_by_rsync(status, stderr)
    if b"No space left on device" in stderr:
        return WavedeckError(
            f"the disk of {host} is full: free some space there, or set home= in hosts.toml to a larger disk."
        )
    if status in (12, 127) and (b"not found" in stderr or b"No such file" in stderr):
        return WavedeckError(_missing_there(host))
    if status == 2 and b"protocol version mismatch" in stderr:
        return WavedeckError(shell_prints(host))
    if status in (23, 24):
        return WavedeckError(
            f"not every file of {project.root} could be pushed ({said}): see that all of them can be read, and launch "
            "again if they changed meanwhile."
        )
    if status in (30, 35):
        return WavedeckError(f"nothing arrived on {host} for {STALL_S} s: see whether it answers, and launch again.")
    if status == 255 or (status == 12 and b"connection unexpectedly closed" in stderr):
        return LinkDown(
            host, f"the connection to {host} broke while the code was pushed: launch again once it is back."
        )
    if status in (-2, -15, 20):
        return WavedeckError("pushing the code was interrupted.")
    return WavedeckError(f"pushing the code to {host} failed: {said}.")
