"""People at the pad: what a player of some skill makes of a notated rudiment.

Timing, loudness, flam spacing and accents follow the skill tiers of the SOUSA set (its parameter tables). One number
differs: SOUSA's spread of single strokes, 50/28/14/7 ms, is larger than the 31 ms between 32nd notes at 240 BPM strokes
and turns rolls of beginners into noise, so ours is 20/12/6/3 ms and never more than a fifth of the gap to a neighbour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .notation import Note, Rudiment

ACCENT, DIDDLE, BUZZ, TAP, GRACE = 120.0, 75.0, 70.0, 65.0, 40.0
"""Intended MIDI velocities, 0…127."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What players of one skill have in common. Times in ms."""

    name: str
    short: str
    timing_ms: float
    velocity_cv: float
    weak_hand: float
    """Loudness of the weak hand as a share of the strong one's."""
    hand_bias_ms: float
    flam_ms: float
    accents: float
    """Share of accents that are really played louder."""


TIERS = (
    Tier("beginner", "beg", 20.0, 0.12, 0.72, 8.0, 50.0, 0.70),
    Tier("intermediate", "int", 12.0, 0.15, 0.85, 4.0, 35.0, 0.88),
    Tier("advanced", "adv", 6.0, 0.10, 0.94, 1.5, 28.0, 0.96),
    Tier("professional", "pro", 3.0, 0.07, 0.98, 0.5, 25.0, 0.99),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """One player: `profile_id` such as `int017`, the tier, the strong hand, and personal factors around 1."""

    profile_id: str
    tier: Tier
    dominant_hand: str
    timing: float
    spread: float
    flam: float


@dataclass(slots=True)
class Stroke:
    """One hit, as a row of `strokes.csv`. Times in ms from the start of the clip; velocities 0…127."""

    hand: str
    stroke_type: str
    intended_time_ms: float
    actual_time_ms: float
    intended_velocity: float
    actual_velocity: float
    is_accent: bool = False
    diddle_position: int | None = None
    flam_spacing_ms: float | None = None
    parent: int | None = None
    """For a grace note: index of the stroke it leans on."""


def make_profiles(count: int, seed: int) -> list[Profile]:
    """`count` players, the tiers in turn, so that every part of the list holds all four."""
    rng = np.random.default_rng([seed, 1])
    profiles = []
    for number in range(count):
        tier = TIERS[number % len(TIERS)]
        hand = "left" if rng.random() < 0.12 else "right"
        factors = np.exp(rng.normal(0.0, 0.15, 3))
        profiles.append(Profile(f"{tier.short}{number:03d}", tier, hand, *map(float, factors)))
    return profiles


@dataclass(frozen=True, slots=True)
class Performance:
    """What is played: strokes in the order of their primary notes, each grace before its stroke, and whole cycles."""

    strokes: list[Stroke]
    num_cycles: int


def perform(
    rudiment: Rudiment, profile: Profile, tempo_bpm: float, duration_s: float, rng: Generator,
    timing: float = 1.0, dynamics: float = 1.0, lead_in_ms: float = 120.0, hand_timbre: float = 1.0,
) -> Performance:  # fmt: skip
    """Play `rudiment` over and over at `tempo_bpm` quarter notes a minute until `duration_s` is full.

    Left-handed players lead with the left hand, which swaps R and L throughout. `timing` and `dynamics` scale the human
    spread; both 0 is the notation itself. `hand_timbre` scales how much louder than a tap the strokes of a diddle are:
    with hands that sound alike they must be none, or their loudness tells the sticking.
    """
    beat_ms = 60_000.0 / tempo_bpm
    cycle_ms = float(rudiment.cycle_beats) * beat_ms
    end_ms = duration_s * 1000.0 - 40.0
    cycles = max(1, math.ceil((end_ms - lead_in_ms) / cycle_ms))
    strokes: list[Stroke] = []
    human = _Human(profile, rng, timing, dynamics)
    positions = rudiment.diddle_positions()
    for cycle in range(cycles):
        for index, note in enumerate(rudiment.notes):
            grid_ms = lead_in_ms + cycle * cycle_ms + float(note.offset) * beat_ms
            if grid_ms > end_ms:
                break
            gap_ms = _gap_beats(rudiment, index) * beat_ms
            _add(strokes, human, note, grid_ms, gap_ms, positions[index], hand_timbre)
    whole = int((end_ms - lead_in_ms) // cycle_ms)
    return Performance(strokes, max(0, whole))


def _gap_beats(rudiment: Rudiment, index: int) -> float:
    """Beats to the nearer neighbour, across the cycle's border too."""
    offsets = [note.offset for note in rudiment.notes]
    here, count = offsets[index], len(offsets)
    before = here - offsets[index - 1] if index else here + rudiment.cycle_beats - offsets[-1]
    after = offsets[index + 1] - here if index + 1 < count else rudiment.cycle_beats - here + offsets[0]
    return float(min(before, after)) or 1.0


class _Human:
    """Draws one player's deviations."""

    def __init__(self, profile: Profile, rng: Generator, timing: float, dynamics: float) -> None:
        self.profile, self.rng, self.timing, self.dynamics = profile, rng, timing, dynamics
        self.weak = "R" if profile.dominant_hand == "left" else "L"

    def hand(self, notated: str) -> str:
        """The hand that plays a note written for `notated`."""
        return notated if self.profile.dominant_hand == "right" else ("L" if notated == "R" else "R")

    def error_ms(self, hand: str, gap_ms: float) -> float:
        """How late (or early) a stroke comes, never more than would make it pass a neighbour."""
        tier = self.profile.tier
        spread = min(tier.timing_ms * self.profile.timing, gap_ms / 5)
        bias = min(tier.hand_bias_ms, gap_ms / 10) if hand == self.weak else 0.0
        limit = 0.4 * gap_ms
        return self.timing * float(np.clip(self.rng.normal(bias, spread), -limit, limit))

    def velocity(self, intended: float, hand: str) -> float:
        """How hard a stroke lands."""
        tier = self.profile.tier
        share = tier.weak_hand if hand == self.weak else 1.0
        share = 1.0 + self.dynamics * (share - 1.0)
        spread = self.dynamics * tier.velocity_cv * self.profile.spread
        return float(np.clip(intended * share * (1.0 + self.rng.normal(0.0, spread)), 8.0, 127.0))

    def lands_accent(self) -> bool:
        """Whether an accent is played as one; a missed accent is a louder tap."""
        return self.dynamics == 0.0 or bool(self.rng.random() < self.profile.tier.accents)

    def flam_ms(self, gap_ms: float) -> float:
        """Distance of a grace note from the next stroke."""
        spread = self.rng.normal(1.0, 0.12 * self.timing)
        wanted = self.profile.tier.flam_ms * self.profile.flam * float(np.clip(spread, 0.6, 1.5))
        return min(wanted, 0.45 * gap_ms)


def _add(
    strokes: list[Stroke], human: _Human, note: Note, grid_ms: float, gap_ms: float, diddle: int | None,
    hand_timbre: float,
) -> None:  # fmt: skip
    """Append one note and its grace notes."""
    hand = human.hand(note.hand)
    kind, intended = _kind(note, diddle, hand_timbre)
    aimed = intended if not note.accent or human.lands_accent() else 0.5 * (ACCENT + TAP)
    actual_ms = grid_ms + human.error_ms(hand, gap_ms)
    spacing = human.flam_ms(gap_ms / max(1, note.graces)) if note.graces else None
    parent = len(strokes) + note.graces
    for place in range(note.graces, 0, -1):
        other = "L" if hand == "R" else "R"
        before = (spacing or 0.0) * place
        strokes.append(
            Stroke(other, "grace", grid_ms - before, actual_ms - before, GRACE, human.velocity(GRACE, other),
                   flam_spacing_ms=spacing, parent=parent)
        )  # fmt: skip
    strokes.append(
        Stroke(hand, kind, grid_ms, actual_ms, intended, human.velocity(aimed, hand), note.accent, diddle, spacing)
    )


def _kind(note: Note, diddle: int | None, hand_timbre: float) -> tuple[str, float]:
    if note.accent:
        return "accent", ACCENT
    if note.buzz:
        return "buzz", BUZZ
    return ("diddle", TAP + min(1.0, hand_timbre) * (DIDDLE - TAP)) if diddle else ("tap", TAP)
