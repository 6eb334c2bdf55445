"""A set's index as columns: 100,000 items sort and filter in numpy, and an item is decoded only when it is looked at.

Words that repeat (labels, tag sets) are numbers into a list of the different ones, so that a filter matches each word
once. A snapshot shares its columns with the builder: those only grow at the end (`engine.growing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..events import as_float
from ..growing import GrowingArray
from .items import IndexLine, item_of

NO_STEP = -(2**63)
"""In the column of steps: the item was logged without one. Sorts before every step."""
MOST_METRICS = 256
"""Columns are kept for so many metric names; an item itself shows all of its own."""
MOST_TEXT = 4096
"""Characters of an item's texts that a filter looks through."""
PARAMETER_SIDES = ("target", "predicted", "error")
ID_WORDS = 3
"""Ids of up to so many times eight bytes are sorted as numbers: ours have 16 bytes, and a few more with `-2`."""

Word = TypeVar("Word")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class Prefix(Sequence[Any]):
    """The first `length` entries of a list that only grows: a snapshot without a copy."""

    __slots__ = ("_items", "_length")

    def __init__(self, items: list[Any], length: int) -> None:
        self._items, self._length = items, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._items[: self._length][index]
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items[: self._length])


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """N rows in the order of the index. Frozen: a later poll makes a new one.

    `seconds`: the longest track's length, NaN without tracks. `label_codes`, `predicted_codes` index `classes`,
    `tag_codes` index `tag_sets`, `track_codes` the names of a row's tracks in `track_sets`, `file_codes` index
    `files`; -1 is none. `channels` and `rates` (Hz): the most of a row's tracks, NaN without tracks. `texts`: all text
    fields of a row, casefolded; `keys`: as its user calls a row, or empty. `nan_rows`: by metric, the rows where it is
    NaN itself; where it is NaN in `metrics` besides, a row has no such metric. `current` is False where a later row has
    the same id and step; `broken` where the index line has a fault or tells of one: an empty track, samples that are
    not finite. What is wrong with the files is known to `SampleSet.checked`.
    """

    ids: Sequence[str] = ()
    steps: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    t: Floats = field(default_factory=lambda: np.empty(0))
    epochs: Floats = field(default_factory=lambda: np.empty(0))
    seconds: Floats = field(default_factory=lambda: np.empty(0))
    channels: Floats = field(default_factory=lambda: np.empty(0))
    rates: Floats = field(default_factory=lambda: np.empty(0))
    metrics: Mapping[str, Floats] = field(default_factory=dict)
    nan_rows: Mapping[str, Ints] = field(default_factory=dict)
    classes: Sequence[str] = ()
    label_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    predicted_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    tag_sets: Sequence[tuple[str, ...]] = ()
    tag_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    track_sets: Sequence[tuple[str, ...]] = ()
    track_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    files: Sequence[str] = ()
    file_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    texts: Sequence[str] = ()
    keys: Sequence[str] = ()
    id_codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    current: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    broken: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    id_keys: tuple[npt.NDArray[np.uint64], ...] = ()
    """The ids' bytes as numbers that sort like them, most significant first; empty when an id is too long for that."""
    parameters: Callable[[str, str, int], Floats] | None = None
    """Reads one side of a parameter of the first rows anew: hundreds for each item would not fit in memory."""

    def __len__(self) -> int:
        return len(self.ids)

    def all_steps(self) -> Ints:
        """The different steps, rising; `NO_STEP` first where items have none."""
        return np.unique(self.steps)

    def newest(self) -> Mask:
        """Which rows are the newest of their id: one row an item, at the last step it was evaluated."""
        mask = np.zeros(len(self), np.bool_)
        if len(self):
            order = np.lexsort((np.arange(len(self)), self.steps, self.id_codes))
            ends = np.append(self.id_codes[order][1:] != self.id_codes[order][:-1], True)
            mask[order[ends]] = True
        return mask

    def is_nan(self, metric: str) -> Mask:
        """Where a metric is NaN itself, shape (N,)."""
        mask = np.zeros(len(self), np.bool_)
        mask[self.nan_rows.get(metric, np.empty(0, np.int64))] = True
        return mask

    def parameter(self, side: str, name: str) -> Floats:
        """`target`, `predicted` or `error` of a parameter, shape (N,), NaN where there is none. Reads the index."""
        return np.full(len(self), np.nan) if self.parameters is None else self.parameters(side, name, len(self))

    def rows_of(self, id: str) -> Ints:
        """The current rows of an id, by rising step."""
        rows = np.asarray([row for row, name in enumerate(self.ids) if name == id], np.int64)
        rows = rows[self.current[rows]] if len(rows) else rows
        return rows[np.argsort(self.steps[rows], kind="stable")]

    def row_of(self, id: str, step: int | None = None) -> int | None:
        """The row of an id at `step`, at its newest step when None; None when there is no such row."""
        rows = self.rows_of(id)
        if step is not None:
            rows = rows[self.steps[rows] == step]
        return int(rows[-1]) if len(rows) else None


