"""One-dimensional arrays that grow at the end and whose prefixes may be handed out as views.

The contract that makes snapshots free: an element, once written, is never changed in place. Growing past the
capacity moves to a new buffer, so a view taken earlier keeps its own. Whoever needs to drop elements builds a
new array (`replace`) instead of shortening this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FIRST_CAPACITY = 16
GROWTH = 1.5
"""Amortised O(1) appends; the spare third is address space the system has not handed out yet."""


class GrowingArray:
    """Append-only array of one dtype.

    With `dtype=float32` the array is *lossless, not rounded*: it moves to float64 at the first value that float32
    cannot hold exactly. Metrics that come from float32 tensors keep 4 bytes a point; 0.1 keeps all its digits.
    """

    __slots__ = ("_buffer", "_length")

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._buffer: npt.NDArray[Any] = np.empty(0, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes reserved, spare room included."""
        return int(self._buffer.nbytes)

    def view(self) -> npt.NDArray[Any]:
        """What has been written so far, read-only, without copying."""
        view = self._buffer[: self._length]
        view.flags.writeable = False
        return view

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append `values` (one dimension)."""
        self._widen_for(values)
        end = self._length + len(values)
        if end > len(self._buffer):
            self._reserve(max(FIRST_CAPACITY, end, int(len(self._buffer) * GROWTH)))
        self._buffer[self._length : end] = values
        self._length = end

    def replace(self, values: npt.NDArray[Any]) -> None:
        """Start again with `values`, in a buffer of its own; earlier views stay as they were."""
        self._buffer = np.array(values, self._buffer.dtype)
        self._length = len(values)

    def _widen_for(self, values: npt.NDArray[Any]) -> None:
        if self._buffer.dtype != np.float32 or values.dtype == np.float32:
            return
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            narrow = values.astype(np.float32)
        if not np.array_equal(narrow, values, equal_nan=True):
            with np.errstate(invalid="ignore"):  # the unused end of the buffer is whatever memory held
                self._buffer = self._buffer.astype(np.float64)

    def _reserve(self, capacity: int) -> None:
        grown = np.empty(capacity, self._buffer.dtype)
        grown[: self._length] = self._buffer[: self._length]
        self._buffer = grown
