"""Sound files in and out, features, and torchaudio with and without its native part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wavedeck.recipes.audio.features import LogMel  # noqa: E402
from wavedeck.recipes.audio.files import AudioFileError, read_audio, write_audio  # noqa: E402
from wavedeck.recipes.audio.torchaudio_guard import load_torchaudio  # noqa: E402

TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)


@pytest.mark.parametrize(("name", "tolerance"), [("a.wav", 0.0), ("a.flac", 1 / 32_000)])
def test_what_is_written_is_what_is_read(tmp_path: Path, name: str, tolerance: float) -> None:
    write_audio(tmp_path / name, TONE, 16_000)
    samples, rate = read_audio(tmp_path / name)
    assert rate == 16_000
    assert samples.dtype == np.float32
    assert np.abs(samples - TONE).max() <= tolerance


def test_stereo_is_averaged(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.stack([TONE, -TONE], axis=1), 44_100)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert (samples.shape, rate) == ((16_000,), 44_100)
    assert np.abs(samples).max() == 0


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"gone\.wav is missing"):
        read_audio(tmp_path / "gone.wav")
    (tmp_path / "text.flac").write_text("not sound")
    with pytest.raises(AudioFileError, match=r"text\.flac is not a readable sound file"):
        read_audio(tmp_path / "text.flac")
    write_audio(tmp_path / "empty.wav", TONE[:0], 16_000)
    with pytest.raises(AudioFileError, match=r"empty\.wav is cut short: 0 of 0"):
        read_audio(tmp_path / "empty.wav")
    with pytest.raises(AudioFileError, match=r"a\.wav cannot be written"):
        write_audio(tmp_path / "no folder" / "a.wav", TONE, 16_000)


def test_a_flac_cut_short_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1, 16_000)
    path.write_bytes(path.read_bytes()[:9_000])
    with pytest.raises(AudioFileError, match=r"a\.flac"):
        read_audio(path)


def test_a_tone_lights_up_its_band_and_a_click_its_frame() -> None:
    log_mel = LogMel(mels=48)
    mel_MF = log_mel(torch.from_numpy(TONE))
    assert mel_MF.shape == (48, 16_000 // 96 + 1)
    mel_of = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    band = (mel_of(1000) - mel_of(60)) / ((mel_of(8000) - mel_of(60)) / 49) - 1
    assert abs(int(mel_MF.mean(dim=1).argmax()) - band) <= 1
    click_S = torch.zeros(16_000)
    click_S[9_600] = 1.0
    assert log_mel(click_S).sum(dim=0).argmax() == 100
    assert log_mel(torch.zeros(2, 16_000)).shape[0] == 2


def test_twice_the_level_is_six_decibels_more() -> None:
    log_mel = LogMel()
    loud, soft = log_mel(torch.from_numpy(TONE)).max(), log_mel(torch.from_numpy(TONE / 2)).max()
    assert float(loud - soft) == pytest.approx(2 * np.log(2), abs=0.01)


def test_torchaudio_loads_here() -> None:
    assert load_torchaudio() is load_torchaudio()
    assert load_torchaudio().module.transforms


def test_a_broken_native_part_costs_only_what_needs_it() -> None:
    """A stand-in for a mismatched pair: the extension module raises what torchaudio 2.11 raises beside another CUDA."""
    code = """
import sys, importlib.abc, importlib.machinery
class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "torchaudio._extension":
            return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module):
        raise RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA versions.")
sys.meta_path.insert(0, Broken())
from wavedeck.recipes.audio.torchaudio_guard import load_torchaudio
found = load_torchaudio()
assert "different CUDA versions" in found.missing_native, found
import torch
from wavedeck.recipes.audio.features import LogMel
assert LogMel()(torch.zeros(16000)).shape[0] == 48
import torchaudio
try:
    torchaudio.functional.forced_align(torch.zeros(1, 2, 3), torch.zeros(1, 1, dtype=torch.int32))
except RuntimeError as error:
    assert "native part" in str(error), error
else:
    raise SystemExit("forced_align worked")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
