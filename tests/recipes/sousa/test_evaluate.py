"""The evaluation of a trained network: every file it leaves says the same, and it can be listened to."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wavedeck.engine.checkpoints import MANIFEST_NAME, commit, read_checkpoints, temporary_path  # noqa: E402
from wavedeck.engine.config import compose  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.engine.evaluation import read_evaluation  # noqa: E402
from wavedeck.engine.paired import compare_answers, read_answers  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.engine.samples import SampleSet  # noqa: E402
from wavedeck.engine.training.snapshot import SNAPSHOT_FORMAT, load_snapshot  # noqa: E402
from wavedeck.recipes.sousa.config import SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.data import load_clip, split_samples  # noqa: E402
from wavedeck.recipes.sousa.evaluate import evaluate  # noqa: E402
from wavedeck.recipes.sousa.generate import generate  # noqa: E402
from wavedeck.recipes.sousa.network import build_network  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402

CLASSES = ("single_paradiddle", "flam", "flam_tap", "inverted_flam_tap", "drag")
"""In the families' order, which is not the order that the configuration names them in."""
TINY = (
    "data.rudiments=[flam,drag,single_paradiddle,inverted_flam_tap,flam_tap]", "data.clips=60", "data.duration_s=1.0",
    "data.profiles=12", "synth.hand_timbre=0", "model.channels=8", "model.blocks=3", "training.max_steps=4",
    "training.batch_size=8", "training.val_every=2",
)  # fmt: skip


def tiny(*more: str) -> SousaConfig:
    return compose(RECIPE, [*TINY, *more], "debug").config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a run of two checkpoints in `run` and its clips in `data`; not yet evaluated. Never written to.

    The network is a random one: what is tested is how it is judged.
    """
    place = tmp_path_factory.mktemp("trained")
    context = _context(place)
    with pytest.raises(WavedeckError, match="run its train stage first"):
        evaluate(tiny(), context)
    generate(tiny(), context)
    network = build_network(tiny(), len(CLASSES), 4, context.say)
    model = {f"net.{name}": value for name, value in network.adapted.state_dict().items()}
    for step, score in ((2, 0.2), (4, 0.3)):
        _commit(
            context,
            {"format": SNAPSHOT_FORMAT, "model": model},
            f"step-{step}.ckpt",
            step,
            {RECIPE.headline.metric: score},
        )
    return place


def _commit(
    context: Context, snapshot: dict[str, Any], name: str, step: int, metrics: Mapping[str, float] | None = None
) -> None:
    context.run.checkpoints.mkdir(exist_ok=True)
    temporary = temporary_path(context.run.checkpoints, name)
    torch.save(snapshot, temporary)
    commit(temporary, name, step, 1.0, metrics, RECIPE.headline)


def _context(place: Path, **options: Any) -> Context:
    (place / "run").mkdir(exist_ok=True)
    return Context(RunDir(place / "run"), place / "data", device="cpu", **options)


def _copy(trained: Path, tmp_path: Path, **options: Any) -> Context:
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "data").symlink_to(trained / "data")
    return _context(tmp_path, **options)


def test_every_file_of_an_evaluation_says_the_same(trained: Path, tmp_path: Path) -> None:
    context = _copy(trained, tmp_path)
    before = {path.name for path in context.run.path.iterdir()}
    evaluate(tiny(), context)
    written = {path.name for path in context.run.path.iterdir()} - before
    assert written == {"evaluation.json", "confusion.csv", "answers.csv", "samples"}
    report = json.loads((context.run.path / "evaluation.json").read_text())
    assert report["order"] == list(report["classes"]) == list(CLASSES)
    assert report["ceilings"]["balanced_accuracy"] == {
        "value": 0.8, "words": "4 of 5 patterns differ when both hands sound alike",
    }  # fmt: skip
    assert report["breakdowns"].keys() >= {"skill", "tempo", "family"}
    for parts in report["breakdowns"].values():
        assert sum(part["clips"] for part in parts.values()) == report["clips"]
    answers = read_answers(context.run.path / "answers.csv")
    heard = Counter((one.truth, one.answer) for one in answers)
    with open(context.run.path / "confusion.csv", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    assert header[1:] == list(CLASSES)
    for (truth, *cells), row in zip(rows, report["confusion"], strict=True):
        assert [int(cell) for cell in cells] == row == [heard[truth, answer] for answer in CLASSES]
    assert sum(one.right for one in answers) / len(answers) == pytest.approx(report["metrics"]["accuracy"], abs=1e-6)
    assert compare_answers(answers, answers).p == 1.0
    _journal_agrees(context, report)
    _the_deck_reads_it(context, report)
    _can_be_listened_to(context, tiny(), report, heard)


def _journal_agrees(context: Context, report: dict[str, Any]) -> None:
    """The `test/...` row has the report's numbers, its warning, and what is told about the run."""
    events = [json.loads(raw) for raw in (context.run.path / "events.jsonl").read_text().splitlines()]
    row = [event for event in events if event["k"] == "metrics"][-1]
    assert row["step"] == report["step"]
    for name, value in report["metrics"].items():
        assert row["v"][f"test/{name}"] == pytest.approx(value, abs=1e-6)
    assert row["v"].keys() >= {"test/accuracy_beginner", "test/family_accuracy"}
    assert report["few"] and any("are few" in event.get("text", "") for event in events if event["k"] == "log")
    about = [event for event in events if event["k"] == "about"][-1]
    assert about["numbers"]["evaluate_s"] > 0 and about["numbers"]["test_clips"] == report["clips"]


