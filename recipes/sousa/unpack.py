"""A published set whose sound is inside its tables, laid out as files beside one table.

Training reads clips in random order, and a parquet file gives a row only with the hundred around it: so the sound is
taken out once, as it is, byte for byte. That needs the set's size on disk a second time, and is checked for first.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from ...engine.context import Context
from .errors import DataError
from .layouts import COLUMNS, SAMPLES, Layout, Row, open_parquet, rows_of
from .notation import load_rudiments

_MARGIN = 1 << 30
"""Bytes left free on the disk."""


def unpack(layout: Layout, root: Path, context: Context) -> int:
    """Write `audio/<rudiment>/<sample_id>.flac` and `samples.csv` below `root`; returns how many clips there are.

    Raises
    ------
    DataError: not enough room on the disk, a table that breaks off, or a row without sound.
    """
    root.mkdir(parents=True)
    need, free = sum(path.stat().st_size for path, _ in layout.tables), shutil.disk_usage(root).free
    if free < need + _MARGIN:
        raise DataError(
            f"{layout.root} has {need / 2**30:.1f} GiB of clips inside its tables, and unpacking them to {root.parent} "
            f"needs as much there; {free / 2**30:.1f} GiB are free."
        )
    tables = [(path, split, open_parquet(path)) for path, split in layout.tables]
    total, done = sum(table.metadata.num_rows for _, _, table in tables), 0
    with open(root / SAMPLES, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for path, split, table in tables:
            columns = [name for name in ("audio", *COLUMNS) if name in table.schema_arrow.names]
            for row in rows_of(table, columns):
                context.progress(done, total, "clip", "unpack")
                writer.writerow({**row, "split": split, "audio_path": _write(path, row, root)})
                done += 1
    context.progress(total, total, "clip", "unpack")
    return done


def _write(table: Path, row: Row, root: Path) -> str:
    """Write one clip's bytes; returns its path below `root`. A class that is none of the forty gets a folder too."""
    sample_id, audio = str(row.get("sample_id") or ""), row.get("audio")
    sound = audio.get("bytes") if isinstance(audio, dict) else None
    if not sound:
        raise DataError(f"{table}: {sample_id or 'a row'} has no sound in it; download the set's `audio` part again.")
    if not sample_id.replace("_", "").replace("-", "").isalnum():
        raise DataError(f"{table}: {sample_id!r} cannot name a file; the table is damaged or is no SOUSA set.")
    slug = str(row.get("rudiment_slug"))
    folder = root / "audio" / (slug if slug in load_rudiments() else "other")
    folder.mkdir(parents=True, exist_ok=True)
    ending = Path(str(audio.get("path") or "")).suffix.lower() if isinstance(audio, dict) else ""
    path = folder / f"{sample_id}{ending if ending in ('.flac', '.wav') else '.flac'}"
    path.write_bytes(sound)
    return str(path.relative_to(root))
