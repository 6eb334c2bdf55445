"""What the evaluation lets one hear: each test clip, and what the model took it for, played by the same player.

On a made set the answer can be performed: the same player, tempo, kit and room with the rudiment that was predicted, so
that a confusion can be heard as one. On a recorded set there is the clip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...engine.checkpoints import CheckpointLine
from ...engine.context import Context
from ...engine.samples.writer import SampleWriter
from .config import SousaConfig
from .data import load_clip
from .generate import Plan, make_clip, plan_set
from .notation import load_rudiments
from .tables import Sample

SET = "test"
MOST_CLIPS = 400
"""Clips that are written; of a larger split those with the largest loss."""
_SHOWN_CLASSES = 8


def write_samples(
    config: SousaConfig,
    context: Context,
    samples: Sequence[Sample],
    label_N: np.ndarray,
    logits_NK: np.ndarray,
    classes: Sequence[str],
    line: CheckpointLine,
) -> None:
    """Write `samples/test/` of the run: sound, truth, answer, the likeliest classes and the loss of each clip.

    `label_N` are class numbers, `logits_NK` the model's scores; the loss is cross entropy in nats.
    """
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    probability_NK = np.exp(shifted_NK) / np.exp(shifted_NK).sum(axis=1, keepdims=True)
    truth_N = np.clip(probability_NK[np.arange(len(label_N)), label_N], 1e-9, None)
    loss_N = -np.log(truth_N)
    plans = {} if config.data.path else {plan.sample_id: plan for plan in plan_set(config)}
    chosen = np.argsort(-loss_N, kind="stable")[:MOST_CLIPS]
    length = round(config.data.duration_s * config.data.sample_rate)
    with SampleWriter(context.run.path, SET) as writer:
        for index in context.track(chosen, len(chosen), "clip", "clips to listen to"):
            sample, row_K = samples[index], probability_NK[index]
            answer = classes[int(row_K.argmax())]
            tracks = {"target": (load_clip(sample, config.data.sample_rate, length), float(config.data.sample_rate))}
            plan = plans.get(sample.sample_id)
            if plan is not None:
                tracks["prediction"] = (_performed(config, plan, answer), float(config.data.sample_rate))
            writer.log(
                tracks,
                step=line.step,
                epoch=line.epoch,
                key=sample.sample_id,
                metrics={"loss": float(loss_N[index]), "confidence": float(row_K.max())},
                text={"clip": sample.sample_id, "player": sample.profile_id},
                tags=[sample.tier, "right" if answer == sample.slug else "wrong"],
                label=sample.slug,
                predicted=answer,
                probabilities={classes[k]: float(row_K[k]) for k in np.argsort(-row_K)[:_SHOWN_CLASSES]},
            )


def _performed(config: SousaConfig, plan: Plan, slug: str) -> np.ndarray:
    """The sound (S,) of the rudiment `slug` in place of the planned one."""
    _, wave_S, _ = make_clip(config, replace(plan, rudiment=load_rudiments()[slug]))
    return wave_S
