"""The order of training items, the settings that count steps, and the device a training gets."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.training.settings import TrainerSettings
from wavedeck.engine.training.stream import ItemKey, Stream, item_rng


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5), st.integers(0, 60))
def test_starting_at_a_position_is_going_on_from_it(items: int, batch: int, seed: int, position: int) -> None:
    whole = list(islice(Stream(items, batch, seed), position + 3))
    resumed = Stream(items, batch, seed)
    resumed.position = position
    assert list(islice(resumed, 3)) == whole[position:]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_every_epoch_holds_every_item_once_over_all_ranks(items: int, batch: int, world: int) -> None:
    streams = [Stream(items, batch, 3, rank, world) for rank in range(world)]
    needed = -(-2 * items // (batch * world))
    keys = [key for position in range(needed) for stream in streams for key in stream.batch_at(position)]
    for epoch in (0, 1):
        assert sorted(key.item for key in keys if key.epoch == epoch) == list(range(items))
    assert all(len(stream.batch_at(0)) == batch for stream in streams)


def test_epochs_and_seeds_shuffle_differently() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        stream = Stream(50, 50, seed)
        return [key.item for key in stream.batch_at(epoch)]

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(2, 5) == order(2, 5)


def test_epochs_are_counted_over_all_processes() -> None:
    assert Stream(100, 10, 0).epoch_at(5) == 0.5
    assert Stream(100, 10, 0, 1, 2).epoch_at(5) == 1.0


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(ValueError, match="training split is empty"):
        Stream(0, 4, 0)


def test_item_generators_depend_on_item_epoch_and_seed() -> None:
    draws = {
        float(item_rng(seed, ItemKey(item, epoch)).random()) for seed in (0, 1) for item in (0, 1) for epoch in (0, 1)
    }
    assert len(draws) == 8
    assert item_rng(1, ItemKey(2, 3)).random() == item_rng(1, ItemKey(2, 3)).random()
    assert isinstance(item_rng(0, ItemKey(0, 0)), np.random.Generator)


def test_steps_from_epochs_end_with_a_validation() -> None:
    settings = TrainerSettings(max_epochs=5, batch_size=16)
    assert settings.total_steps(1120) == 350
    assert settings.total_steps(1123) % settings.steps_per_validation(1123) == 0
    assert TrainerSettings(max_epochs=3, batch_size=4, accumulate=5).total_steps(120, world=2) == 9
    assert TrainerSettings(max_steps=7).total_steps(1_000_000) == 7


def test_falling_back_to_the_cpu_is_said() -> None:
    torch = pytest.importorskip("torch")
    from wavedeck.engine.training.device import choose_device

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    said: list[tuple[str, str]] = []
    device = choose_device("cuda", "16-mixed", lambda text, level: said.append((text, level)))
    assert (device.accelerator, device.precision) == ("cpu", "32-true")
    assert [level for _, level in said] == ["warning", "warning"]
    assert "device cuda is not available here: training on the CPU with" in said[0][0]
    assert choose_device("cpu", "auto", lambda text, level: said.append((text, level))).precision == "32-true"
    assert len(said) == 2
