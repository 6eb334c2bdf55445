"""A set of samples as screens and verbs see it: columns to sort and filter, items on demand, sound by parts."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import WavedeckError
from ..format import plain
from ..hosts import read_mirror
from ..journal import LIVE, WHOLE, Budget
from .arrays import ArrayFiles, Audio, OpenFile
from .columns import ColumnBuilder, Floats, SampleColumns
from .damage import broken_rows
from .faults import SampleError, inside
from .ids import is_set_name
from .items import SampleItem, TrackPlace, decode_index_line, item_of
from .lines import IndexReader, open_regular

SAMPLES_FOLDER = "samples"
INDEX_FILE = "index.jsonl"
ATTACHMENTS = "attachments"
PART_FRAMES = 1 << 18
_DECODED = 2000
"""Items kept decoded: what a few screens of a table show."""


@dataclass(frozen=True, slots=True)
class SamplePoll:
    """What a poll found: `new` items, `bad_lines` that are no items, `more` when the budget ended before the index.

    `rewound`: the index was replaced, so that rows known before mean nothing.
    """

    new: int = 0
    more: bool = False
    rewound: bool = False
    bad_lines: int = 0


def sample_sets(run_dir: Path) -> tuple[str, ...]:
    """The sets of a run, by name; a folder is one when it holds an index."""
    root = run_dir / SAMPLES_FOLDER
    try:
        return tuple(sorted(path.name for path in root.iterdir() if _is_set(path, root)))
    except OSError:
        return ()


def _is_set(path: Path, root: Path) -> bool:
    try:
        return is_set_name(path.name) and inside(path, root).is_dir() and (path / INDEX_FILE).is_file()
    except (OSError, SampleError):
        return False


class SampleSet:
    """One set of one run, read while it grows. `poll`, `items`, `item` and `audio` may be called from any thread.

    Parameters
    ----------
    run_dir: the run's directory, or that of its copy.
    name: the set, a folder below `samples/`.
    open_file: see `ArrayFiles`; for files that are not (wholly) on this disk.
    """

    def __init__(self, run_dir: Path, name: str, open_file: OpenFile | None = None) -> None:
        if not is_set_name(name):
            raise SampleError(f"{plain(name, 80)!r} cannot be the name of a set of samples.")
        self.run_dir, self.name = run_dir, name
        self.directory = run_dir / SAMPLES_FOLDER / name
        self.bad_lines = 0
        self.rewinds = 0
        self._open_file = open_file
        self._files = ArrayFiles(self.directory, open_file, self.__len__)
        self._index = IndexReader(self.directory / INDEX_FILE)
        self._lock = threading.RLock()
        self._begin()

    def _begin(self) -> None:
        self._columns = ColumnBuilder()
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._snapshot = SampleColumns()
        self._decoded: OrderedDict[int, SampleItem] = OrderedDict()
        self._parameters: dict[tuple[str, str, int], Floats] = {}
        self.bad_lines = 0

    def poll(self, budget: Budget = LIVE) -> SamplePoll:
        """Read what the index gained; a set that is not there yet is empty.

        Raises
        ------
        SampleError: the index is there and cannot be read.
        """
        with self._lock:
            try:
                inside(self.directory, self.run_dir / SAMPLES_FOLDER)
                if self._index.path.is_symlink():
                    inside(self._index.path, self.directory)
                found = self._index.poll(budget)
            except FileNotFoundError:
                return SamplePoll()
            except OSError as error:
                reason = error.strerror or str(error)
                raise SampleError(f"The index of {self.name!r} cannot be read ({plain(reason, 120)}).") from error
            if found.rewound:
                self.rewinds += 1
                self._begin()
                self._files.close()
            bad = found.too_long
            lines = []
            for offset, text in zip(found.offsets, found.lines, strict=True):
                line = decode_index_line(text)
                if line is None:
                    bad += 1
                    continue
                lines.append(line)
                self._offsets.append(offset)
                self._lengths.append(len(text))
            self._columns.add(lines)
            self.bad_lines += bad
            if lines or found.rewound:
                self._snapshot = replace(self._columns.snapshot(), parameters=self._parameter)
                self._parameters.clear()
            return SamplePoll(len(lines), found.more, found.rewound, bad)

    def load(self) -> SampleSet:
        """Read the whole index, for verbs; returns the set itself."""
        self.poll(WHOLE)
        return self

    @property
    def items(self) -> SampleColumns:
        """Every row read so far, frozen."""
        return self._snapshot

    def __len__(self) -> int:
        return len(self._snapshot)

    def item(self, row: int) -> SampleItem:
        """The item of a row of `items`, decoded from its line in the index."""
        with self._lock:
            known = self._decoded.get(row)
            if known is not None:
                self._decoded.move_to_end(row)
                return known
            columns = self._snapshot
            if not 0 <= row < len(columns):
                raise SampleError(f"There is no item {row} in {self.name!r}: the index was read again.")
            found = decode_index_line(self._index.line_at(self._offsets[row], self._lengths[row]))
            if found is None or found[0].id != columns.ids[row]:
                wrong = "Its index line is no longer there: the index was replaced or cut."
                return SampleItem(id=columns.ids[row], set=self.name, row=row, problems=(wrong,))
            item = self._decoded[row] = item_of(*found, set=self.name, row=row)
            while len(self._decoded) > _DECODED:
                self._decoded.popitem(last=False)
            return item

    def checked(self) -> SampleColumns:
        """`items`, with `broken` also where a file of this disk is not there, foreign or cut short.

        Opens each file once, and looks at single items only in those that are not whole.
        """
        columns = self.items

        def check(row: int) -> None:
            item = self.item(row)
            for track in item.tracks:
                self._files.check(item.file, track, item.tracks[track], row)

        elsewhere = self._open_file is not None or self._host is not None
        return replace(columns, broken=broken_rows(columns, self.directory, check, elsewhere=elsewhere))

    def _parameter(self, side: str, name: str, rows: int) -> Floats:
        """One side of a parameter by row, from the lines of the index; kept until the set grows."""
        with self._lock:
            known = self._parameters.get((side, name, rows))
            if known is None:
                known = np.full(rows, np.nan)
                for row in range(min(rows, len(self._offsets))):
                    found = decode_index_line(self._index.line_at(self._offsets[row], self._lengths[row]))
                    sides = None if found is None else item_of(*found).parameters.get(name)
                    value = None if sides is None else getattr(sides, side)
                    known[row] = np.nan if value is None else value
                self._parameters[side, name, rows] = known
            return known

    def find(self, name: str, step: int | None = None) -> SampleItem | None:
        """The item with this id or key at `step`, at its newest step when None; a beginning that only one has will do.

        Raises
        ------
        SampleError: several ids or keys begin so.
        """
        columns = self.items
        row = columns.row_of(name, step)
        if row is None and name:
            ids = self._ids_of(name)
            if len(ids) > 1:
                said = f"{len(ids)} items of {self.name!r} begin with {plain(name, 40)!r}"
                raise SampleError(
                    f"{said}, such as {plain(', '.join(sorted(ids.values())[:3]), 200)}: give more of it."
                )
            row = columns.row_of(next(iter(ids)), step) if ids else None
        return None if row is None else self.item(row)

    def _ids_of(self, name: str) -> dict[str, str]:
        """The items that `name` may mean, id to what it is called: one with this key, else all that begin with it."""
        called = {id: key or id for id, key in zip(self.items.ids, self.items.keys, strict=True)}
        exact = {id: key for id, key in called.items() if key == name}
        return exact or {id: key for id, key in called.items() if id.startswith(name) or key.startswith(name)}

    def history(self, id: str) -> tuple[int, ...]:
        """The rows of an item at every step it was evaluated, by rising step."""
        return tuple(int(row) for row in self.items.rows_of(id))

    def audio(self, item: SampleItem, track: str, start: int = 0, frames: int | None = None) -> Audio:
        """`frames` frames of a track from frame `start` on (all that follow when None): float32 (frames, channels).

        A range that reaches beyond the track is cut to it. NaN and infinite samples come as they are: see `finite`.

        Raises
        ------
        SampleError: the item has no such track, or its samples cannot be read; the sentence says why.
        """
        place = self._place(item, track)
        begin = min(max(start, 0), place.frames)
        end = place.frames if frames is None else min(max(start + frames, begin), place.frames)
        if begin == end:
            return np.empty((0, place.channels), np.float32)
        return self._files.read(item.file, track, place, begin, end - begin, item.row)

    def parts(self, item: SampleItem, track: str, frames: int = PART_FRAMES) -> Iterator[Audio]:
        """The whole track in parts of at most `frames` frames, so that two hours take no more memory than a second."""
        for start in range(0, self._place(item, track).frames, frames):
            yield self.audio(item, track, start, frames)

    def problem(self, item: SampleItem) -> str | None:
        """What is wrong with an item, in sentences, or None. Opens its file but reads no samples."""
        wrong = [*item.problems, *(self.track_problem(item, track) for track in item.tracks)]
        wrong += [self._attachment_problem(item, name) for name in item.attachments]
        return " ".join(text for text in wrong if text) or None

    def track_problem(self, item: SampleItem, track: str) -> str | None:
        """What is wrong with one track, or None. NaN and infinite samples are a fault that still plays."""
        try:
            place = self._place(item, track)
            self._files.check(item.file, track, place, item.row)
        except SampleError as error:
            return str(error)
        if place.not_finite:
            count = f"{place.not_finite:,} samples of track {plain(track, 40)!r} are"
            one = f"One sample of track {plain(track, 40)!r} is"
            return f"{one if place.not_finite == 1 else count} NaN or infinite; they play as silence."
        return None

    def attachment(self, item: SampleItem, name: str) -> Path:
        """The file attached under `name`: a regular file inside the set's folder, on this disk.

        Raises
        ------
        SampleError: it is not there, or leads elsewhere.
        """
        said = plain(name, 40)
        given = item.attachments.get(name)
        if not given or "\0" in given:
            raise SampleError(f"The item has no attachment {said!r}.")
        try:
            path = inside(self.directory / given, self.directory)
        except OSError:
            raise SampleError(f"The attachment {said!r} is not there: it was deleted or not copied yet.") from None
        if not path.is_file():
            raise SampleError(f"The attachment {said!r} is no file.")
        return path

    def attachment_place(self, item: SampleItem, name: str) -> str:
        """Where an attachment is, in words: `here`; `on gpu1` when only the host of this copy has it; the fault."""
        try:
            self.attachment(item, name)
        except SampleError as error:
            host = self._host if self._is_elsewhere(item, name) else None
            return str(error) if host is None else f"on {plain(host, 40)}"
        return "here"

    def open_attachment(self, item: SampleItem, name: str) -> BinaryIO:
        """An attachment's bytes, from the host of this copy where they are not here. May wait.

        Raises
        ------
        SampleError: it is neither here nor there, or leads elsewhere. Its stream's faults are OSErrors.
        """
        said = plain(name, 40)
        if not self._is_elsewhere(item, name) or self._open_file is None:
            return open(open_regular(self.attachment(item, name)), "rb")
        try:
            given = self._open_file(self.directory / item.attachments[name])
            return given if not isinstance(given, Path) else open(open_regular(inside(given, self.directory)), "rb")
        except OSError as error:
            reason = plain(error.strerror or str(error), 120)
            raise SampleError(f"The attachment {said!r} cannot be fetched ({reason}).") from error

    def read_attachment(self, item: SampleItem, name: str, most: int = 4 * 1024 * 1024) -> bytes:
        """The first `most` bytes of an attachment."""
        with self.open_attachment(item, name) as handle:
            return handle.read(most)

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self._files.close()

    def _attachment_problem(self, item: SampleItem, name: str) -> str | None:
        try:
            self.attachment(item, name)
        except SampleError as error:
            return None if self._host is not None and self._is_elsewhere(item, name) else str(error)
        return None

    def _is_elsewhere(self, item: SampleItem, name: str) -> bool:
        """Whether it may be on another host: nothing of that name is here, and the name is one the writer gives."""
        given = item.attachments.get(name) or ""
        folder, _, rest = given.partition("/")
        plain_name = folder == ATTACHMENTS and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", rest) is not None
        return plain_name and self._host is not None and not os.path.lexists(self.directory / given)

    @property
    def _host(self) -> str | None:
        """Whose copy this run is; None for a run of this machine."""
        try:
            record = read_mirror(self.run_dir)
        except WavedeckError:
            return None
        return record.host if record is not None else None

    def _place(self, item: SampleItem, track: str) -> TrackPlace:
        place = item.tracks.get(track)
        if place is None:
            raise SampleError(f"The item has no track {plain(track, 40)!r}.")
        return place
