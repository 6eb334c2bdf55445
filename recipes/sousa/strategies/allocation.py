"""AdaLoRA's budget: which singular values of which module stay (Zhang et al. 2023, section 3.2).

peft's allocator does it, but only when it is called: without `update_and_allocate` after each step every rank stays
active for good. It also forgets everything between two processes; here its averages are part of the state dict, so that
a training that was stopped goes on as if it had not been.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .plan import Schedule
from .tuners import ADAPTER


class Allocation(nn.Module):
    """The allocator of one adapted network; it has no weights of its own.

    Parameters
    ----------
    tuner: peft's, as `inject` returns it.
    net: the network that the tuner works on.
    """

    def __init__(self, tuner: Any, net: nn.Module, times: Schedule, orthogonality: float) -> None:
        super().__init__()
        self._held = (tuner, net)  # in a tuple, so that their weights are not counted as this module's
        self.times, self.orthogonality = times, orthogonality
        self._fill(None)

    @property
    def tuner(self) -> Any:
        """peft's tuner."""
        return self._held[0]

    def after_step(self, step: int) -> None:
        """Weigh the singular values by the last gradients, and from time to time set the least important to zero.

        Parameters
        ----------
        step: optimizer steps done, this one included. Call it before the gradients are cleared.

        A step that 16-bit gradients overflowed counts nothing (one infinity would stay in the averages for good),
        unless it is the last one that prunes.
        """
        weights = self._weights()
        whole = all(weight.grad is None or bool(torch.isfinite(weight.grad).all()) for weight in weights.values())
        if not whole and step != self.times.end:
            return
        for weight in weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            else:
                torch.nan_to_num_(weight.grad, nan=0.0, posinf=0.0, neginf=0.0)
        self._follow(weights)
        self.tuner.update_and_allocate(step)

    def _follow(self, weights: dict[str, Tensor]) -> None:
        """Bring peft's averages to where the weights are: they lie in plain dicts, which `module.to(device)` misses."""
        allocator = self.tuner.rankallocator
        for averages in (allocator.exp_avg_ipt, allocator.exp_avg_unc, allocator.ipt):
            for name, value in averages.items():
                averages[name] = value.to(weights[name].device)

    def extra_loss(self) -> Tensor:
        """How far both sides are from orthogonal, ‖PᵀP − I‖ averaged over modules (eq. 4), times its weight.

        peft adds this only to outputs that carry their loss; a network that returns logits trains without it unnoticed.
        """
        norms = []
        for name, weight in self._weights().items():
            if ".lora_E." in name:
                continue
            with torch.autocast(weight.device.type, enabled=False):
                side = weight.float() if ".lora_A." in name else weight.float().T
                norms.append(torch.linalg.matrix_norm(side @ side.T - torch.eye(len(side), device=side.device)))
        return self.orthogonality * torch.stack(norms).mean()

    def ranks(self) -> dict[str, int]:
        """Singular values that are not zero, by the full path of their module."""
        return {
            name.rsplit(".lora_E.", 1)[0]: int((weight != 0).sum())
            for name, weight in self._weights().items()
            if ".lora_E." in name
        }

    @property
    def budget(self) -> int:
        """Singular values that may stay in the end, all modules together."""
        return int(self.tuner.rankallocator.target_bgt)

    def _weights(self) -> dict[str, Tensor]:
        """The adapter's tensors, named as peft's allocator names them."""
        return {name: weight for name, weight in self._held[1].named_parameters() if ".lora_" in name}

    def _fill(self, saved: dict[str, Tensor] | None) -> None:
        """Set peft's averages and pattern to saved ones, or to what they are before the first step."""
        allocator, pattern = self.tuner.rankallocator, {}
        place, row = 0, 0
        for name, weight in self._weights().items():
            for key, into in (("sensitivity", allocator.exp_avg_ipt), ("uncertainty", allocator.exp_avg_unc)):
                flat = None if saved is None else saved[key][place : place + weight.numel()]
                into[name] = torch.zeros_like(weight.data) if flat is None else flat.view_as(weight).to(weight.data)
            allocator.ipt[name] = torch.zeros_like(weight.data)
            place += weight.numel()
            if ".lora_E." in name:
                stays = [True] * len(weight) if saved is None else saved["stays"][row : row + len(weight)].tolist()
                pattern[name] = [bool(one) for one in stays]
                row += len(weight)
        self.tuner.peft_config[ADAPTER].rank_pattern = pattern

    def _saved(self) -> dict[str, Tensor]:
        """peft's averages, all tensors after each other, and the pattern as one flag per singular value."""
        allocator, weights = self.tuner.rankallocator, self._weights()
        nothing = {name: torch.zeros_like(weight.data) for name, weight in weights.items()}
        pattern = self.tuner.peft_config[ADAPTER].rank_pattern
        return {
            "sensitivity": torch.cat([(allocator.exp_avg_ipt or nothing)[name].flatten() for name in weights]),
            "uncertainty": torch.cat([(allocator.exp_avg_unc or nothing)[name].flatten() for name in weights]),
            "stays": torch.tensor([one for name in weights if ".lora_E." in name for one in pattern[name]]),
        }

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination.update({f"{prefix}{key}": value for key, value in self._saved().items()})

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        expected = self._saved()
        missing = [f"{prefix}{key}" for key in expected if f"{prefix}{key}" not in state_dict]
        if missing:
            missing_keys.extend(missing)
            return
        saved = {key: state_dict[f"{prefix}{key}"] for key in expected}
        if any(saved[key].shape != expected[key].shape for key in expected):
            error_msgs.append(f"{prefix}: AdaLoRA's averages are of another network or rank.")
            return
        self._fill(saved)
