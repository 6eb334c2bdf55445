"""What a strategy is going to train, decided and shown before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ....engine.errors import UsageError
from ....engine.format import count
from ..config import ADAPTERS, StrategyConfig
from ..models.base import HEAD, AudioClassifier
from .targets import abridged, batch_norms, contracting, find_targets, is_pointwise, width

TITLES = {
    "lora": "LoRA", "adalora": "AdaLoRA", "ia3": "IA³", "full_finetune": "full fine-tuning",
    "from_scratch": "from scratch",
}  # fmt: skip
_FEWEST_ALLOCATIONS = 4
"""A short run shortens `prune_every` until so many allocations fit, rather than pruning all at once."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When AdaLoRA prunes, in optimizer steps; peft's own names are kept where it has them.

    Attributes
    ----------
    tinit: steps before it begins.
    tfinal: steps at the end of the training *without* allocation. Not the step at which pruning ends, as it is often
        read: with that reading a long run never prunes.
    delta: steps between two allocations.
    total: steps of the whole training.
    """

    tinit: int
    tfinal: int
    delta: int
    total: int

    @property
    def end(self) -> int:
        """The step of the last allocation; from there on the ranks stay."""
        return self.total - self.tfinal


@dataclass(frozen=True, slots=True)
class StrategyPlan:
    """A strategy resolved against one network.

    Attributes
    ----------
    strategy: one of `STRATEGIES`.
    targets: full paths of the modules that get an adapter; empty where everything is trained.
    feedforward: those of them whose input IA³ scales.
    pointwise: how many of the targets are convolutions.
    head: path of the classifier. It is trained by every strategy: a head left at its random start was one of the ways
        in which such trainings came out at chance.
    batch_norms: paths of the layers with running statistics that an adapter must not let drift.
    batch_norm: `frozen`, `saved`, `trained` with everything else, or `none` where there are no such layers.
    trainable, total: numbers of weights; `total` counts the adapter's as well.
    schedule: AdaLoRA's, else None.
    rank, init_rank, alpha, dropout, orthogonality: of the adapter, as configured.
    warnings: sentences to say before training.
    """

    strategy: str
    targets: tuple[str, ...]
    feedforward: tuple[str, ...]
    pointwise: int
    head: str
    batch_norms: tuple[str, ...]
    batch_norm: str
    trainable: int
    total: int
    schedule: Schedule | None
    rank: int
    init_rank: int
    alpha: float
    dropout: float
    orthogonality: float
    warnings: tuple[str, ...] = ()

    @property
    def is_adapter(self) -> bool:
        """Whether the backbone stays as it is and something small is trained beside it."""
        return self.strategy in ADAPTERS

    def words(self) -> list[str]:
        """What is about to happen, a line each, for the console."""
        facts = self.facts()
        lines = [f"Strategy: {facts['strategy']}. Trained: {facts['trained']}; the head is {self.head}."]
        if self.is_adapter:
            lines.append(f"Adapters on {abridged(self.targets)}.")
        if self.feedforward:
            lines.append(f"IA³ scales the input of {abridged(self.feedforward)}, and the output of the others.")
        if self.batch_norms:
            lines.append(f"Batch norm: {facts['batch norm']}.")
        if self.schedule is not None:
            lines.append(f"Ranks: {facts['ranks']}.")
        return [*lines, *self.warnings]

    def facts(self) -> dict[str, str]:
        """For the run's header."""
        share = 100 * self.trainable / self.total
        found = {
            "strategy": self._title(),
            "trained": f"{count(self.trainable)} of {count(self.total)} weights ({share:.3g} %)",
        }
        if self.batch_norms:
            layers = f"{len(self.batch_norms)} layer{'s' * (len(self.batch_norms) > 1)}"
            found["batch norm"] = {
                "frozen": f"statistics stay as they are, in training too ({layers})",
                "saved": f"trained, and saved with the adapter ({layers})",
                "trained": f"trained with everything else ({layers})",
            }[self.batch_norm]
        if self.schedule is not None:
            times = self.schedule
            found["ranks"] = (
                f"{self.init_rank} a module until step {times.tinit}, then allocated anew every {times.delta} steps "
                f"down to {self.rank} on average at step {times.end} of {times.total}"
            )
        return found

    def numbers(self) -> dict[str, float]:
        """For the comparison of runs."""
        return {"parameters": self.total, "trainable_parameters": self.trainable}

    def _title(self) -> str:
        title = TITLES[self.strategy]
        if not self.is_adapter:
            return title
        kind = "pointwise convolutions" if self.pointwise == len(self.targets) else "linear layers"
        if 0 < self.pointwise < len(self.targets):
            kind = "linear layers and pointwise convolutions"
        scale = {
            "lora": f" of rank {self.rank}, alpha {self.alpha:g}",
            "adalora": f" of rank {self.init_rank} pruned to {self.rank}, alpha {self.alpha:g}",
        }.get(self.strategy, "")
        return f"{title}{scale} on {len(self.targets)} {kind}"


