"""Files on their way to where they are to be used again: staged, hashed there, made durable, and only then named.

What has arrived before a cut is kept for the next try; what is there already is not sent again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine import format as fmt
from ...engine.checkpoints import is_safe_path, sha256_of
from ...engine.errors import UsageError, WavedeckError
from ...engine.files import sync_directory
from ...engine.format import plain
from ...engine.hosts import LOCAL
from ..backup import there, transfer
from ..host import Host
from ..provision.there import Progress, RemoteHost, Report, ask
from ..rsync import RsyncProgress
from .choose import Chosen

PHASE = "checkpoint"
INCOMING = ".incoming"
ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file: where it is here, and the path below a directory of the receiver that it gets."""

    source: Path
    name: str
    sha256: str
    bytes: int


def parcels(chosen: Chosen) -> list[Parcel]:
    """The files of a checkpoint: a recipe's under its own name, a foreign trainer's where it lay.

    Raises
    ------
    UsageError: a path leads out of the directory.
    """
    found = []
    for line, source in zip(chosen.lines, chosen.files, strict=True):
        target = line.path or line.name
        if not is_safe_path(target):
            raise UsageError(f"{plain(target, 120)} leads out of the run's directory: it is not put back.")
        found.append(Parcel(source, target, line.sha256, line.bytes))
    return found


async def deliver(
    host: Host, base: str, files: Sequence[Parcel], scratch: Path, report: Report, *, aside: bool = False
) -> None:
    """Put files below the directory `base` of a host, each whole and with the bytes it should have.

    Parameters
    ----------
    scratch: a directory here that may be filled and is emptied again.
    aside: keep what is there under such a name with other bytes, as `NAME.before-…`: it may be its user's own.

    Raises
    ------
    WavedeckError: a file here is not what it should be, there is no room, or other bytes arrived. HostUnreachable.
    """
    if host.name == LOCAL:
        for parcel in files:
            await asyncio.to_thread(_place_here, Path(base), parcel, aside)
        return
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)
    try:
        await _deliver_far(host, base, files, scratch, report, aside)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, True)


async def _deliver_far(
    host: RemoteHost, base: str, files: Sequence[Parcel], scratch: Path, report: Report, aside: bool
) -> None:
    total = sum(parcel.bytes for parcel in files)
    held = await there.hash_there(host, base, [parcel.name for parcel in files], total)
    missing = [
        parcel
        for parcel, row in zip(files, held, strict=True)
        if isinstance(row, str) or (row.sha256, row.size) != (parcel.sha256, parcel.bytes)
    ]
    if not missing:
        return
    others = [(parcel.name, row.sha256) for parcel, row in zip(files, held, strict=True) if not isinstance(row, str)]
    total = sum(parcel.bytes for parcel in missing)
    begun = await ask(host, there.SCRIPT, {"op": "begin", "base": base})
    free = begun.get("free")
    if isinstance(free, int) and free < total:
        raise WavedeckError(
            f"{host.name} has {fmt.size(free)} free, and the checkpoint needs {fmt.size(total)}: free some space "
            "there, or set home= in hosts.toml to a larger disk."
        )
    text = f"{len(missing)} file{'s' if len(missing) > 1 else ''}, {fmt.size(total)}"

    def tell(now: RsyncProgress) -> None:
        report(Progress(PHASE, f"{text}, {fmt.size(now.rate)}/s", total * now.percent / 100, total))

    report(Progress(PHASE, text, 0, total))
    await asyncio.to_thread(_stage, scratch, missing)
    staging, names = f"{base}/{INCOMING}", [parcel.name for parcel in missing]
    await transfer.send(
        host, scratch, names, staging, total, transfer.How(relative=True, delta=len(missing) == 1), tell
    )
    replaced = {parcel.name for parcel in missing} if aside else set()
    for name, sha256 in others:
        if name in replaced:
            await host.run(["mv", "--", f"{base}/{name}", f"{base}/{name}.before-{sha256[:12]}"])
    rows = [[parcel.name, parcel.sha256, parcel.bytes] for parcel in missing]
    answer = await ask(
        host,
        there.SCRIPT,
        {"op": "commit", "base": base, "rows": rows},
        timeout_s=ANSWER_S + total / there.HASH_RATE,
    )
    told = answer.get("files")
    if told != ["placed"] * len(missing):
        raise WavedeckError(
            f"other bytes arrived on {host.name} than were sent: try again; see whether its disk fails."
        )
    await host.run(["rm", "-rf", "--", staging])
    report(Progress(PHASE, text, total, total))


def _stage(scratch: Path, files: Sequence[Parcel]) -> None:
    """The same files under the names they are to have: links where that is possible, which cost nothing."""
    shutil.rmtree(scratch, ignore_errors=True)
    for parcel in files:
        target = scratch / parcel.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(parcel.source, target)
        except OSError:
            shutil.copy2(parcel.source, target)


def _place_here(base: Path, parcel: Parcel, aside: bool) -> None:
    target = base / parcel.name
    if _is(target, parcel):
        return
    staged = base / INCOMING / parcel.sha256[:12] / target.name
    try:
        staged.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parcel.source, staged)
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        if not _is(staged, parcel):
            raise WavedeckError(f"{parcel.source.name} changed while it was copied, or the disk fails: try again.")
        if aside and target.exists():
            os.replace(target, target.with_name(f"{target.name}.before-{sha256_of(target)[:12]}"))
        os.replace(staged, target)
        sync_directory(target.parent)
    except OSError as error:
        raise WavedeckError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(base / INCOMING, ignore_errors=True)


def _is(path: Path, parcel: Parcel) -> bool:
    """Whether a file holds exactly these bytes."""
    try:
        whole = not path.is_symlink() and path.stat().st_size == parcel.bytes
        return whole and sha256_of(path) == parcel.sha256
    except OSError:
        return False
