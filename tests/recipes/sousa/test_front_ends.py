"""The front ends against the code that the models came with, and what they say about clips that do not suit them."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.recipes.audio.features import ClapMel, EfficientMel, KaldiMel, LogMel  # noqa: E402
from wavedeck.recipes.audio.torchaudio_guard import load_torchaudio  # noqa: E402
from wavedeck.recipes.sousa.models.base import FrontEnd  # noqa: E402
from wavedeck.recipes.sousa.models.front_ends import (  # noqa: E402
    AST_CONSTANTS,
    ClapEnd,
    EfficientEnd,
    KaldiEnd,
    LogMelEnd,
    WaveformEnd,
    empty_bands,
    measured,
    mismatch,
)


def sound(rate: int, seconds: float, level: float = 0.1, noise: float = 0.3) -> Tensor:
    """A sine of 440 Hz and noise, `wave_S`."""
    time_S = torch.arange(round(rate * seconds)) / rate
    noise_S = torch.randn(len(time_S), generator=torch.Generator().manual_seed(1))
    return level * (torch.sin(2 * math.pi * 440 * time_S) + noise * noise_S)


def waveform_end(data_rate: int = 16_000) -> WaveformEnd:
    return WaveformEnd(data_rate, KaldiMel(shape="povey", scale=2.0**15), 128, 10.0)


def every_end(data_rate: int = 16_000) -> list[FrontEnd]:
    return [
        LogMelEnd(data_rate, 48, 6.0, 20.0), KaldiEnd(data_rate), waveform_end(data_rate), ClapEnd(data_rate),
        EfficientEnd(data_rate),
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "scale"), [("hanning", 1.0), ("povey", 2.0**15)])
def test_the_filter_bank_is_kaldis(shape: str, scale: float) -> None:
    wave_S = sound(16_000, 0.7)
    ours_MF = KaldiMel(shape=shape, scale=scale)(wave_S)
    theirs_FM = load_torchaudio().module.compliance.kaldi.fbank(
        wave_S[None] * scale, num_mel_bins=128, sample_frequency=16_000, window_type=shape
    )
    assert ours_MF.shape == (128, KaldiMel().frames(len(wave_S)))
    assert torch.allclose(ours_MF, theirs_FM.T, atol=2e-3)


def test_many_clips_at_once_are_each_alone() -> None:
    waves_BS = torch.stack([sound(16_000, 0.3), sound(16_000, 0.3, level=0.5)])
    for bank in (KaldiMel(), ClapMel(16_000), EfficientMel(), LogMel()):
        assert torch.allclose(bank(waves_BS)[1], bank(waves_BS[1]), atol=1e-4)


def test_asts_is_the_published_extractors() -> None:
    extractors = pytest.importorskip("transformers")
    wave_S = sound(16_000, 2.0)
    theirs = extractors.ASTFeatureExtractor()(wave_S.numpy(), sampling_rate=16_000, return_tensors="pt")
    ours_MF = KaldiEnd(16_000)(wave_S)
    assert ours_MF.shape == (128, 198)
    assert torch.allclose(ours_MF.T, theirs["input_values"][0, :198], atol=2e-3)


def test_hts_ats_is_claps_extractors() -> None:
    extractors = pytest.importorskip("transformers")
    published = extractors.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    wave_S = sound(48_000, 10.0)
    theirs_FM = published(wave_S.numpy(), sampling_rate=48_000, return_tensors="pt")["input_features"][0, 0]
    ours_MF = ClapEnd(48_000)(wave_S)
    assert ours_MF.shape == (64, 1001)
    assert torch.allclose(ours_MF.T, theirs_FM.float(), atol=0.02)


def test_efficient_ats_is_its_recipe() -> None:
    """The published recipe, step by step in numpy: pre-emphasis, a window of 800 in the middle of 1024, 128 bands."""
    wave = sound(32_000, 0.2).double().numpy()
    sharp = wave[1:] - 0.97 * wave[:-1]
    window = np.pad(np.hanning(800), 112)
    padded = np.pad(sharp, 512, mode="reflect")
    frames = np.stack([padded[start : start + 1024] for start in range(0, len(sharp) + 1, 320)])
    power_FK = np.abs(np.fft.rfft(frames * window)) ** 2
    bank_MK, _ = load_torchaudio().module.compliance.kaldi.get_mel_banks(
        128, 1024, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0
    )
    mel_MF = np.pad(bank_MK.numpy(), ((0, 0), (0, 1))) @ power_FK.T
    ours_MF = EfficientEnd(32_000)(sound(32_000, 0.2))
    assert np.allclose(ours_MF.numpy(), (np.log(mel_MF + 1e-5) + 4.5) / 5, atol=1e-3)


def test_every_front_end_resamples_and_keeps_the_pitch() -> None:
    for at_home, resampled in zip(every_end(16_000), every_end(48_000), strict=True):
        if isinstance(at_home, LogMelEnd):
            continue
        low_MF, high_MF = at_home.raw(sound(16_000, 0.5, noise=0.001)), resampled.raw(sound(48_000, 0.5, noise=0.001))
        assert abs(int(low_MF.mean(dim=-1).argmax()) - int(high_MF.mean(dim=-1).argmax())) <= 1


def test_silence_is_what_silence_gives() -> None:
    for front_end in every_end():
        assert front_end(torch.zeros(16_000)).median().item() == pytest.approx(front_end.silence, abs=1e-3)


def test_front_ends_say_what_they_are_and_learn_nothing() -> None:
    names = {front_end.name for front_end in every_end()}
    assert len(names) == 5
    assert "Kaldi fbank 128 × 10 ms at 16 kHz, (x + 4.268) / 9.138" in names
    assert all(not list(front_end.parameters()) for front_end in every_end())


def test_measured_counts_every_value_before_normalisation() -> None:
    front_end = KaldiEnd(16_000)
    waves = [sound(16_000, 0.3), sound(16_000, 0.6, level=0.01)]
    values = torch.cat([front_end.raw(wave_S).flatten() for wave_S in waves])
    mean, deviation = measured(front_end, waves)
    assert mean == pytest.approx(values.mean().item(), abs=1e-4)
    assert deviation == pytest.approx(values.std(correction=0).item(), abs=1e-4)
    with pytest.raises(WavedeckError, match="there is no clip"):
        measured(front_end, [])


def test_a_mismatch_is_told_beyond_half_a_deviation() -> None:
    """Upstream's own: AudioSet's constants on another spectrogram, mean +1.94 and deviation 4.37."""
    front_end = KaldiEnd(16_000)
    mean, deviation = AST_CONSTANTS
    assert mismatch(front_end, (mean + 0.49 * deviation, deviation)) is None
    assert "mean 1.94 and deviation 4.37" in (mismatch(front_end, (1.94, 4.37)) or "")
    assert mismatch(front_end, (mean, 3 * deviation)) is not None
    assert mismatch(ClapEnd(16_000), (0.0, 1.0)) is None


def test_bands_that_stay_empty_are_told() -> None:
    assert "data.sample_rate=48000" in (empty_bands(ClapEnd(16_000), 16_000) or "")
    assert empty_bands(ClapEnd(32_000), 32_000) is None
    assert empty_bands(KaldiEnd(16_000), 16_000) is None
