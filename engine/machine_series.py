"""Machine readings as series, so that the instruments of the metrics draw them too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .machine import GpuReading, MachineReading, read_machine
from .rundir import RunDir
from .series import Row, SeriesTable
from .series_view import SeriesView

GIB = 1024**3


class MachineFeed:
    """Reads `machine.jsonl` of a run incrementally into named series; x is time."""

    def __init__(self, run: RunDir) -> None:
        self._path = run.machine
        self._offset = 0
        self._table = SeriesTable()
        self.newest: MachineReading | None = None

    def poll(self) -> bool:
        """Read what is new; True when there was anything."""
        readings, offset = read_machine(self._path, self._offset)
        if offset < self._offset:
            self._table = SeriesTable()
        self._offset = offset
        if readings:
            self.newest = readings[-1]
            self._table.append_rows(self._rows(readings))
        return bool(readings)

    def views(self) -> dict[str, SeriesView]:
        """Frozen series of everything known."""
        return self._table.views()

    def _rows(self, readings: Iterable[MachineReading]) -> Iterator[Row]:
        count = len(self._table)
        for number, reading in enumerate(readings):
            yield count + number, reading.t, None, dict(_values(reading))


def _values(reading: MachineReading) -> Iterator[tuple[str, float]]:
    """(name with unit, value) of what is known."""
    known: list[tuple[str, float | None]] = [
        ("run cpu %", reading.cpu_pct),
        ("host cpu %", reading.host_cpu_pct),
        ("run memory GiB", _gib(reading.rss_bytes)),
        ("host memory GiB", _gib(reading.memory_used)),
    ]
    for gpu in reading.gpus:
        known += _gpu_values(gpu)
    known.append(("disk free GiB", _gib(reading.disk_free)))
    for name, value in known:
        if value is not None:
            yield name, value


def _gpu_values(gpu: GpuReading) -> list[tuple[str, float | None]]:
    memory = None if gpu.memory_used_mib is None else gpu.memory_used_mib / 1024
    return [
        (f"gpu{gpu.index} %", gpu.utilization_pct),
        (f"gpu{gpu.index} memory GiB", memory),
        (f"gpu{gpu.index} °C", gpu.temperature_c),
        (f"gpu{gpu.index} W", gpu.power_w),
    ]


def _gib(count: int | None) -> float | None:
    return None if count is None else count / GIB
