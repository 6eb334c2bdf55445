"""The networks behind one face: build one by the configuration, with the weights it asks for."""

from __future__ import annotations

from collections.abc import Callable

from ..config import SousaConfig
from .ast import build_ast
from .base import AudioClassifier, ModelFacts
from .beats import build_beats
from .cnn import build_cnn
from .efficient_at import build_efficient_at
from .front_ends import empty_bands
from .hts_at import HtsAtNet, build_hts_at
from .weights import Say, choose, load

_BUILDERS: dict[str, Callable[[SousaConfig, int], AudioClassifier]] = {
    "cnn": build_cnn, "ast": build_ast, "hts_at": build_hts_at, "beats": build_beats,
    "efficient_at": build_efficient_at,
}  # fmt: skip


def build(config: SousaConfig, classes: int, say: Say) -> AudioClassifier:
    """The network of `config.model` with a head for `classes` classes, and the weights that `model.weights` asks for.

    Random numbers come from torch's generator: seed it before.

    Raises
    ------
    WavedeckError: the weights cannot be had, or do not fit; the sentence names the options.
    """
    net = _BUILDERS[config.model.name](config, classes)
    source = choose(config, net.label, say)
    digest = load(net, source, say)
    if digest is not None:
        empty = empty_bands(net.front_end, config.data.sample_rate)
        if empty is not None:
            say(empty, "warning")
    if isinstance(net, HtsAtNet) and config.data.duration_s > net.longest_s:
        say(f"{net.label} hears the first {net.longest_s:.1f} s of a clip: the rest is cut off.", "warning")
    parameters = sum(parameter.numel() for parameter in net.parameters())
    net.facts = ModelFacts(net.label, parameters, source.label, digest)
    return net
