"""Small SOUSA sets, made and dressed up as the public one, and front ends without a network, for tests of the data."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from wavedeck.recipes.audio.features import LogMel
from wavedeck.recipes.sousa.config import DataConfig, SousaConfig
from wavedeck.recipes.sousa.models.base import FrontEnd

SLUGS = ("flam", "drag", "single_paradiddle")


def data_config(**changes: Any) -> SousaConfig:
    """48 clips of one second, twelve players, three classes."""
    options: dict[str, Any] = {"clips": 48, "rudiments": SLUGS, "duration_s": 1.0, "profiles": 12, **changes}
    return SousaConfig(data=DataConfig(**options))


class MelEnd(FrontEnd):
    """24 log-mel bands of 6 ms; counts how often it was asked."""

    def __init__(self, level: bool = False) -> None:
        super().__init__()
        self.log_mel = LogMel(16_000, 0.006, 0.020, 24)
        self.name, self.sample_rate, self.hop_ms, self.mels = "mel", 16_000, 6.0, 24
        self.level, self.asked = level, 0

    def raw(self, wave_S: Tensor) -> Tensor:
        return self.log_mel(wave_S)

    def forward(self, wave_S: Tensor) -> Tensor:
        self.asked += 1
        x_MF = self.raw(wave_S) / 4
        return x_MF - x_MF.mean() if self.level else x_MF

    @property
    def silence(self) -> float:
        return math.log(self.log_mel.floor) / 4


class WaveEnd(MelEnd):
    """Hands the waveform on."""

    def forward(self, wave_S: Tensor) -> Tensor:
        self.asked += 1
        return wave_S

    @property
    def silence(self) -> float:
        return 0.0


def table(root: Path) -> list[dict[str, str]]:
    """The rows of `samples.csv`."""
    with open(root / "samples.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def rewrite(root: Path, rows: list[dict[str, str]]) -> Path:
    """Put these rows in its place."""
    with open(root / "samples.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def as_the_generator_leaves_it(made: Path, root: Path) -> Path:
    """The set `made` in the public generator's layout: 24-bit FLAC at 44.1 kHz, parquet tables, splits.json."""
    rows = table(made)
    columns = [{key: row[key] for key in row if key != "split"} for row in rows]
    (root / "audio").mkdir(parents=True)
    for row in columns:
        wave_S, rate = soundfile.read(made / row["audio_path"], dtype="float32")
        places = np.arange(round(len(wave_S) * 44_100 / rate)) * rate / 44_100
        higher_S = np.interp(places, np.arange(len(wave_S)), wave_S)
        row["audio_path"] = f"audio/{row['sample_id']}.flac"
        soundfile.write(root / row["audio_path"], higher_S, 44_100, subtype="PCM_24")
    write_parquet(root / "labels" / "samples.parquet", columns)
    for name in ("strokes", "measures", "exercises"):
        write_parquet(root / "labels" / f"{name}.parquet", [{"sample_id": row["sample_id"]} for row in rows])
    homes = {row["profile_id"]: row["split"] for row in rows}
    names = ("train", "val", "test")
    lists = {f"{name}_profile_ids": [one for one in homes if homes[one] == name] for name in names}
    (root / "splits.json").write_text(json.dumps({**lists, "stats": {}}))
    return root


def as_published_beside(made: Path, root: Path) -> Path:
    """As it was published first: a table per split in `data/`, the sound in folders by rudiment."""
    rows = table(made)
    for row in rows:
        place = root / "audio" / row["rudiment_slug"]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / row["audio_path"], place)
        row["audio"] = f"audio/{row['rudiment_slug']}/{row['sample_id']}.flac"
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        kept = [{k: row[k] for k in row if k not in ("split", "audio_path")} for row in rows if row["split"] == split]
        write_parquet(root / "data" / f"{name}-00000-of-00001.parquet", kept)
    return root


def as_published_inside(made: Path, root: Path) -> Path:
    """As it is published since: the sound inside the tables, training in two parts."""
    rows: list[dict[str, Any]] = [dict(row) for row in table(made)]
    for row in rows:
        row["tempo_bpm"] = float(row["tempo_bpm"])
        row["audio"] = {"bytes": (made / row["audio_path"]).read_bytes(), "path": f"{row['sample_id']}.flac"}
    parts = [(split, [row for row in rows if row["split"] == split]) for split in ("train", "val", "test")]
    train = parts[0][1]
    shards = {
        "train-00000-of-00002": train[:10], "train-00001-of-00002": train[10:],
        "validation-00000-of-00001": parts[1][1], "test-00000-of-00001": parts[2][1],
    }  # fmt: skip
    for name, kept in shards.items():
        bare = [{k: row[k] for k in row if k not in ("split", "audio_path", "augmentation_group_id")} for row in kept]
        write_parquet(root / "audio" / f"{name}.parquet", bare)
    return root


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """One parquet file of these rows, in row groups of five."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=5)
