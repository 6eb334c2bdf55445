"""Stage `generate`: a set of drum clips in the shape of SOUSA, made by the synthesiser.

A set appears whole or not at all: it is written under a temporary name and renamed. Runs that want the same set at the
same time take a lock; the second waits and then finds the work done. Each clip's sound depends on the seed and its
sample id alone, so that several processes (`training.workers`) make the same set as one. Rows are written as the clips
are made: the strokes of 100,000 clips are four million.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import functools
import hashlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.context import Context
from ...engine.files import sync_directory
from ..audio.files import write_audio
from .config import DataConfig, SousaConfig
from .drums import KITS, ROOMS, Kit, Room, render
from .layouts import SAMPLES, find_layout
from .notation import Rudiment, load_rudiments
from .players import Performance, Profile, Stroke, make_profiles, perform
from .tables import SAMPLE_COLUMNS, STROKE_COLUMNS, STROKES, DataError, class_names, deal_kits, set_directory
from .unpack import unpack

_LOCK_POLL_S = 0.2
_WORTH_WORKERS = 500
"""Clips below which starting processes takes longer than making them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one clip will be, before anything sounds."""

    rudiment: Rudiment
    profile: Profile
    split: str
    tempo_bpm: int
    kit: Kit
    room: Room

    @property
    def sample_id(self) -> str:
        """`int017_flam_tap_96bpm_concert_studio`."""
        place = f"{self.kit.name}_{self.room.name}"
        return f"{self.profile.profile_id}_{self.rudiment.slug}_{self.tempo_bpm}bpm_{place}"


def is_done(config: SousaConfig, data_root: Path) -> bool:
    """Whether the clips of `config` exist (the user's own set is never made, only unpacked)."""
    target = set_directory(config, data_root)
    if config.data.path and target == Path(config.data.path).expanduser():
        return True
    return (target / SAMPLES).is_file()


def generate(config: SousaConfig, context: Context) -> None:
    """Make the set, or unpack the one in `data.path`, unless it is there; returns with it in place.

    Raises
    ------
    DataError: `data.path` is set but holds no set, or the configuration cannot be met.
    """
    target = set_directory(config, context.data_root)
    layout = None
    if config.data.path:
        layout = find_layout(Path(config.data.path).expanduser())
        if layout is None:
            raise DataError(f"data.path={config.data.path} holds no {SAMPLES}: generate does not write there.")
        if not layout.packed:
            context.say(f"using the clips in {config.data.path}; nothing to generate.")
            return
    context.data_root.mkdir(parents=True, exist_ok=True)
    with _only_one(context.data_root / f".{target.name}.lock", context):
        if is_done(config, context.data_root):
            context.say(f"the clips are already in {target}.")
            return
        temporary = context.data_root / f".{target.name}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        count = config.data.clips
        if layout is None:
            _write_set(config, context, temporary)
        else:
            count = unpack(layout, temporary, context)
        os.sync()  # thousands of clips and their folders at once: one fsync each would cost more than making them
        temporary.rename(target)
        sync_directory(context.data_root)
    context.say(f"{count} clips in {target}.")


@contextlib.contextmanager
def _only_one(lock: Path, context: Context) -> Iterator[None]:
    """Hold the lock of one set; whoever comes second says so and waits. A killed holder's lock is free at once."""
    with open(lock, "w") as handle:
        said = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    context.say("another run is making the same clips: waiting for it.")
                    said = True
                context.progress(0, None, "clip", "waiting for another run")
                time.sleep(_LOCK_POLL_S)
        yield


def _write_set(config: SousaConfig, context: Context, root: Path) -> None:
    (root / "audio").mkdir(parents=True)
    plans = plan_set(config)
    with (
        open(root / SAMPLES, "w", newline="", encoding="utf-8") as sample_file,
        open(root / STROKES, "w", newline="", encoding="utf-8") as stroke_file,
        _made(config, plans, root / "audio") as made,
    ):
        samples, strokes = csv.writer(sample_file), csv.writer(stroke_file)
        samples.writerow(SAMPLE_COLUMNS)
        strokes.writerow(STROKE_COLUMNS)
        for sample, hits in context.track(made, len(plans), "clip", "generate"):
            samples.writerow(sample)
            strokes.writerows(hits)


@contextlib.contextmanager
def _made(
    config: SousaConfig, plans: Sequence[Plan], folder: Path
) -> Iterator[Iterator[tuple[list[Any], list[list[Any]]]]]:
    """The rows of each clip in the order of `plans`, its sound written; by `training.workers` processes."""
    make = functools.partial(_write_clip, config, folder)
    workers = min(config.training.workers, os.cpu_count() or 1)
    if workers < 2 or len(plans) < _WORTH_WORKERS:
        yield map(make, plans)
        return
    # Spawned, not forked: a forked worker holds its siblings' pipes open and outlives a killed parent.
    with multiprocessing.get_context("spawn").Pool(workers, _deaf_to_interrupts) as pool:
        yield pool.imap(make, plans, chunksize=16)


def _deaf_to_interrupts() -> None:
    """Ctrl-C reaches the whole group; the parent ends its workers, and their tracebacks help nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clip(config: SousaConfig, folder: Path, plan: Plan) -> tuple[list[Any], list[list[Any]]]:
    performance, wave_S, noise_db = make_clip(config, plan)
    write_audio(folder / f"{plan.sample_id}.flac", wave_S, config.data.sample_rate)
    hits = [_stroke_row(plan.sample_id, index, stroke) for index, stroke in enumerate(performance.strokes)]
    return _sample_row(config, plan, performance, noise_db), hits


def make_clip(config: SousaConfig, plan: Plan) -> tuple[Performance, np.ndarray, float]:
    """The performance, the sound (S,) and its noise level in dB of one planned clip; a pure function of both."""
    digest = hashlib.sha256(plan.sample_id.encode()).digest()
    rng = np.random.default_rng([config.synth.seed, *digest[:16]])
    synth, data = config.synth, config.data
    noise_db = float(rng.uniform(min(synth.noise_low_db, synth.noise_high_db), synth.noise_high_db))
    performance = perform(
        plan.rudiment, plan.profile, plan.tempo_bpm, data.duration_s, rng, synth.timing, synth.dynamics,
        hand_timbre=synth.hand_timbre,
    )  # fmt: skip
    wave_S = render(
        performance.strokes, plan.kit, plan.room, data.duration_s, data.sample_rate, rng, synth.hand_timbre, noise_db
    )
    return performance, wave_S, noise_db


def plan_set(config: SousaConfig) -> list[Plan]:
    """Every clip of the set: classes in turn, each class spread evenly over the players, tempo, kit and room at random.

    With `data.unseen_kits` the kits are dealt to the splits first, and a clip has one of its split's.

    Raises
    ------
    DataError: there are not enough different clips to be had.
    """
    rudiments = [load_rudiments()[slug] for slug in class_names(config)]
    profiles = make_profiles(config.data.profiles, config.synth.seed)
    splits = split_players(profiles, config.data, config.synth.seed)
    kits = kits_by_split(config)
    rng = np.random.default_rng([config.synth.seed, 2])
    orders = [rng.permutation(len(profiles)) for _ in rudiments]
    plans: dict[str, Plan] = {}
    tries = 0
    while len(plans) < config.data.clips:
        number, tries = len(plans), tries + 1
        if tries > 20 * config.data.clips:
            raise DataError(f"there are not {config.data.clips} different clips: lower data.clips or add players.")
        rudiment = rudiments[number % len(rudiments)]
        order = orders[number % len(rudiments)]
        profile = profiles[order[number // len(rudiments) % len(profiles)]]
        tempo = int(rng.integers(rudiment.tempo_low, rudiment.tempo_high + 1))
        split = splits[profile.profile_id]
        kit, room = kits[split][rng.integers(len(kits[split]))], ROOMS[rng.integers(len(ROOMS))]
        plan = Plan(rudiment, profile, split, tempo, kit, room)
        plans.setdefault(plan.sample_id, plan)
    return list(plans.values())


def kits_by_split(config: SousaConfig) -> dict[str, list[Kit]]:
    """The kits that each split may sound like: all of them, or with `data.unseen_kits` none that another split has."""
    if not config.data.unseen_kits:
        return {split: list(KITS) for split in ("train", "val", "test")}
    order = np.random.default_rng([config.synth.seed, 4]).permutation(len(KITS))
    home = deal_kits([KITS[index].name for index in order], config.data.val_share, config.data.test_share)
    return {split: [kit for kit in KITS if home[kit.name] == split] for split in ("train", "val", "test")}


def split_players(profiles: list[Profile], data: DataConfig, seed: int) -> dict[str, str]:
    """Split by player, tier by tier, so that each split hears all four skills and no player is in two."""
    rng = np.random.default_rng([seed, 3])
    splits = {}
    for tier in {profile.tier.name: None for profile in profiles}:
        members = [profile.profile_id for profile in profiles if profile.tier.name == tier]
        order = [members[index] for index in rng.permutation(len(members))]
        test = max(1, round(data.test_share * len(order)))
        val = max(1, round(data.val_share * len(order)))
        for place, profile_id in enumerate(order):
            splits[profile_id] = "test" if place < test else ("val" if place < test + val else "train")
    return splits


def _sample_row(config: SousaConfig, plan: Plan, performance: Performance, noise_db: float) -> list[Any]:
    tier = plan.profile.tier.name
    beats = performance.num_cycles * float(plan.rudiment.cycle_beats)
    return [
        plan.sample_id, plan.profile.profile_id, plan.rudiment.slug, plan.tempo_bpm, config.data.duration_s,
        performance.num_cycles, tier, "novice" if tier in ("beginner", "intermediate") else "skilled",
        plan.profile.dominant_hand, f"audio/{plan.sample_id}.flac", len(performance.strokes), max(1, round(beats / 4)),
        plan.kit.name, plan.room.name, f"{plan.profile.profile_id}_{plan.rudiment.slug}_{plan.tempo_bpm}bpm",
        plan.kit.name, plan.room.name, round(noise_db, 1), 16, config.data.sample_rate, plan.split,
    ]  # fmt: skip


def _stroke_row(sample_id: str, index: int, stroke: Stroke) -> list[Any]:
    grace = stroke.stroke_type == "grace"
    return [
        sample_id, index, stroke.hand, stroke.stroke_type, round(stroke.intended_time_ms, 3),
        round(stroke.actual_time_ms, 3), round(stroke.actual_time_ms - stroke.intended_time_ms, 3),
        stroke.intended_velocity, round(stroke.actual_velocity, 2),
        round(stroke.actual_velocity - stroke.intended_velocity, 2), int(grace), int(stroke.is_accent),
        stroke.diddle_position, None if stroke.flam_spacing_ms is None else round(stroke.flam_spacing_ms, 2),
        stroke.parent,
    ]  # fmt: skip
