"""Reads the machine and parses the console beside one attempt: `companion.py RUN_DIR ATTEMPT PID CONSOLE_OFFSET`.

Best effort by design: the supervisor starts it, never waits for it except for a moment at the end, and nothing of the
training depends on it. It ends when its standard input does, so it can never outlive a supervisor that was killed. What
looks for the checkpoints of a foreign trainer is a process of its own (`foreign_files`), which it starts.

`machine.jsonl` gets one object a line, every two seconds. What is unknown is left out:

    {"t": 1763661540.21, "attempt": 1, "cpu_pct": 187.3, "rss_bytes": 2147483648, "processes": 9, "host_cpu_pct": 61.0,
     "load_1m": 2.31, "memory_used": …, "memory_total": …, "disk_free": …, "disk_total": …,
     "gpus": [{"index": 0, "uuid": …, "name": …, "utilization_pct": …, "memory_used_mib": …, "memory_total_mib": …,
               "temperature_c": …, "power_w": …, "power_limit_w": …, "clocks_sm_mhz": …, "fan_pct": …, "pstate": "P0",
               "throttle": ["power cap"], "ecc_errors": 0, "lost": true}], "gpu_error": "…"}

`cpu_pct` is of one core and `rss_bytes` a sum over the run's processes (shared pages count once for each);
`host_cpu_pct` is of all cores. `console.jsonl` gets event lines in the format of `events.jsonl`.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import time
from typing import Any, Dict, List, Optional

if not __package__:  # started as a plain script: its folder becomes the package (PEP 366), so siblings import alike
    _FOLDER = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(_FOLDER))
    __package__ = os.path.basename(_FOLDER)
    importlib.import_module(__package__)

from . import host_readings as host
from .console_follow import Follower
from .foreign_policy import wanted
from .gpu_stream import EVERY_S, GpuStream
from .helper import ForeignHelper
from .json_lines import JsonLines
from .records import read_json

TURN_S = 0.1
SCAN_SHARE = 0.02
"""The process table of a crowded machine is scanned less often, so that it never costs more of a core than this."""
CLOSE_S = 1.0


class Readings:
    """Builds one line of `machine.jsonl` after the other."""

    def __init__(self, run_dir: str, attempt: int, pid: int) -> None:
        self._run_dir = run_dir
        self._attempt = attempt
        self._pid = pid
        self._cpu = host.CpuMeter()
        self._host_cpu = host.HostCpuMeter()
        self._next_scan = 0.0

    def take(self, gpus: GpuStream) -> Dict[str, Any]:
        """Everything known now."""
        used, total = host.memory()
        free, size = host.disk(self._run_dir)
        record = {
            "t": round(time.time(), 3),
            "attempt": self._attempt,
            **self._of_run(),
            "host_cpu_pct": _rounded(self._host_cpu.read()),
            "load_1m": _rounded(host.load_1m(), 2),
            "memory_used": used,
            "memory_total": total,
            "disk_free": free,
            "disk_total": size,
            "gpus": [_without_unknown(row) for row in gpus.rows()] or None,
            "gpu_error": gpus.error,
        }
        return _without_unknown(record)

    def _of_run(self) -> Dict[str, Any]:
        now = time.monotonic()
        if now < self._next_scan:
            return {}
        members = host.tree(host.processes(), self._pid)
        self._next_scan = now + (time.monotonic() - now) / SCAN_SHARE
        if not members:
            return {}
        return {
            "cpu_pct": _rounded(self._cpu.read(members, now)),
            "rss_bytes": sum(process.rss_bytes for process in members),
            "processes": len(members),
        }


def _rounded(value: Optional[float], digits: int = 1) -> Optional[float]:
    return None if value is None else round(value, digits)


def _without_unknown(record: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None and value is not False}


def console_follower(run_dir: str, number: int, offset: int) -> Optional[Follower]:
    """The console's parser, when the attempt asks for one and its patterns can be used."""
    attempt = read_json(os.path.join(run_dir, "attempts", "{:04d}.json".format(number))) or {}
    if not attempt.get("parse_console"):
        return None
    from .console_metrics import ConsoleParser

    return Follower(os.path.join(run_dir, "console.log"), offset, ConsoleParser(tuple(attempt.get("patterns") or ())))


class Companion:
    """The loop: console, GPUs, a reading every two seconds, until standard input ends."""

    def __init__(self, run_dir: str, number: int, pid: int, offset: int) -> None:
        self._run_dir = run_dir
        self._number = number
        self._machine = JsonLines(os.path.join(run_dir, "machine.jsonl"))
        self._events = JsonLines(os.path.join(run_dir, "console.jsonl"))
        self._readings = Readings(run_dir, number, pid)
        self._gpus = GpuStream()
        self._foreign = ForeignHelper(run_dir, number)
        self._follower: Optional[Follower] = None
        try:
            self._follower = console_follower(run_dir, number, offset)
        except Exception as error:
            text = "the console is not parsed: {}".format(error)
            self._events.append([{"t": time.time(), "k": "log", "level": "warning", "text": text}])

    def run(self) -> None:
        """Until the supervisor closes our standard input."""
        due = 0.0
        self._look_for_files()  # before anything else: a training may be over at once
        try:
            while not _input_ended(TURN_S):
                self._gpus.turn()
                if self._follower is not None:
                    self._guard(self._follower.turn)
                if time.monotonic() >= due:
                    due = time.monotonic() + EVERY_S
                    self._machine.append([self._readings.take(self._gpus)])
                    self._look_for_files()
        finally:
            self._gpus.close()
        if self._follower is not None:
            follower = self._follower
            self._guard(lambda: follower.close(CLOSE_S))

    def _look_for_files(self) -> None:
        """Have a process look for the trainer's checkpoints, from when somebody wants it; it ends after this one."""
        if not self._foreign.started and wanted(self._run_dir, self._number):
            self._foreign.start()
        self._foreign.reap()

    def _guard(self, work: Any) -> None:
        """A defect in the parser costs the parsed metrics, not the machine readings, and says so."""
        try:
            self._events.append(work())
        except Exception as error:
            self._follower = None
            text = "the console is not parsed any more: {!r}".format(error)
            self._events.append([{"t": time.time(), "k": "log", "level": "warning", "text": text}])


def _input_ended(timeout_s: float) -> bool:
    """Wait for the end of standard input; anything that arrives on it is ignored."""
    readable, _, _ = select.select([0], [], [], timeout_s)
    return bool(readable) and not os.read(0, 4096)


def main(argv: List[str]) -> int:
    """Exit status 0 once standard input has ended."""
    if len(argv) != 4 or not all(word.isdigit() for word in argv[1:]):
        sys.stderr.write("usage: companion.py RUN_DIR ATTEMPT PID CONSOLE_OFFSET\n")
        return 2
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(5)
    Companion(argv[0], *(int(word) for word in argv[1:])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
