"""What the listener thinks of an item: a rating, a note, blind tests, in `notes/samples.jsonl` of the run, never in its
samples.

Append-only, one line a change, the last one counts; blind tests (`kind` "blind") all do. The mirror of a remote run
leaves `notes/` alone. A rating belongs to an item at one step: the same clip is worse at step 1,000.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ..format import plain
from ..journal import WHOLE, Budget
from .columns import NO_STEP, SampleColumns
from .faults import SampleError
from .items import SampleItem
from .lines import IndexReader
from .query import NoteColumns

NOTES_FILE = Path("notes") / "samples.jsonl"
MOST_NOTE = 4000
BEST = 5
BLIND = "blind"
MOST_TESTS = 200
"""Blind tests that are remembered of one item."""


@dataclass(frozen=True, slots=True)
class Note:
    """`rating` 1 (bad) to 5 (good), None when not rated; `text` may be empty."""

    rating: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class BlindNote:
    """What came out of a blind A/B/X test of the two in `pair`: `right` of `trials`, `p` of so many by guessing."""

    pair: tuple[str, str]
    trials: int
    right: int
    p: float
    step: int | None = None
    t: float = 0.0


class _Line(msgspec.Struct, gc=False):
    set: str
    id: str
    step: int | None = None
    kind: str = ""
    rating: int | None = None
    note: str = ""
    t: float = 0.0


class _BlindLine(msgspec.Struct, gc=False):
    set: str
    id: str
    pair: tuple[str, str]
    trials: int
    right: int
    p: float
    step: int | None = None
    kind: str = BLIND
    t: float = 0.0


_decoder = msgspec.json.Decoder(_Line)
_blind_decoder = msgspec.json.Decoder(_BlindLine)


class SampleNotes:
    """Ratings and notes of one run, of all its sets."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NOTES_FILE
        self._reader = IndexReader(self.path)
        self._notes: dict[tuple[str, str, int | None], Note] = {}
        self._tests: dict[tuple[str, str], list[BlindNote]] = {}
        self.poll()

    def poll(self, budget: Budget = WHOLE) -> bool:
        """Read what others added; whether anything changed."""
        try:
            found = self._reader.poll(budget)
        except OSError:
            return False
        if found.rewound:
            self._notes, self._tests = {}, {}
        for text in found.lines:
            try:
                line = _decoder.decode(text)
                test = _blind_decoder.decode(text) if line.kind == BLIND else None
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if test is not None:
                self._remember(test)
            if line.kind:
                continue
            rating = line.rating if line.rating is not None and 1 <= line.rating <= BEST else None
            self._notes[line.set, line.id, line.step] = Note(rating, line.note[:MOST_NOTE])
        return bool(found.lines) or found.rewound

    def of(self, item: SampleItem) -> Note:
        """What is noted about an item at its step."""
        return self._notes.get((item.set, item.id, item.step), Note())

    def rate(self, item: SampleItem, rating: int | None) -> Note:
        """Rate an item 1…5, None to take the rating back."""
        if rating is not None and not 1 <= rating <= BEST:
            raise SampleError(f"A rating is 1 to {BEST}, not {rating}.")
        return self._keep(item, Note(rating, self.of(item).text))

    def write(self, item: SampleItem, text: str) -> Note:
        """Note something about an item; an empty text takes the note back."""
        return self._keep(item, Note(self.of(item).rating, text.strip()[:MOST_NOTE]))

    def blind_tests(self, item: SampleItem) -> tuple[BlindNote, ...]:
        """The blind tests of an item, at whichever steps, the first one first."""
        return tuple(self._tests.get((item.set, item.id), ()))

    def keep_test(self, item: SampleItem, test: BlindNote) -> None:
        """Keep what came out of a blind test.

        Raises
        ------
        SampleError: it cannot be written.
        """
        first, second = (name.encode("utf-8", "replace").decode()[:200] for name in test.pair)
        now = round(time.time(), 3)
        line = _BlindLine(
            item.set, item.id, (first, second), test.trials, test.right, round(test.p, 6), item.step, t=now
        )
        self._append(line)
        self._remember(line)

    def columns(self, items: SampleColumns, set: str) -> NoteColumns:
        """Ratings and notes by row, for filters and sorting."""
        ratings, texts = np.full(len(items), np.nan), [""] * len(items)
        mine = {(id, step): note for (name, id, step), note in self._notes.items() if name == set}
        ids = {id for id, _ in mine}
        for row, id in enumerate(items.ids) if mine else ():
            if id in ids:
                step = int(items.steps[row])
                note = mine.get((id, None if step == NO_STEP else step), Note())
                ratings[row] = np.nan if note.rating is None else note.rating
                texts[row] = note.text.casefold()
        return NoteColumns(ratings, texts)

    def _keep(self, item: SampleItem, note: Note) -> Note:
        text = note.text.encode("utf-8", "replace").decode()
        self._append(_Line(item.set, item.id, item.step, "", note.rating, text, round(time.time(), 3)))
        self._notes[item.set, item.id, item.step] = note
        return note

    def _remember(self, line: _BlindLine) -> None:
        """Once, although a line of ours is read again by the next poll."""
        tests = self._tests.setdefault((line.set, line.id), [])
        test = BlindNote(line.pair, line.trials, line.right, line.p, line.step, line.t)
        if len(tests) < MOST_TESTS and 0 <= line.right <= line.trials and test not in tests:
            tests.append(test)

    def _append(self, line: _Line | _BlindLine) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" * torn + msgspec.json.encode(line) + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = plain(error.strerror or str(error), 120)
            raise SampleError(f"The note could not be written to {self.path}: {reason}.") from error
