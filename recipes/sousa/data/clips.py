"""The clips of one split, through the front end of the network that hears them.

Shapes: M mel bands, F frames, S samples.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ....engine.training.stream import ItemKey, item_rng
from ...audio.files import AudioFileError, read_audio
from ...audio.torchaudio_guard import load_torchaudio
from ..config import SousaConfig
from ..errors import DataError
from ..models.base import FrontEnd
from ..tables import Sample, Say, class_names
from .augment import augment_spectrogram, augment_wave
from .batch import PLAIN, Item
from .cache import FeatureCache, Speed, fits

InputKind = Literal["waveform", "spectrogram"]
_PROBE_DB = 6.0
_SPREAD = (0.1, 0.5, 0.9)


class Clips(Dataset[Item]):
    """Clips of one split as `Item`s: `wave_S` or `x_MF` by `input_kind`, made by `front_end`.

    Asked with an `ItemKey` it augments, asked with a plain index it does not; only training asks with keys. Nothing of
    the tables but the label comes with the sound. Features are kept in memory as `data.cache_below` and
    `data.cache_gib` say.

    Parameters
    ----------
    say: told once when a clip cannot be augmented and is used as it is.
    cache_gib: what is left of `data.cache_gib` for this split; all of it when None.
    """

    def __init__(
        self, samples: Sequence[Sample], config: SousaConfig, front_end: FrontEnd, input_kind: InputKind,
        say: Say | None = None, cache_gib: float | None = None,
    ) -> None:  # fmt: skip
        self.samples, self.config = list(samples), config
        self.front_end, self.input_kind = front_end, input_kind
        classes = {slug: label for label, slug in enumerate(class_names(config))}
        self.labels = torch.tensor([classes[sample.slug] for sample in self.samples], dtype=torch.long)
        self.length = round(config.data.duration_s * config.data.sample_rate)
        self.say = say
        self._warned = False
        self.shape = tuple(self._hear(torch.zeros(self.length)).shape)
        self.per_db = self._rise_per_db() if input_kind == "spectrogram" else 0.0
        left_gib = config.data.cache_gib if cache_gib is None else cache_gib
        kept = fits(len(self), self.shape, config.data.cache_below, left_gib)
        self.cache = FeatureCache(len(self) if kept else 0, self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "say": None}  # a worker of another start method warns on its own console

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: ItemKey | int) -> Item:
        index, epoch = (key.item, key.epoch) if isinstance(key, ItemKey) else (int(key), PLAIN)
        began = time.perf_counter()
        x, kept = self.cache.get(index, self._make)
        if isinstance(key, ItemKey):
            x = self._augmented(x, key)
        self.cache.note(kept, time.perf_counter() - began)
        return Item(x, int(self.labels[index]), index, epoch)

    @property
    def speed(self) -> Speed:
        """How long clips took that were made, and ones whose features were kept, with augmentation where there is."""
        return self.cache.speed

    @property
    def cache_gib(self) -> float:
        """Memory that the kept features take once all are there."""
        return len(self.cache) * math.prod(self.shape) * 2 / 2**30

    def mean_and_deviation(self, limit: int = 200) -> tuple[float, float]:
        """Of the front end's values over up to `limit` clips, spread evenly over the split; none of them is kept, so
        that the first epoch makes all."""
        step = max(1, -(-len(self) // limit))
        some = torch.stack([self._make(index) for index in range(0, len(self), step)]).double()
        return float(some.mean()), float(some.std())

    def waves(self, limit: int = 200) -> Iterator[Tensor]:
        """Up to `limit` clips as `wave_S` at `data.sample_rate`, spread evenly over the split, before the front end."""
        for index in range(0, len(self), max(1, -(-len(self) // limit))):
            yield self._wave(index)

    def _wave(self, index: int) -> Tensor:
        return torch.from_numpy(load_clip(self.samples[index], self.config.data.sample_rate, self.length))

    def _make(self, index: int) -> Tensor:
        return self._hear(self._wave(index))

    @torch.no_grad()
    def _hear(self, wave_S: Tensor) -> Tensor:
        return self.front_end(wave_S).to(torch.float32)

    @torch.no_grad()
    def _augmented(self, x: Tensor, key: ItemKey) -> Tensor:
        """`x` augmented; as it is, with one warning, when that fails, for one clip must not end a training."""
        rng, front_end = item_rng(self.config.seed, key), self.front_end
        try:
            if self.input_kind == "waveform":
                out = augment_wave(x, self.config.augment, front_end.sample_rate, rng)
            else:
                out = augment_spectrogram(x, self.config.augment, front_end.hop_ms, front_end.silence, self.per_db, rng)
            if out.shape == x.shape and bool(torch.isfinite(out).all()):
                return out
            problem = "the result is not finite"
        except (RuntimeError, ValueError, IndexError) as error:
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if not self._warned:
            self._warned = True
            name = self.samples[key.item].sample_id
            text = f"{name} cannot be augmented and is used as it is ({problem}); further ones without a word."
            if self.say is not None:
                self.say(text, "warning")
        return x

    def _rise_per_db(self) -> float:
        """By how much all values rise with one decibel; 0 where the front end levels clips or is not logarithmic.

        Asked of the front end itself, with the same noise at two levels: each scales its logarithms in its own way. The
        louder half of the values is looked at; bands above half of `data.sample_rate` stay at the floor.
        """
        noise_S = torch.from_numpy(np.random.default_rng(0).standard_normal(self.length).astype(np.float32)) * 0.1
        loud = self._hear(noise_S)
        change = (loud - self._hear(noise_S * 10 ** (-_PROBE_DB / 20))) / _PROBE_DB
        change = change[loud >= loud.median()]
        low, middle, high = (float(change.kthvalue(max(1, int(share * len(change)))).values) for share in _SPREAD)
        return middle if high - low < 0.1 * abs(middle) else 0.0


def load_clip(sample: Sample, sample_rate: int, length: int) -> np.ndarray:
    """The sound of a clip at `sample_rate` Hz, cut or padded with silence to `length` samples.

    A file of a higher rate is resampled; one of a lower rate is refused, for its upper bands would be empty.

    Raises
    ------
    DataError: the file is missing, damaged, or of too low a rate; the sentence names it and says what to do.
    """
    wave_S, rate = _read(sample.audio, sample.sample_id)
    if rate < sample_rate:
        raise DataError(f"{sample.audio} has {rate} Hz, less than data.sample_rate={sample_rate}: set it to {rate}.")
    if rate > sample_rate:
        wave_S = wave_S[: math.ceil(length * rate / sample_rate) + rate // 100]
        wave_S = _resampler(rate, sample_rate)(torch.from_numpy(np.ascontiguousarray(wave_S))).numpy()
    out_S = np.zeros(length, dtype=np.float32)
    out_S[: min(length, len(wave_S))] = wave_S[:length]
    if not np.isfinite(out_S).all():
        raise DataError(
            f"{sample.audio} holds samples that are no numbers: restore it or take the clip out of the table."
        )
    return out_S


def _read(path: Path, sample_id: str) -> tuple[np.ndarray, int]:
    try:
        return read_audio(path)
    except AudioFileError as error:
        raise DataError(f"{error} Restore it, or take {sample_id} out of the set's table.") from error


@functools.lru_cache(maxsize=8)
def _resampler(rate: int, wanted: int) -> torch.nn.Module:
    """Its kernel takes longer to make than a clip to resample."""
    return load_torchaudio().module.transforms.Resample(rate, wanted)
