"""Samples as files that any program opens: WAV or FLAC for the sound, one CSV for all the rest.

WAV keeps the float32 samples as they are; FLAC has 24 bits, at most 8 channels, and clips at full scale, which is
counted and said. NaN and infinite samples become silence in both, counted too. Files are written under a temporary name
and renamed when whole; no name from a run becomes a path before `ids.file_name` had it.
"""

from __future__ import annotations

import csv
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..format import plain
from .arrays import Audio, SampleError
from .ids import file_name
from .items import SampleItem
from .notes import SampleNotes
from .reader import PART_FRAMES, SampleSet

KINDS = ("wav", "flac")
TABLE_FILE = "samples.csv"
_SUBTYPES = {"wav": "FLOAT", "flac": "PCM_24"}
_MOST_FLAC_CHANNELS = 8
_MOST_FLAC_RATE = 655_350


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file. `clipped` samples were beyond full scale (FLAC), `silenced` ones were NaN or infinite."""

    path: Path
    frames: int
    clipped: int = 0
    silenced: int = 0


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export_set` wrote; `problems` holds a sentence for each track that could not be, with its item's id."""

    table: Path
    files: tuple[Exported, ...]
    problems: tuple[str, ...]


def export_track(
    samples: SampleSet, item: SampleItem, track: str, path: Path, *, start: int = 0, frames: int | None = None
) -> Exported:
    """Write a track, or `frames` frames from `start` on, to `path`; its ending says `.wav` or `.flac`.

    Reads and writes by parts: two hours take no more memory than a second. A file that is there is replaced.

    Raises
    ------
    SampleError: the samples cannot be read, or the file cannot be written or hold them.
    """
    kind = path.suffix.lower().removeprefix(".")
    place = item.tracks.get(track)
    if kind not in KINDS:
        raise SampleError(f"{path.name} is neither .wav nor .flac.")
    if place is None:
        raise SampleError(f"The item has no track {plain(track, 40)!r}.")
    if kind == "flac" and (place.channels > _MOST_FLAC_CHANNELS or place.rate > _MOST_FLAC_RATE):
        raise SampleError(f"FLAC holds no {place.channels} channels at {place.rate} Hz: export as .wav instead.")
    begin = min(max(start, 0), place.frames)
    end = place.frames if frames is None else min(max(start + frames, begin), place.frames)
    return _write(path, kind, place.rate, place.channels, _parts(samples, item, track, begin, end))


def _parts(samples: SampleSet, item: SampleItem, track: str, begin: int, end: int) -> Iterator[Audio]:
    for start in range(begin, end, PART_FRAMES):
        yield samples.audio(item, track, start, min(PART_FRAMES, end - start))


def _write(path: Path, kind: str, rate: int, channels: int, parts: Iterator[Audio]) -> Exported:
    soundfile = _soundfile()
    temporary = path.with_name(f".{secrets.token_hex(4)}.{kind}")
    frames = clipped = silenced = 0
    try:
        with soundfile.SoundFile(
            temporary, "w", samplerate=rate, channels=channels, subtype=_SUBTYPES[kind], format=kind.upper()
        ) as sound:
            for part in parts:
                good = np.isfinite(part)
                silenced += part.size - int(np.count_nonzero(good))
                part = np.where(good, part, np.float32(0))
                if kind == "flac":
                    clipped += int(np.count_nonzero(np.abs(part) > 1))
                    part = np.clip(part, -1, 1)
                sound.write(part)
                frames += len(part)
        temporary.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise SampleError(f"{path} could not be written ({plain(str(error), 160)}).") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(path, frames, clipped, silenced)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise SampleError("Export needs the soundfile package and libsndfile: pip install soundfile.") from error
    return soundfile


