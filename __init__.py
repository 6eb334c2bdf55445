"""Wavedeck: the flight deck for audio-model training.

`from wavedeck import log, progress` is all a training script needs. Importing this package pulls in the
standard library only, so that one line costs a trainer nothing and works on a machine without the deck.
"""

from .engine.logger import log, progress

__all__ = ["__version__", "log", "progress"]
__version__ = "0.1.0"
