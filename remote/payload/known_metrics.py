"""What a run has told of its progress so far: step, epoch and metrics, as they were at a time, from its event lines.

A checkpoint of a foreign program carries no numbers. The ones that its trainer had logged or printed when the file was
written are the best there are: they decide which checkpoint is the best one.
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any, Deque, Dict, Optional, Tuple

MAX_METRICS = 32
MAX_KEY = 100
EVENTS = 4096
TURN_BYTES = 2 << 20
BACK_BYTES = 256 << 10
"""How much of a file that is there already, or that grows too fast, is looked at."""
SLACK_S = 0.5
_WORDS = ("NaN", "Infinity", "-Infinity")


class _Picture:
    """Step, epoch and the latest values."""

    def __init__(self) -> None:
        self.step: Optional[int] = None
        self.epoch: Optional[float] = None
        self.values: Dict[str, Any] = {}

    def take(self, event: Dict[str, Any]) -> None:
        step, epoch, values = event.get("step"), event.get("epoch"), event.get("v")
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 10**15:
            self.step = step
        if isinstance(epoch, (int, float)) and not isinstance(epoch, bool) and 0 <= epoch < 10**9:
            self.epoch = float(epoch)
        for key, value in values.items() if isinstance(values, dict) else ():
            if len(key) <= MAX_KEY and _is_value(value):
                self.values.pop(key, None)  # the ones told last are at the end, and stay
                self.values[key] = value
        while len(self.values) > MAX_METRICS:
            del self.values[next(iter(self.values))]

    def copy(self) -> "_Picture":
        other = _Picture()
        other.step, other.epoch, other.values = self.step, self.epoch, dict(self.values)
        return other


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return value in _WORDS
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


class _Source:
    """One file of event lines that grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._offset: Optional[int] = None
        self._rest = b""
        self.spoke = False
        self.before = _Picture()
        self.events: Deque[Tuple[float, Dict[str, Any]]] = deque()

    def turn(self) -> None:
        for row in self._rows():
            try:
                event = json.loads(row.decode("utf-8"))
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and event.get("k") in ("metrics", "start") and _is_time(event.get("t")):
                self.spoke = self.spoke or event["k"] == "metrics"
                self.events.append((float(event["t"]), event))
                if len(self.events) > EVENTS:
                    self.before.take(self.events.popleft()[1])

    def _rows(self) -> Any:
        try:
            with open(self._path, "rb", buffering=0) as handle:
                size = os.fstat(handle.fileno()).st_size
                if self._offset is None or size < self._offset or size - self._offset > TURN_BYTES:
                    self._offset, self._rest = max(0, size - BACK_BYTES), b""
                data = os.pread(handle.fileno(), size - self._offset, self._offset)
        except OSError:
            return []
        self._offset += len(data)
        rows = (self._rest + data).split(b"\n")
        self._rest = rows.pop()[-BACK_BYTES:]
        return rows


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Known:
    """The trainer's own events where it logs any, else what was recognised in its console."""

    def __init__(self, run_dir: str) -> None:
        self._sources = [_Source(os.path.join(run_dir, name)) for name in ("events.jsonl", "console.jsonl")]

    def turn(self) -> None:
        """Read what has grown."""
        for source in self._sources:
            source.turn()

    def at(self, t: float) -> Tuple[Optional[int], Optional[float], Dict[str, Any]]:
        """Step, epoch and metrics as known at a time; as first known, where nothing was before it."""
        source = next((source for source in self._sources if source.spoke), self._sources[0])
        picture = source.before.copy()
        for at, event in source.events:
            if at > t + SLACK_S and (picture.step is not None or picture.values):
                break
            picture.take(event)
        return picture.step, picture.epoch, picture.values
