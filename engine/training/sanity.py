"""One batch before the first: forward, backward and a validation step, so that what cannot work fails in seconds.

A mistake in the validation code is otherwise found after an epoch, and a batch that is too large after the minutes that
the data took. Everything it touches is put back (generators, gradients, running statistics, metrics): a training with
the look before it is the same, to the bit, as one without.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.data import default_collate

from .device import Device
from .rng import capture_rng, restore_rng

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def try_one_batch(
    module: L.LightningModule, batch: list[Any], validation: list[Any] | None, device: Device,
    collate: Callable[[list[Any]], Any] | None = None, collate_validation: Callable[[list[Any]], Any] | None = None,
) -> float:  # fmt: skip
    """Train on `batch` and validate on `validation` without effect; returns the seconds that it took.

    Raises
    ------
    torch.OutOfMemoryError: it does not fit.
    """
    began = time.monotonic()
    place = device.torch_device
    module.to(place)
    with _put_back(module), _number_format(device):
        module.train()
        loss = module.training_step(_moved((collate or default_collate)(batch), place), 0)
        loss = loss["loss"] if isinstance(loss, dict) else loss
        if loss is not None:
            loss.backward()
        if validation:
            module.eval()
            with torch.no_grad():
                module.validation_step(_moved((collate_validation or default_collate)(validation), place), 0)
    return time.monotonic() - began


@contextmanager
def _put_back(module: L.LightningModule) -> Iterator[None]:
    """Generators, buffers, modes, gradients and metrics as they were."""
    generators = capture_rng()
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    modes = [(part, part.training) for part in module.modules()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's about self.log without a trainer: there is none yet
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for part, training in modes:
            part.training = training
        module.zero_grad(set_to_none=True)
        _reset_metrics(module)
        restore_rng(generators)


def _reset_metrics(module: nn.Module) -> None:
    from torchmetrics import Metric

    for part in module.modules():
        if isinstance(part, Metric):
            part.reset()


def _number_format(device: Device) -> Any:
    kind = _AUTOCAST.get(device.precision)
    return torch.autocast(device.accelerator, dtype=kind) if kind is not None else nullcontext()


def _moved(batch: Any, place: torch.device) -> Any:
    from lightning.fabric.utilities import move_data_to_device

    return move_data_to_device(batch, place)
