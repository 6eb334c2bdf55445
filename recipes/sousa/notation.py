"""The forty rudiments as data: `rudiments.csv`, and its `events` grammar turned into strokes.

An event is `OFFSET:[f|d|z]HAND[>]`: an exact fraction of a quarter-note beat from the start of the cycle, the hand, and
marks: `f` flam (one grace note of the other hand before it), `d` drag (two), `z` buzz, `>` accent. Grace notes take no
time of their own; they lean on their stroke. (Cycle divided by all strokes, graces included, stretches every flam and
drag rhythm: a real fault of the public generator.)
"""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources

_EVENT = re.compile(r"^(?P<offset>\d+(?:/\d+)?):(?P<mark>[fdz]?)(?P<hand>[RL])(?P<accent>>?)$")
_GRACES = {"": 0, "z": 0, "f": 1, "d": 2}


@dataclass(frozen=True, slots=True)
class Note:
    """One primary stroke of a cycle."""

    offset: Fraction
    """Quarter-note beats from the start of the cycle."""
    hand: str
    accent: bool = False
    graces: int = 0
    """0, 1 (flam) or 2 (drag) grace notes of the other hand before it."""
    buzz: bool = False


@dataclass(frozen=True, slots=True)
class Rudiment:
    """One row of the table. `cycle_beats` in quarter notes, tempo in quarter notes per minute."""

    slug: str
    name: str
    family: str
    group: str
    cycle_beats: Fraction
    tempo_low: int
    tempo_high: int
    notes: tuple[Note, ...]

    @property
    def grace_notes(self) -> int:
        """Grace notes in one cycle."""
        return sum(note.graces for note in self.notes)

    def diddle_positions(self) -> tuple[int | None, ...]:
        """For each note: 1 or 2 for the first or second of two quick strokes of one hand, None otherwise.

        Quick is at most a third of a beat apart; in a run of three or more of one hand nothing is a diddle.
        """
        hands = [note.hand for note in self.notes]
        positions: list[int | None] = [None] * len(hands)
        start = 0
        while start < len(hands):
            end = start + 1
            while end < len(hands) and hands[end] == hands[start] and self._quick(end):
                end += 1
            if end - start == 2:
                positions[start], positions[start + 1] = 1, 2
            start = end
        return tuple(positions)

    def _quick(self, index: int) -> bool:
        return self.notes[index].offset - self.notes[index - 1].offset <= Fraction(1, 3)


def parse_events(text: str) -> tuple[Note, ...]:
    """The notes of an `events` cell, in time order.

    Raises
    ------
    ValueError: an event does not follow the grammar, or the offsets do not grow.
    """
    notes: list[Note] = []
    for event in text.split():
        match = _EVENT.match(event)
        if match is None:
            raise ValueError(f"{event!r} is not OFFSET:[f|d|z]HAND[>]")
        mark = match["mark"]
        offset = Fraction(match["offset"])
        if notes and offset <= notes[-1].offset:
            raise ValueError(f"{event!r} does not come after the event before it")
        notes.append(Note(offset, match["hand"], bool(match["accent"]), _GRACES[mark], mark == "z"))
    if not notes:
        raise ValueError("a rudiment needs at least one stroke")
    return tuple(notes)


@functools.cache
def load_rudiments() -> dict[str, Rudiment]:
    """All forty by slug, in the table's order."""
    text = resources.files(__package__).joinpath("rudiments.csv").read_text(encoding="utf-8")
    return {row["slug"]: _rudiment(row) for row in csv.DictReader(text.splitlines())}


def _rudiment(row: dict[str, str]) -> Rudiment:
    low, high = row["tempo_bpm"].split("-")
    return Rudiment(
        slug=row["slug"],
        name=row["name"],
        family=row["family"],
        group=row["group"],
        cycle_beats=Fraction(row["cycle_beats"]),
        tempo_low=int(low),
        tempo_high=int(high),
        notes=parse_events(row["events"]),
    )
