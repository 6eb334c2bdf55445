"""Scores of answers against counts by hand, against torchmetrics where it agrees, and how they are written down."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score  # noqa: E402

from wavedeck.engine.checkpoints import CheckpointLine  # noqa: E402
from wavedeck.recipes.sousa.identify import ceiling  # noqa: E402
from wavedeck.recipes.sousa.notation import load_rudiments  # noqa: E402
from wavedeck.recipes.sousa.report.bootstrap import intervals, resampled_scores  # noqa: E402
from wavedeck.recipes.sousa.report.breakdowns import by_skill, by_tempo, by_value  # noqa: E402
from wavedeck.recipes.sousa.report.metrics import NAMES, ValidationMetrics  # noqa: E402
from wavedeck.recipes.sousa.report.scores import Answers, Scores, score  # noqa: E402
from wavedeck.recipes.sousa.report.writing import doubt, report_json, table_text, write_confusion  # noqa: E402

FOUR = ("flam", "drag", "flam_tap", "inverted_flam_tap")
LINE = CheckpointLine(name="step-4.ckpt", step=4, bytes=1, sha256="ab", t=0.0)


def answers(label: list[int], answer: list[int], classes: tuple[str, ...] = FOUR, **more: Any) -> Answers:
    clips = len(label)
    fields: dict[str, Any] = {
        "sample_ids": [f"clip{number}" for number in range(clips)],
        "players": [f"p{number % 2}" for number in range(clips)],
        "tiers": ["advanced" if number % 2 else "beginner" for number in range(clips)],
        "tempo_N": np.array([60.0 + 10 * number for number in range(clips)]),
    }
    logits_NK = 4.0 * np.eye(len(classes), dtype=np.float32)[answer]
    return Answers(classes, np.array(label), logits_NK, **(fields | more))


def by_hand() -> Scores:
    """Three flams (one taken for a drag), two drags, a flam tap taken for its twin; inverted flam taps have no clip."""
    return score(answers([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 3]), ceiling(FOUR, 0.0))


def test_scores_against_a_hand_count() -> None:
    scores = by_hand()
    assert scores.metrics["accuracy"] == pytest.approx(4 / 6)
    assert scores.metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.metrics["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 2 / 5 + 0) / 3)
    assert scores.metrics["top5"] == 1.0
    assert scores.metrics["family_accuracy"] == pytest.approx(5 / 6), "a flam taken for a drag is of the wrong family"
    assert scores.metrics["group_accuracy"] == pytest.approx(5 / 6), "the twin counts as right"
    assert scores.recall_K[:3] == pytest.approx([2 / 3, 1, 0]) and np.isnan(scores.recall_K[3])
    assert scores.precision_K == pytest.approx([1, 2 / 3, 0, 0])
    assert np.isnan(scores.f1_K[3])
    assert {frozenset(pair[:2]) for pair in scores.confusions()} == {
        frozenset({"flam", "drag"}), frozenset({"flam_tap", "inverted_flam_tap"}),
    }  # fmt: skip
    assert scores.ceiling.value == 0.75


def test_the_breakdowns_by_hand() -> None:
    parts = by_hand().breakdowns
    assert list(parts["skill"]) == ["beginner", "advanced"]
    assert (parts["skill"]["beginner"].clips, parts["skill"]["beginner"].accuracy) == (3, pytest.approx(2 / 3))
    assert parts["skill"]["beginner"].balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)
    assert list(parts["family"]) == ["flam", "drag"], "the families' order, not the labels'"
    assert parts["family"]["drag"].accuracy == 1.0
    assert [part.clips for part in parts["tempo"].values()] == [1, 1, 1, 1, 1, 1]
    assert sum(part.clips for part in parts["tempo"].values()) == 6
    assert "kit" not in parts


def test_validation_metrics_are_torchmetrics_when_every_class_has_a_clip() -> None:
    classes = tuple(load_rudiments())
    torch.manual_seed(0)
    label, logits = torch.arange(400) % 40, torch.randn(400, 40)
    logits[torch.arange(400), label] += 1.5
    ours, balanced, f1 = (
        ValidationMetrics(classes), MulticlassAccuracy(40, average="macro"), MulticlassF1Score(40, average="macro")
    )  # fmt: skip
    top5, confusion = MulticlassAccuracy(40, average="micro", top_k=5), MulticlassConfusionMatrix(40)
    for metric in (ours, balanced, f1, top5, confusion):
        for start in range(0, 400, 64):
            metric.update(logits[start : start + 64], label[start : start + 64])
    found = ours.compute()
    assert tuple(found) == NAMES
    assert found["balanced_accuracy"] == pytest.approx(float(balanced.compute()))
    assert found["macro_f1"] == pytest.approx(float(f1.compute()))
    assert found["top5"] == pytest.approx(float(top5.compute()))
    assert torch.equal(ours.per_class().confusion_KK, confusion.compute())
    assert found["accuracy"] < found["group_accuracy"] < 1
    assert not ours.state_dict(), "a checkpoint holds no counts"
    ours.reset()
    ours.update(torch.eye(40), torch.arange(40))
    assert all(value == 1.0 for value in ours.compute().values())


def test_a_class_without_a_clip_is_left_out_of_the_means() -> None:
    """torchmetrics counts it as 0 once something is mistaken for it."""
    ours, theirs = ValidationMetrics(FOUR), MulticlassAccuracy(4, average="macro")
    for metric in (ours, theirs):
        metric.update(torch.eye(4)[[0, 1, 3]], torch.tensor([0, 1, 2]))
    assert ours.compute()["balanced_accuracy"] == pytest.approx(2 / 3)
    assert theirs.compute() == pytest.approx(2 / 4)


def test_a_resample_is_the_score_of_the_clips_drawn() -> None:
    """The matrix product against laying the drawn players' clips side by side."""
    rng = np.random.default_rng(1)
    clips, players, kinds = 300, 6, 5
    label_N, player_N = rng.integers(0, kinds, clips), rng.integers(0, players, clips)
    label_N[player_N == 0] = 0  # a player without most classes
    answer_N = np.where(rng.random(clips) < 0.6, label_N, rng.integers(0, kinds, clips))
    drawn = [0, 0, 3, 0, 3, 0]
    chosen = np.concatenate([np.flatnonzero(player_N == player) for player in drawn])
    metrics = ValidationMetrics(tuple(load_rudiments())[:kinds])
    metrics.update(torch.eye(kinds)[answer_N[chosen]], torch.from_numpy(label_N[chosen]))
    sums = [
        np.array([np.bincount(value[chosen], minlength=kinds) for chosen in (player_N == p for p in range(players))])
        for value in (label_N, answer_N)
    ]
    right_PK = np.array(
        [np.bincount(label_N[(player_N == p) & (label_N == answer_N)], minlength=kinds) for p in range(players)]
    )
    weights_RP = np.bincount(drawn, minlength=players)[None].astype(float)
    found = resampled_scores(weights_RP, sums[0], right_PK, sums[1])
    expected = metrics.compute()
    for name in ("balanced_accuracy", "accuracy", "macro_f1"):
        assert found[name][0] == pytest.approx(float(expected[name])), name


