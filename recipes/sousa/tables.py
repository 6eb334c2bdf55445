"""`samples.csv` and `strokes.csv`, in the columns of the SOUSA set, and where a set lies."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import WavedeckError
from .config import SousaConfig, data_signature
from .notation import load_rudiments

SAMPLES, STROKES = "samples.csv", "strokes.csv"
SPLITS = ("train", "val", "test")
SAMPLE_COLUMNS = (
    "sample_id", "profile_id", "rudiment_slug", "tempo_bpm", "duration_sec", "num_cycles", "skill_tier",
    "skill_tier_binary", "dominant_hand", "audio_path", "num_strokes", "num_measures", "soundfont",
    "augmentation_preset", "augmentation_group_id", "aug_soundfont", "aug_room_type", "aug_noise_level_db",
    "aug_bit_depth", "aug_sample_rate", "split",
)  # fmt: skip
STROKE_COLUMNS = (
    "sample_id", "index", "hand", "stroke_type", "intended_time_ms", "actual_time_ms", "timing_error_ms",
    "intended_velocity", "actual_velocity", "velocity_error", "is_grace_note", "is_accent", "diddle_position",
    "flam_spacing_ms", "parent_stroke_index",
)  # fmt: skip
_NEEDED = ("sample_id", "profile_id", "rudiment_slug", "skill_tier", "audio_path")


class DataError(WavedeckError):
    """The data set is missing, incomplete or inconsistent; the sentence says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip as training sees it. Nothing else of the table goes into a model: the annotations are the answer."""

    sample_id: str
    profile_id: str
    slug: str
    tier: str
    audio: Path
    split: str


def set_directory(config: SousaConfig, data_root: Path) -> Path:
    """Where the clips of `config` lie: the user's own folder, or this config's place among the made ones."""
    if config.data.path:
        return Path(config.data.path).expanduser()
    return data_root / data_signature(config)


def class_names(config: SousaConfig) -> tuple[str, ...]:
    """The slugs of the classes in the order of their labels.

    Raises
    ------
    DataError: a slug that is none of the forty, or fewer than two.
    """
    known = load_rudiments()
    chosen = tuple(config.data.rudiments) or tuple(known)
    strange = [slug for slug in chosen if slug not in known]
    if strange:
        raise DataError(f"data.rudiments: there is no rudiment {strange[0]!r}; the forty slugs stand in rudiments.csv.")
    if len(set(chosen)) < 2:
        raise DataError("data.rudiments: a classifier needs at least two different rudiments.")
    return tuple(dict.fromkeys(chosen))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file with a heading; None is an empty cell."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)


def read_samples(root: Path, classes: Sequence[str]) -> list[Sample]:
    """The clips of the wanted classes.

    A table without a `split` column (other publications of the set) is split by player here: 68/13/19 by a hash of the
    player's name, so that every run and machine agrees.

    Raises
    ------
    DataError: no table, a column is missing, a player is in two splits, or the training split lacks a class.
    """
    table = root / SAMPLES
    try:
        with open(table, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except FileNotFoundError:
        raise DataError(f"{root} holds no {SAMPLES}: run the generate stage, or set data.path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}.") from error
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{table} has no {'rows' if not rows else 'column ' + ', '.join(missing)}.")
    wanted = set(classes)
    samples = [_sample(root, row) for row in rows if row["rudiment_slug"] in wanted]
    _check(table, samples, classes)
    return samples


def _sample(root: Path, row: dict[str, str]) -> Sample:
    split = row.get("split") or _split_of(row["profile_id"])
    split = {"validation": "val", "dev": "val"}.get(split, split)
    return Sample(
        row["sample_id"], row["profile_id"], row["rudiment_slug"], row["skill_tier"], root / row["audio_path"], split
    )


def _split_of(profile_id: str) -> str:
    share = int(hashlib.sha256(profile_id.encode()).hexdigest()[:8], 16) / 0x1_0000_0000
    return "train" if share < 0.68 else ("val" if share < 0.81 else "test")


def _check(table: Path, samples: Sequence[Sample], classes: Sequence[str]) -> None:
    home: dict[str, str] = {}
    for sample in samples:
        if sample.split not in SPLITS:
            raise DataError(f"{table}: {sample.sample_id} is in split {sample.split!r}; expected train, val or test.")
        if home.setdefault(sample.profile_id, sample.split) != sample.split:
            raise DataError(
                f"{table}: player {sample.profile_id} is in the splits {home[sample.profile_id]} and {sample.split}; "
                "the test would be judged on players the model was trained on."
            )
    heard = {sample.slug for sample in samples if sample.split == "train"}
    absent = [slug for slug in classes if slug not in heard]
    if absent:
        raise DataError(
            f"{table}: no training clip of {', '.join(absent[:5])}{' …' if len(absent) > 5 else ''}. "
            "Raise data.clips or name only rudiments that are there in data.rudiments."
        )
