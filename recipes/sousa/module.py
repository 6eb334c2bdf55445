"""The classifier under Lightning: loss with mixup, metrics on held-out players, optimizer, and the strategy's duties.

Shapes: B clips, K classes. A batch is a `data.Batch`.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .config import SousaConfig
from .data import Batch
from .network import BASE, Network, Say, restore
from .report.metrics import ValidationMetrics
from .strategies import check_gradients

_MIXES = (nn.Linear, nn.Conv1d, nn.Conv2d)
_BLIND = ("k_proj.bias", "key.bias")
"""Keys' biases: softmax does not see what all keys have in common, so that their gradient is zero rightfully."""
_CHECKED_STEPS = 20
"""Gradients are looked at in the first step, and for as long as some tensor has not had one: a side of an adapter that
began with nothing to multiply gets its first in the second, a 16-bit step that overflowed shows nothing."""


class RudimentTrainer(L.LightningModule):
    """Loss, metrics and optimizer of a network under its strategy.

    Parameters
    ----------
    classes: slugs in the order of their labels.
    steps: optimizer steps of the whole training, for the learning rate.
    say: told as `say(text, level)`.

    Its state is the network's; of an adapter, only what is trained and the digest of what it stands on.
    """

    def __init__(self, network: Network, config: SousaConfig, classes: tuple[str, ...], steps: int, say: Say) -> None:
        super().__init__()
        self.net = network.adapted
        self._network = network
        self.config, self.steps = config, steps
        self.metrics = ValidationMetrics(classes)
        self._say = say
        self._proven = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits_BK = self.net(batch.x)
        smoothing = self.config.training.label_smoothing
        loss_B = cross_entropy(logits_BK, batch.label, label_smoothing=smoothing, reduction="none")
        other_B = cross_entropy(logits_BK, batch.other, label_smoothing=smoothing, reduction="none")
        return (batch.share * loss_B + (1 - batch.share) * other_B).mean() + self.net.extra_loss()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits_BK = self.net(batch.x)
        self.metrics.update(logits_BK, batch.label)
        self.log("val/loss", cross_entropy(logits_BK, batch.label), batch_size=len(batch.label), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """The scores over the whole split; summed over processes by torchmetrics."""
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()})
        self.metrics.reset()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Right after the first backward passes: a tensor that is to be trained and gets no gradient is a mistake."""
        done = self.global_step + 1
        if self._proven or done > _CHECKED_STEPS:
            return
        still = [name for name in check_gradients(self.net, done) if not name.endswith(_BLIND)]
        self._proven = not still
        if still and done == _CHECKED_STEPS:
            some = ", ".join(name.removeprefix("net.") for name in still[:3])
            self._say(
                f"{len(still)} tensors had a gradient of exactly zero in the first {done} steps ({some}): they may be "
                "behind a ReLU that is off; if the loss stays where it is, look there first.", "info",
            )  # fmt: skip

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step, then what the strategy does after each: AdaLoRA gives its ranks to whoever needs them."""
        super().optimizer_step(*args, **kwargs)
        self.net.after_step(self.global_step + 1)  # counted once this hook is over

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW with linear warm-up and a cosine to zero. Weight decay takes the matrices of linear layers and
        convolutions (LoRA's are such), not biases, norms, position embeddings, tokens, or IA³'s scales around 1."""
        training = self.config.training
        mixes = (module for module in self.modules() if isinstance(module, _MIXES))
        matrices = {id(weight) for module in mixes for weight in module.parameters(False) if weight.ndim > 1}
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in trained if id(weight) in matrices], "weight_decay": training.weight_decay},
            {"params": [weight for weight in trained if id(weight) not in matrices], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=training.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """Share of the peak learning rate after `step` of `self.steps` steps."""
        rise = max(1, round(self.config.training.warmup * self.steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, self.steps - rise))))

    # --- what a checkpoint holds

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Everything, or an adapter's part with the digest of the weights that it stands on."""
        state = super().state_dict(*args, **kwargs)
        kept, base = self._network.kept_names(), self._network.base
        if kept is None or base is None:
            return state
        own = {name: value for name, value in state.items() if name.removeprefix("net.") in kept}
        return {**own, BASE: torch.tensor(list(bytes.fromhex(base)), dtype=torch.uint8)}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Put such a state back.

        Raises
        ------
        WavedeckError: it is of another network, or of an adapter on other weights.
        """
        restore(self._network, dict(state_dict))
