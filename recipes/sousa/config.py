"""Every knob of the SOUSA recipe, with its unit. Torch-free: the deck draws a form from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...engine.config import knob, signature, to_resolved
from ...engine.training.settings import TrainerSettings

EASY_EIGHT = (
    "single_stroke_four", "multiple_bounce_roll", "nine_stroke_roll", "single_paradiddle", "flam", "pataflafla", "drag",
    "single_ratamacue",
)  # fmt: skip
"""Eight rudiments of all four families that anyone can tell apart; the debug preset's classes."""

DATA_VERSION = 1
"""Part of every data signature; counted up when the synthesiser or the tables change what they write."""


@dataclass
class DataConfig:
    """Which clips there are."""

    path: str | None = knob(
        None, "folder of an existing set (samples.csv beside its audio), such as the real SOUSA; null makes one"
    )
    clips: int = knob(10_000, "clips of the set, all splits together", unit="clips", ge=20)
    rudiments: tuple[str, ...] = knob((), "slugs of the classes; empty is all forty")
    duration_s: float = knob(
        4.0, "length of a clip; longer files are cut, shorter ones padded", unit="s", ge=1.0, le=12.0
    )
    sample_rate: int = knob(16_000, "of the clips the model hears", unit="Hz", ge=8_000, le=48_000)
    profiles: int = knob(100, "players, a quarter per skill tier; no player is in two splits", unit="players", ge=12)
    val_share: float = knob(0.13, "share of the players held out for validation", gt=0.0, lt=0.5)
    test_share: float = knob(0.19, "share of the players held out for the test", gt=0.0, lt=0.5)
    cache_gib: float = knob(
        2.0, "spectrograms kept in memory up to this much, computed each time past it", unit="GiB", ge=0
    )


@dataclass
class SynthConfig:
    """How the made clips sound. Unused with `data.path`."""

    hand_timbre: float = knob(
        1.0, "how differently the two hands sound: 0 not at all (stickings become inaudible), 1 clearly", ge=0.0, le=1.0
    )
    timing: float = knob(1.0, "multiplies the players' timing spread; 0 is a machine", ge=0.0, le=3.0)
    dynamics: float = knob(1.0, "multiplies the players' spread in loudness", ge=0.0, le=3.0)
    noise_low_db: float = knob(-70.0, "quietest background noise", unit="dB of full scale", le=0.0)
    noise_high_db: float = knob(-45.0, "loudest background noise", unit="dB of full scale", le=0.0)
    seed: int = knob(0, "of players, tempi and sounds", ge=0)


@dataclass
class FeatureConfig:
    """The log-mel front end."""

    mels: int = knob(48, "mel bands", unit="bands", ge=8, le=256)
    hop_ms: float = knob(
        6.0, "time between frames; grace notes stand 25 ms before their stroke", unit="ms", ge=1.0, le=20.0
    )
    window_ms: float = knob(20.0, "length of one analysis window", unit="ms", ge=4.0, le=100.0)


@dataclass
class ModelConfig:
    """The dilated convolutions."""

    channels: int = knob(96, "width of every block", unit="channels", ge=8)
    blocks: int = knob(6, "residual blocks; block n looks 2^n frames (of 12 ms) to each side", ge=1, le=8)
    dropout: float = knob(0.1, "share of channels dropped after each block", ge=0.0, lt=1.0)


@dataclass
class AugmentConfig:
    """What training clips suffer; all masks stay shorter than a grace note's distance, or they would erase flams."""

    time_masks: int = knob(4, "time masks per clip", ge=0)
    time_mask_ms: float = knob(12.0, "longest time mask", unit="ms", ge=0.0, lt=25.0)
    mel_mask: int = knob(6, "widest mask of mel bands", unit="bands", ge=0)
    shift_ms: float = knob(120.0, "largest shift in time to each side", unit="ms", ge=0.0)
    gain_db: float = knob(6.0, "largest change of level to each side", unit="dB", ge=0.0)


@dataclass
class TrainingConfig(TrainerSettings):
    """Optimisation: AdamW, linear warm-up, cosine to zero."""

    lr: float = knob(4e-3, "peak learning rate", gt=0.0)
    warmup: float = knob(0.1, "share of the steps in which the learning rate rises", ge=0.0, lt=1.0)
    weight_decay: float = knob(0.02, "AdamW's", ge=0.0)
    label_smoothing: float = knob(0.05, "probability given to the wrong classes together", ge=0.0, lt=1.0)


@dataclass
class SousaConfig:
    """The whole configuration."""

    data: DataConfig = field(default_factory=DataConfig)
    synth: SynthConfig = field(default_factory=SynthConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = knob(42, "of the weights, the order of clips and the augmentation", ge=0)


def data_signature(config: SousaConfig) -> str:
    """Hash of what decides the made clips; runs with equal signatures share one data set."""
    data: dict[str, Any] = to_resolved(config.data)
    for unrelated in ("path", "cache_gib"):
        del data[unrelated]
    return signature({"version": DATA_VERSION, "data": data, "synth": to_resolved(config.synth)})
