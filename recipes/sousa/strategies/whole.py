"""An adapter and what it stands on as one plain network: the backbone is built as the adapter's own run built it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ....engine.config import from_resolved
from ....engine.errors import WavedeckError
from ..config import SousaConfig
from ..models.base import AudioClassifier
from ..pretrained import EXPORT
from .adapted import merge
from .adapter_file import load_adapter, read_card

Say = Callable[[str, str], None]


def merged_network(directory: Path, say: Say) -> tuple[AudioClassifier, tuple[str, ...]]:
    """The network of the adapter in `directory`, merged, in evaluation mode, and the classes that its head knows.

    The generators of whoever calls stay as they are, although a random backbone is drawn again with its run's seed.

    Raises
    ------
    WavedeckError: damaged files, an adapter that does not say what it stands on, or a backbone that is not the same
        any more.
    """
    from ..models import build  # which asks this module for adapters

    card = read_card(directory)
    if card.config is None:
        raise WavedeckError(
            f"the adapter in {directory} does not say how its run was configured: write that run out whole with "
            f"`{EXPORT}` and pass model.weights=OUT.safetensors."
        )
    config = from_resolved(SousaConfig, card.config)
    if Path(config.model.weights).absolute() == directory.absolute():
        raise WavedeckError(f"the adapter in {directory} stands on weights that it replaced: train it again.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        adapted = load_adapter(directory, build(config, len(card.classes), say))
    return merge(adapted.eval()), card.classes