def test_the_interval_is_of_players_and_quick() -> None:
    rng = np.random.default_rng(0)
    label_N = np.tile(np.arange(40), 475)
    player_N = np.repeat(np.arange(19), 1000)
    skill_P = rng.uniform(0.6, 1.0, 19)
    answer_N = np.where(rng.random(19_000) < skill_P[player_N], label_N, (label_N + 1) % 40)
    players = [f"p{player}" for player in player_N]
    parts = {"family_accuracy": np.arange(40) // 10}
    begin = time.process_time()
    found = intervals(label_N, answer_N, players, 40, parts)
    assert time.process_time() - begin < 0.5
    assert set(found) == {"balanced_accuracy", "accuracy", "macro_f1", "family_accuracy"}
    one = found["accuracy"]
    assert one.method == "bootstrap over 19 players, 1000 resamples" and one.level == 0.95
    # the standard error of a mean of 19 players, against what the clips alone would promise
    error = float(np.std([(answer_N == label_N)[player_N == p].mean() for p in range(19)]) / np.sqrt(19))
    assert 2 * 1.96 * error == pytest.approx(one.high - one.low, rel=0.1)
    assert one.high - one.low > 5 * 2 * 1.96 * np.sqrt(0.8 * 0.2 / 19_000)
    assert intervals(label_N, answer_N, players, 40, parts) == found, "seeded"
    assert intervals(label_N, answer_N, ["one"] * 19_000, 40, {}) == {}


def test_tempo_bins_are_round_and_hold_every_clip() -> None:
    tempo_N = np.array([47.0, 60.0, 79.9, 80.0, 139.0, 160.0, np.nan])
    label_N = np.zeros(7, dtype=int)
    parts = by_tempo(tempo_N, label_N, label_N)
    assert {name: part.clips for name, part in parts.items()} == {
        "40–60 BPM": 1, "60–80 BPM": 2, "80–100 BPM": 1, "120–140 BPM": 1, "160–180 BPM": 1,
    }  # fmt: skip
    assert by_tempo(np.full(7, np.nan), label_N, label_N) == {}
    assert list(by_tempo(np.array([90.0, 97.0]), label_N[:2], label_N[:2])) == ["90–95 BPM", "95–100 BPM"]
    assert by_tempo(np.array([1.0, 1e6]), label_N[:2], label_N[:2]) == {}


def test_parts_stand_in_the_order_of_skill_and_unknown_ones_are_left_out() -> None:
    label_N = np.zeros(3, dtype=int)
    assert list(by_skill(["master", "professional", "beginner"], label_N, label_N)) == [
        "beginner", "professional", "master",
    ]  # fmt: skip
    assert list(by_value(["dry", None, "hall"], label_N, label_N)) == ["dry", "hall"]
    assert by_value([str(number) for number in range(21)], np.zeros(21, dtype=int), np.zeros(21, dtype=int)) == {}


def test_calibration_error_is_the_distance_between_sure_and_right() -> None:
    """Nine tenths sure of everything and right half of the time: four tenths too sure."""
    logits_NK = np.tile(np.log(np.array([[0.9, 0.1]], dtype=np.float32)), (10, 1))
    half = answers([0, 1] * 5, [0] * 10, ("flam", "drag"))
    scores = score(
        Answers(half.classes, half.label_N, logits_NK, half.sample_ids, half.players, half.tiers, half.tempo_N),
        ceiling(("flam", "drag"), 1.0),
    )
    assert scores.metrics["calibration_error"] == pytest.approx(0.4, abs=1e-5)


def test_the_report_is_strict_json_in_the_families_order() -> None:
    report = json.loads(report_json(by_hand(), LINE, {"evaluate_s": 1.5}), parse_constant=pytest.fail)
    order = ["flam", "flam_tap", "inverted_flam_tap", "drag"]
    assert report["order"] == list(report["classes"]) == order
    assert report["confusion"] == [[2, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    assert report["classes"]["inverted_flam_tap"] == {
        "family": "flam", "clips": 0, "recall": None, "precision": 0.0, "f1": None,
    }  # fmt: skip
    assert report["metrics"].keys() == {*NAMES, "calibration_error"}
    assert report["intervals"]["balanced_accuracy"].keys() == {"low", "high", "level", "method"}
    assert report["ceilings"]["balanced_accuracy"]["value"] == 0.75
    assert report["breakdowns"]["skill"]["beginner"] == {
        "clips": 3, "accuracy": pytest.approx(2 / 3, abs=1e-6), "balanced_accuracy": 0.75,
    }  # fmt: skip
    assert report["groups"] == [["flam_tap", "inverted_flam_tap"]]
    assert report["few"] is True and report["players"] == 2 and report["numbers"] == {"evaluate_s": 1.5}


def test_too_few_clips_are_told_and_fewer_than_classes_are_not_given_out() -> None:
    assert "6 test clips of 2 players are few" in (doubt(by_hand()) or "")
    three = score(answers([0, 1, 2], [0, 1, 2]), ceiling(FOUR, 1.0))
    assert not three.publishable and three.row() == {}
    assert "less than one clip for each of 4 classes" in (doubt(three) or "")
    report = json.loads(report_json(three, LINE, {}))
    assert set(report["metrics"].values()) == {None} and report["intervals"] == {}
    assert "not given out" in table_text(three)
    many = [0, 1, 2, 3] * 30
    enough = score(answers(many, many, players=[f"p{number % 5}" for number in range(120)]), ceiling(FOUR, 1.0))
    assert doubt(enough) is None and not enough.few


def test_the_table_has_classes_by_family_intervals_and_the_ceiling() -> None:
    text = table_text(by_hand())
    names = [line.split()[0] for line in text.splitlines()[1:5]]
    assert names == ["flam", "flam_tap", "inverted_flam_tap", "drag"]
    assert "ceiling of balanced accuracy 0.7500: 3 of 4 patterns differ when both hands sound alike" in text
    assert "balanced accuracy           0.5556  " in text and "bootstrap over 2 players" in text
    assert "commonest mistakes: flam heard as drag: 1" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_confusion_file_is_ordered_by_family(tmp_path: Path) -> None:
    write_confusion(tmp_path / "confusion.csv", by_hand())
    with open(tmp_path / "confusion.csv", newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == ["flam", "flam_tap", "inverted_flam_tap", "drag"]
    assert rows[1][1:] == ["2", "0", "0", "1"]


def test_answers_have_a_row_for_each_clip() -> None:
    rows = answers([0, 1], [0, 3]).rows()
    assert [(row.sample_id, row.player, row.truth, row.answer) for row in rows] == [
        ("clip0", "p0", "flam", "flam"), ("clip1", "p1", "drag", "inverted_flam_tap"),
    ]  # fmt: skip
    assert rows[0].probability == pytest.approx(np.exp(4) / (np.exp(4) + 3))
