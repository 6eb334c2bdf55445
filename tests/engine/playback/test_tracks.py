"""Sources made safe: rates and channels from any place on, hostile readers, loops from memory, the null test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.playback import Source, difference
from wavedeck.engine.playback.model import position_at
from wavedeck.engine.playback.tape import Renderer, Timeline
from wavedeck.engine.playback.tracks import Reel, Track, mapped

Make = Callable[..., Source]


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


@pytest.mark.parametrize("own", [4000, 11025, 16000, 44100, 48000, 47999, 96000, 192000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_any_place_of_any_rate_is_the_same_as_resampling_the_whole(array_source: Make, own: int, rate: int) -> None:
    import soxr

    audio = noise(own * 2)
    whole = audio[:, 0] if own == rate else soxr.resample(audio[:, 0], own, rate, quality="HQ")
    track = Track(array_source(audio, own), 1)
    for start in (0, 1, 12_345, rate + 7, 2 * rate - 3000):
        reel = Reel(track, rate, start, 0.0)
        out = np.concatenate([reel.read(count) for count in (1, 500, 1499)])[:, 0]
        expected = whole[start : start + 2000]
        assert out[: len(expected)] == pytest.approx(expected, abs=3e-5), start


def test_channels() -> None:
    eight = noise(10, 8)
    assert mapped(eight, 8) is eight
    assert mapped(eight, 2) == pytest.approx(np.stack([eight[:, ::2].mean(1), eight[:, 1::2].mean(1)], axis=1))
    assert mapped(eight[:, :1], 4)[:, :2] == pytest.approx(np.repeat(eight[:, :1], 2, axis=1))
    assert not mapped(eight[:, :1], 4)[:, 2:].any()
    assert mapped(eight[:, :2], 1)[:, 0] == pytest.approx(eight[:, :2].mean(1))
    assert np.abs(mapped(np.ones((4, 64), np.float32), 2)).max() == 1


def test_reads_outside_the_track_are_silence(array_source: Make) -> None:
    track = Track(array_source(np.ones((10, 1), np.float32)), 1)
    assert track.read(-3, 5)[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert track.read(8, 4)[:, 0].tolist() == [1, 1, 0, 0]
    assert track.read(50, 2)[:, 0].tolist() == [0, 0]
    assert track.warning is None


def test_numbers_of_any_kind_are_taken() -> None:
    for audio in (np.ones((4, 1)), np.ones(4, np.float16), np.ones((4, 1), np.int16), [1, 1, 1, 1]):
        track = Track(Source(lambda start, count, audio=audio: audio[start : start + count], 8000, 1, 4), 1)
        assert track.read(0, 4)[:, 0].tolist() == [1, 1, 1, 1]
        assert track.warning is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(100, 5000),
    st.integers(0, 4000),
    st.integers(0, 4000),
    st.integers(1, 3000),
    st.integers(0, 6000),
    st.data(),
)
def test_a_timeline_is_what_it_says(
    length: int, start: int, first: int, size: int, base: int, data: st.DataObject
) -> None:
    start, first = min(start, length), min(first, length - 1)
    region = data.draw(st.sampled_from([None, (first, min(length, first + size))]))
    timeline = Timeline(start, base, length, region)
    position = start
    for frame in range(base, base + min(3 * length, 8000)):
        assert timeline.position(frame) == position
        position += 1
        if region is not None and start < region[1] and position == region[1]:
            position = region[0]
        position = min(position, length)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 1500), st.integers(10, 800), st.lists(st.integers(1, 700), min_size=20))
def test_rendering_follows_the_timeline(start: int, first: int, size: int, counts: list[int]) -> None:
    audio = noise(2000, 2)
    track = Track(Source(lambda at, count: audio[at : at + count], 8000, 2, 2000), 2)
    timeline = Timeline(start, 0, 2000, (first, min(2000, first + size)))
    renderer = Renderer(track, 8000, 0.0, timeline)
    frame = 0
    for count in counts:
        if timeline.end is not None and frame >= timeline.end:
            assert not len(renderer.render(frame, count))
            return
        block = renderer.render(frame, count)
        assert 0 < len(block) <= count
        places = [timeline.position(frame + n) for n in range(len(block))]
        assert np.array_equal(block, audio[places])
        frame += len(block)


def test_a_loop_is_read_once() -> None:
    reads = []

    def read(start: int, count: int) -> np.ndarray:
        reads.append(start)
        return np.zeros((count, 1), np.float32)

    renderer = Renderer(Track(Source(read, 16000, 1, 16000), 1), 48000, 0.0, Timeline(0, 0, 48000, (480, 960)))
    frame = 0
    for _ in range(4):
        frame += len(renderer.render(frame, 8192))
    seen = len(reads)
    for _ in range(1000):
        frame += len(renderer.render(frame, 8192))
    assert len(reads) == seen


def test_positions_in_seconds() -> None:
    assert position_at(0.0, 1.5, 2.0, None) == 1.5
    assert position_at(1.0, 1.5, 2.0, None) == 2.0
    assert position_at(0.0, 1.5, 2.0, (0.5, 1.0)) == pytest.approx(0.5)
    assert position_at(1.2, 0.5, 2.0, (0.5, 1.0)) == pytest.approx(1.7)


def test_the_difference_of_equal_signals_is_silence(array_source: Make) -> None:
    audio = noise(16000, 2)
    null = difference(array_source(audio, 16000, "a"), array_source(audio.copy(), 16000, "b"))
    assert (null.rate, null.channels, null.frames, null.name) == (16000, 2, 16000, "a − b")
    assert not null.read(0, 16000).any()


def test_the_difference_is_at_the_rate_of_the_first(array_source: Make) -> None:
    at = np.arange(48000)[:, None] / 48000
    fine = (0.5 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
    coarse = (0.25 * np.sin(2 * np.pi * 440 * at[: 48000 // 3] * 3)).astype(np.float32)
    null = difference(array_source(fine), array_source(coarse, 16000, gain_db=6.0206))
    assert (null.rate, null.frames) == (48000, 48000)
    middle = np.concatenate([null.read(start, 1000) for start in (10_000, 11_000, 30_000)])
    assert np.abs(middle).max() < 1e-4


def test_a_difference_with_something_broken_is_the_other_side(array_source: Make) -> None:
    audio = noise(100, 1)
    empty = Source(lambda start, count: audio, 0, 1, 100, "broken")
    assert np.abs(difference(array_source(audio), empty).read(0, 100)) == pytest.approx(np.abs(audio))
    assert difference(empty, array_source(audio)).problem is not None