def plan(net: AudioClassifier, config: StrategyConfig, total_steps: int) -> StrategyPlan:
    """Resolve a strategy against a network that no adapter stands on yet. Nothing is changed.

    Parameters
    ----------
    total_steps: optimizer steps of the whole training; AdaLoRA's schedule is cut from them.

    Raises
    ------
    UsageError: the strategy does not go with the weights, no module can be adapted, or the schedule cannot fit.
    """
    if config.name == "from_scratch" and net.facts.weights != "random":
        raise UsageError(
            f"strategy=from_scratch begins with random weights, but these are {net.facts.weights}: leave out "
            "model.weights, or choose strategy=full_finetune."
        )
    adapts = config.name in ADAPTERS
    targets = find_targets(net, config.targets) if adapts else {}
    norms = batch_norms(net)
    policy = config.batch_norm if adapts else "trained"
    added = sum(_added(module, name, config, contracting(targets)) for name, module in targets.items())
    weights = sum(weight.numel() for weight in net.parameters())
    trained = sum(weight.numel() for weight in net.parameters() if weight.requires_grad)
    if adapts:
        trained = _weights_of(net.head) + added + (sum(map(_weights_of, norms.values())) if policy == "saved" else 0)
    return StrategyPlan(
        strategy=config.name,
        targets=tuple(targets),
        feedforward=contracting(targets) if config.name == "ia3" else (),
        pointwise=sum(map(is_pointwise, targets.values())),
        head=HEAD,
        batch_norms=tuple(norms),
        batch_norm=policy if norms else "none",
        trainable=trained,
        total=weights + added,
        schedule=schedule(config, total_steps) if config.name == "adalora" else None,
        rank=config.rank,
        init_rank=config.init_rank,
        alpha=config.alpha,
        dropout=config.dropout,
        orthogonality=config.orthogonality,
        warnings=_warnings(net, config),
    )


def schedule(config: StrategyConfig, total_steps: int) -> Schedule:
    """AdaLoRA's steps from the configured shares; `prune_every` becomes shorter where a run is short.

    Raises
    ------
    UsageError: there is nothing to prune, or no time to do it in.
    """
    if config.init_rank <= config.rank:
        raise UsageError(
            f"AdaLoRA prunes from strategy.init_rank={config.init_rank} down to strategy.rank={config.rank}: give a "
            "larger init_rank, or use strategy=lora."
        )
    if config.prune_from >= config.prune_until:
        raise UsageError(
            f"AdaLoRA cannot begin to prune at strategy.prune_from={config.prune_from:g} of the steps and have ended "
            f"at strategy.prune_until={config.prune_until:g}: the first must be smaller."
        )
    if total_steps < 2:
        raise UsageError(f"AdaLoRA needs two steps to prune in, and this training has {total_steps}: train longer.")
    end = min(total_steps, max(2, round(config.prune_until * total_steps)))
    tinit = min(round(config.prune_from * total_steps), end - 1)
    delta = max(1, min(config.prune_every, (end - tinit) // _FEWEST_ALLOCATIONS))
    return Schedule(tinit, total_steps - end, delta, total_steps)


def _added(module: nn.Module, name: str, config: StrategyConfig, feedforward: tuple[str, ...]) -> int:
    """Weights of one module's adapter."""
    into, out = width(module)
    if config.name == "lora":
        return config.rank * (into + out)
    if config.name == "adalora":
        return config.init_rank * (into + out + 1)
    return into if name in feedforward else out


def _weights_of(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _warnings(net: AudioClassifier, config: StrategyConfig) -> tuple[str, ...]:
    """The weights are random because `model.weights=random` was given: `auto` fails where none can be had."""
    if net.facts.weights != "random" or config.name == "from_scratch":
        return ()
    if config.name == "full_finetune":
        return ("The weights are random: this fine-tuning is training from scratch by another name.",)
    return (f"The frozen backbone has random weights, so {TITLES[config.name]} can only use what it lets through.",)
