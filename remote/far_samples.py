"""The sample files of a run on another host, for whoever reads samples: opened there, fetched by ranges, kept here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from ..engine.rundir import Home, RunDir
from .far_file import FarFile
from .fleet import FleetThread, host_of
from .ssh_host import SshHost

READ_S = 30.0
"""How long one range may take."""

Opened = BinaryIO | Path


def sample_opener(home: Home, run: RunDir, thread: FleetThread) -> Callable[[Path], Opened]:
    """Opens a file of a copy: the one that is here, else the original by ranges.

    For threads that may wait. Its failures are OSErrors with a sentence.
    """
    host = host_of(run)

    def fetching(name: str) -> Callable[[int, int], tuple[bytes, int, float]]:
        async def fetch(offset: int, count: int) -> tuple[bytes, int, float]:
            place = thread.fleet.host(host)
            assert isinstance(place, SshHost)
            return await place.read_range(run.id, name, offset, count)

        def waited(offset: int, count: int) -> tuple[bytes, int, float]:
            try:
                return thread.call(lambda: fetch(offset, count), READ_S)
            except TimeoutError:
                raise OSError(110, f"{host} did not answer within {READ_S:.0f} s") from None

        return waited

    def opened(path: Path) -> Opened:
        if path.exists():
            return path
        name = path.relative_to(run.path).as_posix()
        return cast(BinaryIO, FarFile(fetching(name), home.cache / "far" / run.id / name))

    return opened
