"""Readings of the machine a run is on, as its companion wrote them to `machine.jsonl`. Unknown is None, never 0."""

from __future__ import annotations

from pathlib import Path

import msgspec

READ_BYTES = 4 << 20
"""How much one call of `read_machine` reads at most."""


class GpuReading(msgspec.Struct, frozen=True, gc=False):
    """One GPU at one moment, as nvidia-smi tells it."""

    index: int
    uuid: str | None = None
    name: str | None = None
    utilization_pct: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    clocks_sm_mhz: float | None = None
    fan_pct: float | None = None
    pstate: str | None = None
    throttle: tuple[str, ...] | None = None
    """Why its clocks are held down, in words; empty for no reason, None when the driver does not tell."""
    ecc_errors: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    lost: bool = False
    """It fell off the bus; the other numbers are then mostly unknown."""


class MachineReading(msgspec.Struct, frozen=True):
    """The run's processes and their machine at one moment `t` (seconds since the epoch)."""

    t: float
    attempt: int | None = None
    cpu_pct: float | None = None
    """Of the run's processes, in percent of one core: 200 is two cores busy."""
    rss_bytes: int | None = None
    """Sum over the run's processes; a page they share counts once for each."""
    processes: int | None = None
    host_cpu_pct: float | None = None
    """Of all cores, 0 to 100."""
    load_1m: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    """Bytes of the machine, or of the container where that is limited."""
    disk_free: int | None = None
    disk_total: int | None = None
    """Bytes of the file system the run directory is on."""
    gpus: tuple[GpuReading, ...] = ()
    gpu_error: str | None = None
    """Why there are no GPU readings, as a sentence; None while all is well and on a machine without GPUs."""


_decoder = msgspec.json.Decoder(MachineReading)


def read_machine(path: Path, offset: int = 0, limit: int = READ_BYTES) -> tuple[list[MachineReading], int]:
    """Readings in `path` from byte `offset` on, and the offset to go on from.

    At most `limit` bytes are read: call again until the offset stays. A negative offset means that many bytes before
    the end (from the next whole line), for a first look at a long file. A last line without its newline is "not yet";
    a damaged line is left out; a file that is shorter than `offset` was replaced and is read from its start; a missing
    one is empty.
    """
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            start = max(0, size + offset) if offset < 0 else (0 if offset > size else offset)
            handle.seek(start)
            block = handle.read(limit)
    except OSError:
        return [], max(0, offset)
    if offset < 0 and start > 0:
        skipped = block.find(b"\n") + 1
        block, start = block[skipped:], start + skipped
    whole = block.rfind(b"\n") + 1
    if not whole and len(block) >= limit:
        return [], start + len(block)
    readings = [reading for line in block[:whole].split(b"\n") if (reading := _decode(line)) is not None]
    return readings, start + whole


def _decode(line: bytes) -> MachineReading | None:
    try:
        return _decoder.decode(line) if line.strip() else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
