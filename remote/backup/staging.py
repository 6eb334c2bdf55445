"""Where a file lies until it is known to be right: `checkpoints/.incoming/<sha12>/NAME`.

The folder is named after what the file must hash to, so a new file of the same name never continues an old part. A lock
in `.incoming` is handed to rsync as an open descriptor: as long as any rsync of a killed backup still lives, the next
one waits, and cannot have a file changed between its check and its rename.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ...engine.errors import WavedeckError
from ...engine.format import size as size_text
from .. import copy_bytes
from ..copy_bytes import free_bytes
from .transfer import PARTIAL, DiskFull

INCOMING = ".incoming"
MANY = "many"
"""The folder that small files arrive in together."""
LOCK = "lock"
LOCK_S = 20.0
"""How long the rsync of a backup that was killed may take to notice."""
KEY_LENGTH = 12
_LEFT_BY_RSYNC = re.compile(r"\..+\.[A-Za-z0-9]{6}")


def incoming(target: Path) -> Path:
    """The staging area of a folder of finished files."""
    return target / INCOMING


def staging_of(target: Path, sha256: str) -> Path:
    """The folder a file arrives in."""
    return incoming(target) / sha256[:KEY_LENGTH]


@asynccontextmanager
async def locked(target: Path) -> AsyncIterator[int]:
    """The only right to stage for `target`; the descriptor is to be handed on to whatever writes there.

    Raises
    ------
    WavedeckError: somebody else has it.
    """
    incoming(target).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(incoming(target) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _take(descriptor, target)
        yield descriptor
    finally:
        os.close(descriptor)


async def _take(descriptor: int, target: Path) -> None:
    deadline = asyncio.get_running_loop().time() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise WavedeckError(
                    f"another process here copies files of {target.parent.name}: wait for it, or end it."
                ) from None
        await asyncio.sleep(0.05)


def prepare(staging: Path, name: str) -> bool:
    """Make a staging folder; whether it holds a part of the file to go on from.

    An rsync that was killed leaves `.NAME.XXXXXX`, which no later rsync would use: it is put where one does.
    """
    staging.mkdir(parents=True, exist_ok=True)
    partial = staging / PARTIAL / name
    for path in sorted(staging.iterdir(), key=lambda path: path.lstat().st_size):
        if path.name in (name, PARTIAL) or path.is_dir() or not _LEFT_BY_RSYNC.fullmatch(path.name):
            continue
        if partial.exists() and partial.stat().st_size >= path.lstat().st_size:
            path.unlink()
            continue
        partial.parent.mkdir(exist_ok=True)
        os.replace(path, partial)
    return partial.exists()


def begin_anew(staging: Path) -> None:
    """Forget what has arrived: it was wrong."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True, exist_ok=True)


def sweep(target: Path) -> None:
    """Remove what was begun and is not wanted any more; left alone while somebody stages there."""
    if not incoming(target).is_dir():
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(incoming(target) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in list(incoming(target).iterdir()):
                if path.name != LOCK:
                    shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def used(staging: Path) -> int:
    """Bytes on the disk of what has arrived already."""
    total = 0
    with contextlib.suppress(OSError):
        for folder, _, names in os.walk(staging):
            for name in names:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def check_room(target: Path, need: int) -> None:
    """Refuse what would fill the disk here. What has arrived already is not counted again by `need`.

    Raises
    ------
    DiskFull: after `need` more bytes too little would be free.
    """
    free = free_bytes(target)
    if free < max(0, need) + copy_bytes.FREE_FLOOR:
        raise DiskFull(
            f"the disk here has {size_text(free)} free, which is too little for {size_text(max(0, need))} more: "
            "free some space; the backup goes on by itself then."
        )
