"""Which accelerator and which number format a training gets, with a sentence whenever it is not what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Device:
    """Lightning's names: accelerator `cpu`, `cuda` or `mps`, and precision such as `bf16-mixed`."""

    accelerator: str
    precision: str

    @property
    def torch_device(self) -> torch.device:
        """The device for code outside Lightning."""
        return torch.device(self.accelerator)


def choose_device(wanted: str, precision: str, say: Say) -> Device:
    """The device for `wanted` (`auto`, `cpu`, `cuda`, `mps`) and `precision` (`auto` or Lightning's names).

    Falls back to the CPU and to 32-bit numbers where the wish cannot be met, and says so through `say(text, level)`.
    """
    accelerator = _accelerator(wanted, say)
    if precision == "auto":
        if accelerator != "cuda":
            return Device(accelerator, "32-true")
        return Device(
            accelerator, "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    if precision == "16-mixed" and accelerator == "cpu":
        say("precision 16-mixed needs a GPU: training in 32-true on the CPU.", "warning")
        return Device(accelerator, "32-true")
    return Device(accelerator, precision)


def _accelerator(wanted: str, say: Say) -> str:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        chosen = next(name for name in ("cuda", "mps", "cpu") if available[name])
        if chosen == "cpu":
            say(f"no GPU here: training on the CPU with {_threads()}.", "info")
        return chosen
    if available.get(wanted):
        return wanted
    say(f"device {wanted} is not available here: training on the CPU with {_threads()}.", "warning")
    return "cpu"


def _threads() -> str:
    count = torch.get_num_threads()
    return "one thread" if count == 1 else f"{count} threads"
