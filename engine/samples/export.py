"""Samples as files: the sound and attachments of many items, and one CSV for all the rest.

No name from a run becomes a path before `ids.file_name` had it.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..format import plain
from .export_sound import (
    KINDS,
    Cancelled,
    ExportCancelled,
    Exported,
    export_read,
    export_track,
    flac_limit,
    words_of,
)
from .export_table import item_cells, write_table
from .faults import SampleError
from .ids import file_name
from .items import SampleItem
from .notes import SampleNotes
from .reader import SampleSet

__all__ = [
    "KINDS",
    "ExportCancelled",
    "ExportReport",
    "Exported",
    "export_read",
    "export_set",
    "export_track",
    "flac_limit",
    "item_stem",
    "make_folder",
]

TABLE_FILE = "samples.csv"
MOST_ATTACHMENT_BYTES = 1 << 32
_COPIED_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export_set` wrote.

    Parameters
    ----------
    problems: a sentence for each thing that could not be written or was changed, with its item's name.
    empty: the names of items that have something to write of which nothing could be.
    """

    table: Path
    files: tuple[Exported, ...]
    problems: tuple[str, ...]
    attachments: tuple[Path, ...] = ()
    empty: tuple[str, ...] = ()


def export_set(
    samples: SampleSet,
    rows: Sequence[int],
    directory: Path,
    *,
    kind: str = "wav",
    tracks: Sequence[str] | None = None,
    notes: SampleNotes | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Cancelled = lambda: False,
    attachments: bool = False,
) -> ExportReport:
    """Write the tracks of `rows` (all of them, or those named) into `directory`, and one CSV row an item.

    A track that cannot be read costs itself only; `ExportReport.empty` names the items of which nothing came.
    `progress(done, total)` is called after each item. `attachments`:
    their attached files too, from their host where they are not here.

    Raises
    ------
    SampleError: the folder or the table cannot be written. ExportCancelled: `cancelled()` became true; what is written
        by then stays, whole files only, with a table of it.
    """
    if kind not in KINDS:
        raise SampleError(f"Samples are exported as {' or '.join(KINDS)}, not {plain(kind, 20)!r}.")
    files: list[Exported] = []
    problems: list[str] = []
    lines: list[dict[str, str]] = []
    copied: list[Path] = []
    empty: list[str] = []
    taken: set[str] = {TABLE_FILE}
    table = directory / TABLE_FILE
    done = 0
    make_folder(directory)
    try:
        for row in rows:
            item = samples.item(int(row))
            line = item_cells(item, notes)
            lines.append(line)
            wrong, written_before = list(item.problems), len(files) + len(copied)
            chosen = list(item.tracks) if tracks is None else [name for name in tracks if name in item.tracks]
            for track in chosen:
                name = _free_name(item, track, kind if item.tracks[track].frames else "wav", taken)
                try:
                    written = export_track(samples, item, track, directory / name, cancelled=cancelled)
                except ExportCancelled:
                    raise
                except SampleError as error:
                    wrong.append(str(error))
                    continue
                files.append(written)
                line[f"file/{track}"] = name
                wrong += _remarks(track, written)
            for name in item.attachments if attachments else ():
                try:
                    copied.append(_copy_attachment(samples, item, name, directory, taken, cancelled))
                    line[f"attachment/{name}"] = copied[-1].name
                except ExportCancelled:
                    raise
                except SampleError as error:
                    wrong.append(str(error))
            line["problem"] = " ".join(wrong)
            name = plain(item.key or item.id, 60)
            problems += [f"{name}: {text}" for text in wrong]
            promised = bool(chosen or item.problems or (attachments and item.attachments))
            if promised and len(files) + len(copied) == written_before:
                empty.append(name)
            done += 1
            if progress is not None:
                progress(done, len(rows))
            if done < len(rows) and cancelled():
                raise ExportCancelled
    except (ExportCancelled, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError):
            write_table(table, lines)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ExportCancelled(f"The export was cancelled after {done:,} of {len(rows):,} items.") from None
    except OSError as error:
        raise _failed(directory, error) from error
    try:
        write_table(table, lines)
    except OSError as error:
        raise _failed(directory, error) from error
    return ExportReport(table, tuple(files), tuple(problems), tuple(copied), tuple(empty))


def make_folder(directory: Path) -> None:
    """Make the folder that an export goes to.

    Raises
    ------
    SampleError: it cannot be made, or is a file.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for there in (directory, *directory.parents):
            if there.is_file():
                raise SampleError(f"{there} is a file: an export needs a folder, so name another one.") from None
        reason = "the system keeps no files there" if error.errno == errno.ENOENT else words_of(error, directory)
        raise SampleError(f"The folder {directory} cannot be made ({reason}): name one where you may write.") from error


def _failed(directory: Path, error: OSError) -> SampleError:
    return SampleError(f"The export to {directory} failed ({words_of(error, directory)}): name a folder with room.")


def _copy_attachment(
    samples: SampleSet, item: SampleItem, name: str, directory: Path, taken: set[str], cancelled: Cancelled
) -> Path:
    """Copy one attachment beside the sound, whole or not at all."""
    ending = file_name(Path(item.attachments[name]).suffix.removeprefix("."), "")
    stem = file_name(name)
    kind = ending if ending and not stem.endswith(f".{ending}") else ""
    path = directory / _free_name(item, name, kind, taken)
    temporary = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as target, samples.open_attachment(item, name) as source:
            while data := source.read(_COPIED_BYTES):
                if cancelled():
                    raise ExportCancelled("The export was cancelled.")
                if target.tell() > MOST_ATTACHMENT_BYTES:
                    raise SampleError(f"The attachment {plain(name, 40)!r} is too large to copy.")
                target.write(data)
        temporary.replace(path)
    except OSError as error:
        reason = words_of(error, directory)
        raise SampleError(f"The attachment {plain(name, 40)!r} could not be copied ({reason}).") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _remarks(track: str, written: Exported) -> list[str]:
    remarks = []
    if written.silenced:
        remarks.append(f"Track {plain(track, 40)!r}: {written.silenced:,} NaN or infinite samples became silence.")
    if written.clipped:
        remarks.append(f"Track {plain(track, 40)!r}: {written.clipped:,} samples beyond full scale were clipped.")
    return remarks


def item_stem(item: SampleItem) -> str:
    """How the names of an item's files begin: its key where it has one, else its id, and the step."""
    step = "" if item.step is None else f"-step{item.step}"
    return f"{file_name(item.key or '', file_name(item.id))}{step}"


def _free_name(item: SampleItem, track: str, kind: str, taken: set[str]) -> str:
    """A name no other file of this export has, also where upper and lower case are the same."""
    stem, ending = f"{item_stem(item)}-{file_name(track)}", f".{kind}" if kind else ""
    name, number = f"{stem}{ending}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}.{number}{ending}"
    taken.add(name.casefold())
    return name
