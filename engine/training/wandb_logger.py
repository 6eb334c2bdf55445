"""The Lightning side of `logger=wandb`: histograms of the gradients; rows and numbers come through the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from ..context import Context
from .wandb_run import WandbRun, wandb_run

HISTOGRAM_EVERY = 100
"""Optimizer steps between two sets of histograms; the first step has one too."""
MOST_GROUPS = 24
_BINS = 48


def wandb_callback(config: Any, context: Context) -> L.Callback | None:
    """Opens the run's W&B run where `config.logger` is `wandb`; None otherwise, on all ranks but 0, and when it fails.

    Call it before the first row of the training: from here on the journal's rows are told to W&B too.
    """
    told = wandb_run(config, context)
    return None if told is None else GradientHistograms(told)


class GradientHistograms(L.Callback):
    """Tells how the gradients of each part of the network are spread, before clipping."""

    def __init__(self, told: WandbRun, every: int = HISTOGRAM_EVERY) -> None:
        self.told, self.every = told, every

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Once per optimizer step, however many batches are accumulated in it."""
        step = trainer.global_step + 1
        if not self.told.alive or (step != 1 and step % self.every):
            return
        named = [(name, weight.grad) for name, weight in pl_module.named_parameters() if weight.grad is not None]
        with self.told.guarded() as run:
            if run is not None:
                row: dict[str, Any] = {"step": step}
                for name, grads in grouped(named).items():
                    counts, edges = histogram(grads)
                    if counts.sum():
                        row[f"gradients/{name}"] = self.told.module.Histogram(np_histogram=(counts, edges))
                run.log(row)


def grouped(named: Iterable[tuple[str, Tensor]], most: int = MOST_GROUPS) -> dict[str, list[Tensor]]:
    """Tensors by the longest common part of their dotted names that makes at most `most` groups."""
    pairs = list(named)
    deepest = max((name.count(".") for name, _ in pairs), default=0)
    chosen: dict[str, list[Tensor]] = {}
    for depth in range(1, deepest + 1):
        groups: dict[str, list[Tensor]] = defaultdict(list)
        for name, tensor in pairs:
            groups[".".join(name.split(".")[:-1][:depth]) or name].append(tensor)
        if len(groups) > most:
            break
        chosen = dict(groups)
    return chosen or {"all": [tensor for _, tensor in pairs]}


@torch.no_grad()
def histogram(tensors: Iterable[Tensor], bins: int = _BINS) -> tuple[np.ndarray, np.ndarray]:
    """Counts (bins,) and edges (bins + 1,) over all finite values, symmetric around zero."""
    flat = [tensor.detach().float().flatten() for tensor in tensors]
    flat = [values[torch.isfinite(values)] for values in flat]
    reach = max((float(values.abs().max()) for values in flat if values.numel()), default=0.0) or 1.0
    total = torch.zeros(bins, dtype=torch.float64)
    for values in flat:
        total += torch.histc(values, bins=bins, min=-reach, max=reach).double().cpu()
    return total.numpy().astype(np.int64), np.linspace(-reach, reach, bins + 1)
