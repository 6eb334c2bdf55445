"""The clips of a set as training sees them, in the columns of SOUSA, and where a set lies.

Whatever a table says beyond `Sample` is annotation, and stays out of the models: it is the answer.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import SousaConfig, data_signature
from .errors import DataError
from .layouts import SAMPLES, Layout, Row, find_layout, names, read_rows
from .notation import load_rudiments

STROKES = "strokes.csv"
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
_SPLIT_WORDS = {"validation": "val", "valid": "val", "dev": "val", "training": "train"}
_SLUG_WORDS = {"double_stroke_roll": "double_stroke_open_roll", "single_paradiddle_diddle": "paradiddle_diddle"}
"""Names that the published set's own pages use for two of the forty."""
_GROUP = re.compile(r"^.*?_\d+bpm(?=_|$)")
"""The start of a sample id: one performance, before its soundfont and its augmentation."""

Say = Callable[[str, str], None]
"""Takes a sentence and its level, `info` or `warning`; `Context.say` is one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip as training sees it. Nothing else of the table goes into a model: the annotations are the answer."""

    sample_id: str
    profile_id: str
    slug: str
    tier: str
    audio: Path
    split: str
    tempo_bpm: float | None = None
    kit: str | None = None
    """The drum; `soundfont` in the public set."""
    group: str | None = None
    """Clips of one performance: `augmentation_group_id`, or what its sample id begins with."""
    duration_s: float | None = None
    """As the table says; the file may differ."""


def set_directory(config: SousaConfig, data_root: Path) -> Path:
    """Where the clips of `config` lie: the user's own folder, this config's place among the made ones, or, for a
    published set with its sound inside the tables, where the generate stage unpacks it.
    """
    if not config.data.path:
        return data_root / data_signature(config)
    root = Path(config.data.path).expanduser()
    layout = find_layout(root)
    return unpacked_directory(layout, data_root) if layout is not None and layout.packed else root


def unpacked_directory(layout: Layout, data_root: Path) -> Path:
    """Where the sound of a packed set is unpacked to: a place named by the tables and their sizes."""
    state = "".join(f"{path.resolve()} {path.stat().st_size}\n" for path, _ in layout.tables)
    return data_root / f"unpacked-{hashlib.sha256(state.encode()).hexdigest()[:12]}"


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


def cut_share(samples: Sequence[Sample], duration_s: float) -> float:
    """Share of the clips that are over before their rudiment was played once as a whole; unknown tempi count as not."""
    known = load_rudiments()
    needed = (
        60.0 / sample.tempo_bpm * float(known[sample.slug].cycle_beats)
        for sample in samples
        if sample.tempo_bpm and sample.slug in known
    )
    return sum(seconds > duration_s for seconds in needed) / max(1, len(samples))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file with a heading; None is an empty cell."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)


def load_samples(config: SousaConfig, data_root: Path, say: Say | None = None) -> list[Sample]:
    """The clips that `config` asks for, of all splits. Of the user's own set at most `data.clips`, the same ones in
    every run, the classes and splits keeping their shares; with `data.unseen_kits` only what keeps the kits apart.

    Raises
    ------
    DataError: the set is not usable; or it has too few kits to hold some out.
    """
    samples = read_samples(set_directory(config, data_root), class_names(config))
    if not config.data.path:
        return samples
    if config.data.unseen_kits:
        samples = _keep_kits_apart(config, samples, say)
    if len(samples) > config.data.clips:
        if say is not None:
            say(f"{config.data.clips:,} of the set's {len(samples):,} clips are used (data.clips).", "info")
        samples = _thin_out(samples, config.data.clips)
    return samples


def read_samples(root: Path, classes: Sequence[str]) -> list[Sample]:
    """The clips of the wanted classes, in any of the layouts that `layouts.py` knows.

    A table without a `split` column and without splits.json is split by player here: 68/13/19 by a hash of the player's
    name, so that every run and machine agrees.

    Raises
    ------
    DataError: no table, a column is missing, a cell is unreadable, a player or performance is in two splits, an id is
        there twice, a path leads out of the set, or the training split lacks a class.
    """
    layout = find_layout(root)
    if layout is None:
        raise DataError(
            f"{root} holds no {SAMPLES}: run the generate stage, or have data.path name the folder that has the tables."
        )
    if layout.packed:
        raise DataError(f"{root} has its sound inside its tables: run the generate stage, which unpacks it.")
    rows = read_rows(layout)
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{layout.name} has no {'rows' if not rows else 'column ' + names(missing)}.")
    wanted = set(classes)
    folder = os.path.normpath(root)
    samples = [_sample(layout.name, folder, row) for row in rows if slug_of(row) in wanted]
    check_table(layout.name, samples, classes)
    return samples


def slug_of(row: Row) -> str:
    """The rudiment of a row, by our name for it."""
    slug = str(row.get("rudiment_slug") or "").strip().lower().replace("-", "_")
    return _SLUG_WORDS.get(slug, slug)