class ColumnBuilder:
    """Turns index lines into columns, batch by batch."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._keys: list[str] = []
        self._steps, self._t = GrowingArray(np.int64), GrowingArray(np.float64)
        self._epochs, self._seconds = GrowingArray(np.float64), GrowingArray(np.float64)
        self._labels, self._predicted = GrowingArray(np.int32), GrowingArray(np.int32)
        self._tags, self._id_codes = GrowingArray(np.int32), GrowingArray(np.int32)
        self._tracks, self._files = GrowingArray(np.int32), GrowingArray(np.int32)
        self._channels, self._rates = GrowingArray(np.float64), GrowingArray(np.float64)
        self._broken = GrowingArray(np.bool_)
        self._id_keys = tuple(GrowingArray(np.uint64) for _ in range(ID_WORDS))
        self._long_ids = False
        self._metrics: dict[str, GrowingArray] = {}
        self._nan_rows: dict[str, GrowingArray] = {}
        self._classes: dict[str, int] = {}
        self._tag_sets: dict[tuple[str, ...], int] = {}
        self._track_sets: dict[tuple[str, ...], int] = {}
        self._file_names: dict[str, int] = {}
        self._known_ids: dict[str, int] = {}
        self._newest: dict[tuple[int, int], int] = {}
        self._replaced: list[int] = []
        self._current = np.empty(0, np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, lines: Sequence[tuple[IndexLine, tuple[str, ...]]]) -> None:
        """Append a batch of decoded lines."""
        if not lines:
            return
        rows = [line for line, _ in lines]
        first = len(self._ids)
        steps = [NO_STEP if line.step is None else line.step for line in rows]
        codes = [self._known_ids.setdefault(line.id, len(self._known_ids)) for line in rows]
        for row, place in enumerate(zip(codes, steps, strict=True), first):
            older = self._newest.get(place)
            if older is not None:
                self._replaced.append(older)
            self._newest[place] = row
        self._ids += [line.id for line in rows]
        self._add_id_keys([line.id for line in rows])
        self._texts += [_searchable(line.text) for line in rows]
        self._keys += ["" if line.key is None else str(line.key) for line in rows]
        self._steps.extend(np.asarray(steps, np.int64))
        self._id_codes.extend(np.asarray(codes, np.int32))
        self._t.extend(_floats([line.t for line in rows]))
        self._epochs.extend(_floats([line.epoch for line in rows]))
        sounds = [_sound_facts(line) for line in rows]
        for which, column in enumerate((self._seconds, self._channels, self._rates)):
            column.extend(np.asarray([facts[which] for facts in sounds], np.float64))
        self._tracks.extend(_numbered([tuple(line.tracks) for line in rows], self._track_sets))
        self._files.extend(_numbered([line.file for line in rows], self._file_names))
        self._labels.extend(self._coded([line.label for line in rows]))
        self._predicted.extend(self._coded([line.predicted for line in rows]))
        self._tags.extend(_numbered([tuple(line.tags) for line in rows], self._tag_sets))
        faults = [facts[3] or bool(problems) for facts, (_, problems) in zip(sounds, lines, strict=True)]
        self._broken.extend(np.asarray(faults, np.bool_))
        self._add_metrics(rows, first)

    def snapshot(self) -> SampleColumns:
        """The columns as they are now."""
        count = len(self._ids)
        return SampleColumns(
            ids=Prefix(self._ids, count),
            steps=self._steps.view(),
            t=self._t.view(),
            epochs=self._epochs.view(),
            seconds=self._seconds.view(),
            channels=self._channels.view(),
            rates=self._rates.view(),
            metrics={name: column.view() for name, column in self._metrics.items()},
            nan_rows={name: column.view() for name, column in self._nan_rows.items()},
            classes=tuple(self._classes),
            label_codes=self._labels.view(),
            predicted_codes=self._predicted.view(),
            tag_sets=tuple(self._tag_sets),
            tag_codes=self._tags.view(),
            track_sets=tuple(self._track_sets),
            track_codes=self._tracks.view(),
            files=tuple(self._file_names),
            file_codes=self._files.view(),
            texts=Prefix(self._texts, count),
            keys=Prefix(self._keys, count),
            id_codes=self._id_codes.view(),
            current=self._current_mask(count),
            broken=self._broken.view(),
            id_keys=() if self._long_ids else tuple(words.view() for words in self._id_keys),
        )

    def _current_mask(self, count: int) -> Mask:
        """Grown or changed masks are new arrays: an earlier snapshot keeps its own."""
        if count != len(self._current) or self._replaced:
            mask = np.ones(count, np.bool_)
            mask[: len(self._current)] = self._current
            mask[self._replaced] = False
            self._current, self._replaced = mask, []
            mask.flags.writeable = False
        return self._current

    def _add_id_keys(self, ids: list[str]) -> None:
        """UTF-8 sorts like the characters; 100,000 strings would be compared for a third of a second at each sort."""
        if self._long_ids:
            return
        encoded = [id.encode("utf-8", "surrogatepass") for id in ids]
        self._long_ids = max(map(len, encoded)) > 8 * ID_WORDS
        if not self._long_ids:
            keys = np.array(encoded, f"S{8 * ID_WORDS}").view(">u8").reshape(-1, ID_WORDS)
            for words, column in zip(self._id_keys, keys.T, strict=True):
                words.extend(column.astype(np.uint64))

    def _coded(self, words: list[str | None]) -> Codes:
        known = self._classes
        return np.asarray([-1 if word is None else known.setdefault(word, len(known)) for word in words], np.int32)

    def _add_metrics(self, rows: list[IndexLine], first: int) -> None:
        """Columns that a row does not name get NaN there; which NaN are values is kept apart."""
        batch = {name: np.full(len(rows), np.nan) for name in self._metrics}
        for place, line in enumerate(rows):
            for name, raw in line.metrics.items():
                column = batch.get(name)
                if column is None:
                    if len(batch) >= MOST_METRICS:
                        continue
                    column = batch[name] = np.full(len(rows), np.nan)
                value = raw if type(raw) is float else as_float(raw)
                if value is not None:
                    column[place] = value
                    if value != value:
                        self._nan_rows.setdefault(name, GrowingArray(np.int64)).extend(np.asarray([first + place]))
        for name, values in batch.items():
            if name not in self._metrics:
                self._metrics[name] = GrowingArray(np.float64)
                self._metrics[name].extend(np.full(first, np.nan))
            self._metrics[name].extend(values)


def _numbered(words: Sequence[Word | None], known: dict[Word, int]) -> Codes:
    """Each word's number among the different ones, new ones appended; -1 for none and for an empty one."""
    return np.asarray([known.setdefault(word, len(known)) if word else -1 for word in words], np.int32)


