"""This machine's own numbers, for the deck: the same reading a companion takes, without a run."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec

from ..engine.machine import GpuReading, MachineReading
from .payload.gpu_stream import GpuStream


class LocalMachine:
    """Readings of this machine through psutil, so that they work on Linux and macOS alike; GPUs as in the companion."""

    def __init__(self) -> None:
        self._gpus = GpuStream()
        self._asked = False

    def reading(self, path: Path) -> MachineReading:
        """The machine now; `path` chooses the file system. Synchronous, about a millisecond.

        CPU and GPU numbers appear with the second reading.
        """
        import psutil

        self._gpus.turn()
        memory = psutil.virtual_memory()
        free, total = _disk(path)
        busy = psutil.cpu_percent(None)  # since the call before; the first one has nothing to compare with
        known, self._asked = self._asked, True
        return MachineReading(
            t=time.time(),
            host_cpu_pct=busy if known else None,
            load_1m=os.getloadavg()[0],
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            disk_free=free,
            disk_total=total,
            gpus=tuple(msgspec.convert(row, GpuReading) for row in self._gpus.rows()),
            gpu_error=self._gpus.error,
        )

    def close(self) -> None:
        """End the GPU tool."""
        self._gpus.close()


def _disk(path: Path) -> tuple[int | None, int | None]:
    """Free and total bytes of the file system of `path`, or of its nearest parent that exists."""
    for place in (path, *path.parents):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return usage.free, usage.total
    return None, None