def export_set(
    samples: SampleSet,
    rows: Sequence[int],
    directory: Path,
    *,
    kind: str = "wav",
    tracks: Sequence[str] | None = None,
    notes: SampleNotes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write the tracks of `rows` (all of them, or those named) into `directory`, and one CSV row an item.

    A track that cannot be read costs itself only. `progress(done, total)` is called after each item.

    Raises
    ------
    SampleError: the folder or the table cannot be written.
    """
    if kind not in KINDS:
        raise SampleError(f"Samples are exported as {' or '.join(KINDS)}, not {plain(kind, 20)!r}.")
    files: list[Exported] = []
    problems: list[str] = []
    lines: list[dict[str, str]] = []
    taken: set[str] = set()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for done, row in enumerate(rows, 1):
            item = samples.item(int(row))
            line = _facts(item, notes)
            wrong = list(item.problems)
            for track in item.tracks if tracks is None else [name for name in tracks if name in item.tracks]:
                name = _free_name(item, track, kind, taken)
                try:
                    written = export_track(samples, item, track, directory / name)
                except SampleError as error:
                    wrong.append(str(error))
                    continue
                files.append(written)
                line[f"file/{track}"] = name
                wrong += _remarks(track, written)
            line["problem"] = " ".join(wrong)
            problems += [f"{plain(item.id, 40)}: {text}" for text in wrong]
            lines.append(line)
            if progress is not None:
                progress(done, len(rows))
        table = directory / TABLE_FILE
        _write_table(table, lines)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SampleError(f"The export to {directory} failed ({plain(reason, 120)}): free space or rights?") from error
    return ExportReport(table, tuple(files), tuple(problems))


def _remarks(track: str, written: Exported) -> list[str]:
    remarks = []
    if written.silenced:
        remarks.append(f"Track {plain(track, 40)!r}: {written.silenced:,} NaN or infinite samples became silence.")
    if written.clipped:
        remarks.append(f"Track {plain(track, 40)!r}: {written.clipped:,} samples beyond full scale were clipped.")
    return remarks


def _free_name(item: SampleItem, track: str, kind: str, taken: set[str]) -> str:
    """A name no other file of this export has, also where upper and lower case are the same."""
    step = "" if item.step is None else f"-step{item.step}"
    stem = f"{file_name(item.id)}{step}-{file_name(track)}"
    name, number = f"{stem}.{kind}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}.{number}.{kind}"
    taken.add(name.casefold())
    return name


def _facts(item: SampleItem, notes: SampleNotes | None) -> dict[str, str]:
    """An item's cells by column name, `metric/…`, `text/…` and `probability/…` for what has names of its own."""
    cells = {
        "id": item.id,
        "step": "" if item.step is None else str(item.step),
        "epoch": _cell(item.epoch),
        "label": item.label or "",
        "predicted": item.predicted or "",
        "tags": " ".join(item.tags),
        "seconds": _cell(item.seconds),
    }
    cells |= {f"metric/{name}": _cell(value) for name, value in item.metrics.items()}
    cells |= {f"text/{name}": value for name, value in item.text.items()}
    cells |= {f"probability/{name}": _cell(value) for name, value in item.probabilities.items()}
    for name, parameter in item.parameters.items():
        cells[f"target/{name}"], cells[f"predicted/{name}"] = _cell(parameter.target), _cell(parameter.predicted)
    if notes is not None:
        note = notes.of(item)
        cells |= {"rating": "" if note.rating is None else str(note.rating), "note": note.text}
    return cells


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _write_table(path: Path, lines: list[dict[str, str]]) -> None:
    columns: dict[str, None] = {}
    for line in lines:
        columns |= dict.fromkeys(line)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "w", newline="", encoding="utf-8", errors="replace") as handle:
            table = csv.writer(handle)
            table.writerow([_harmless(name) for name in columns])
            table.writerows([_harmless(line.get(name, "")) for name in columns] for line in lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal for a command; line ends stay."""
    clean = "".join(char if char.isprintable() or char in "\n\t" else "·" for char in cell)
    try:
        float(clean)
    except ValueError:
        return f"'{clean}" if clean[:1] in ("=", "+", "-", "@", "\t") else clean
    return clean