def _floats(values: list[float | None]) -> Floats:
    return np.asarray([np.nan if value is None else value for value in values], np.float64)


def _searchable(text: Mapping[str, str]) -> str:
    """Every text field in one casefolded string; a newline between them, which no query can ask for."""
    return "\n".join(text.values())[:MOST_TEXT].casefold() if text else ""


def _sound_facts(line: IndexLine) -> tuple[float, float, float, bool]:
    """The longest track in seconds, the most channels, the highest rate, and whether a track is empty or not finite.

    Quick, as it runs for every line.
    """
    longest, channels, rate, fault = np.nan, np.nan, np.nan, False
    for track in line.tracks.values():
        frames, hertz, count = track.get("frames"), track.get("rate"), track.get("channels")
        if not (type(frames) is int and type(hertz) is int and type(count) is int and hertz > 0 and frames >= 0):
            return _slow_sound_facts(line)
        fault = fault or not frames or bool(track.get("not_finite"))
        seconds = frames / hertz
        longest = longest if longest >= seconds else seconds
        channels = channels if channels >= count else count
        rate = rate if rate >= hertz else hertz
    return longest, channels, rate, fault


def _slow_sound_facts(line: IndexLine) -> tuple[float, float, float, bool]:
    """The same of a line with something wrong in it: of the tracks that can be believed."""
    places = item_of(line).tracks.values()
    facts = [(place.seconds, float(place.channels), float(place.rate)) for place in places]
    longest, channels, rate = map(max, zip(*facts, strict=True)) if facts else (np.nan, np.nan, np.nan)
    return longest, channels, rate, True
