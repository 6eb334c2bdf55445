"""The paired comparison of two runs' answers, and the file that it reads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.paired import Answer, compare_answers, mcnemar, paired, read_answers, resampled, write_answers


def answers(right: list[bool], players: int = 3, prefix: str = "clip") -> list[Answer]:
    return [
        Answer(f"{prefix}{number}", f"p{number % players}", "flam", "flam" if hit else "drag", 0.75)
        for number, hit in enumerate(right)
    ]


def test_mcnemar_against_the_binomial_by_hand() -> None:
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == pytest.approx(2 / 32)
    for fewer, more in ((3, 10), (7, 8), (40, 61)):
        tail = sum(math.comb(fewer + more, heads) for heads in range(fewer + 1))
        assert mcnemar(more, fewer) == pytest.approx(min(1.0, 2 * tail / 2 ** (fewer + more)))


def test_mcnemar_stays_exact_where_floats_would_overflow() -> None:
    # the normal approximation with continuity correction, good to some percent at this size
    z = (10_200 - 9_800 - 1) / math.sqrt(20_000)
    assert mcnemar(9_800, 10_200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert mcnemar(0, 3_000) == 0.0


def test_two_runs_are_paired_by_clip() -> None:
    first = answers([True, True, True, False, True, True])
    second = answers([True, False, False, False, False, True])[::-1] + answers([True], prefix="other")
    found = compare_answers(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither, found.clips) == (2, 3, 0, 1, 6)
    assert found.difference == pytest.approx(0.5) and found.p == pytest.approx(0.25)
    assert found.interval is not None and found.interval.low <= 0.5 <= found.interval.high
    assert found.words.startswith(
        "of 6 clips 3 only by the first, 0 only by the second: the first is right 50.0 points"
    )


def test_players_are_drawn_and_not_clips() -> None:
    """Two players of whom one decides everything: the interval has to reach from nothing to all."""
    first_N = np.array([True] * 50 + [False] * 50)
    second_N = np.zeros(100, dtype=bool)
    found = paired(first_N, second_N, ["a"] * 50 + ["b"] * 50)
    assert found.interval is not None and (found.interval.low, found.interval.high) == (0.0, 1.0)
    assert paired(first_N, second_N, ["a"] * 100).interval is None
    weights_RP = resampled(7, 20, 0)
    assert (weights_RP.sum(axis=1) == 7).all() and np.array_equal(weights_RP, resampled(7, 20, 0))


def test_what_cannot_be_compared_is_refused_with_words() -> None:
    with pytest.raises(WavedeckError, match="judged on different clips"):
        compare_answers(answers([True]), answers([True], prefix="other"))
    other = [Answer("clip0", "p0", "drag", "drag", 0.5)]
    with pytest.raises(WavedeckError, match="disagree about what is played in clip0"):
        compare_answers(answers([True]), other)


def test_runs_without_a_difference_are_told_in_words() -> None:
    alike = [answers([True, False]), answers([True, False])]
    assert compare_answers(*alike).words == "they answer alike on all 2 clips"
    others = [one if one.right else Answer(one.sample_id, one.player, one.truth, "else", 0.5) for one in alike[1]]
    assert compare_answers(alike[0], others).words == "they are right on the same 1 of 2 clips"
    assert "points with players drawn anew" in compare_answers(answers([True] * 4), answers([True, False] * 2)).words


def test_answers_come_back_from_their_file(tmp_path: Path) -> None:
    written = [Answer('a,"b"\n', "int017", "flam", "drag", 0.123456), *answers([True, False])]
    write_answers(tmp_path / "answers.csv", written)
    found = read_answers(tmp_path / "answers.csv")
    assert found[1:] == written[1:]
    assert found[0].sample_id == 'a,"b"·' and found[0].probability == pytest.approx(0.123456)


def test_damaged_answers_are_refused_with_words(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with pytest.raises(WavedeckError, match="run its evaluate stage first"):
        read_answers(path)
    path.write_text("sample_id,player,truth\n")
    with pytest.raises(WavedeckError, match="has no column answer"):
        read_answers(path)
    head = "sample_id,player,truth,answer,probability\n"
    for damaged in (b"a,b,c\n", b"a,b,c,d,often\n", b"\xff\xfe,b,c,d,0.1\n", b"a,b,c,d,0.1\0\n"):
        path.write_bytes(head.encode() + damaged)
        with pytest.raises(WavedeckError, match="evaluate the run again"):
            read_answers(path)
