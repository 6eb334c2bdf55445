"""The order in which training items come: a pure function of (seed, epoch, position), endless and resumable.

Batches cross epoch borders, so that every batch is full and every item is seen once per epoch. Because nothing is
drawn from a shared generator, going on from batch 1,234 needs the number 1,234 and nothing else. Lightning's own way
(one finite loader per epoch plus a dozen progress counters) was read and rejected: its counters differ by the hook that
saved them, and a mid-epoch restart replays or skips a batch in some of the combinations.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.random import Generator


class ItemKey(NamedTuple):
    """What a data set is asked for: which item, and in which epoch (so that augmentation differs between epochs)."""

    item: int
    epoch: int


def item_rng(seed: int, key: ItemKey) -> Generator:
    """The generator for one item's augmentation in one epoch: the same whenever and wherever it is asked for."""
    return np.random.default_rng([seed, key.epoch, key.item])


class Stream:
    """An endless batch sampler of `ItemKey`s for `torch.utils.data.DataLoader(batch_sampler=...)`.

    Parameters
    ----------
    items: size of the data set.
    batch: items per batch and process.
    seed: of the shuffling.
    rank, world: this process and how many there are; together they walk one global order.
    accumulate: batches in one optimizer step. It changes nothing here, but tells which streams are the same training.

    It has no length on purpose: Lightning then treats training as one endless epoch and `position`, the number of
    batches trained, is the only state.
    """

    def __init__(self, items: int, batch: int, seed: int, rank: int = 0, world: int = 1, accumulate: int = 1) -> None:
        if items < 1:
            raise ValueError("there is nothing to train on: the training split is empty")
        self.items, self.batch, self.seed, self.rank, self.world = items, batch, seed, rank, world
        self.accumulate = accumulate
        self.position = 0
        self._orders: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[list[ItemKey]]:
        position = self.position
        while True:
            yield self.batch_at(position)
            position += 1

    def batch_at(self, position: int) -> list[ItemKey]:
        """The keys of batch number `position` of this rank."""
        first = (position * self.world + self.rank) * self.batch
        keys = []
        for place in range(first, first + self.batch):
            epoch, offset = divmod(place, self.items)
            keys.append(ItemKey(int(self._order(epoch)[offset]), epoch))
        return keys

    def epoch_at(self, position: int) -> float:
        """Epochs seen after `position` batches, as a fraction."""
        return position * self.batch * self.world / self.items

    def identity(self) -> dict[str, int]:
        """What must be equal for `position` to mean the same thing."""
        return {
            "items": self.items, "batch": self.batch, "seed": self.seed, "world": self.world,
            "accumulate": self.accumulate,
        }  # fmt: skip

    def continues(self, saved: Mapping[str, int], position: int) -> bool:
        """Whether `self.position` is the place that a stream of identity `saved` had reached after `position` batches.

        The batches may be smaller or larger by now, when as many more or fewer make one optimizer step.
        """
        before, now = {"accumulate": 1, **saved}, self.identity()
        same = all(before.get(name) == now[name] for name in ("items", "seed", "world"))
        steps = before["batch"] * before["accumulate"] == self.batch * self.accumulate
        return same and steps and position * before["batch"] == self.position * self.batch

    def go_to(self, saved: Mapping[str, int], position: int) -> None:
        """Go on after `position` batches of a stream with the identity `saved`.

        Smaller or larger batches of the same order mean the same place when it falls between two batches of this size;
        otherwise (and for other data, seeds or process counts) the position is taken as it is, and refused later.
        """
        items = position * saved.get("batch", self.batch)
        self.position = items // self.batch if items % self.batch == 0 else position

    def _order(self, epoch: int) -> np.ndarray:
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.items)
            self._orders = {known: kept for known, kept in self._orders.items() if known >= epoch - 1}
            self._orders[epoch] = order
        return order


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes, from torchrun's environment; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