def _the_deck_reads_it(context: Context, report: dict[str, Any]) -> None:
    """Nothing that the reader knows of is lost on the way."""
    found = read_evaluation(context.run.path)
    assert found is not None and found.metrics == report["metrics"] and found.order == CLASSES
    assert found.intervals.keys() == report["intervals"].keys() and found.ceilings["balanced_accuracy"].value == 0.8
    assert {by: [part.name for part in parts] for by, parts in found.breakdowns.items()} == {
        by: list(parts) for by, parts in report["breakdowns"].items()
    }
    assert [list(row) for row in found.confusion] == report["confusion"]
    assert [[one.truth, one.answer, one.clips] for one in found.confusions] == report["confusions"]


def _can_be_listened_to(
    context: Context, config: SousaConfig, report: dict[str, Any], heard: Counter[tuple[str, str]]
) -> None:
    """The evaluation's items, read back: what was played, what was heard, how sure it was, and the same confusion."""
    found = SampleSet(context.run.path, "test").load()
    items = [found.item(row) for row in range(len(found.items))]
    clips = {sample.sample_id: sample for sample in split_samples(config, context, "test")}
    assert len(items) == report["clips"] == len(clips) and found.bad_lines == 0
    rate = config.data.sample_rate
    for item in items:
        assert set(item.tracks) == {"target", "prediction"} and found.problem(item) is None and not item.problems
        target, performed = (found.audio(item, track, 0, 10 * rate) for track in ("target", "prediction"))
        clip = clips[item.text["clip"]]
        assert np.array_equal(target[:, 0], load_clip(clip, rate, rate)) and item.label == clip.slug
        assert target.shape == (rate, 1) and len(performed) > 0 and np.abs(performed).max() > 0.01
        assert set(item.probabilities) == set(CLASSES)
        assert sum(item.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert item.predicted == max(item.probabilities, key=item.probabilities.__getitem__)
        assert item.metrics["loss"] == pytest.approx(-math.log(item.probabilities[item.label or ""]), abs=1e-5)
        assert ("right" in item.tags) == (item.label == item.predicted)
    assert Counter((item.label or "", item.predicted or "") for item in items) == heard


def test_the_checkpoint_that_was_asked_for_and_no_other(trained: Path, tmp_path: Path) -> None:
    context = _copy(trained, tmp_path, checkpoint="step-2.ckpt")
    evaluate(tiny(), context)
    report = json.loads((context.run.path / "evaluation.json").read_text())
    line = read_checkpoints(context.run.checkpoints / MANIFEST_NAME)[0]
    assert (report["checkpoint"], report["sha256"]) == ("step-2.ckpt", line.sha256)
    context.checkpoint = "step-9.ckpt"
    with pytest.raises(WavedeckError, match=r"has no checkpoint step-9\.ckpt"):
        evaluate(tiny(), context)
    (context.run.checkpoints / "step-2.ckpt").write_bytes(b"torn")
    context.checkpoint = "step-2.ckpt"
    with pytest.raises(WavedeckError, match="choose another with --checkpoint"):
        evaluate(tiny(), context)


def test_another_model_or_one_that_answers_nan_is_refused_with_words(trained: Path, tmp_path: Path) -> None:
    context = _copy(trained, tmp_path)
    with pytest.raises(WavedeckError, match="another model or other classes"):
        evaluate(tiny("model.channels=16"), context)
    snapshot = load_snapshot(context.run.checkpoints / "step-4.ckpt")
    head = next(name for name in snapshot["model"] if name.endswith("rudiment_head.bias"))
    snapshot["model"][head] = torch.full_like(snapshot["model"][head], torch.nan)
    _commit(context, snapshot, "poisoned.ckpt", 4)
    context.checkpoint = "poisoned.ckpt"
    with pytest.raises(WavedeckError, match=r"poisoned\.ckpt answers with NaN"):
        evaluate(tiny(), context)
    assert not (context.run.path / "evaluation.json").exists()
