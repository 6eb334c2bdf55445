"""Clips through a front end: what is kept in memory, what is augmented, and what happens in workers."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.training.stream import ItemKey, Stream  # noqa: E402
from wavedeck.recipes.sousa.config import SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.data import Batch, Clips, SousaData, load_clip, split_samples  # noqa: E402
from wavedeck.recipes.sousa.data import clips as clips_module  # noqa: E402
from wavedeck.recipes.sousa.data.cache import FeatureCache  # noqa: E402
from wavedeck.recipes.sousa.tables import Sample, read_samples  # noqa: E402
from wavedeck.tests.fakes.sousa_data import SLUGS, MelEnd, WaveEnd, data_config  # noqa: E402


@pytest.fixture
def samples(made_set: Path) -> list[Sample]:
    return [sample for sample in read_samples(made_set, SLUGS) if sample.split == "train"]


def heard(samples: list[Sample], end: MelEnd | None = None, kind: Any = "spectrogram", **changes: Any) -> Clips:
    return Clips(samples, data_config(**changes), end or MelEnd(), kind)


def test_an_item_is_the_sound_its_label_and_nothing_else(samples: list[Sample]) -> None:
    clips = heard(samples)
    item = clips[3]
    assert item._fields == ("x", "label", "clip", "epoch")
    assert item.x.shape == clips.shape == (24, 167) and item.x.dtype == torch.float32
    assert (item.label, item.clip, item.epoch) == (SLUGS.index(samples[3].slug), 3, -1)
    assert clips.labels.tolist() == [SLUGS.index(sample.slug) for sample in samples]
    assert clips[ItemKey(3, 2)].epoch == 2


def test_a_waveform_model_gets_the_wave(samples: list[Sample]) -> None:
    clips = heard(samples, WaveEnd(), "waveform", cache_below=0)
    assert torch.equal(clips[0].x, torch.from_numpy(load_clip(samples[0], 16_000, 16_000)))
    assert clips[ItemKey(0, 0)].x.shape == (16_000,)
    assert not torch.equal(clips[ItemKey(0, 0)].x, clips[0].x)


def test_features_are_made_once_and_are_the_same_kept_or_not(samples: list[Sample]) -> None:
    kept, fresh = heard(samples), heard(samples, cache_gib=0.0)
    for _ in range(2):
        for index in range(len(samples)):
            assert torch.allclose(kept[index].x, fresh[index].x, atol=0.01)
    assert kept.front_end.asked - 3 == len(samples) == kept.cache.filled  # silence and two levels of noise before
    assert fresh.front_end.asked - 3 == 2 * len(samples) and fresh.cache_gib == 0
    speed = kept.speed
    assert (speed.made, speed.kept) == (len(samples), len(samples))
    assert speed.factor is not None and speed.factor > 1 and fresh.speed.factor is None


def test_the_first_epoch_is_the_same_as_a_later_one_begun_anew(samples: list[Sample]) -> None:
    """A resumed training has an empty memory: what it makes must be what it would have found there."""
    clips, resumed = heard(samples), heard(samples)
    before = [clips[ItemKey(index, 0)].x for index in range(4)]
    for key in (ItemKey(index, 1) for index in range(4)):
        assert torch.equal(clips[key].x, resumed[key].x)
    assert all(torch.equal(clips[ItemKey(index, 0)].x, before[index]) for index in range(4))


@pytest.mark.parametrize("changes", [{"cache_below": 5}, {"cache_below": 0}, {"cache_gib": 1e-6}])
def test_a_split_that_is_too_large_is_not_kept(samples: list[Sample], changes: dict[str, Any]) -> None:
    assert len(heard(samples, **changes).cache) == 0


def test_workers_fill_the_memory_that_all_share(samples: list[Sample]) -> None:
    clips = heard(samples)
    config = data_config()
    stream = Stream(len(clips), 4, config.seed)
    loader = DataLoader(
        clips, batch_sampler=[stream.batch_at(place) for place in range(len(clips) // 4 + 1)], num_workers=2,
        collate_fn=lambda items: items, multiprocessing_context="fork",
    )  # fmt: skip
    first = [item for items in loader for item in items]
    assert clips.cache.filled == len(clips) and clips.speed.made >= len(clips)
    again = [item for items in loader for item in items]
    assert clips.speed.kept >= len(clips)
    assert all(torch.equal(one.x, other.x) for one, other in zip(first, again, strict=True))
    assert torch.equal(clips[ItemKey(first[0].clip, 0)].x, first[0].x)


def test_a_worker_that_inherits_nothing_opens_the_memory_by_its_name(samples: list[Sample]) -> None:
    clips = heard(samples)
    clips.cache = FeatureCache(len(clips), clips.shape, inherited=False)
    there = pickle.loads(pickle.dumps(clips))
    theirs = there[2].x
    assert clips.cache.filled == 1 and torch.equal(clips[2].x, theirs)
    assert (clips.speed.made, clips.speed.kept) == (1, 1)
    path = Path(clips.cache._path or "")
    assert path.is_file()
    del clips, there
    gc.collect()
    assert not path.exists()


def test_inherited_memory_stays_behind_when_clips_are_pickled(samples: list[Sample]) -> None:
    clips = heard(samples)
    assert clips[0].x is not None
    there = pickle.loads(pickle.dumps(clips))
    assert len(there.cache) == 0 and torch.allclose(there[0].x, clips[0].x, atol=0.01)
    assert torch.allclose(there[ItemKey(0, 3)].x, clips[ItemKey(0, 3)].x, atol=0.01)


def test_the_rise_of_a_decibel_is_measured(samples: list[Sample]) -> None:
    nats_per_db = 0.2302585
    assert heard(samples).per_db == pytest.approx(nats_per_db / 4, rel=0.02)
    assert heard(samples, MelEnd(level=True)).per_db == 0.0
    assert heard(samples, WaveEnd(), "waveform").per_db == 0.0


def test_a_clip_that_cannot_be_augmented_is_used_as_it_is_with_one_warning(
    samples: list[Sample], say: Callable[[str, str], None], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = Clips(samples, data_config(), MelEnd(), "spectrogram", say)

    def fail(*args: object) -> None:
        raise RuntimeError("stft input is too short\nmore")

    monkeypatch.setattr(clips_module, "augment_spectrogram", fail)
    for index in range(3):
        assert torch.equal(clips[ItemKey(index, 0)].x, clips[index].x)
    assert said == [
        f"warning: {samples[0].sample_id} cannot be augmented and is used as it is (stft input is too short); "
        "further ones without a word."
    ]
    monkeypatch.setattr(clips_module, "augment_spectrogram", lambda x, *rest: x * float("nan"))
    assert torch.equal(clips[ItemKey(4, 0)].x, clips[4].x)


def test_statistics_and_raw_waves(samples: list[Sample]) -> None:
    clips = heard(samples)
    mean, deviation = clips.mean_and_deviation()
    every = torch.stack([clips[index].x for index in range(len(clips))])
    assert (mean, deviation) == (pytest.approx(float(every.mean()), rel=1e-4), pytest.approx(float(every.std()), 1e-3))
    assert [wave.shape for wave in clips.waves(3)] == [(16_000,)] * 3


# --- as a Lightning data module


def module(made_set: Path, context: Context, **changes: Any) -> SousaData:
    config = data_config(path=str(made_set), **changes)
    config.training.batch_size = 4
    data = SousaData(config, context, MelEnd())
    data.prepare_data()
    return data


def test_the_module_gives_three_splits_whose_players_never_meet(made_set: Path, context: Context) -> None:
    data = module(made_set, context)
    data.setup()
    splits = (data.train, data.validation, data.test)
    assert [len(clips) for clips in splits] == [
        len(data.train_samples), len(data.validation_samples), len(data.test_samples)
    ]  # fmt: skip
    players = [{sample.profile_id for sample in clips.samples} for clips in splits]
    assert sum(map(len, players)) == len(set().union(*players)) == 12
    events = (context.run.path / "events.jsonl").read_text()
    assert '"description":"check the sounds"' in events


def test_training_batches_are_augmented_and_mixed_and_validation_and_test_never(
    made_set: Path, context: Context
) -> None:
    data = module(made_set, context)
    data.setup()
    for loader, clips in ((data.val_dataloader(), data.validation), (data.test_dataloader(), data.test)):
        for _ in range(2):
            batches = list(loader)
            assert sum(len(batch.label) for batch in batches) == len(clips)
            for batch in batches:
                assert isinstance(batch, Batch)
                plain = torch.stack([clips[int(index)].x for index in batch.clip])
                assert torch.equal(batch.x, plain)
                assert torch.equal(batch.label, batch.other) and torch.equal(batch.share, torch.ones(len(batch.share)))
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train) // 4
    assert any(float(batch.share.min()) < 1 for batch in batches)
    for batch in batches:
        plain = torch.stack([data.train[int(index)].x for index in batch.clip])
        assert not torch.equal(batch.x, plain) and torch.isfinite(batch.x).all()


def test_the_training_loader_goes_on_with_another_epoch(made_set: Path, context: Context) -> None:
    data = module(made_set, context)
    data.setup("fit")
    loader = data.train_dataloader()
    first, second = (torch.cat([batch.clip for batch in loader]).tolist() for _ in range(2))
    assert first != second and len(set(first)) == len(first)


def test_memory_is_shared_out_among_the_splits(made_set: Path, context: Context) -> None:
    size = 24 * 167 * 2 / 2**30
    data = module(made_set, context, cache_gib=20 * size)
    data.setup()
    assert len(data.train_samples) + len(data.validation_samples) > 20 >= len(data.train_samples)
    assert len(data.train.cache) == len(data.train) and len(data.validation.cache) == 0


def test_the_network_decides_how_the_sound_goes_in(made_set: Path, context: Context) -> None:
    config: SousaConfig = data_config(path=str(made_set))
    data = SousaData(config, context)
    data.setup("test")
    with pytest.raises(RuntimeError, match="hear_through"):
        _ = data.test
    data.hear_through(WaveEnd(), "waveform")
    assert data.test[0].x.shape == (16_000,)
    assert split_samples(config, context, "test") == data.test_samples
