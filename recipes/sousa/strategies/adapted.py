"""A network under its strategy: the face the trainer sees, the same for all five."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from ..models.base import AudioClassifier, FrontEnd, ModelFacts
from .plan import StrategyPlan
from .targets import below, calibration

if TYPE_CHECKING:  # peft takes a second to import, and two of the strategies never need it
    from .allocation import Allocation


class Adapted(nn.Module):
    """`forward(x) -> logits_BK`, with the planned weights trainable and everything else frozen.

    Attributes
    ----------
    net: the network, changed in place where an adapter stands on it.
    plan: what was decided.
    allocation: AdaLoRA's allocator, None for the other strategies.
    """

    def __init__(self, net: AudioClassifier, plan: StrategyPlan, allocation: Allocation | None) -> None:
        super().__init__()
        self.net, self.plan, self.allocation = net, plan, allocation
        still = plan.batch_norms if plan.batch_norm == "frozen" else ()
        self._still = [net.get_submodule(name) for name in still]
        self._input_gradient = False

    def forward(self, x: Tensor) -> Tensor:
        if self._input_gradient and self.training:
            x = x.detach().requires_grad_()
        return self.net(x)

    def train(self, mode: bool = True) -> Adapted:
        """As usual, but frozen batch norms go on using their statistics: in training mode these drift without being
        part of the adapter, and what was saved answers nonsense where it is loaded."""
        super().train(mode)
        for norm in self._still:
            norm.eval()
        return self

    def checkpoint_activations(self) -> None:
        """As `AudioClassifier`'s. Beside a frozen backbone the input then has to ask for a gradient: a checkpointed
        segment none of whose inputs does may return outputs without one, and the adapters within learn nothing."""
        self.net.checkpoint_activations()
        self._input_gradient = self.plan.is_adapter

    def after_step(self, step: int) -> None:
        """What a strategy does after the optimizer's step number `step` (from 1), before gradients are cleared."""
        if self.allocation is not None:
            self.allocation.after_step(step)

    def extra_loss(self) -> Tensor | float:
        """A term to add to the loss: AdaLoRA's orthogonality, zero for the others."""
        return 0.0 if self.allocation is None else self.allocation.extra_loss()

    @property
    def input_kind(self) -> Literal["waveform", "spectrogram"]:
        """What `forward` takes."""
        return self.net.input_kind

    @property
    def front_end(self) -> FrontEnd:
        """From a clip to the network's input."""
        return self.net.front_end

    @property
    def facts(self) -> ModelFacts:
        """Of the network, for the run's header."""
        return self.net.facts

    @property
    def head(self) -> nn.Module:
        """The classifier on top."""
        return self.net.head


def apply(net: AudioClassifier, plan: StrategyPlan) -> Adapted:
    """Make `net` trainable as planned, in place: what it answers stays the same until the first step.

    Training or evaluation mode stays as it was, also for the new layers (peft leaves theirs in training mode, where
    their dropout changes the answers).

    Raises
    ------
    WavedeckError: the plan is of another network, or an adapter stands on this one already.
    """
    allocation = None
    if plan.is_adapter:
        from .allocation import Allocation
        from .tuners import inject

        tuner = inject(net, plan)
        if plan.schedule is not None:
            allocation = Allocation(tuner, net, plan.schedule, plan.orthogonality)
        for path in trained_modules(plan):
            net.get_submodule(path).requires_grad_(True)
    return Adapted(net, plan, allocation).train(net.training)


def trained_names(adapted: Adapted) -> frozenset[str]:
    """The names in `adapted.state_dict()` that a checkpoint must hold.

    Beside a frozen backbone these are the adapter, the head, saved batch norms, the calibration and the allocator's
    averages; of the other strategies it is everything.
    """
    own = adapted.state_dict()
    if not adapted.plan.is_adapter:
        return frozenset(own)
    weights = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    weights |= {f"net.{name}" for name in calibration(adapted.net)}
    modules = [f"net.{path}" for path in trained_modules(adapted.plan)] + ["allocation"]
    return frozenset(name for name in own if name in weights or any(below(name, path) for path in modules))


def trained_modules(plan: StrategyPlan) -> tuple[str, ...]:
    """Paths of the modules that are trained and saved whole beside an adapter: the head, and batch norms if asked."""
    return (plan.head, *(plan.batch_norms if plan.batch_norm == "saved" else ()))


def merge(adapted: Adapted) -> AudioClassifier:
    """A plain network that gives the same logits, the adapters added into its weights; `adapted` stays as it is.

    All of it is trainable again, and it is in the mode, training or evaluation, that `adapted` is in.
    """
    plain: Any = copy.deepcopy(adapted.net)
    if adapted.plan.is_adapter:
        from .tuners import fold

        fold(plain)
        plain.requires_grad_(True)
    return plain.train(adapted.training)
