"""The shapes in which a set comes: ours, the public SOUSA as its generator leaves it, and two ages of its publication.

    samples.csv                        ours; `split` is a column
    labels/samples.parquet             the generator's; splits.json names the players of each split
    data/{train,validation,test}-*.parquet     published with the sound in files beside it; the file's name is the split
    audio/{train,validation,test}-*.parquet    published since 2026 with the sound inside the tables; see `unpack.py`

All give the same rows: column names to cells, with `audio_path` and, where it is known, `split`. pyarrow is imported
only where there is a parquet file.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DataError

SAMPLES = "samples.csv"
_PARQUET = Path("labels") / "samples.parquet"
_SPLITS = "splits.json"
_PUBLISHED = ("train", "validation", "val", "test")
COLUMNS = (
    "sample_id", "profile_id", "rudiment_slug", "skill_tier", "tempo_bpm", "duration_sec", "soundfont", "aug_soundfont",
    "augmentation_group_id", "audio_path", "split",
)  # fmt: skip
"""The columns that are read; everything else in a table is annotation."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a set's table is: `tables` with the split each is of (None: a column or splits.json says)."""

    root: Path
    tables: tuple[tuple[Path, str | None], ...]
    packed: bool = False
    """The sound is inside the tables, and has to be unpacked before it can be read clip by clip."""

    @property
    def name(self) -> str:
        """The first table, for messages."""
        return str(self.tables[0][0])


def find_layout(root: Path) -> Layout | None:
    """The set that lies in `root`; None when there is none."""
    for single in (Path(SAMPLES), _PARQUET, Path("samples.parquet")):
        if (root / single).is_file():
            return Layout(root, ((root / single, None),))
    published = _shards(root / "data")
    if published:
        return Layout(root, published)
    packed = _shards(root / "audio")
    return Layout(root, packed, packed=True) if packed else None


def read_rows(layout: Layout) -> list[Row]:
    """Every row of the set with `COLUMNS` as far as they exist; missing cells are None.

    Raises
    ------
    DataError: a table or splits.json cannot be read, or a player is in two of its lists.
    """
    rows: list[Row] = []
    for path, split in layout.tables:
        found = _csv_rows(path) if path.suffix == ".csv" else _parquet_rows(path)
        rows.extend(found if split is None else [{**row, "split": split} for row in found])
    listed = layout.root / _SPLITS
    if rows and "split" not in rows[0] and listed.is_file():
        homes = read_splits(listed)
        for row in rows:
            # The generator's own reader counts a player of no list to the training, which is on the safe side.
            row["split"] = homes.get(str(row.get("profile_id")), "train")
    return rows


def read_splits(path: Path) -> dict[str, str]:
    """`splits.json`: player to `train`, `val` or `test`.

    Raises
    ------
    DataError: no JSON of the known keys, or a player in two lists.
    """
    homes: dict[str, str] = {}
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
        named = {split: list(lists[f"{split}_profile_ids"]) for split in ("train", "val", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a list of players by split ({_reason(error)}): restore or delete it.") from None
    for split, players in named.items():
        for player in players:
            if homes.setdefault(str(player), split) != split:
                raise DataError(
                    f"{path}: player {player} is in the splits {homes[str(player)]} and {split}; take one of them out."
                )
    return homes


def open_parquet(path: Path) -> Any:
    """pyarrow's `ParquetFile`.

    Raises
    ------
    DataError: pyarrow is not installed, or the file is damaged.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path} needs pyarrow to be read: install wavedeck[train].") from None
    try:
        return ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def _shards(folder: Path) -> tuple[tuple[Path, str | None], ...]:
    return tuple((path, split) for split in _PUBLISHED for path in sorted(folder.glob(f"{split}-*.parquet")))


def _csv_rows(path: Path) -> list[Row]:
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            kept = [name for name in COLUMNS if name in (reader.fieldnames or ())]
            return [{name: row[name] or None for name in kept} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def _parquet_rows(path: Path) -> list[Row]:
    """Rows of a table whose sound lies in files: `audio` is then text, the path as published."""
    table = open_parquet(path)
    names = set(table.schema_arrow.names)
    kept = [name for name in COLUMNS if name in names]
    sound = "audio" if "audio" in names and "audio_path" not in names else None
    return [_row(row, sound) for row in rows_of(table, [*kept, *([sound] if sound else [])])]


def rows_of(table: Any, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of an open `ParquetFile`, batch by batch, so that a gibibyte of sound is never in memory at once.

    Raises
    ------
    DataError: the file breaks off.
    """
    from pyarrow import ArrowException

    try:
        for batch in table.iter_batches(batch_size=64, columns=list(columns)):
            yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise DataError(f"a parquet table cannot be read to its end: {_reason(error)}. Download it again.") from error


def _row(row: Row, sound: str | None) -> Row:
    if sound is not None:
        audio = row.pop(sound)
        row["audio_path"] = audio.get("path") if isinstance(audio, dict) else audio
    return {name: None if isinstance(cell, float) and math.isnan(cell) else cell for name, cell in row.items()}


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def names(columns: Iterable[str]) -> str:
    """Up to five names for a sentence."""
    listed = list(columns)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
