"""The overview against brute force: no spike is lost at any zoom, what is missing is known, any order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.samples.overview import BUCKET, FACTOR, Overview, columns_of


def filled(audio: np.ndarray, blocks: int = 16) -> Overview:
    overview = Overview(len(audio), audio.shape[1])
    for start in range(0, len(audio), blocks * BUCKET):
        overview.put(start, audio[start : start + blocks * BUCKET])
    return overview


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300_000), st.integers(1, 300), st.integers(1, 3), st.data())
def test_columns_hold_every_extreme(seed: int, frames: int, columns: int, channels: int, data: st.DataObject) -> None:
    audio = np.random.default_rng(seed).standard_normal((frames, channels)).astype(np.float32)
    start = data.draw(st.integers(0, frames - 1))
    end = data.draw(st.integers(start + 1, frames))
    found = filled(audio).columns(start, end, columns)
    assert found.minimum.shape == found.maximum.shape == found.rms.shape == (columns, channels)
    assert not np.isnan(found.minimum).any()
    for index in range(0, columns, max(1, columns // 7)):
        first = int(start + (end - start) * index / columns)
        last = max(first + 1, int(start + (end - start) * (index + 1) / columns))
        assert (found.minimum[index] <= audio[first:last].min(axis=0)).all()
        assert (found.maximum[index] >= audio[first:last].max(axis=0)).all()
    reach = BUCKET * (FACTOR if (end - start) / columns >= 4 * BUCKET * FACTOR else 1)
    around = audio[max(0, start // reach * reach) : -(-end // reach) * reach]
    assert (found.minimum.min(axis=0) >= around.min(axis=0)).all()
    assert (found.maximum.max(axis=0) <= around.max(axis=0)).all()
    assert (found.rms <= np.maximum(np.abs(found.minimum), np.abs(found.maximum)) + 1e-6).all()


def test_one_sample_in_an_hour_is_seen() -> None:
    frames = 8000 * 3600
    audio = np.zeros((frames, 1), np.float32)
    audio[12_345_678] = 0.9
    found = filled(audio, 4096).columns(0, frames, 160)
    assert np.flatnonzero(found.maximum[:, 0] > 0.8).tolist() == [12_345_678 * 160 // frames]


def test_the_level_of_a_square_wave() -> None:
    audio = np.where(np.arange(100 * BUCKET) % 8 < 4, 0.5, -0.5).astype(np.float32)[:, None]
    assert filled(audio).columns(0, len(audio), 10).rms == pytest.approx(0.5)


def test_what_is_missing_is_known_in_any_order() -> None:
    audio = np.ones((10 * BUCKET + 3, 2), np.float32)
    overview = Overview(len(audio), 2)
    assert overview.missing() == [(0, len(audio))]
    overview.put(8 * BUCKET, audio[8 * BUCKET :])
    overview.put(2 * BUCKET, audio[2 * BUCKET : 4 * BUCKET])
    assert overview.missing() == [(0, 2 * BUCKET), (4 * BUCKET, 8 * BUCKET)]
    assert overview.missing(3 * BUCKET, 5 * BUCKET) == [(4 * BUCKET, 5 * BUCKET)]
    assert overview.known == pytest.approx(5 / 11)
    found = overview.columns(0, len(audio), 11)
    assert np.isnan(found.minimum[0]).all()
    assert np.isnan(found.rms[5]).all()
    assert found.maximum[2].tolist() == [1, 1]
    overview.put(0, audio[: 2 * BUCKET])
    overview.put(4 * BUCKET, audio[4 * BUCKET : 8 * BUCKET])
    assert overview.missing() == []
    assert overview.known == 1.0


def test_samples_that_are_no_numbers_are_marked() -> None:
    audio = np.full((20 * BUCKET, 1), 0.25, np.float32)
    audio[5 * BUCKET + 7] = np.nan
    audio[6 * BUCKET] = np.inf
    found = filled(audio).columns(0, len(audio), 20)
    assert np.flatnonzero(found.bad).tolist() == [5, 6]
    assert found.maximum.max() == np.float32(0.25)
    assert found.minimum[5, 0] == 0


@pytest.mark.parametrize(("start", "frames"), [(1, BUCKET), (0, BUCKET - 1), (9 * BUCKET, 2 * BUCKET)])
def test_blocks_that_do_not_fit_are_refused(start: int, frames: int) -> None:
    with pytest.raises(ValueError, match="whole buckets"):
        Overview(10 * BUCKET, 1).put(start, np.zeros((frames, 1), np.float32))


def test_empty_clips_and_ranges() -> None:
    assert Overview(0, 1).known == 1.0
    assert Overview(0, 2).columns(0, 0, 5).minimum.shape == (5, 2)
    assert Overview(100, 2).columns(50, 50, 5).bad.tolist() == [False] * 5
    assert columns_of(np.zeros((0, 2), np.float32), 3).minimum.shape == (3, 2)


def test_columns_of_samples() -> None:
    audio = np.array([0, 3, -1, 2, np.nan, 5], np.float32)[:, None]
    found = columns_of(audio, 3)
    assert found.minimum[:, 0].tolist() == [0, -1, 0]
    assert found.maximum[:, 0].tolist() == [3, 2, 5]
    assert found.bad.tolist() == [False, False, True]
    narrow = columns_of(audio[:2], 4)
    assert narrow.maximum[:, 0].tolist() == [0, 0, 3, 3]
