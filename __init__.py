"""Wavedeck: the flight deck for audio-model training.

`from wavedeck import log, progress, log_sample` is all a training script needs. Importing this package pulls in the
standard library only, so that one line costs a trainer nothing and works on a machine without the deck; numpy and h5py
are loaded when the first sample is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .engine.logger import log, progress

if TYPE_CHECKING:
    from .engine.samples.record import log_sample

__all__ = ["__version__", "log", "log_sample", "progress"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "log_sample":
        from .engine.samples.record import log_sample

        return log_sample
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
