"""Run ids and what people may call them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import UsageError
from wavedeck.engine.names import ADJECTIVES, ANIMALS, RUN_ID, new_run_id, resolve, tail

IDS = ["20260101-0900-sousa-brisk-heron", "20260101-0901-sousa-brisk-hare", "20260102-0900-dml-calm-otter"]


@given(st.text(max_size=60), st.integers(0, 2**31))
def test_any_name_makes_a_safe_id(name: str, now: int) -> None:
    run_id = new_run_id(name, now, rng=random.Random(1))
    assert RUN_ID.match(run_id) and len("wd-" + run_id) < 80


def test_the_tail_is_not_taken_twice() -> None:
    taken = [f"20260101-0900-x-{a}-{b}" for a in ADJECTIVES for b in ANIMALS if (a, b) != ("calm", "otter")]
    found = {new_run_id("x", 0, taken, random.Random(seed)) for seed in range(3)}
    assert {tail(run_id) for run_id in found} <= {"calm-otter"} | {tail(i) for i in taken}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("last", IDS[2]),
        (IDS[1], IDS[1]),
        ("brisk-heron", IDS[0]),
        ("20260102", IDS[2]),
        ("calm", IDS[2]),
    ],
)
def test_what_names_a_run(word: str, meant: str) -> None:
    assert resolve(word, IDS) == meant


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("20260101", "fits 2 runs"), ("brisk-heorn", "Did you mean brisk-heron"), ("", "there is no run")],
)
def test_what_does_not(word: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve(word, IDS)


def test_no_runs_at_all_says_how_to_start_one() -> None:
    with pytest.raises(UsageError, match="wavedeck run"):
        resolve("last", [])
