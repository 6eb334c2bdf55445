"""What a network is given: items of a split put into a batch, in training with mixup.

Shapes: B clips, S samples, M mel bands, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PLAIN = -1
"""The epoch of an item that is not augmented."""
_MIXUP = 0x6D69787570
"""Keeps mixup's draws apart from those of the clips' augmentation."""


class Item(NamedTuple):
    """One clip: `x` is `wave_S` or `x_MF` float32, `clip` its index in the split, `epoch` -1 outside of training."""

    x: Tensor
    label: int
    clip: int
    epoch: int = PLAIN


class Batch(NamedTuple):
    """`x` is `wave_BS` or `x_BMF`; with mixup it is `share_B` of the clip and the rest of another clip's sound.

    Parameters
    ----------
    label: of the clip, which always has the larger share; `other` is the label of what was mixed in.
    share: 1 where nothing was mixed in; the loss of a clip is `share` of its label's and `1 - share` of the other's.
    clip: index in the split.
    """

    x: Tensor
    label: Tensor
    other: Tensor
    share: Tensor
    clip: Tensor


@dataclass(frozen=True, slots=True)
class Collate:
    """Items to a `Batch` with mixup (Zhang et al. 2018): each clip is mixed with the one that a permutation gives it.

    The draws follow from the seed and the keys of the items alone, so that a resumed training mixes as before.

    Parameters
    ----------
    alpha: of the Beta distribution of the shares; 0 mixes nothing.
    """

    seed: int
    alpha: float

    def __call__(self, items: Sequence[Item]) -> Batch:
        batch = collate_plain(items)
        if not self.alpha or any(item.epoch == PLAIN for item in items):
            return batch
        keys = [number for item in items for number in (item.epoch, item.clip)]
        rng = np.random.default_rng([self.seed, _MIXUP, *keys])
        partner_B = torch.from_numpy(rng.permutation(len(items)))
        drawn_B = rng.beta(self.alpha, self.alpha, len(items))
        share_B = torch.from_numpy(np.maximum(drawn_B, 1.0 - drawn_B).astype(np.float32))
        weight = share_B.reshape(-1, *[1] * (batch.x.ndim - 1))
        mixed = weight * batch.x + (1.0 - weight) * batch.x[partner_B]
        return Batch(mixed, batch.label, batch.label[partner_B], share_B, batch.clip)


def collate_plain(items: Sequence[Item]) -> Batch:
    """Items to a `Batch` as they are: for validation and test."""
    label_B = torch.tensor([item.label for item in items])
    clip_B = torch.tensor([item.clip for item in items])
    return Batch(torch.stack([item.x for item in items]), label_B, label_B, torch.ones(len(items)), clip_B)
