"""Turns drawings of progress bars into few events: a bar may redraw itself thousands of times a second.

Every bar (same description but for its numbers, same total) has its own clock; all bars together have one more, so that
a program with a new description for every file stays bounded too. The newest drawing of each of the last bars waits
until its time comes or the parser is closed, so that the last word of a bar is never lost.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Tuple

from .console_bars import Bar
from .console_steps import StepClock
from .console_text import Number, strict

MAX_BARS = 32
ALL_BARS_PER_S = 20.0
_ELSEWHERE = re.compile(
    r"val|eval|test|sanity|predict|download|load|map|tokeniz|filter|generat|extract|cach|fetch|upload|sav|process|"
    r"preprocess|comput|resolv|casting|creat|shard|convert|render|warm",
    re.IGNORECASE,
)
_EPOCHS = re.compile(r"\s*epochs?\s*$", re.IGNORECASE)


class _BarState:
    """What was last said of one bar, and what waits."""

    def __init__(self) -> None:
        self.said_t = float("-inf")
        self.ended_t = float("-inf")
        self.progress: Optional[Tuple[Any, ...]] = None
        self.values: Dict[str, Number] = {}
        self.waiting: List[Dict[str, Any]] = []
        self.waiting_as: Tuple[Optional[Tuple[Any, ...]], Dict[str, Number]] = (None, {})

    def said(self, t: float, progress: Optional[Tuple[Any, ...]], values: Dict[str, Number]) -> None:
        """Remember what has gone out, so that its repeats do not."""
        self.waiting, self.said_t = [], t
        self.progress, self.values = progress, values


class BarEvents:
    """Parameters
    ----------
    interval_s: least time between two events of one bar; 0 lets every changed drawing through.
    """

    def __init__(self, clock: StepClock, interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._bars: "OrderedDict[Tuple[str, Optional[int]], _BarState]" = OrderedDict()
        self._source: Optional[Tuple[str, Optional[int]]] = None
        self._source_done = True
        self._credit = ALL_BARS_PER_S
        self._credit_t = float("-inf")

    @property
    def counting(self) -> bool:
        """Whether a training bar has been seen, so that steps come from it."""
        return self._source is not None

    def counts_steps(self, bar: Bar) -> bool:
        """Whether this bar's counter is the training's step (not an evaluation, a download, a bar of epochs)."""
        if _ELSEWHERE.match(bar.description) or bar.unit in ("B", "%", "epoch", "ex", "examples", "file", "files"):
            return False
        if _EPOCHS.match(bar.description):
            return False
        return bar.key == self._source or self._source_done or self._source is None

    def see(self, bar: Bar, t: float) -> List[Dict[str, Any]]:
        """Events due now because of this drawing."""
        self._clock.see_epoch(bar.epoch, bar.epoch_total is not None and "━" not in bar.description)
        step = self._step_of(bar)
        if bar.keras and self._clock.epoch is not None:
            bar = bar._replace(description=f"Epoch {self._clock.epoch}")
        state = self._state(bar.key)
        progress = (bar.done, bar.total, bar.unit, bar.description)
        rows: List[Dict[str, Any]] = []
        if progress != state.progress:
            rows.append({"t": t, "k": "progress", "done": bar.done, "total": bar.total, "unit": bar.unit,
                         "description": bar.description})  # fmt: skip
        ended = bar.total is not None and bar.done >= bar.total
        if bar.values and (bar.values != state.values or (ended and rows)):
            values = {name: strict(value) for name, value in bar.values.items()}
            rows.append({"t": t, "k": "metrics", "step": step, "epoch": self._clock.epoch, "v": values})
        if not rows:
            return []
        due = t - state.said_t >= self._interval_s or (ended and t - state.ended_t >= self._interval_s)
        if not (due and self._pay(t)):
            state.waiting, state.waiting_as = rows, (progress, bar.values or state.values)
            return []
        state.said(t, progress, bar.values or state.values)
        state.ended_t = t if ended else state.ended_t
        return rows

    def due(self, t: float, everything: bool = False) -> List[Dict[str, Any]]:
        """Held back events whose time has come; all of them when `everything`."""
        events: List[Dict[str, Any]] = []
        for state in self._bars.values():
            if state.waiting and (everything or (t - state.said_t >= self._interval_s and self._pay(t))):
                events += state.waiting
                state.said(t, *state.waiting_as)
        return events

    def _step_of(self, bar: Bar) -> Optional[int]:
        if bar.step is not None:
            return self._clock.see_step(bar.step)
        if _EPOCHS.match(bar.description):
            self._clock.see_epoch(bar.done)
            return self._clock.step
        if not self.counts_steps(bar):
            return self._clock.step
        self._source = bar.key
        self._source_done = bar.total is None or bar.done >= bar.total
        if bar.total and (bar.epoch is not None or (bar.keras and self._clock.epoch is not None)):
            self._clock.step = self._clock.within_epoch(bar.done, bar.total)
        else:
            self._clock.step = bar.done
        return self._clock.step

    def _state(self, key: Tuple[str, Optional[int]]) -> _BarState:
        state = self._bars.get(key)
        if state is None:
            state = self._bars[key] = _BarState()
            while len(self._bars) > MAX_BARS:
                self._bars.popitem(last=False)
        self._bars.move_to_end(key)
        return state

    def _pay(self, t: float) -> bool:
        """One event's worth of the budget all bars share."""
        if self._interval_s <= 0:
            return True
        grown = (t - self._credit_t) * ALL_BARS_PER_S if self._credit_t > float("-inf") else ALL_BARS_PER_S
        self._credit = min(ALL_BARS_PER_S, self._credit + max(0.0, grown))
        self._credit_t = t
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
