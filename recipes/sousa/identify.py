"""What sound alone can tell: which rudiments differ once the hands, the tempo and the place to start are taken away.

A sticking is not in the audio unless the two hands sound different. Three rolls are then one even stream of strokes,
and no classifier, however large, can tell them apart. The classes of rudiments that sound the same are computed from
the table of notation, never written down, so that a corrected row corrects the ceiling.

The ceiling is of the *pattern*. A model may exceed it a little where a set gives more away than that: each rudiment
has its own range of tempi, a player's weaker hand strikes more softly, and the public set plays the strokes of a diddle
louder than taps (75 against 65), which tells some stickings. Clips made here with hands that sound alike do not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .config import SousaConfig
from .notation import Rudiment, load_rudiments

Step = tuple[Fraction, bool, int, bool, bool]
"""Time to the next stroke, accent, grace notes, buzz, and whether the hand is another one than before."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best balanced accuracy of a listener who knows the notation and guesses evenly among equals."""

    value: float
    """Distinct patterns as a share of the classes."""
    known_tempo: float
    """The same for a listener who is told the tempo."""
    hands_alike: float
    """The same if both hands sounded alike; `value` itself where they do."""
    words: str
    groups: tuple[tuple[str, ...], ...]
    """Slugs that cannot be told from each other, two or more each, in the table's order."""

    @property
    def lines(self) -> dict[str, float]:
        """The line across the chart of balanced accuracy, label to value; none where the hands do not matter.

        Where the hands are audible it is no ceiling: a curve above it belongs to a model that hears them.
        """
        if self.hands_alike == 1.0:
            return {}
        label = "ceiling, hands alike" if self.value == self.hands_alike else "without hearing the hands"
        return {label: round(self.hands_alike, 4)}


def ceiling(classes: Sequence[str], hand_timbre: float | None) -> Ceiling:
    """What can be expected on `classes`, by how differently the two hands sound.

    Parameters
    ----------
    hand_timbre: of the synthesiser, 0…1; above 0 the hands are audible. None for a recorded set: the public one plays
        both hands with one sound.
    """
    audible = bool(hand_timbre)
    groups, alike = sound_groups(tuple(classes), hands=audible), len(sound_groups(tuple(classes)))
    distinct, of = len(groups), len(classes)
    known = len(sound_groups(tuple(classes), hands=audible, tempo=True))
    patterns = f"all {of} patterns differ" if distinct == of else f"{distinct} of {of} patterns differ"
    if audible:
        words = f"{patterns}, for the hands can be told apart by sound; {alike} would if they sounded alike"
    else:
        words = f"{patterns} when both hands sound alike"
        words += f", {known} with the tempo known" if known > distinct else ""
        words += "" if hand_timbre is not None else "; diddles that are struck louder than taps tell a little more"
    confused = tuple(group for group in groups if len(group) > 1)
    return Ceiling(distinct / of, known / of, alike / of, words, confused)


def ceiling_of(config: SousaConfig, classes: Sequence[str]) -> Ceiling:
    """The ceiling of a run: of the made set's hands, or of a recorded set's."""
    return ceiling(classes, None if config.data.path else config.synth.hand_timbre)


@functools.cache
def sound_groups(classes: tuple[str, ...], hands: bool = False, tempo: bool = False) -> tuple[tuple[str, ...], ...]:
    """`classes` in groups of equal sound, in the table's order; a class that sounds like no other is alone.

    Parameters
    ----------
    hands: the hands can be told apart (though not which is the right one).
    tempo: the tempo is known, so that a third of a beat is not a quarter.
    """
    groups: dict[tuple[Step, ...], list[str]] = {}
    for slug in in_family_order(classes):
        groups.setdefault(_pattern(load_rudiments()[slug], hands, tempo), []).append(slug)
    return tuple(tuple(group) for group in groups.values())


def in_family_order(classes: Iterable[str]) -> list[str]:
    """The slugs as the table has them: rolls, diddles, flams, drags."""
    wanted = set(classes)
    return [slug for slug in load_rudiments() if slug in wanted]


def _pattern(rudiment: Rudiment, hands: bool, tempo: bool) -> tuple[Step, ...]:
    """One way to write all that sounds like `rudiment`: its shortest period, begun where it comes first in order."""
    notes = rudiment.notes
    gaps = [
        (notes[(index + 1) % len(notes)].offset - note.offset) % rudiment.cycle_beats or rudiment.cycle_beats
        for index, note in enumerate(notes)
    ]
    unit = Fraction(1) if tempo else min(gaps)
    steps = [
        (gap / unit, note.accent, note.graces, note.buzz, hands and note.hand != notes[index - 1].hand)
        for index, (note, gap) in enumerate(zip(notes, gaps, strict=True))
    ]
    period = next(length for length in range(1, len(steps) + 1) if steps == steps[length:] + steps[:length])
    return min(tuple((steps + steps)[start : start + period]) for start in range(period))
