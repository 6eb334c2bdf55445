"""`evaluation.json`: whole, of an older version, hostile, damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.errors import RunDirError
from wavedeck.engine.evaluation import (
    EVALUATION_FILE,
    MOST_BYTES,
    Ceiling,
    Evaluation,
    Interval,
    Mistake,
    Part,
    doubt_words,
    judged_words,
    metric_names,
    parse,
    read_evaluation,
)

WHOLE: dict[str, Any] = {
    "checkpoint": "step-00000100.ckpt",
    "step": 100,
    "sha256": "ab" * 32,
    "split": "test",
    "clips": 40,
    "players": 4,
    "metrics": {"top5": 0.9, "balanced_accuracy": 0.5, "own": 0.1, "gone": None},
    "intervals": {
        "balanced_accuracy": {"low": 0.4, "high": 0.6, "level": 0.95, "method": "bootstrap"},
        "x": {"low": 1},
    },
    "ceilings": {"balanced_accuracy": {"value": 0.85, "words": "hands"}, "top5": {"value": None}},
    "breakdowns": {"skill": {"beginner": {"clips": 20, "accuracy": 0.4, "balanced_accuracy": None}, "odd": 3}},
    "classes": {"flam": {"family": "flam", "clips": 20, "recall": 0.5, "precision": None, "f1": 0.4}, "bad": 1},
    "confusions": [["flam", "drag", 7], ["flam", "drag"], ["flam", 3, 3], ["a", "b", 0]],
    "order": ["flam", "drag"],
    "confusion": [[13, 7], [0, 20]],
    "numbers": {"evaluate_s": 12.5},
    "from the future": {"x": 1},
}


def test_a_whole_file() -> None:
    found = parse(WHOLE)
    assert metric_names(found) == ["balanced_accuracy", "top5", "own"]
    assert found.intervals == {"balanced_accuracy": Interval(0.4, 0.6, 0.95, "bootstrap")}
    assert found.ceilings == {"balanced_accuracy": Ceiling(0.85, "hands")}
    assert found.breakdowns == {"skill": (Part("beginner", 20, 0.4, None),)}
    assert [score.name for score in found.classes] == ["flam"] and found.classes[0].precision is None
    assert found.confusions == (Mistake("flam", "drag", 7),)
    assert found.confusion == ((13, 7), (0, 20)) and found.class_order == ("flam", "drag")
    assert judged_words(found) == (
        "test split · 40 clips of 1 classes, 4 players · checkpoint step-00000100.ckpt · sha256 abababababab"
    )
    assert doubt_words(found) == ""


def test_a_file_of_the_first_version() -> None:
    old = {key: WHOLE[key] for key in ("checkpoint", "step", "metrics", "classes")} | {"tiers": {"beginner": 0.4}}
    found = parse(old)
    assert found.breakdowns == {"skill": (Part("beginner", accuracy=0.4),)}
    assert found.confusion == () and found.class_order == ("flam",) and found.split == "test"


def test_numbers_that_are_not_given_out() -> None:
    assert "too few clips" in doubt_words(parse({**WHOLE, "metrics": {"balanced_accuracy": None}}))
    assert "say little" in doubt_words(parse({**WHOLE, "few": True}))


@pytest.mark.parametrize(
    ("order", "rows"),
    [(["a", "a"], [[1, 2], [3, 4]]), (["a", "b"], [[1, 2]]), (["a", "b"], [[1], [2]]), ("ab", [[1]]), ([1], [[1]])],
)
def test_a_matrix_that_is_none_is_left_out(order: Any, rows: Any) -> None:
    assert parse({**WHOLE, "order": order, "confusion": rows}).confusion == ()


def test_names_cannot_steer_a_terminal() -> None:
    found = parse({"classes": {"\x1b[31mflam\n": {"family": "\x07"}}, "checkpoint": "a\x1b]0;x\x07b"})
    text = repr(found)
    assert "\\x1b" not in text and "\\x07" not in text and "\\n" not in text


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "tiers", "few"]), json_values))
@settings(deadline=None, max_examples=150)
def test_no_content_is_too_odd(raw: dict[str, Any]) -> None:
    assert isinstance(parse(raw), Evaluation)


def test_what_is_damaged_says_so(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path) is None
    file = tmp_path / EVALUATION_FILE
    for content, words in (
        (b'{"metrics": ', "is damaged"),
        (b"[1]", "no JSON object"),
        (b" " * (MOST_BYTES + 1), "that large"),
    ):
        file.write_bytes(content)
        with pytest.raises(RunDirError, match=words):
            read_evaluation(tmp_path)
    file.write_text(json.dumps(WHOLE))
    assert read_evaluation(tmp_path) == parse(WHOLE)
