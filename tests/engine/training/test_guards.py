"""Memory that runs out, batches that spoil a training, and the look before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import lightning as L  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import Dataset  # noqa: E402

from wavedeck.engine.checkpoints import read_checkpoints  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.manifest import Headline  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.engine.training.memory import OutOfMemory, is_out_of_memory, smaller  # noqa: E402
from wavedeck.engine.training.session import TrainingDiverged  # noqa: E402
from wavedeck.engine.training.settings import TrainerSettings  # noqa: E402
from wavedeck.engine.training.stream import ItemKey, Stream  # noqa: E402
from wavedeck.engine.training.trainer import TrainingJob, TrainingResult, fit, seed_everything  # noqa: E402


class Points(Dataset):
    def __init__(self, items: int, spoiled: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(items, 4, generator=generator, dtype=torch.float64)
        self.y = (self.x.sum(1) > 0).double()
        if spoiled is not None:
            self.x[spoiled] = torch.nan

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, key: ItemKey | int) -> Any:
        index = key.item if isinstance(key, ItemKey) else key
        return self.x[index], self.y[index]


class Model(L.LightningModule):
    """Linear, in float64, so that halves of a batch add up to the whole; `room` is the largest batch that fits."""

    def __init__(self, room: int = 1000, room_after: int = 0, bad_gradient_at: int = 0) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1, dtype=torch.float64)
        self.room, self.room_after, self.bad_gradient_at = room, room_after, bad_gradient_at
        self.seen: list[int] = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen.append(len(x))
        if len(x) > self.room and self.global_step >= self.room_after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        loss = nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y)
        if self.global_step + 1 == self.bad_gradient_at:
            self.net.weight.register_hook(lambda grad: grad * torch.nan)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val/loss", nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def run_in(path: Path, model: Model, points: Points, **settings: Any) -> TrainingResult:
    seed_everything(0)
    nn.init.normal_(model.net.weight, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(model.net.bias)
    path.mkdir(exist_ok=True)
    context = Context(RunDir(path), path, device="cpu")
    options = {"max_steps": 6, "batch_size": 8, "val_every": 3, "log_every": 1, "clip": 0.0} | settings
    return fit(
        TrainingJob(
            model, points, len(points), Points(8), TrainerSettings(**options), 3, context, Headline("val/loss"),
            name_of=lambda key: f"clip{key.item}",
        )
    )  # fmt: skip


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    lines = (path / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["k"] == kind]


def test_a_batch_that_does_not_fit_is_halved_and_the_training_is_the_same(tmp_path: Path) -> None:
    whole, halves = Model(), Model(room=3)
    run_in(tmp_path / "whole", whole, Points(40))
    run_in(tmp_path / "halves", halves, Points(40))
    assert torch.allclose(whole.net.weight, halves.net.weight, atol=1e-12)
    assert set(halves.seen) == {8, 4, 2} and halves.seen[:2] == [8, 4]
    words = [event["text"] for event in events(tmp_path / "halves", "alert")]
    assert len(words) == 2 and "training.batch_size=2 training.accumulate=4, the same effective batch" in words[1]


def test_memory_that_runs_out_later_goes_on_from_the_checkpoint_in_smaller_batches(tmp_path: Path) -> None:
    whole, later = Model(), Model(room=4, room_after=4)
    run_in(tmp_path / "whole", whole, Points(40))
    result = run_in(tmp_path / "later", later, Points(40))
    assert result.step == 6
    assert torch.allclose(whole.net.weight, later.net.weight, atol=1e-12)
    assert [line.step for line in read_checkpoints(tmp_path / "later/checkpoints/manifest.jsonl")] == [3, 6]


def test_memory_that_runs_out_before_any_checkpoint_names_the_pair_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"step 2 .* training\.batch_size=4 training\.accumulate=2"):
        run_in(tmp_path / "run", Model(room=4, room_after=2), Points(40))


def test_a_single_item_that_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="not even one item"):
        run_in(tmp_path / "run", Model(room=0), Points(40))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 20.1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory"), True),
        (MemoryError(), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_runs_out_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_smaller_pairs_keep_the_effective_batch() -> None:
    settings, pairs = TrainerSettings(batch_size=12, accumulate=2), []
    while (less := smaller(settings)) is not None:
        settings = less
        pairs.append((settings.batch_size, settings.accumulate))
    assert pairs == [(6, 4), (3, 8), (1, 24)]


def test_halves_of_a_stream_are_the_same_items_in_the_same_order() -> None:
    whole, half = Stream(30, 8, 5), Stream(30, 4, 5, accumulate=2)
    half.go_to(whole.identity(), 7)
    assert half.position == 14 and half.continues(whole.identity(), 7)
    assert half.batch_at(14) + half.batch_at(15) == whole.batch_at(7)
    assert not Stream(30, 4, 5).continues(whole.identity(), 7)  # half the effective batch: another training


@pytest.mark.parametrize("spoiled", [True, False])
def test_the_batch_that_spoils_a_training_is_named(tmp_path: Path, spoiled: bool) -> None:
    """NaN in an item; and a gradient that is none although the loss is a number."""
    model, points = (Model(), Points(40, spoiled=11)) if spoiled else (Model(bad_gradient_at=4), Points(40))
    with pytest.raises(TrainingDiverged) as caught:
        run_in(tmp_path / "run", model, points)
    step = events(tmp_path / "run", "alert")[-1]["step"]
    batch = [f"clip{key.item}" for key in Stream(40, 8, 3).batch_at(step - 1)]
    assert f"in the batch of {', '.join(batch)} (lr" in str(caught.value)
    assert "clip11" in batch if spoiled else step == 4
    assert ("loss became NaN" in str(caught.value)) is spoiled


def test_the_look_before_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drops(Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.BatchNorm1d(4, dtype=torch.float64), nn.Dropout(0.5)

        def training_step(self, batch, batch_idx):
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.net(self.drop(self.norm(x))).squeeze(1), y)

    looked, blind = Drops(), Drops()
    run_in(tmp_path / "looked", looked, Points(40))
    monkeypatch.setattr("wavedeck.engine.training.trainer._look_before", lambda *args: None)
    run_in(tmp_path / "blind", blind, Points(40))
    for name, value in blind.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name


def test_a_mistake_in_the_validation_is_found_before_the_first_step(tmp_path: Path) -> None:
    class Broken(Model):
        def validation_step(self, batch, batch_idx):
            raise ValueError("the validation is wrong")

    model = Broken()
    with pytest.raises(ValueError, match="the validation is wrong"):
        run_in(tmp_path / "run", model, Points(40))
    assert len(model.seen) == 1
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run/checkpoints"]


def test_speed_and_memory_are_told_for_comparisons(tmp_path: Path) -> None:
    run_in(tmp_path / "run", Model(), Points(40))
    numbers = {name: value for event in events(tmp_path / "run", "about") for name, value in event["numbers"].items()}
    assert numbers["samples_per_s"] > 0 and numbers["memory_gib"] > 0.01 and numbers["train_s"] > 0
