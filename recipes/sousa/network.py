"""A network with its training strategy, made by the configuration: the same one to train and, later, to judge.

Shapes: B clips, K classes. What comes out is called like any network: `x` to `logits_BK`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...engine.checkpoints import CheckpointLine, best, latest
from ...engine.errors import WavedeckError
from ...engine.training.snapshot import load_snapshot
from ...engine.training.trainer import seed_everything
from .config import ADAPTERS, SousaConfig
from .models import build
from .models.base import AudioClassifier
from .recipe import RECIPE
from .strategies import Adapted, StrategyPlan, apply, base_digest, check_start, logits_of, plan, schedule, trained_names

Say = Callable[[str, str], None]

BASE = "base_digest"
"""The name in a checkpoint under which the digest of the weights stands that an adapter was trained on."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network under its strategy, and what that strategy is going to do.

    Parameters
    ----------
    base: sha256 of the frozen weights that an adapter stands on; None when everything is trained.
    """

    adapted: Adapted
    plan: StrategyPlan
    base: str | None

    def kept_names(self) -> frozenset[str] | None:
        """The tensors that a checkpoint has to hold; None for all of them. An adapter's holds no frozen weight."""
        return trained_names(self.adapted) if self.base is not None else None


def restore(network: Network, saved: dict[str, torch.Tensor]) -> None:
    """Put a checkpoint's tensors into the network; an adapter's leave the frozen ones as they are.

    Raises
    ------
    WavedeckError: tensors are missing, unknown or of other shapes, or it is an adapter on other weights.
    """
    state = {name.removeprefix("net."): value for name, value in saved.items() if name != BASE}
    kept, own = network.kept_names(), network.adapted.state_dict()
    wanted = set(own) if kept is None else set(kept)
    wrong = sorted(wanted.symmetric_difference(state)) or sorted(
        name for name, value in state.items() if isinstance(value, torch.Tensor) and own[name].shape != value.shape
    )
    if wrong:
        raise WavedeckError(
            f"the checkpoint was trained with another model or other classes than this config: {len(wrong)} tensors "
            f"differ, such as {wrong[0]}."
        )
    base = saved.get(BASE)
    if base is not None and network.base is not None and bytes(base.tolist()).hex() != network.base:
        raise WavedeckError(
            "the checkpoint is an adapter on other weights than these: the file of model.weights has changed since."
        )
    network.adapted.load_state_dict(state, strict=False)


def build_network(config: SousaConfig, classes: int, steps: int, say: Say) -> Network:
    """The network of `config` for `classes` classes, planned for `steps` optimizer steps.

    Seeds the generators first, so that random weights are the same whenever they are made: an adapter's checkpoint
    does not hold the ones that it stands on.

    Raises
    ------
    WavedeckError: the weights cannot be had, the strategy does not go with the network or the number of steps, or
        putting the adapter on changed what the network answers.
    """
    seed_everything(config.seed)
    net = build(config, classes, say)
    planned = plan(net, config.strategy, steps)
    if not planned.is_adapter:
        return Network(apply(net, planned), planned, None)
    base, heard = base_digest(net, planned), _something_to_hear(config, net)
    before_BK = logits_of(net, heard)
    adapted = apply(net, planned)
    check_start(before_BK, logits_of(adapted, heard))
    return Network(adapted, planned, base)


def _something_to_hear(config: SousaConfig, net: AudioClassifier) -> torch.Tensor:
    """One clip of noise as the network takes it, a batch of its own; drawn without touching the global generators."""
    length = round(config.data.duration_s * config.data.sample_rate)
    noise_S = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return net.front_end(noise_S)[None]


def load_network(config: SousaConfig, classes: int, steps: int, path: Path, say: Say) -> Network:
    """The network that the checkpoint at `path` holds, in evaluation mode.

    Raises
    ------
    WavedeckError: the checkpoint is of another configuration, or of an adapter on other weights.
    """
    if config.strategy.name not in ADAPTERS:  # every weight is in the file: nothing has to be fetched
        model = replace(config.model, weights="random")
        config = replace(config, model=model, strategy=replace(config.strategy, name="from_scratch"))
    network = build_network(config, classes, steps, say)
    state = load_snapshot(path)["model"]
    restore(network, state)
    network.adapted.eval()
    return network


def best_pruned(lines: Sequence[CheckpointLine], config: SousaConfig, steps: int) -> CheckpointLine | None:
    """The best checkpoint of a training of `steps` steps; of AdaLoRA the best of those that are pruned to their rank.

    Before its last allocation AdaLoRA trains more ranks than it was asked for: the best of those would be judged as
    what it is not. Where no pruned one is left, the newest is taken.
    """
    if config.strategy.name != "adalora":
        return best(lines, RECIPE.headline) or latest(lines)
    end = schedule(config.strategy, max(2, steps)).end
    return best([line for line in lines if line.step >= end], RECIPE.headline) or latest(lines)


def classifier(network: Network) -> AudioClassifier:
    """The network as what it is from outside: front end, input kind and facts."""
    return network.adapted.net
