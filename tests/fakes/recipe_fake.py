"""A made-up recipe: every kind of config field, groups, presets, and stages that can be told how to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

from wavedeck.engine.config import knob
from wavedeck.engine.context import Context
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.manifest import Headline
from wavedeck.engine.recipe import Recipe, Stage

HERE = "wavedeck.tests.fakes.recipe_fake"


class Norm(Enum):
    """An enum whose values are words."""

    LAYER = "layer"
    RMS = "rms"


@dataclass(frozen=True)
class Schedule:
    """A section in a section."""

    warmup: int = knob(10, "steps of linear warm-up", unit="steps", ge=0)
    shape: Literal["cosine", "constant"] = knob("cosine", "what follows the warm-up")


@dataclass(frozen=True)
class Training:
    """How it is trained."""

    lr: float = knob(1e-3, "peak learning rate", gt=0, le=1)
    steps: int = knob(100, "optimizer steps", unit="steps", ge=1)
    clip: float | None = knob(None, "largest gradient norm", gt=0)
    compile: bool = knob(False, "compile the model")
    precision: str = knob("32-true", "arithmetic", choices=("32-true", "bf16-mixed"))
    schedule: Schedule = field(default_factory=Schedule)


@dataclass(frozen=True)
class Data:
    """What it is trained on."""

    items: int = knob(1000, "clips", ge=1)
    rate_hz: int = knob(16_000, "sample rate", unit="Hz", ge=8000)
    bands: list[float] = knob([0.5, 0.25], "loss weights", ge=0)
    crop: tuple[float, float] = knob((0.0, 1.0), "part of a clip", ge=0, le=1)
    languages: tuple[str, ...] = knob(("en",), "languages")
    root: Path | None = knob(None, "where recordings lie")
    weights: dict[str, float] = knob({}, "weight of a class", ge=0)


@dataclass(frozen=True)
class Config:
    """The whole."""

    seed: int = knob(0, "of everything random")
    name: str = knob("base", "a label")
    norm: Norm = knob(Norm.LAYER, "normalisation")
    training: Training = field(default_factory=Training)
    data: Data = field(default_factory=Data)
    ending: str = knob("well", "how the stage `train` ends")

    def __post_init__(self) -> None:
        if self.training.schedule.warmup > self.training.steps:
            raise ValueError("training.schedule.warmup is longer than training.steps")


def make(config: Config, context: Context) -> None:
    """Write a data set of one file."""
    context.data_root.mkdir(parents=True, exist_ok=True)
    for item in context.track(range(3), 3, "clip", "making"):
        (context.data_root / "made").write_text(f"{config.data.items} {item}")


def is_made(config: Config, data_root: Path) -> bool:
    """Whether `make` has run."""
    return (data_root / "made").exists()


def train(config: Config, context: Context) -> None:
    """Log one row, then end as the config says."""
    threads, resume = os.environ.get("OMP_NUM_THREADS"), context.resume
    context.say(f"threads={threads} resume={resume} attempt={context.attempt} data={context.data_root}")
    context.log({"loss": config.training.lr}, step=1)
    if config.ending == "sentence":
        raise WavedeckError("the data set is empty: make it first.")
    if config.ending == "bug":
        raise ZeroDivisionError("a bug")
    if config.ending == "exit":
        sys.exit(3)
    if config.ending == "term":
        _save_through_a_second_signal(context)
    if config.ending == "wait":
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.05)


def _save_through_a_second_signal(context: Context) -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGTERM)
        context.say("saved")
        raise


def evaluate(config: Config, context: Context) -> None:
    """Log the headline."""
    context.log({"accuracy": 1.0}, step=1)


RECIPE = Recipe(
    name="fake",
    summary="trains nothing",
    config=Config,
    stages=(
        Stage("make", "make data", f"{HERE}:make", is_done=f"{HERE}:is_made"),
        Stage("train", "train on it", f"{HERE}:train"),
        Stage("evaluate", "measure it", f"{HERE}:evaluate"),
    ),
    headline=Headline("accuracy", "max"),
    groups={
        "data": {"tiny": {"data.items": 8, "data.crop": (0.0, 0.5)}, "full": {}},
        "strategy": {"fast": {"training.lr": 0.1, "training": {"compile": True}}, "broken": {"training.lr": 5}},
    },
    presets={
        "debug": ("data=tiny", "training.steps=20", "training.lr=0.01"),
        "broken": ("training.lr=5",),
        "typo": ("training.lrr=5",),
    },
)
