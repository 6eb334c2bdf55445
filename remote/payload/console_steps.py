"""Which run-wide step a printed number belongs to.

Programs count in many ways: run-wide steps, steps within an epoch (`Epoch [3/20] Step [100/892]`, Lightning's and
Keras' bars), epochs from 0 or from 1. The clock keeps what has been seen and answers with a step that never runs
backwards only because an epoch began.
"""

from __future__ import annotations

from typing import Optional

from .console_text import Number

_MAX_STEP = 10**15


class StepClock:
    """The last step and epoch that a run's console has shown."""

    def __init__(self) -> None:
        self.step: Optional[int] = None
        self.epoch: Optional[Number] = None
        self._first_epoch: Optional[int] = None
        self._counted_from_one = False
        self._raw = (0, -1)
        self._base = 0
        self._run_wide = False

    def see_epoch(self, epoch: Optional[Number], printed_total: bool = False) -> None:
        """An epoch was printed; `printed_total` when as `3/20`, which nearly always counts from 1."""
        if epoch is None:
            return
        if self._first_epoch is None and float(epoch).is_integer():
            self._first_epoch = int(epoch)
            self._counted_from_one = epoch == 1 or (printed_total and epoch > 0)
        self.epoch = epoch

    def see_step(self, step: int, total: Optional[int] = None) -> int:
        """A step was printed, maybe as a part of a total; returns the run-wide step."""
        epoch = int(self.epoch) if self.epoch is not None and self.epoch == self.epoch else None
        last_step, last_epoch = self._raw
        if epoch is not None and last_epoch >= 0 and epoch > last_epoch and total:
            self._run_wide = self._run_wide or step > last_step
        if total and epoch is not None and not self._run_wide:
            wide = self.within_epoch(step, total)
        else:
            if epoch is not None and epoch > last_epoch >= 0 and step < last_step and not total:
                self._base += last_step
            wide = self._base + step
        if epoch is not None:
            self._raw = (step, epoch)
        self.step = min(wide, _MAX_STEP)
        return self.step

    def within_epoch(self, done: int, total: int) -> int:
        """Run-wide step of a bar at `done` of `total` in the epoch seen last."""
        epoch = int(self.epoch) if self.epoch is not None else 0
        return max(0, epoch - self._counted_from_one) * total + done
