"""What must hold before a training is worth its hours: nothing dead, nothing changed at the start, nothing lost.

Each failure here once trained for days without a word: adapters on modules that `forward` never calls, heads left at
random, adapters that came back from disk as something else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....engine.errors import WavedeckError
from .adapted import Adapted
from .targets import below

_SHOWN = 4
_TOLERANCE = 1e-4
"""Of the largest logit. Rounding stays below it in 32 bits, and an adapter with one wrong tensor far above."""
_PARTNERS = ((".lora_A.", ".lora_B."), (".lora_A.", ".lora_E."), (".lora_B.", ".lora_E."))


class DeadWeights(WavedeckError):
    """Something that should be trained gets no gradient."""


def check_gradients(adapted: Adapted, step: int) -> list[str]:
    """Look at the gradients of `step`, after the backward pass and before the optimizer's step.

    Every tensor of an adapter and of the head must have one that is not zero, in the first step already. A tensor that
    is multiplied by zeros cannot: LoRA's A until B has moved, AdaLoRA's A and B until the singular values have. They
    are asked in the second step. Where the whole network is trained, a zero may be rightful (behind a ReLU that is off,
    before a softmax that is blind to it), and only a tensor without any gradient is dead.

    Returns
    -------
    The names of trainable tensors that have not proved to be alive yet; a 16-bit step that overflowed proves nothing.

    Raises
    ------
    DeadWeights: with the names of the tensors that nothing reaches.
    """
    weights = dict(adapted.named_parameters())
    states = {name: _state(name, weights, adapted) for name, weight in weights.items() if weight.requires_grad}
    dead = [name for name, state in states.items() if state == "dead"]
    if dead:
        raise DeadWeights(_sentence(dead, list(states), adapted, step))
    return [name for name, state in states.items() if state == "unknown"]


def _state(name: str, weights: dict[str, Tensor], adapted: Adapted) -> str:
    """`alive`, `dead`, or `unknown` where this step cannot tell."""
    gradient = weights[name].grad
    if gradient is not None and not bool(torch.isfinite(gradient).all()):
        return "unknown"
    if gradient is not None and bool(gradient.any()):
        return "alive"
    for side, other in _PARTNERS:
        partner = weights.get(name.replace(side, other)) if side in name else None
        if partner is not None and not bool(partner.detach().any()):
            return "unknown"
    strict = gradient is None or below(name, f"net.{adapted.plan.head}")
    return "dead" if strict or (adapted.plan.is_adapter and weights[name].ndim > 1) else "unknown"


def _sentence(dead: list[str], asked: list[str], adapted: Adapted, step: int) -> str:
    """How many tensors of which kind are dead, some of their names, and what to do about it."""
    head = f"net.{adapted.plan.head}"
    in_head = below(dead[0], head)
    kind = "head" if in_head else "adapter" if adapted.plan.is_adapter else "trainable"
    alike = [name for name in dead if below(name, head) == in_head]
    among = sum(below(name, head) == in_head for name in asked)
    shown = ", ".join(name.removeprefix("net.") for name in alike[:_SHOWN])
    more = f" and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
    advice = {
        "head": "the network's answer does not go through its classifier.",
        "adapter": "the forward pass never uses these modules; choose others with strategy.targets.",
        "trainable": "the forward pass never uses them, or something before the loss cuts them off.",
    }[kind]
    return f"{len(alike)} of {among} {kind} tensors have no gradient after step {step} ({shown}{more}): {advice}"


def logits_of(module: nn.Module, x: Tensor) -> Tensor:
    """`logits_BK` in evaluation mode and without a gradient; the mode is put back."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(x).float()
    finally:
        module.train(training)


def check_start(before_BK: Tensor, after_BK: Tensor) -> None:
    """The same batch before and after an adapter was put on: it must start as no change at all.

    Raises
    ------
    WavedeckError: the answers differ by more than rounding.
    """
    if (difference := _difference(before_BK, after_BK)) > _TOLERANCE:
        raise WavedeckError(
            f"putting the adapter on changed the network's answers ({difference:.1e} of the largest logit), so it "
            "would not start from the pretrained network: a bug, please report it with the run's header."
        )


def check_reload(before_BK: Tensor, after_BK: Tensor) -> None:
    """The same batch before saving and after loading: what is on disk must be the network that was measured.

    Raises
    ------
    WavedeckError: the answers differ by more than rounding.
    """
    if (difference := _difference(before_BK, after_BK)) > _TOLERANCE:
        raise WavedeckError(
            f"the network answers differently after loading ({difference:.1e} of the largest logit): something that "
            "was trained is not in the file, such as batch norm statistics. Do not trust this checkpoint."
        )


def _difference(one_BK: Tensor, other_BK: Tensor) -> float:
    """Largest difference relative to the largest logit; infinite where shapes differ or something is not a number."""
    if one_BK.shape != other_BK.shape:
        return float("inf")
    difference = float((one_BK - other_BK).abs().max() / one_BK.abs().max().clamp(min=1e-6))
    return difference if difference == difference else float("inf")
