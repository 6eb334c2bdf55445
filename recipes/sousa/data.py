"""Clips as log-mel spectrograms in memory, with augmentation that is a pure function of (seed, epoch, clip).

Shapes: M mel bands, F frames, S samples. A clip is `mel_MF`, natural log.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from ...engine.context import Context
from ...engine.training.stream import ItemKey, item_rng
from ..audio.features import LogMel
from ..audio.files import AudioFileError, read_audio
from ..audio.torchaudio_guard import load_torchaudio
from .config import AugmentConfig, SousaConfig
from .tables import DataError, Sample, class_names, read_samples, set_directory

_HALF_BYTES = 2


class Clips(Dataset[tuple[Tensor, int]]):
    """Clips of one split as (`mel_MF` float32, label).

    Asked with an `ItemKey` it augments, asked with a plain index it does not. Spectrograms are kept as 16-bit floats
    (error below 0.01 nats) when they all fit in `data.cache_gib`, otherwise computed each time.
    """

    def __init__(self, samples: Sequence[Sample], config: SousaConfig, context: Context, description: str) -> None:
        self.samples, self.config = samples, config
        classes = {slug: label for label, slug in enumerate(class_names(config))}
        self.labels = torch.tensor([classes[sample.slug] for sample in samples])
        self.length = round(config.data.duration_s * config.data.sample_rate)
        features = config.features
        self.log_mel = LogMel(config.data.sample_rate, features.hop_ms / 1000, features.window_ms / 1000, features.mels)
        self.frames = self.length // self.log_mel.hop + 1
        self._cache = self._fill(context, description) if self._fits() else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: ItemKey | int) -> tuple[Tensor, int]:
        index = key.item if isinstance(key, ItemKey) else key
        mel_MF = self._spectrogram(index) if self._cache is None else self._cache[index].float()
        if isinstance(key, ItemKey):
            frame_ms = self.config.features.hop_ms
            mel_MF = augment(mel_MF, self.config.augment, frame_ms, item_rng(self.config.seed, key))
        return mel_MF, int(self.labels[index])

    def mean_and_deviation(self, limit: int = 500) -> tuple[float, float]:
        """Of the log-mel values over up to `limit` clips: what the model's input is normalised with."""
        step = max(1, len(self) // limit)
        some = torch.stack([self[index][0] for index in range(0, len(self), step)])
        return float(some.mean()), float(some.std())

    def _fits(self) -> bool:
        size = len(self) * self.config.features.mels * self.frames * _HALF_BYTES
        return size <= self.config.data.cache_gib * 2**30

    def _fill(self, context: Context, description: str) -> Tensor:
        cache = torch.empty((len(self), self.config.features.mels, self.frames), dtype=torch.float16)
        for index in context.track(range(len(self)), len(self), "clip", description):
            cache[index] = self._spectrogram(index)
        return cache

    @torch.no_grad()
    def _spectrogram(self, index: int) -> Tensor:
        wave_S = load_clip(self.samples[index], self.config.data.sample_rate, self.length)
        return self.log_mel(torch.from_numpy(wave_S))


def load_clip(sample: Sample, sample_rate: int, length: int) -> np.ndarray:
    """The sound of a clip at `sample_rate` Hz, cut or padded with silence to `length` samples.

    A file of a higher rate is resampled; one of a lower rate is refused, for its upper bands would be empty.

    Raises
    ------
    DataError: the file is missing, damaged, or of too low a rate; the sentence names it and says what to do.
    """
    try:
        wave_S, rate = read_audio(sample.audio)
    except AudioFileError as error:
        raise DataError(
            f"{error} Take {sample.sample_id} out of samples.csv, or delete the folder to have it made again."
        ) from error
    if rate < sample_rate:
        raise DataError(f"{sample.audio} has {rate} Hz, less than data.sample_rate={sample_rate}: set it to {rate}.")
    if rate > sample_rate:
        resample = load_torchaudio().module.functional.resample
        wave_S = resample(torch.from_numpy(wave_S), rate, sample_rate).numpy()
    out_S = np.zeros(length, dtype=np.float32)
    out_S[: min(length, len(wave_S))] = wave_S[:length]
    return out_S


def augment(mel_MF: Tensor, config: AugmentConfig, frame_ms: float, rng: Generator) -> Tensor:
    """Shift in time, change of level, SpecAugment masks (Park et al. 2019) too short to hide a grace note."""
    quiet = float(mel_MF.min())
    out_MF = torch.full_like(mel_MF, quiet)
    shift = round(float(rng.uniform(-config.shift_ms, config.shift_ms)) / frame_ms)
    frames = mel_MF.shape[1]
    source = slice(max(0, -shift), frames - max(0, shift))
    out_MF[:, max(0, shift) : frames + min(0, shift)] = mel_MF[:, source]
    # decibels of power to nats
    out_MF += float(rng.uniform(-config.gain_db, config.gain_db)) * float(np.log(10) / 10)
    fill = float(out_MF.mean())
    widest = int(config.time_mask_ms / frame_ms)
    for _ in range(config.time_masks if widest else 0):
        width, start = int(rng.integers(0, widest + 1)), int(rng.integers(0, frames - widest))
        out_MF[:, start : start + width] = fill
    if config.mel_mask:
        width = int(rng.integers(0, config.mel_mask + 1))
        start = int(rng.integers(0, mel_MF.shape[0] - width + 1))
        out_MF[start : start + width] = fill
    return out_MF


def split_samples(config: SousaConfig, context: Context, split: str) -> list[Sample]:
    """The clips of one split; says so when some class has none there.

    Raises
    ------
    DataError: the split is empty, or the set is not usable.
    """
    classes = class_names(config)
    samples = [
        sample for sample in read_samples(set_directory(config, context.data_root), classes) if sample.split == split
    ]
    if not samples:
        raise DataError(f"the {split} split is empty: raise data.clips or data.profiles.")
    heard = {sample.slug for sample in samples}
    absent = [slug for slug in classes if slug not in heard]
    if absent:
        context.say(f"the {split} split has no clip of {', '.join(absent)}: its scores leave them out.", "warning")
    return samples
