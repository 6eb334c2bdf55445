"""Which rudiments sound alike: computed from the table, against the figures that were published for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wavedeck.recipes.sousa.config import EASY_EIGHT, SousaConfig
from wavedeck.recipes.sousa.identify import ceiling, ceiling_of, in_family_order, sound_groups
from wavedeck.recipes.sousa.notation import load_rudiments

ALL = tuple(load_rudiments())
ALIKE = (
    {"single_stroke_roll", "triple_stroke_roll", "double_stroke_open_roll"},
    {"double_paradiddle", "paradiddle_diddle"},
    {"flam_accent", "swiss_army_triplet"},
    {"flam_tap", "inverted_flam_tap"},
    {"flam_paradiddle", "single_flammed_mill"},
)


def test_thirty_four_of_forty_differ_when_the_hands_sound_alike() -> None:
    found = ceiling(ALL, 0.0)
    assert (found.value, found.known_tempo) == (pytest.approx(0.85), pytest.approx(0.875))
    assert [set(group) for group in found.groups] == list(ALIKE)
    assert found.words == "34 of 40 patterns differ when both hands sound alike, 35 with the tempo known"
    assert found.lines == {"ceiling, hands alike": 0.85}


def test_all_forty_differ_as_soon_as_the_hands_do() -> None:
    for timbre in (0.01, 1.0):
        found = ceiling(ALL, timbre)
        assert found.value == found.known_tempo == 1.0 and not found.groups
        assert "34 would if they sounded alike" in found.words
        assert found.lines == {"without hearing the hands": 0.85}


def test_the_ceiling_is_of_the_classes_that_were_asked_for() -> None:
    easy = ceiling(EASY_EIGHT, 0.0)
    assert (easy.value, easy.groups, easy.lines) == (1.0, (), {})
    assert easy.words == "all 8 patterns differ when both hands sound alike"
    hard = ceiling(("flam_tap", "inverted_flam_tap", "flam", "flam_accent"), 0.0)
    assert hard.value == 0.75 and hard.groups == (("flam_tap", "inverted_flam_tap"),)


def test_the_tempo_tells_the_triple_roll_from_the_other_two() -> None:
    slow = {group for group in sound_groups(ALL, tempo=True) if len(group) > 1}
    assert ("single_stroke_roll", "double_stroke_open_roll") in slow and len(slow) == 5


def test_a_recorded_set_has_no_hands_to_hear() -> None:
    config = SousaConfig()
    assert ceiling_of(config, ALL).value == 1.0
    config.synth.hand_timbre = 0.0
    assert ceiling_of(config, ALL).value == pytest.approx(0.85)
    config.synth.hand_timbre, config.data.path = 1.0, "somewhere"
    assert ceiling_of(config, ALL).value == pytest.approx(0.85)


def test_classes_stand_in_the_order_of_their_families() -> None:
    shuffled = in_family_order(["single_ratamacue", "flam", "single_paradiddle", "six_stroke_roll"])
    assert [load_rudiments()[slug].family for slug in shuffled] == ["roll", "diddle", "flam", "drag"]
    assert in_family_order(reversed(ALL)) == list(ALL)


def test_it_needs_no_torch() -> None:
    code = "import sys, wavedeck.recipes.sousa.identify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
