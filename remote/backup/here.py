"""A foreign trainer's file of this machine, copied into the run before its trainer overwrites it.

Nothing travels, and yet a copy is needed: `latest.pt` is written in place. The bytes are hashed as they are copied, and
only a copy that hashes to what its line says gets a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ...engine.backup.copies import BAD, NOTE, CopyLine
from ...engine.checkpoints import CheckpointLine
from ...engine.rundir import RunDir
from ..payload.backup_files import Odd, open_inside
from . import staging
from .disk import Disk
from .pull import Moving, Report, commit, copy_line, record
from .there import WORDS, Refused, place_of

BLOCK = 1 << 20


async def copy_here(run: RunDir, line: CheckpointLine, report: Report, disk: Disk) -> CopyLine:
    """Copy one file of a run of this machine; the line that was recorded about it.

    Raises
    ------
    DiskFull: there is no room. OSError: this disk is failing.
    """
    async with staging.locked(run.checkpoints):
        return await asyncio.to_thread(_copy, run, line, report, disk)


def _copy(run: RunDir, line: CheckpointLine, report: Report, disk: Disk) -> CopyLine:
    try:
        place = place_of(run, line, str(run.path))
        source = open_inside(place.base, place.name)
    except Refused as error:
        return _told(run, line, disk, BAD, str(error))
    except Odd as odd:
        word = odd.why if odd.why in WORDS else "unreadable"
        return _told(run, line, disk, NOTE if word == "missing" else BAD, f"{line.name} {WORDS[word]}")
    except OSError as error:
        return _told(run, line, disk, BAD, f"{line.name} cannot be read ({error.strerror})")
    folder = staging.staging_of(run.checkpoints, line.sha256)
    try:
        facts = os.fstat(source)
        if facts.st_size != line.bytes:
            return _told(run, line, disk, BAD, f"{line.name} was overwritten meanwhile")
        staging.begin_anew(folder)
        staging.check_room(run.checkpoints, min(facts.st_size, facts.st_blocks * 512))
        target = folder / line.name
        digest = _hashing_copy(source, target, lambda done: report(Moving(line.name, done, line.bytes)))
    finally:
        os.close(source)
    if digest != line.sha256:
        staging.begin_anew(folder)
        return _told(run, line, disk, BAD, f"{line.name} was overwritten meanwhile")
    told = commit(disk, run, [(line, target)])[0]
    with contextlib.suppress(OSError):
        folder.rmdir()
    return told


def _told(run: RunDir, line: CheckpointLine, disk: Disk, event: str, text: str) -> CopyLine:
    told = copy_line(line, event, text)
    record(disk, run, [told])
    return told


def _hashing_copy(source: int, target: Path, tell: Callable[[int], None]) -> str:
    """Copy what an open descriptor holds; holes stay holes. The sha256 of what was written."""
    digest, done = hashlib.sha256(), 0
    zeros = bytes(BLOCK)
    with open(target, "xb") as out:
        while block := os.read(source, BLOCK):
            digest.update(block)
            if block == zeros[: len(block)]:
                out.seek(len(block), os.SEEK_CUR)
            else:
                out.write(block)
            done += len(block)
            tell(done)
        out.truncate(done)
    return digest.hexdigest()


def looks_like(run: RunDir, line: CheckpointLine) -> bool:
    """Whether the file of a line is there with its size."""
    try:
        place = place_of(run, line, str(run.path))
        descriptor = open_inside(place.base, place.name)
    except (Refused, Odd, OSError):
        return False
    try:
        return os.fstat(descriptor).st_size == line.bytes
    finally:
        os.close(descriptor)
