"""What is said about a track: known signals, hostile ones, and parts against the whole."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wavedeck.engine.samples.measures import Measures, measure, measure_blocks


def sine(frequency: float = 440.0, rate: int = 48000, seconds: float = 2.0, phase: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate + phase).astype(np.float32)


def test_a_sine() -> None:
    found = measure(0.5 * sine(997), 48000)
    assert (found.frames, found.rate, found.channels) == (96000, 48000, 1)
    assert found.rms_db == pytest.approx(-9.03, abs=0.01)
    assert found.peak_db == pytest.approx(-6.02, abs=0.01)
    assert found.true_peak_db == pytest.approx(-6.02, abs=0.05)
    assert found.loudness_lufs == pytest.approx(-9.03, abs=0.05)
    assert (found.clipped, found.silence, found.not_finite) == (0, 0, 0)
    assert abs(found.dc_offset) < 1e-4


def test_mono_is_heard_from_two_loudspeakers() -> None:
    mono, stereo = measure(sine(), 48000), measure(np.stack([sine(), sine()], axis=1), 48000)
    assert stereo.loudness_lufs == pytest.approx(mono.loudness_lufs + 3.01, abs=0.01)
    assert mono.heard_lufs == pytest.approx(stereo.heard_lufs, abs=0.01)


def test_eight_channels_are_heard_as_the_player_mixes_them() -> None:
    from wavedeck.engine.playback.tracks import mapped

    audio = np.random.default_rng(0).standard_normal((48000, 8)).astype(np.float32) * 0.1
    found = measure(audio, 48000)
    assert found.heard_lufs == pytest.approx(measure(mapped(audio, 2), 48000).loudness_lufs, abs=0.01)


def test_the_true_peak_lies_between_samples() -> None:
    """A sine of a quarter of the rate, caught at ±45°: its samples are 3 dB below its top."""
    found = measure(0.5 * sine(12000, phase=math.pi / 4), 48000)
    assert found.peak_db == pytest.approx(-9.03, abs=0.01)
    assert found.true_peak_db == pytest.approx(-6.02, abs=0.3)


def test_the_true_peak_agrees_with_a_finer_resampler() -> None:
    soxr = pytest.importorskip("soxr")
    rng = np.random.default_rng(3)
    noise = soxr.resample(rng.standard_normal(4000).astype(np.float32), 16000, 48000) * 0.2
    theirs = 20 * math.log10(np.abs(soxr.resample(noise, 48000, 48000 * 16)).max())
    assert measure(noise, 48000).true_peak_db == pytest.approx(theirs, abs=0.3)


@pytest.mark.parametrize(
    ("samples", "clipped"),
    [
        ([0.2, 1.0, 0.3], 0),  # normalised, not clipped
        ([1.0, 1.0, 0.1], 0),
        ([1.0, 1.0, 1.0], 3),
        ([-1.0, -1.0, -1.0, 0.0, 1.0], 3),
        ([0.0, 1.2, 0.0], 1),
        ([1.2, 1.0, 0.0, -1.5, -1.5, -1.5, -1.5], 5),
        ([], 0),
    ],
)
def test_clipping(samples: list[float], clipped: int) -> None:
    audio = np.array(samples, np.float32)[:, None]
    assert measure(audio, 8000).clipped == clipped
    assert measure_blocks([audio[at : at + 1] for at in range(len(audio))], 8000, 1).clipped == clipped


def test_offset_of_the_worst_channel_and_silence() -> None:
    audio = np.zeros((48000, 2), np.float32)
    audio[:, 1] = -0.25
    assert measure(audio, 48000).dc_offset == pytest.approx(-0.25)
    half = np.concatenate((sine(seconds=1), np.zeros(48000, np.float32)))
    assert measure(half, 48000).silence == pytest.approx(0.5, abs=0.02)


def test_samples_that_are_no_numbers_are_counted_and_silent() -> None:
    audio = 0.5 * sine()
    audio[[5, 6, 7]] = np.nan, np.inf, -np.inf
    found = measure(audio, 48000)
    assert found.not_finite == 3
    assert all(math.isfinite(getattr(found, field.name)) for field in dataclasses.fields(Measures))


@pytest.mark.parametrize("audio", [np.zeros((0, 1)), np.zeros((10, 3)), np.zeros((48000, 2)), np.full((99, 1), np.nan)])
def test_nothing_to_measure_is_silence(audio: np.ndarray) -> None:
    found = measure(audio.astype(np.float32), 48000)
    assert found.rms_db == found.peak_db == found.true_peak_db == found.loudness_lufs == -math.inf
    assert found.silence == 1.0
    assert found.dc_offset == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 6000), max_size=5), st.integers(1, 9))
@example(193, [442], 8)  # a peak between samples none of which is near the largest
def test_blocks_of_any_size_say_the_same(seed: int, cuts: list[int], channels: int) -> None:
    rng = np.random.default_rng(seed)
    audio = (rng.standard_normal((6000, channels)) * 0.6).round(1).astype(np.float32)
    bounds = [0, *sorted(cuts), len(audio)]
    parts = measure_blocks([audio[a:b] for a, b in zip(bounds, bounds[1:], strict=False)], 4000, channels)
    whole = measure(audio, 4000)
    for field in dataclasses.fields(Measures):
        assert getattr(parts, field.name) == pytest.approx(getattr(whole, field.name), abs=1e-3), field.name
