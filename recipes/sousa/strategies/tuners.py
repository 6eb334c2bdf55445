"""peft's layers put on a network's planned modules, and taken off again.

peft's tuners are used by themselves, without its `PeftModel` around them: that would go through `modules_to_save`,
which finds the head by the end of its name, keeps a second copy of it and breaks IA³'s merge. Here the head is what
stands at the plan's full path, and stays the plain module it is. Only this module and `allocation` know peft.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import AdaLoraConfig, AdaLoraModel, IA3Config, IA3Model, LoraConfig, LoraModel
from peft.tuners.adalora.layer import AdaLoraLayer, SVDConv2d
from peft.tuners.ia3.layer import IA3Layer, _ConvNd
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ....engine.errors import WavedeckError
from .plan import StrategyPlan

ADAPTER = "default"
"""peft's name for the one adapter that there is."""
_NOTHING = "(?!)"


def inject(net: nn.Module, plan: StrategyPlan) -> Any:
    """Replace the planned modules of `net` in place by peft's layers around them, and freeze everything else.

    Returns peft's tuner, whose rank allocator AdaLoRA needs.

    Raises
    ------
    WavedeckError: the network carries an adapter already, or peft chose other modules than the plan.
    """
    if adapted_modules(net):
        raise WavedeckError("this network carries an adapter already: merge it, or build the network anew.")
    tuner: type = {"lora": LoraModel, "adalora": _AdaLora, "ia3": _Ia3}[plan.strategy]
    made = tuner(net, _peft_config(plan), ADAPTER)
    found = set(adapted_modules(net))
    if found != set(plan.targets):
        odd = ", ".join(sorted(found ^ set(plan.targets)))
        raise WavedeckError(
            f"peft and the plan disagree about the modules to adapt ({odd}): plan anew for this network."
        )
    return made


def adapted_modules(net: nn.Module) -> dict[str, Any]:
    """peft's layers in `net` by full path."""
    return {name: module for name, module in net.named_modules() if isinstance(module, BaseTunerLayer)}


def fold(net: nn.Module) -> None:
    """Add every adapter into the weights it stands on, in place, and put the plain modules back."""
    with torch.no_grad():
        for name, layer in adapted_modules(net).items():
            layer.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, layer.get_base_layer())


def _peft_config(plan: StrategyPlan) -> Any:
    """Targets are given as one expression that matches full paths: a list would be matched by the ends of names."""
    targets = "|".join(map(re.escape, plan.targets))
    if plan.strategy == "ia3":
        feedforward = "|".join(map(re.escape, plan.feedforward)) or _NOTHING
        return IA3Config(target_modules=targets, feedforward_modules=feedforward)
    common: dict[str, Any] = {"target_modules": targets, "lora_alpha": plan.alpha, "lora_dropout": plan.dropout}
    if plan.schedule is None:
        return LoraConfig(r=plan.rank, **common)
    times = plan.schedule
    return AdaLoraConfig(
        init_r=plan.init_rank, target_r=plan.rank, tinit=times.tinit, tfinal=times.tfinal, deltaT=times.delta,
        total_step=times.total, orth_reg_weight=plan.orthogonality, **common,
    )  # fmt: skip


class _SvdConv1d(SVDConv2d):
    """AdaLoRA on a pointwise `nn.Conv1d`, which peft has only for two dimensions. With kernel 1 the update is the same
    matrix as a linear layer's."""

    update_layer = AdaLoraLayer.update_layer

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        x = self._cast_input_dtype(x, self.lora_A[ADAPTER].dtype)
        update = nn.functional.conv1d(
            self.lora_dropout[ADAPTER](x), self.get_delta_weight(ADAPTER), stride=self.get_base_layer().stride
        )
        return result + update.to(result.dtype)


class _Ia3Conv1d(_ConvNd):
    """IA³ on an `nn.Conv1d`: one scale per channel, as peft's layers for more dimensions."""

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: Any, is_feedforward: bool = False, **kwargs: Any
    ) -> None:
        nn.Module.__init__(self)
        self.base_layer, self.ia3_l = base_layer, nn.ParameterDict({})
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.is_feedforward, self.fan_in_fan_out = is_feedforward, False
        self.in_features, self.out_features = base_layer.in_channels, base_layer.out_channels
        self._active_adapter, self._kernel_dim = adapter_name, base_layer.weight.dim()
        self.update_layer(adapter_name, config=config)


class _AdaLora(AdaLoraModel):
    """peft's tuner, with one kind of layer more."""

    @staticmethod
    def _create_new_module(
        lora_config: Any, adapter_name: str, target: nn.Module, device_map: Any = None, **kwargs: Any
    ) -> Any:
        if isinstance(target, nn.Conv1d):
            return _SvdConv1d(
                target, adapter_name, config=lora_config, r=lora_config.init_r, lora_alpha=lora_config.lora_alpha
            )
        return AdaLoraModel._create_new_module(lora_config, adapter_name, target, device_map, **kwargs)


class _Ia3(IA3Model):
    """peft's tuner, with one kind of layer more."""

    @staticmethod
    def _create_new_module(ia3_config: Any, adapter_name: str, target: nn.Module, **kwargs: Any) -> Any:
        if isinstance(target, nn.Conv1d) and not isinstance(target, IA3Layer):
            return _Ia3Conv1d(target, adapter_name, ia3_config, bool(kwargs.get("is_feedforward")))
        return IA3Model._create_new_module(ia3_config, adapter_name, target, **kwargs)
