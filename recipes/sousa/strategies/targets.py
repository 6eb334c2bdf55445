"""Which modules of a network an adapter belongs on, found by looking at the network and never by a list of names.

Names change between versions of the libraries: transformers 5 renamed AST's `attention.query` to `q_proj`, and adapters
that were asked for by the old name matched nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ....engine.errors import UsageError
from ..models.base import HEAD

_SHOWN = 6
"""So many names a sentence lists before it says `and 12 more`."""


def below(name: str, path: str) -> bool:
    """Whether `name` is the module `path` or lies in it."""
    return name == path or name.startswith(f"{path}.")


def is_pointwise(module: nn.Module) -> bool:
    """A convolution that mixes channels at each place by itself: kernel 1, one group. Adapters are matrices, and so is
    this; a depthwise convolution has no rank to adapt, and LoRA refuses it."""
    return isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == 1 and set(module.kernel_size) == {1}


def is_linear(module: nn.Module) -> bool:
    """A linear layer whose `forward` is called: that of `nn.MultiheadAttention` is not, an adapter on it is dead."""
    return isinstance(module, nn.Linear) and not isinstance(module, NonDynamicallyQuantizableLinear)


def width(module: nn.Module) -> tuple[int, int]:
    """Channels in and out of a linear layer or a pointwise convolution."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels


def adaptable(net: nn.Module) -> dict[str, nn.Module]:
    """Every module by its full path that an adapter can stand on: all but the head, which is trained itself."""
    return {
        name: module
        for name, module in net.named_modules()
        if not below(name, HEAD) and (is_linear(module) or is_pointwise(module)) and not name.endswith(gates(net))
    }


def gates(net: nn.Module) -> tuple[str, ...]:
    """Ends of the names of layers that the network declares to be gates: a handful of outputs, fewer than a rank."""
    return tuple(getattr(net, "gates", ()))


def find_targets(net: nn.Module, pattern: str | None) -> dict[str, nn.Module]:
    """The modules to adapt, by full path, in the network's own order.

    Without a pattern these are the linear layers, or the pointwise convolutions where there are more of those: a
    convolutional network's few linear layers sit in its gates (squeeze and excitation) and see pooled sound only. A
    pattern is searched in the paths of both kinds.

    Raises
    ------
    UsageError: nothing can be adapted, the pattern is no regular expression, or it finds nothing.
    """
    known = adaptable(net)
    if not known:
        raise UsageError("this network has no linear layer or pointwise convolution to adapt: use full_finetune.")
    if pattern is None:
        pointwise = {name: module for name, module in known.items() if is_pointwise(module)}
        linear = {name: module for name, module in known.items() if name not in pointwise}
        return pointwise if len(pointwise) > len(linear) else linear
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"strategy.targets={pattern} is no regular expression ({error}).") from error
    found = {name: module for name, module in known.items() if expression.search(name)}
    if not found:
        raise UsageError(
            f"strategy.targets={pattern} matches no module that can be adapted; there are {abridged(known)}."
        )
    return found


def contracting(targets: dict[str, nn.Module]) -> tuple[str, ...]:
    """The targets with three times more channels in than out: the second layers of feed-forward blocks. (Layers that
    merge patches halve their channels; they are none.)

    IA³ scales what goes into them instead of what comes out (Liu et al. 2022, eq. 3: the inner activations).
    """
    return tuple(name for name, module in targets.items() if width(module)[0] >= 3 * width(module)[1])


def batch_norms(net: nn.Module) -> dict[str, nn.Module]:
    """The layers outside the head that keep running statistics, by full path."""
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and not below(name, HEAD)
    }


def calibration(net: nn.Module) -> set[str]:
    """Names of the single numbers that `AudioClassifier.calibrate` measures on the training split and keeps as buffers:
    they belong to what was trained, not to the backbone."""
    return {name for name, value in net.named_buffers() if value.ndim == 0 and value.is_floating_point()}


def abridged(names: Iterable[str]) -> str:
    """Paths for people: numbers become `*` and what has the same parent stands together, so that twelve layers read
    `layers.*.attention.{q_proj, k_proj}, layers.*.mlp.{fc1, fc2} (48)`."""
    paths = list(names)
    leaves: dict[str, list[str]] = {}
    for path in dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", path) for path in paths):
        parent, _, leaf = path.rpartition(".")
        leaves.setdefault(parent, []).append(leaf)
    shown = [
        f"{parent}." * bool(parent) + (found[0] if len(found) == 1 else f"{{{', '.join(found)}}}")
        for parent, found in leaves.items()
    ]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{', '.join(shown[:_SHOWN])}{more} ({len(paths)})"
