"""Machine readings as series, so that the instruments of the metrics draw them too."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .hosts import GpuProcess
from .machine import GpuReading, MachineReading, read_machine
from .pyramid import FloatArray
from .rundir import RunDir
from .series import Row, SeriesTable
from .series_view import MAX_STRETCHES, SeriesView, Stretches, find_stretches

GIB = 1024**3
HISTORY_S = 7200.0
"""How much of a host's past is kept while it is watched."""
HISTORY_ROWS = 7200
"""And how many readings at most, whatever its clock says."""
MOST_GPUS = 64
_GPU = re.compile(r"gpu(\d{1,4}) (.+)")


class MachineFeed:
    """Reads `machine.jsonl` of a run incrementally into named series; x is time.

    The file knows nothing of steps: `with_steps` lays the run's own beside the time.
    """

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
            self._table.append_rows(_rows(readings, len(self._table)))
        return bool(readings)

    def views(self) -> dict[str, SeriesView]:
        """Frozen series of everything known."""
        return self._table.views()


class HostHistory:
    """The newest two hours of a host's readings as series. One thread may add while another takes views."""

    def __init__(self, keep_s: float = HISTORY_S) -> None:
        self._keep_s = keep_s
        self._table = SeriesTable()
        self._added = 0
        self._lock = threading.Lock()

    def add(self, reading: MachineReading) -> None:
        """One more reading; what is too old goes in batches."""
        with self._lock:
            self._table.append_rows(_rows([reading], self._added))
            self._added += 1
            times = self._table.rows.columns()[1]
            if len(times) > 1.25 * HISTORY_ROWS or times[0] < reading.t - 1.25 * self._keep_s:
                self._forget(reading.t)

    def views(self) -> dict[str, SeriesView]:
        """Frozen series of what is kept."""
        with self._lock:
            return self._table.views()

    def _forget(self, now: float) -> None:
        times = self._table.rows.columns()[1]
        keep = np.abs(times - now) <= self._keep_s
        keep[:-HISTORY_ROWS] = False
        self._table.rows.keep(keep)
        for name, series in list(self._table.series.items()):
            series.reindex(keep)
            if not len(series):
                del self._table.series[name]


@dataclass(frozen=True, slots=True, eq=False)
class StepClock:
    """Which step and epoch a run was at, at any time: arrays in order of arrival."""

    t: FloatArray
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.floating]

    @classmethod
    def of(cls, metrics: Mapping[str, SeriesView]) -> StepClock | None:
        """From the metrics of the run; None while there are none."""
        longest = max(metrics.values(), key=lambda view: len(view.t), default=None)
        if longest is None or not len(longest.t):
            return None
        return cls(np.maximum.accumulate(longest.t), longest.step, longest.epoch)

    def at(self, t: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]:
        """Steps and epochs at times `t`: those of the newest row until then, of the first row before it."""
        rows = np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, len(self.t) - 1)
        return self.step[rows], self.epoch[rows]


def with_steps(series: Mapping[str, SeriesView], clock: StepClock) -> dict[str, SeriesView]:
    """The same readings with the run's steps and epochs beside their times."""
    known: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]] = {}
    stepped = {}
    for name, view in series.items():
        length = len(view.t)
        if length not in known:  # series of one table share their rows, so there are few lengths
            known[length] = clock.at(view.t)
        step, epoch = known[length]
        moved = replace(view, step=step, epoch=epoch, stretches={"time": view.stretches["time"]}, _sorted={})
        index = np.arange(len(view))
        moved.stretches["step"] = _stretches(moved.x_of("step", index))
        moved.stretches["epoch"] = _stretches(moved.x_of("epoch", index))
        stepped[name] = moved
    return stepped


def gpu_of(name: str) -> tuple[int, str] | None:
    """(index, what) of a series' name: `gpu3 °C` is (3, "°C"); None for one that is no GPU's."""
    match = _GPU.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def only_gpus(series: Mapping[str, SeriesView], indices: Collection[int] | None) -> dict[str, SeriesView]:
    """What belongs to no GPU or to one of `indices`; everything when that is None."""
    if indices is None:
        return dict(series)
    return {name: view for name, view in series.items() if (gpu := gpu_of(name)) is None or gpu[0] in indices}


def gpus_of_run(run_id: str, given: Sequence[int], processes: Sequence[GpuProcess] = ()) -> frozenset[int] | None:
    """Indices of the GPUs a run uses: those it was given, else those its processes are on, else None for not known."""
    if given:
        return frozenset(given)
    seen = frozenset(process.gpu for process in processes if process.run == run_id and process.gpu is not None)
    return seen or None


def _stretches(x: FloatArray) -> Stretches | None:
    starts, ends = find_stretches(np.asarray(x, np.float64))
    return Stretches(tuple(starts), tuple(ends)) if len(starts) <= MAX_STRETCHES else None


def _rows(readings: Iterable[MachineReading], first: int) -> Iterator[Row]:
    for number, reading in enumerate(readings, first):
        yield number, reading.t, None, dict(_values(reading))


def _values(reading: MachineReading) -> Iterator[tuple[str, float]]:
    """(name with unit, value) of what is known."""
    known: list[tuple[str, float | None]] = [
        ("run cpu %", reading.cpu_pct),
        ("host cpu %", reading.host_cpu_pct),
        ("run memory GiB", _gib(reading.rss_bytes)),
        ("host memory GiB", _gib(reading.memory_used)),
    ]
    for gpu in reading.gpus[:MOST_GPUS]:
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
