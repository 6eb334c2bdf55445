"""The GPUs of hosts as rows: what `gpu` and `hosts add` show. A host that does not answer is a row that says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ...engine.errors import WavedeckError
from ...engine.hosts import GpuProcess
from ...engine.machine import GpuReading, MachineReading

if TYPE_CHECKING:
    from ...remote.host import Host
    from ...remote.local import LocalHost
    from ...remote.ssh_host import SshHost

BUSY_MIB = 300
"""Memory that no idle driver holds: somebody uses this GPU."""
PROCESSES_S = 3.0
WAKE_S = 15.0
APPS_S = 30.0
RUN_VARIABLE = "WAVEDECK_RUN_ID"


class GpuRow(msgspec.Struct, frozen=True):
    """One GPU of one host, or (without an index) why there is none."""

    host: str
    index: int | None = None
    name: str | None = None
    utilization_pct: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    run: str | None = None
    """The run that holds most of its memory."""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `gpu --json`."""
        return {field: getattr(self, field) for field in self.__struct_fields__}


def rows_of(host: str, gpus: Iterable[GpuReading], processes: Iterable[GpuProcess], error: str | None) -> list[GpuRow]:
    """Rows of one host from its reading; at least one, so that no host is left out without a word."""
    held = sorted(processes, key=lambda process: process.memory_mib or 0.0)
    owner = {process.gpu: process.run for process in held if process.run is not None}
    rows = [
        GpuRow(
            host,
            gpu.index,
            gpu.name,
            gpu.utilization_pct,
            gpu.memory_used_mib,
            gpu.memory_total_mib,
            gpu.temperature_c,
            gpu.power_w,
            gpu.power_limit_w,
            owner.get(gpu.index),
            "fell off the bus" if gpu.lost else None,
        )
        for gpu in gpus
    ]
    return rows or [GpuRow(host, error=error or "no GPU")]


async def rows_of_host(host: Host, *, wait_for_processes: bool = True) -> list[GpuRow]:
    """The GPUs of a connected host now.

    Raises
    ------
    HostUnreachable: it was lost meanwhile.
    """
    from ...remote.local import LocalHost
    from ...remote.ssh_host import SshHost

    if isinstance(host, LocalHost):
        return await rows_here(host)
    assert isinstance(host, SshHost)
    reading = await _first_gpus(host)
    if reading is None:
        return rows_of(host.name, (), (), "its GPUs could not be read yet")
    busy = any((gpu.memory_used_mib or 0) > BUSY_MIB for gpu in reading.gpus)
    processes = await host.processes()
    deadline = time.monotonic() + PROCESSES_S
    while busy and wait_for_processes and not processes and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        processes = await host.processes()
    return rows_of(host.name, reading.gpus, processes, reading.gpu_error)


async def _first_gpus(host: SshHost) -> MachineReading | None:
    """Its newest reading, once that says something of its GPUs: a driver may take seconds to wake up.

    None when there is a driver that says nothing for too long: that is not the same as no GPU.
    """
    deadline = time.monotonic() + WAKE_S
    while True:
        reading = await host.reading()
        known = reading is not None and (reading.gpus or reading.gpu_error)
        if known or not host.facts.programs.get("nvidia-smi"):
            return reading
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(0.05)


async def rows_here(host: LocalHost) -> list[GpuRow]:
    """The GPUs of this machine now."""
    from ...remote.nvidia_smi import query_gpus

    gpus, error = await query_gpus(host)
    processes = await processes_here(host, gpus) if gpus else []
    return rows_of(host.name, gpus, processes, None if error == _NO_TOOL else error)


_NO_TOOL = "there is no nvidia-smi on this host."


async def processes_here(host: LocalHost, gpus: Iterable[GpuReading]) -> list[GpuProcess]:
    """What runs on the GPUs of this machine, with the runs they belong to."""
    from ...remote.payload.gpu_apps import parse_apps, query_apps_argv

    try:
        done = await host.run(query_apps_argv(), timeout_s=APPS_S)
    except WavedeckError:
        return []
    uuids = {gpu.uuid: gpu.index for gpu in gpus if gpu.uuid is not None}
    rows = parse_apps(done.stdout.decode("utf-8", "replace"), uuids) if done.status == 0 else []
    found = [msgspec.convert(row, GpuProcess) for row in rows]
    return [msgspec.structs.replace(process, run=run_of(process.pid)) for process in found]


def run_of(pid: int) -> str | None:
    """The run that a process of this machine belongs to; None for a foreign one."""
    import psutil

    from ...engine.names import RUN_ID

    try:
        run = psutil.Process(pid).environ().get(RUN_VARIABLE, "")
    except (psutil.Error, OSError, ValueError):
        return None
    return run if RUN_ID.match(run) else None
