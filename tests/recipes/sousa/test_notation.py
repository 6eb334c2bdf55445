"""The rudiment table and its grammar."""

from __future__ import annotations

import csv
from fractions import Fraction
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.recipes.sousa.notation import Note, load_rudiments, parse_events

RUDIMENTS = load_rudiments()


def table() -> dict[str, dict[str, str]]:
    text = resources.files("wavedeck.recipes.sousa").joinpath("rudiments.csv").read_text()
    return {row["slug"]: row for row in csv.DictReader(text.splitlines())}


def test_there_are_forty_of_four_families() -> None:
    families = [rudiment.family for rudiment in RUDIMENTS.values()]
    assert {name: families.count(name) for name in set(families)} == {"roll": 15, "diddle": 4, "flam": 11, "drag": 10}


@pytest.mark.parametrize("slug", RUDIMENTS)
def test_events_agree_with_the_counts_and_the_sticking_of_the_table(slug: str) -> None:
    row, rudiment = table()[slug], RUDIMENTS[slug]
    assert len(rudiment.notes) == int(row["primary_strokes"])
    assert rudiment.grace_notes == int(row["grace_notes"])
    assert all(0 <= note.offset < rudiment.cycle_beats for note in rudiment.notes)
    sticking = [word.rstrip(">~").lstrip("lr") for word in row["sticking"].split()]
    assert [note.hand for note in rudiment.notes] == sticking
    assert [note.accent for note in rudiment.notes] == [word.endswith(">") for word in row["sticking"].split()]


@pytest.mark.parametrize("slug", [slug for slug, row in table().items() if row["mirrored_in_cycle"] == "1"])
def test_mirrored_cycles_swap_the_hands_in_their_second_half(slug: str) -> None:
    notes = RUDIMENTS[slug].notes
    half = len(notes) // 2
    for one, other in zip(notes[:half], notes[half:], strict=True):
        assert other.offset - one.offset == RUDIMENTS[slug].cycle_beats / 2
        assert (one.hand, one.accent, one.graces) == ({"R": "L", "L": "R"}[other.hand], other.accent, other.graces)


def test_marks_mean_what_they_say() -> None:
    assert parse_events("0:fR> 1/3:dL 1:zR") == (
        Note(Fraction(0), "R", True, 1), Note(Fraction(1, 3), "L", False, 2), Note(Fraction(1), "R", buzz=True),
    )  # fmt: skip


@given(st.lists(st.tuples(st.fractions(0, 16), st.sampled_from(["", "f", "d", "z"]), st.sampled_from("RL"),
                          st.booleans()), min_size=1, max_size=20, unique_by=lambda event: event[0]))  # fmt: skip
def test_what_is_written_is_what_is_read(events: list[tuple[Fraction, str, str, bool]]) -> None:
    events.sort()
    text = " ".join(f"{offset}:{mark}{hand}{'>' if accent else ''}" for offset, mark, hand, accent in events)
    notes = parse_events(text)
    assert [(note.offset, note.hand, note.accent) for note in notes] == [(o, h, a) for o, _, h, a in events]
    assert [note.graces for note in notes] == [{"f": 1, "d": 2}.get(mark, 0) for _, mark, _, _ in events]


@pytest.mark.parametrize("text", ["", "R", "0:X", "0:R 0:L", "1:R 1/2:L", "0:ffR", "0:R>>", "-1:R"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_events(text)


def test_diddles_are_pairs_of_one_hand() -> None:
    assert RUDIMENTS["single_paradiddle"].diddle_positions() == (None, None, 1, 2, None, None, 1, 2)
    assert set(RUDIMENTS["triple_stroke_roll"].diddle_positions()) == {None}
    assert set(RUDIMENTS["double_stroke_open_roll"].diddle_positions()) == {1, 2}
    assert set(RUDIMENTS["single_stroke_roll"].diddle_positions()) == {None}
