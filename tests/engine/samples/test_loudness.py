"""Loudness against an independent meter, by parts, and the gains that match sources."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wavedeck.engine.samples.loudness import LoudnessMeter, integrated_loudness, matching_gains
from wavedeck.engine.samples.measures import measure

pyloudnorm = pytest.importorskip("pyloudnorm")


def clip(rate: int, channels: int, seconds: float = 6.3) -> np.ndarray:
    """Noise that swells, a hum, and a nearly silent stretch that the gates must leave out."""
    rng = np.random.default_rng(rate + channels)
    t = np.arange(round(rate * seconds)) / rate
    audio = rng.standard_normal((len(t), channels)) * 0.1 * (0.2 + np.abs(np.sin(t)))[:, None]
    audio += 0.05 * np.sin(2 * np.pi * 50 * t)[:, None]
    audio[rate * 2 : rate * 4] *= 0.001
    return audio.astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_it_agrees_with_an_independent_meter(rate: int, channels: int) -> None:
    audio = clip(rate, channels)
    # pyloudnorm's default filter is off the standard below 48 kHz; its DeMan filters are the standard's.
    theirs = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(audio.astype(np.float64))
    assert integrated_loudness(audio, rate) == pytest.approx(theirs, abs=0.02)


def test_at_48_khz_it_agrees_with_their_default_too() -> None:
    audio = clip(48000, 2)
    theirs = pyloudnorm.Meter(48000).integrated_loudness(audio.astype(np.float64))
    assert integrated_loudness(audio, 48000) == pytest.approx(theirs, abs=0.1)


def test_a_full_scale_sine_of_997_hz_is_minus_3_01() -> None:
    """The calibration that the standard gives: one channel, 0 dBFS, 997 Hz."""
    sine = np.sin(2 * np.pi * 997 * np.arange(48000 * 4) / 48000).astype(np.float32)
    assert integrated_loudness(sine, 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("size", [1, 777, 48000])
def test_parts_of_any_size_give_the_same(size: int) -> None:
    audio = clip(8000, 2, seconds=23.0 if size > 1 else 2.0)
    meter = LoudnessMeter(8000, 2)
    for start in range(0, len(audio), size):
        meter.add(audio[start : start + size])
    assert meter.integrated() == pytest.approx(integrated_loudness(audio, 8000), abs=1e-4)


def test_asking_in_between_changes_nothing() -> None:
    audio = clip(16000, 1)
    meter = LoudnessMeter(16000, 1)
    for start in range(0, len(audio), 10_000):
        meter.add(audio[start : start + 10_000])
        meter.integrated()
    assert meter.integrated() == pytest.approx(integrated_loudness(audio, 16000), abs=1e-4)


@pytest.mark.parametrize("audio", [np.zeros((0, 1)), np.zeros((100, 2)), np.zeros((96000, 1)), np.ones((4000, 1))])
def test_silence_and_short_clips_have_no_loudness(audio: np.ndarray) -> None:
    assert integrated_loudness(audio.astype(np.float32), 48000) == -math.inf


def test_gains_make_all_as_loud_as_the_first() -> None:
    assert matching_gains([-20, -26, -17], [-10, -12, -3]) == pytest.approx([0, 6, -3])


def test_gains_come_down_together_where_one_would_clip() -> None:
    gains = matching_gains([-20, -30], [-10, -4])
    assert gains[1] - gains[0] == pytest.approx(10)
    assert -4 + gains[1] == pytest.approx(-0.1)


def test_clipping_that_is_there_already_lowers_nothing() -> None:
    assert matching_gains([-10, -12], [1.5, -6]) == pytest.approx([0, 2])


def test_silence_keeps_its_level_and_noise_is_not_blown_up() -> None:
    assert matching_gains([-math.inf, -20, -90], [-math.inf, -6, -80]) == pytest.approx([0, 0, 24])
    assert matching_gains([-math.inf], [-math.inf]) == [0.0]
    assert matching_gains([], []) == []


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.25, 0.399])
def test_a_clip_shorter_than_a_gating_block_has_a_level_to_match_by(seconds: float) -> None:
    t = np.arange(round(seconds * 48000)) / 48000
    stroke = (0.5 * np.sin(2 * np.pi * 1000 * t))[:, None].astype(np.float32)
    levels = []
    for gain in (1.0, 0.25):
        meter = LoudnessMeter(48000, 1)
        meter.add(stroke[:100] * gain)
        meter.add(stroke[100:] * gain)
        assert meter.integrated() == -math.inf  # as the standard has it
        levels.append(meter.level())
    assert levels[0] == pytest.approx(-9.03, abs=0.5)
    assert levels[0] - levels[1] == pytest.approx(12.04, abs=0.01)
    measures = [measure(stroke * gain, 48000) for gain in (1.0, 0.25)]
    gains = matching_gains([one.heard_lufs for one in measures], [one.true_peak_db for one in measures])
    assert gains[1] - gains[0] == pytest.approx(12.04, abs=0.01)
    assert LoudnessMeter(48000, 1).level() == measure(stroke * 0, 48000).heard_lufs == -math.inf
