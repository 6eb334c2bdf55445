"""Alignment against brute force, known error rates, confusion counts and the odds of guessing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.samples import alignment
from wavedeck.engine.samples.alignment import align, align_characters, align_words, confusion, guessing_p


def distance(a: str, b: str) -> int:
    """Levenshtein, as everybody writes it."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@settings(max_examples=200, deadline=None)
@given(st.text("abc ", max_size=30), st.text("abc ", max_size=30), st.booleans())
def test_alignments_are_cheapest_and_spell_both_texts(a: str, b: str, divided: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if divided:
            patch.setattr(alignment, "MATRIX_CELLS", 9)
        found = align(a, b)
    assert found.errors == distance(a, b)
    assert "".join(op.reference for op in found.ops) == a
    assert "".join(op.hypothesis for op in found.ops) == b
    for op in found.ops:
        assert (op.kind == "equal") == (op.reference == op.hypothesis)
        assert (op.kind == "delete") == (not op.hypothesis)
        assert (op.kind == "insert") == (not op.reference)


def test_words() -> None:
    found = align_words("the cat sat on the mat", "the cat sit on mat today")
    assert [op.kind for op in found.ops] == ["equal", "equal", "substitute", "equal", "delete", "equal", "insert"]
    assert (found.substitutions, found.deletions, found.insertions, found.length) == (1, 1, 1, 6)
    assert found.rate == pytest.approx(0.5)


def test_characters_and_blanks() -> None:
    assert align_characters("ab  c\n", "ab c").errors == 0
    assert align_characters("kitten", "sitting").rate == pytest.approx(3 / 6)
    assert align_words("Über [b]das[/b]", "Über [b]das[/b]").errors == 0


def test_empty_sides() -> None:
    assert align_words("", "").rate == 0
    assert align_words("", "a b").rate == math.inf
    assert align_words("a b", "").rate == 1


def test_long_texts_are_aligned_in_reasonable_time_and_too_long_ones_are_cut() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in rng.integers(0, 500, 3000)]
    heard = list(words)
    for at in rng.choice(len(words), 200, replace=False):
        heard[at] = "x"
    found = align(words, heard)
    assert (found.errors, found.length, found.cut) == (200, 3000, False)
    long = ["a"] * (alignment.MOST_TOKENS + 5)
    assert align(long, long).cut
    assert align(long, long).length == alignment.MOST_TOKENS


def test_odds_of_guessing() -> None:
    assert guessing_p(0, 0) == 1
    assert guessing_p(0, 10) == 1
    assert guessing_p(9, 10) == pytest.approx(11 / 1024)
    assert guessing_p(10, 10) == pytest.approx(1 / 1024)
    assert guessing_p(500, 1000) == pytest.approx(0.5126, abs=1e-4)
    with pytest.raises(ValueError, match="cannot"):
        guessing_p(3, 2)


def test_confusion_counts_and_opens_cells() -> None:
    labels = ["flam", "roll", "flam", None, "roll", "flam"]
    guesses = ["flam", "flam", "roll", "roll", "roll", None]
    found = confusion(labels, guesses, order=["roll", "drag"])
    assert found.classes == ("roll", "drag", "flam")
    assert found.counts.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    assert found.items(2, 0).tolist() == [2]
    assert found.accuracy == 0.5
    assert found.balanced_accuracy == 0.5
    assert np.isnan(found.recall[1])
    assert found.precision.tolist()[::2] == [0.5, 0.5]


def test_confusion_of_nothing() -> None:
    found = confusion([], [])
    assert found.counts.shape == (0, 0)
    assert math.isnan(found.accuracy)
    assert math.isnan(found.balanced_accuracy)
    assert confusion([None], ["a"]).counts.tolist() == [[0]]


def test_confusion_of_many_items() -> None:
    rng = np.random.default_rng(1)
    names = [f"class {n}" for n in range(40)]
    rows, columns = rng.integers(0, 40, (2, 100_000))
    found = confusion([names[n] for n in rows], [names[n] for n in columns], names)
    assert found.counts[3, 7] == np.count_nonzero((rows == 3) & (columns == 7))
    assert len(found.items(3, 7)) == found.counts[3, 7]