def _sample(table: str, folder: str, row: Row) -> Sample:
    empty = [name for name in _NEEDED if row.get(name) in (None, "")]
    sample_id = str(row.get("sample_id") or "a clip without an id")
    if empty:
        raise DataError(f"{table}: {sample_id} has no {names(empty)}: fill it in or take the row out.")
    split = str(row.get("split") or _split_of(str(row["profile_id"]))).strip().lower()
    found = _GROUP.match(sample_id)
    group = row.get("augmentation_group_id") or (found.group() if found else None)
    kit = row.get("soundfont") or row.get("aug_soundfont")
    return Sample(
        sample_id, str(row["profile_id"]), slug_of(row), str(row["skill_tier"]),
        _inside(table, folder, sample_id, str(row["audio_path"])), _SPLIT_WORDS.get(split, split),
        _number(table, row, "tempo_bpm"), None if kit is None else str(kit), None if group is None else str(group),
        _number(table, row, "duration_sec"),
    )  # fmt: skip


def _inside(table: str, folder: str, sample_id: str, audio: str) -> Path:
    """The sound's path, which must not lead out of the set by its words (a link inside the set may lead anywhere)."""
    path = os.path.normpath(os.path.join(folder, audio))
    if not path.startswith(folder + os.sep):
        raise DataError(f"{table}: the audio_path of {sample_id}, {audio}, leads out of {folder}; correct the table.")
    return Path(path)


def _number(table: str, row: Row, column: str) -> float | None:
    cell = row.get(column)
    if cell in (None, ""):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number):
        return None
    if not 0 < number < 10_000:
        raise DataError(f"{table}: the {column} of {row['sample_id']} is {cell!r}, not a usable number; correct it.")
    return number


def _split_of(profile_id: str) -> str:
    share = _hashed(profile_id)
    return "train" if share < 0.68 else ("val" if share < 0.81 else "test")


def _hashed(text: str) -> float:
    """A number in 0…1 that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0x1_0000_0000


def _thin_out(samples: list[Sample], clips: int) -> list[Sample]:
    """About `clips` of the samples in their order: of every split and class the same share, at least one."""
    share = clips / len(samples)
    chosen: set[str] = set()
    of: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        of.setdefault((sample.split, sample.slug), []).append(sample.sample_id)
    for ids in of.values():
        chosen.update(sorted(ids, key=_hashed)[: max(1, round(share * len(ids)))])
    return [sample for sample in samples if sample.sample_id in chosen]


def deal_kits(kits: Sequence[str], val_share: float, test_share: float) -> dict[str, str]:
    """Which kit is heard in which split: at least two kits each for validation and test where there are eight, one
    where there are fewer; `kits` in the order in which they are dealt.
    """
    least = 2 if len(kits) >= 8 else 1
    test = max(least, round(test_share * len(kits)))
    val = max(least, round(val_share * len(kits)))
    return {
        kit: "test" if place < test else ("val" if place < test + val else "train") for place, kit in enumerate(kits)
    }


def _keep_kits_apart(config: SousaConfig, samples: list[Sample], say: Say | None) -> list[Sample]:
    """Only the clips whose kit belongs to their split; all of them, where the set already keeps the kits apart."""
    if any(sample.kit is None for sample in samples):
        raise DataError("data.unseen_kits=true needs a soundfont column in the set's table: set it to false.")
    heard = {split: {sample.kit for sample in samples if sample.split == split} for split in SPLITS}
    if not heard["train"] & (heard["val"] | heard["test"]):
        return samples
    kits = sorted({str(sample.kit) for sample in samples}, key=_hashed)
    if len(kits) < 3:
        raise DataError(f"data.unseen_kits=true needs three kits (soundfonts), and the set has {len(kits)}.")
    home = deal_kits(kits, config.data.val_share, config.data.test_share)
    kept = [sample for sample in samples if home[str(sample.kit)] == sample.split]
    if say is not None:
        held = names(kit for kit in kits if home[kit] != "train")
        say(f"{len(kept):,} of {len(samples):,} clips keep the kits apart; never in training: {held}.", "info")
    return kept


def check_table(table: str, samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """What can be seen without opening a sound.

    Raises
    ------
    DataError: an id is there twice, a split has a strange name, a player or a performance is in two splits, or the
        training split lacks a class.
    """
    seen: set[str] = set()
    for sample in samples:
        if sample.sample_id in seen:
            raise DataError(f"{table}: {sample.sample_id} is there twice; take one of the rows out.")
        seen.add(sample.sample_id)
        if sample.split not in SPLITS:
            raise DataError(f"{table}: {sample.sample_id} is in split {sample.split!r}; expected train, val or test.")
    _check_leaks(table, samples, "player", lambda sample: sample.profile_id, "players the model was trained on")
    _check_leaks(table, samples, "performance", lambda sample: sample.group, "performances the model has heard")
    heard = {sample.slug for sample in samples if sample.split == "train"}
    absent = [slug for slug in classes if slug not in heard]
    if absent:
        raise DataError(
            f"{table}: no training clip of {names(absent)}. "
            "Raise data.clips or name only rudiments that are there in data.rudiments."
        )


def _check_leaks(
    table: str, samples: Sequence[Sample], what: str, key: Callable[[Sample], str | None], on: str
) -> None:
    home: dict[str, str] = {}
    leaks: dict[str, str] = {}
    for sample in samples:
        name = key(sample)
        if name is not None and home.setdefault(name, sample.split) != sample.split:
            leaks.setdefault(name, sample.split)
    if leaks:
        name, other = next(iter(leaks.items()))
        more = f" (and {len(leaks) - 1} more {what}s in two)" if len(leaks) > 1 else ""
        raise DataError(
            f"{table}: {what} {name} is in the splits {home[name]} and {other}{more}; "
            f"the test would be judged on {on}: give each {what} one split."
        )
