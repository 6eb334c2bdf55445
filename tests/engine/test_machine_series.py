"""Readings as series: a host's bounded past, and a run's steps beside its machine's time."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np

from wavedeck.engine.hosts import GpuProcess
from wavedeck.engine.machine import GpuReading, MachineReading
from wavedeck.engine.machine_series import (
    HISTORY_ROWS,
    HostHistory,
    MachineFeed,
    StepClock,
    gpu_of,
    gpus_of_run,
    only_gpus,
    with_steps,
)
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.series import SeriesTable

T0 = 1_790_000_000.0


def reading(t: float, *gpus: GpuReading, cpu: float | None = 50.0) -> MachineReading:
    return MachineReading(t=t, host_cpu_pct=cpu, gpus=gpus)


def test_a_hosts_past_is_bounded_by_time() -> None:
    history = HostHistory(keep_s=100.0)
    for n in range(1000):
        history.add(reading(T0 + n, cpu=float(n % 100)))
    view = history.views()["host cpu %"]
    assert 100 <= len(view) <= 126
    assert view.t[view.row_of(len(view) - 1)] == T0 + 999 and view.values[-1] == 99


def test_a_clock_that_is_set_back_does_not_keep_everything_for_ever() -> None:
    history = HostHistory(keep_s=100.0)
    for n in range(int(1.3 * HISTORY_ROWS)):
        history.add(reading(T0 - 10 * n))
    assert len(history.views()["host cpu %"]) <= 1.25 * HISTORY_ROWS


def test_a_gpu_that_is_gone_leaves_the_history_with_its_last_reading() -> None:
    history = HostHistory(keep_s=10.0)
    history.add(reading(T0, GpuReading(index=0, utilization_pct=5.0)))
    for n in range(1, 60):
        history.add(reading(T0 + n))
    assert set(history.views()) == {"host cpu %"}


def test_one_thread_adds_while_another_looks() -> None:
    history, ended = HostHistory(keep_s=50.0), threading.Event()

    def look() -> None:
        while not ended.is_set():
            for view in history.views().values():
                assert len(view.values) == len(view)

    looker = threading.Thread(target=look)
    looker.start()
    for n in range(2000):
        history.add(reading(T0 + n, GpuReading(index=0, power_w=float(n))))
    ended.set()
    looker.join(10)
    assert not looker.is_alive()


def test_the_runs_steps_stand_beside_the_machines_time() -> None:
    metrics, machine = SeriesTable(), SeriesTable()
    metrics.extend([10, 20, 30], [T0 + 10, T0 + 20, T0 + 30], [1.0, 2.0, 3.0], {"loss": [3.0, 2.0, 1.0]})
    machine.extend(range(5), [T0, T0 + 10, T0 + 19.9, T0 + 20, T0 + 99], None, {"gpu0 %": [1, 2, 3, 4, 5]})
    clock = StepClock.of(metrics.views())
    assert clock is not None
    view = with_steps(machine.views(), clock)["gpu0 %"]
    assert [int(view.x_of("step", n)) for n in range(5)] == [10, 10, 10, 20, 30]
    assert view.x_range("step") == (10.0, 30.0) and view.x_range("epoch") == (1.0, 3.0)
    assert view.x_range("time") == (0.0, 99.0)
    stats = view.window("step", 10, 30, 2)
    assert stats.maximum.tolist() == [3.0, 5.0]
    assert StepClock.of({}) is None


def test_steps_that_go_back_make_stretches_and_unknown_epochs_none() -> None:
    metrics, machine = SeriesTable(), SeriesTable()
    metrics.extend([10, 20, 12, 14], T0 + np.arange(4.0), None, {"loss": [1.0, 1, 1, 1]})
    machine.extend(range(4), T0 + np.arange(4.0), None, {"host cpu %": [1.0, 2, 3, 4]})
    clock = StepClock.of(metrics.views())
    assert clock is not None
    view = with_steps(machine.views(), clock)["host cpu %"]
    assert view.stretches["step"] is not None and view.stretches["step"].starts == (0, 2)
    assert view.x_range("epoch") is None


def test_names_of_gpus_and_whose_they_are() -> None:
    assert (
        gpu_of("gpu12 memory GiB") == (12, "memory GiB") and gpu_of("host cpu %") is None and gpu_of("gpux %") is None
    )
    table = SeriesTable()
    table.extend([0], [T0], None, {"gpu0 %": [1.0], "gpu10 %": [1.0], "host cpu %": [1.0]})
    assert set(only_gpus(table.views(), {10})) == {"gpu10 %", "host cpu %"}
    assert set(only_gpus(table.views(), None)) == set(table.views())
    processes = (GpuProcess(3, 1, run="a"), GpuProcess(4, 2, run="b"), GpuProcess(None, 3, run="a"))
    assert gpus_of_run("a", (), processes) == {3}
    assert gpus_of_run("a", (0, 1), processes) == {0, 1}
    assert gpus_of_run("c", (), processes) is None


def test_the_feed_of_a_run_still_reads_what_its_companion_wrote(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.machine.write_text(f'{{"t":{T0},"host_cpu_pct":40}}\n{{"t":{T0 + 2},"host_cpu_pct":42}}\n')
    feed = MachineFeed(run)
    assert feed.poll() and not feed.poll()
    assert feed.views()["host cpu %"].values.tolist() == [40.0, 42.0]
    assert not math.isnan(feed.views()["host cpu %"].origin_t)
