"""Features kept in memory after they were made once, in memory that data loading processes share.

Whichever process makes a clip's features fills them in for all, so that nothing has to be made before the first step.
Forked workers inherit anonymous shared memory. Under another start method (macOS; Linux from Python 3.14 on) the memory
is a mapped temporary file, which a worker opens by its name. Not torch's shared tensors: they lie in `/dev/shm`, which
holds 64 MB in many containers.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_BYTES = 2
_PROCESSES = 64
_TIMES_BYTES = _PROCESSES * 4 * 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Clips that were made and clips that were kept, and how long they took with their augmentation: seconds summed
    over all processes.
    """

    made: int
    made_s: float
    kept: int
    kept_s: float

    @property
    def factor(self) -> float | None:
        """How many times faster a kept clip is there than a made one; None while there are not both."""
        if not self.made or not self.kept or not self.kept_s:
            return None
        return (self.made_s / self.made) / (self.kept_s / self.kept)


class FeatureCache:
    """16-bit floats (error below 0.1 %) of up to `items` clips; empty, and it stays so, when `items` is 0.

    Parameters
    ----------
    shape: of one clip's features.
    inherited: whether workers inherit the memory; None asks how they are started.
    """

    def __init__(self, items: int, shape: tuple[int, ...], inherited: bool | None = None) -> None:
        self.items, self.shape, self._path = items, shape, None
        size = _TIMES_BYTES + items + items % 2 + items * math.prod(shape) * _BYTES
        if inherited is None:
            inherited = _start_method() == "fork"
        if inherited or not items:
            self._lay_out(mmap.mmap(-1, size))
            return
        handle, self._path = tempfile.mkstemp(prefix="wavedeck-features-")
        os.ftruncate(handle, size)
        self._lay_out(mmap.mmap(handle, size))
        os.close(handle)
        weakref.finalize(self, _remove, self._path, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"items": self.items if self._path else 0, "shape": self.shape, "path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same memory in another process, or none where it cannot be reached."""
        self.items, self.shape, self._path = state["items"], state["shape"], state["path"]
        if self._path is None:
            self._lay_out(mmap.mmap(-1, _TIMES_BYTES))
            return
        with open(self._path, "r+b") as handle:
            self._lay_out(mmap.mmap(handle.fileno(), 0))

    def __len__(self) -> int:
        return self.items

    @property
    def filled(self) -> int:
        """Clips that are kept by now."""
        return int(self._filled.sum())

    @property
    def speed(self) -> Speed:
        """Of all reads so far, whichever process they were in."""
        made, made_s, kept, kept_s = self._times.sum(axis=0)
        return Speed(int(made), float(made_s), int(kept), float(kept_s))

    def get(self, index: int, make: Callable[[int], Tensor]) -> tuple[Tensor, bool]:
        """The features of one clip as float32, made when they are not there, and whether they were.

        What was just made is rounded as well, or the first epoch would differ from the first one after a resume.
        """
        if index >= self.items:
            return make(index), False
        kept = bool(self._filled[index])
        if not kept:
            self._values[index] = make(index)
            self._filled[index] = 1
        return self._values[index].float(), kept

    def note(self, kept: bool, seconds: float) -> None:
        """Count one read clip, and how long it took altogether."""
        info = get_worker_info()
        row = self._times[(0 if info is None else info.id + 1) % _PROCESSES]
        column = 2 if kept else 0
        row[column] += 1
        row[column + 1] += seconds

    def _lay_out(self, memory: mmap.mmap) -> None:
        """Seconds and counts by process, then a flag a clip, then the features."""
        start = _TIMES_BYTES + self.items + self.items % 2
        self._times = np.frombuffer(memory, np.float64, _PROCESSES * 4).reshape(_PROCESSES, 4)
        self._filled = np.frombuffer(memory, np.uint8, self.items, _TIMES_BYTES)
        values = np.frombuffer(memory, np.float16, self.items * math.prod(self.shape), start)
        self._values = torch.from_numpy(values.reshape(self.items, *self.shape))


def fits(items: int, shape: tuple[int, ...], below: int, gib: float) -> bool:
    """Whether a split's features are kept: fewer clips than `below`, and no more than `gib` of memory."""
    return items < below and items * math.prod(shape) * _BYTES <= gib * 2**30


def _start_method() -> str:
    """How worker processes are started; asking for it must not decide it."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _remove(path: str, owner: int) -> None:
    """At the end of the process that made it, not of one that was forked from it."""
    if os.getpid() == owner:
        Path(path).unlink(missing_ok=True)
