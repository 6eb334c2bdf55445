"""One rsync and what became of it.

rsync proves nothing: it exits 0 on files that were written to while it read them. It is only the cart; whoever calls
this hashes what has arrived. Names travel over standard input, so that none is an option, a pattern or a shell's word.
Never `--append`, `--inplace` or `--delete`: each of them can leave a mixture of two files and call it a success.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine.errors import WavedeckError
from ..host import LinkDown
from ..provision.there import RemoteHost
from ..rsync import RsyncProgress, run_rsync, said_by_rsync, shell_prints

PARTIAL = ".partial"
"""Where rsync keeps what an interruption left, inside the folder of the file."""
STALL_S = 60
"""rsync gives up when nothing moves for so long."""

Tell = Callable[[RsyncProgress], None]


class Cut(LinkDown):
    """The connection broke while files moved; what has arrived is kept for the next try."""


class SourceGone(WavedeckError):
    """Files were not there any more, or became shorter under rsync."""


class DiskFull(WavedeckError):
    """There is no room for what was to be copied. Nothing was deleted to make some."""


@dataclass(frozen=True, slots=True)
class How:
    """How files are to move.

    `delta`: compare with what an interrupted try has left. `relative`: keep the folders that names stand in.
    `sparse`: holes stay holes, and are not sent. `modes`: what may be executed there may be here.
    """

    delta: bool = False
    relative: bool = False
    sparse: bool = False
    modes: bool = False
    limit_kib_s: int | None = None
    hold: int | None = None
    """An open descriptor (of a lock) that rsync holds for as long as any process of it lives."""
    stall_s: int = STALL_S


def rsync_argv(how: How, words: Sequence[str], source: str | Path, target: str | Path) -> list[str]:
    """The command line. Names come over standard input, relative to `source`."""
    argv = [
        "rsync", "-s", "--times", "--ignore-times", "--from0", "--files-from=-", "--no-implied-dirs",
        f"--partial-dir={PARTIAL}", f"--timeout={how.stall_s}", "--info=progress2", "--outbuf=L", "--no-human-readable",
        "--no-whole-file" if how.delta else "--whole-file",
        "--relative" if how.relative else "--no-relative",
    ]  # fmt: skip
    if how.sparse:
        argv += ["--sparse", "--compress"]
    if how.modes:
        argv += ["--perms", "--chmod=u+rw,go-w,a-s"]
    if how.limit_kib_s:
        argv.append(f"--bwlimit={how.limit_kib_s}")
    return [*argv, "-e", shlex.join(words), "--", f"{source}/", f"{target}/"]


async def fetch(
    host: RemoteHost, base: str, names: Sequence[str], target: Path, total: int, how: How, tell: Tell
) -> None:
    """Bring files of a host here. `names` are paths below `base`.

    Raises
    ------
    Cut, SourceGone, DiskFull, WavedeckError.
    """
    if shutil.which("rsync") is None:
        raise WavedeckError("rsync is not installed here: install it (`apt-get install rsync`, `brew install rsync`).")
    # Everything is named from the root: a pattern in the argument of a source is expanded by the rsync over there.
    inside = base.strip("/")
    listed = [f"./{inside}/{'./' if how.relative else ''}{name}" for name in names]
    async with host.rsync_words() as words:
        await _rsync(host.name, rsync_argv(how, words, f"{host.name}:", target), listed, total, tell, "here", how.hold)


async def send(
    host: RemoteHost, base: Path, names: Sequence[str], target: str, total: int, how: How, tell: Tell
) -> None:
    """Bring files of this machine to a folder of a host.

    Raises
    ------
    Cut, SourceGone, DiskFull, WavedeckError.
    """
    listed = [f"./{name}" for name in names]
    async with host.rsync_words() as words:
        await _rsync(
            host.name, rsync_argv(how, words, base, f"{host.name}:{target}"), listed, total, tell, "there", how.hold
        )


async def _rsync(
    host: str, argv: list[str], names: list[str], total: int, tell: Tell, receiver: str, hold: int | None
) -> None:
    status, said = await run_rsync(argv, map(os.fsencode, names), total, tell, hold)
    if status != 0:
        raise failure(host, status, said, receiver)


def failure(host: str, status: int, stderr: bytes, receiver: str = "here") -> WavedeckError:
    """What an exit status of rsync means, as a sentence. `receiver` is whose disk was written: `here` or `there`."""
    said = said_by_rsync(status, stderr)
    if b"No space left on device" in stderr or b"Disk quota exceeded" in stderr:
        return disk_full("this machine" if receiver == "here" else host)
    if status in (12, 127) and (b"not found" in stderr or b"rsync: No such file" in stderr):
        return WavedeckError(f"rsync is not installed on {host}: run `apt-get install -y rsync` there.")
    if status == 2 and b"protocol version mismatch" in stderr:
        return WavedeckError(shell_prints(host))
    if status in (23, 24):
        return SourceGone(f"not every file could be read on {host} ({said}).")
    if status in (10, 12, 255):
        return Cut(host, f"the connection to {host} broke while files were copied ({said}).")
    if status in (30, 35):
        return Cut(host, f"nothing has arrived from {host} for a while: it is tried again.")
    if status in (11, 13):
        return WavedeckError(f"rsync could not write its files ({said}): see whether that disk can be written.")
    if status in (-2, -9, -15, 19, 20):
        return Cut(host, f"copying from {host} was interrupted.")
    return WavedeckError(f"copying from {host} failed: {said}.")


def disk_full(where: str) -> DiskFull:
    """There is no room on `where`."""
    return DiskFull(f"the disk of {where} is full: free some space; the backup goes on by itself then.")
