"""The mel spectrogram: sines and clicks where they belong, levels that are true, hostile input, reading by parts."""

from __future__ import annotations

import numpy as np
import pytest

from wavedeck.engine.samples.spectrogram import (
    FLOOR_DB,
    hz_to_mel,
    mel_filters,
    mel_spectrogram,
    mel_to_hz,
    read_spectrogram,
)


def sine(frequency: float, rate: int, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100, 48000, 192000])
def test_a_full_scale_sine_is_0_db_in_its_band(rate: int) -> None:
    frequency = rate / 5.3
    picture = mel_spectrogram(sine(frequency, rate, 1.0), rate, 50)
    assert picture.db.shape == (80, 50)
    band = int(np.argmin(np.abs(picture.centres_hz - frequency)))
    assert abs(int(picture.db[:, 25].argmax()) - band) <= 1
    assert -5 < picture.db[:, 25].max() < 1  # a sine on the border of two narrow bands is shared by them
    assert picture.db[band - 20, 25] < -60


@pytest.mark.parametrize("rate", [4000, 16000, 48000, 192000])
def test_no_band_is_empty_and_none_of_the_spectrum_is_left_out(rate: int) -> None:
    weights, centres = mel_filters(rate, 80)
    assert (weights.max(axis=0) > 0.4).all()
    bins = np.linspace(0, rate / 2, len(weights))
    assert (weights[(bins > centres[0]) & (bins < centres[-1])].sum(axis=1) > 0.9).all()
    assert (np.diff(centres) > 0).all()


def test_a_click_is_in_its_column_only() -> None:
    audio = np.zeros(48000 * 10, np.float32)
    audio[48000 * 3 + 17] = 1.0
    picture = mel_spectrogram(audio, 48000, 100)
    loud = np.flatnonzero(picture.db.max(axis=0) > -60)
    assert 30 in loud
    assert set(loud) <= {29, 30, 31}


def test_channels_add_up_and_a_half_is_6_db_less() -> None:
    both = np.stack([sine(1000, 16000, 1), np.zeros(16000, np.float32)], axis=1)
    one, two = mel_spectrogram(both[:, :1], 16000, 10).db, mel_spectrogram(both, 16000, 10).db
    assert one.max() - two.max() == pytest.approx(3.01, abs=0.01)
    assert one.max() - mel_spectrogram(both[:, :1] * 0.5, 16000, 10).db.max() == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize("frames", [0, 1, 31, 500])
def test_clips_shorter_than_a_window(frames: int) -> None:
    picture = mel_spectrogram(np.full(frames, 0.5, np.float32), 48000, 7)
    assert picture.db.shape == (80, 7)
    assert np.isfinite(picture.db).all()


def test_silence_and_samples_that_are_no_numbers() -> None:
    assert (mel_spectrogram(np.zeros((4800, 8), np.float32), 48000, 9).db == FLOOR_DB).all()
    audio = sine(440, 48000, 1)
    audio[100:200] = np.nan
    audio[300] = -np.inf
    assert np.isfinite(mel_spectrogram(audio, 48000, 9).db).all()


def test_an_hour_is_read_by_parts_and_the_picture_says_so() -> None:
    rate, frames = 16000, 16000 * 3600
    seen = 0

    def read(start: int, count: int) -> np.ndarray:
        nonlocal seen
        seen += count
        at = np.arange(start, start + count)
        return np.where(at < frames // 2, np.sin(2 * np.pi * 500 * at / rate), 0)[:, None].astype(np.float32)

    picture = read_spectrogram(read, 0, frames, rate, 160)
    assert picture.sampled
    assert seen < frames / 50
    assert (picture.db[:, :79].max(axis=0) > -3).all()
    assert (picture.db[:, 81:] == FLOOR_DB).all()


def test_a_region_is_the_same_part_of_the_picture() -> None:
    audio = np.concatenate((sine(300, 16000, 1), sine(3000, 16000, 1)))
    region = read_spectrogram(lambda start, count: audio[start : start + count], 16000, 32000, 16000, 20)
    assert (region.start, region.end, region.sampled) == (16000, 32000, False)
    assert abs(region.centres_hz[region.db[:, 10].argmax()] - 3000) < 150


def test_mel_and_back() -> None:
    hz = np.array([0.0, 60, 999, 1000, 5000, 24000])
    assert mel_to_hz(hz_to_mel(hz)) == pytest.approx(hz, abs=1e-6)
    assert hz_to_mel(np.array([1000.0])) == pytest.approx([15])
