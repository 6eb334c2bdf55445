"""Memory that runs out, and the batch that fits: which pair of batch size and accumulation keeps the training the same.

The gradient of a batch of 64 is the mean of the gradients of two halves, so half the batch with twice the accumulation
is the same optimizer step, apart from what looks across a batch: batch norm's statistics and mixup's partners. Batches
are taken from one endless order (`stream.py`), so that the halves are also the same items, and a training goes on in
halves where it left off in wholes.
"""

from __future__ import annotations

import dataclasses
import gc
import resource
import sys
from typing import TypeVar

import torch

from ..errors import WavedeckError
from .settings import TrainerSettings

S = TypeVar("S", bound=TrainerSettings)
_GIB = 2**30
_WORDS = ("not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class OutOfMemory(WavedeckError):
    """A batch did not fit into the device's memory, and no smaller one could be tried."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA has a class for it; the CPU's allocator, Apple's GPUs and cuBLAS only words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def smaller(settings: S) -> S | None:
    """The same optimizer step in batches half as large (a third, a fifth of odd ones); None for single items."""
    divisor = next((n for n in (2, 3, 5, 7) if settings.batch_size % n == 0), settings.batch_size)
    if settings.batch_size == 1:
        return None
    return dataclasses.replace(
        settings, batch_size=settings.batch_size // divisor, accumulate=settings.accumulate * divisor
    )


def pair_words(settings: TrainerSettings) -> str:
    """`training.batch_size=16 training.accumulate=4`, as it is typed."""
    return f"training.batch_size={settings.batch_size} training.accumulate={settings.accumulate}"


def release() -> None:
    """Give back what a failed attempt held, so that the next one has all of the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def peak_memory_gib() -> float:
    """The most memory this process held: of the GPU where it uses one, of the machine otherwise."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / _GIB
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / _GIB if sys.platform == "darwin" else held * 1024 / _GIB
