"""Every knob of the SOUSA recipe, with its unit. Torch-free: the deck draws a form from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...engine.config import knob, signature, to_resolved
from ...engine.training.settings import TrainerSettings

EASY_EIGHT = (
    "single_stroke_four", "multiple_bounce_roll", "nine_stroke_roll", "single_paradiddle", "flam", "pataflafla", "drag",
    "single_ratamacue",
)  # fmt: skip
"""Eight rudiments of all four families that anyone can tell apart; the debug preset's classes."""

DATA_VERSION = 2
"""Part of every data signature; counted up when the synthesiser or the tables change what they write."""

MODELS = ("cnn", "ast", "hts_at", "beats", "efficient_at")
STRATEGIES = ("lora", "adalora", "ia3", "full_finetune", "from_scratch")
ADAPTERS = frozenset({"lora", "adalora", "ia3"})
"""Strategies that leave the backbone as it is and train something small beside it."""


@dataclass
class DataConfig:
    """Which clips there are, and how they are split."""

    path: str | None = knob(
        None, "folder of an existing set (its tables beside its audio), such as the real SOUSA; null makes one"
    )
    clips: int = knob(10_000, "clips of the set, all splits together", unit="clips", ge=20)
    rudiments: tuple[str, ...] = knob((), "slugs of the classes; empty is all forty")
    duration_s: float = knob(
        4.0, "length of a clip; longer files are cut, shorter ones padded", unit="s", ge=1.0, le=12.0
    )
    sample_rate: int = knob(
        16_000, "of the clips; a model that wants another rate resamples", unit="Hz", ge=8_000, le=48_000
    )
    profiles: int = knob(100, "players, a quarter per skill tier; no player is in two splits", unit="players", ge=12)
    val_share: float = knob(0.13, "share of the players held out for validation", gt=0.0, lt=0.5)
    test_share: float = knob(0.19, "share of the players held out for the test", gt=0.0, lt=0.5)
    unseen_kits: bool = knob(
        False, "hold out drums as well as players: the test's kits (soundfonts) are never heard in training"
    )
    cache_below: int = knob(
        15_000, "a split of fewer clips keeps its features in memory after the first epoch; 0 never", unit="clips", ge=0
    )
    cache_gib: float = knob(2.0, "and only while they take no more memory than this", unit="GiB", ge=0)
    check_audio: str = knob(
        "headers",
        "what is looked at before training: file headers, every file read to its end, or nothing",
        choices=("headers", "all", "none"),
    )
    inputs: tuple[str, ...] = knob(
        ("audio_path",), "columns of the tables that go into the network; anything but the sound is refused"
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
    """The front end of `cnn`; the other models bring the one they were trained with."""

    mels: int = knob(48, "mel bands of cnn", unit="bands", ge=8, le=256)
    hop_ms: float | None = knob(
        None,
        "time between frames; null is the model's own (6 ms for cnn). A grace note stands 25 ms before its stroke",
        unit="ms", ge=1.0, le=20.0,
    )  # fmt: skip
    window_ms: float = knob(20.0, "length of one analysis window of cnn", unit="ms", ge=4.0, le=100.0)


@dataclass
class ModelConfig:
    """Which network, how large, and where its weights come from."""

    name: str = knob("cnn", "the architecture", choices=MODELS)
    size: str = knob(
        "full", "full is the published size; small trains on a CPU in minutes; debug is for tests",
        choices=("full", "small", "debug"),
    )  # fmt: skip
    weights: str = knob(
        "auto",
        "auto: published weights where the strategy adapts a pretrained model, random from scratch; hub: the published "
        "ones; random; a file (.pt, .safetensors, .ckpt); a directory of published files, where each network finds its "
        "own; or the adapter/ of a run",
    )
    channels: int = knob(96, "width of every block of cnn", unit="channels", ge=8)
    blocks: int = knob(6, "residual blocks of cnn; block n looks 2^n frames (of 12 ms) to each side", ge=1, le=8)
    dropout: float = knob(0.1, "share of channels dropped after each block, or before the head", ge=0.0, lt=1.0)


@dataclass
class StrategyConfig:
    """What is trained: everything, or an adapter beside a frozen backbone."""

    name: str = knob("from_scratch", "how the weights are trained", choices=STRATEGIES)
    rank: int = knob(8, "rank of LoRA's update; of AdaLoRA's on average, once it has pruned", ge=1)
    alpha: float = knob(16.0, "LoRA's scale: the update counts alpha/rank", gt=0.0)
    dropout: float = knob(0.1, "before LoRA's and AdaLoRA's update", ge=0.0, lt=1.0)
    targets: str | None = knob(
        None, "regular expression on the names of the modules that are adapted; null finds them in the model"
    )
    batch_norm: str = knob(
        "frozen",
        "what adapters do with running statistics: frozen keeps the pretrained ones, saved trains and saves them",
        choices=("frozen", "saved"),
    )
    init_rank: int = knob(12, "AdaLoRA's rank before it prunes", ge=1)
    prune_from: float = knob(0.1, "share of the steps before AdaLoRA begins to prune", ge=0.0, lt=1.0)
    prune_until: float = knob(0.7, "share of the steps after which AdaLoRA's ranks stay", gt=0.0, le=1.0)
    prune_every: int = knob(10, "steps between AdaLoRA's allocations", unit="steps", ge=1)
    orthogonality: float = knob(0.5, "weight of AdaLoRA's orthogonality loss", ge=0.0)


@dataclass
class AugmentConfig:
    """What training clips suffer; all masks stay shorter than a grace note's distance, or they would erase flams."""

    time_masks: int = knob(4, "SpecAugment's time masks per clip", ge=0)
    time_mask_ms: float = knob(12.0, "longest time mask", unit="ms", ge=0.0, lt=25.0)
    mel_mask: float = knob(0.12, "widest SpecAugment mask of bands, as a share of all", ge=0.0, le=0.5)
    stretch: float = knob(0.1, "largest change of tempo to each side, the pitch staying; 0.1 is ±10 %", ge=0.0, le=0.3)
    mixup: float = knob(0.2, "alpha of mixup's Beta distribution (Zhang et al. 2018); 0 mixes nothing", ge=0.0)
    shift_ms: float = knob(120.0, "largest shift in time to each side", unit="ms", ge=0.0)
    gain_db: float = knob(6.0, "largest change of level to each side", unit="dB", ge=0.0)


@dataclass
class TrainingConfig(TrainerSettings):
    """Optimisation: AdamW, linear warm-up, cosine to zero."""

    lr: float = knob(4e-3, "peak learning rate; choosing a model or a strategy brings its own", gt=0.0)
    warmup: float = knob(0.1, "share of the steps in which the learning rate rises", ge=0.0, lt=1.0)
    weight_decay: float = knob(0.02, "AdamW's", ge=0.0)
    label_smoothing: float = knob(0.05, "probability given to the wrong classes together", ge=0.0, lt=1.0)
    checkpointing: bool = knob(
        False, "gradient checkpointing: activations are computed again, 20 to 30 % slower for 40 % less memory"
    )


@dataclass
class SousaConfig:
    """The whole configuration."""

    data: DataConfig = field(default_factory=DataConfig)
    synth: SynthConfig = field(default_factory=SynthConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    logger: str = knob("none", "also tell Weights & Biases (offline without network)", choices=("none", "wandb"))
    seed: int = knob(42, "of the weights, the order of clips and the augmentation", ge=0)


_NOT_OF_THE_CLIPS = ("path", "cache_below", "cache_gib", "inputs", "check_audio")


def data_signature(config: SousaConfig) -> str:
    """Hash of what decides the made clips; runs with equal signatures share one data set."""
    data: dict[str, Any] = to_resolved(config.data)
    for unrelated in _NOT_OF_THE_CLIPS:
        del data[unrelated]
    return signature({"version": DATA_VERSION, "data": data, "synth": to_resolved(config.synth)})


def outdated(resolved: Mapping[str, Any]) -> str | None:
    """Why a saved run cannot go on: the recipe's first version knew one network, other drums, no mixup."""
    if "strategy" in resolved or "model" not in resolved:
        return None
    return (
        "this run is of the recipe's first version, before networks and strategies could be chosen: it can be looked "
        "at and heard, but neither resumed nor evaluated. Train it again with `wavedeck run sousa`."
    )
