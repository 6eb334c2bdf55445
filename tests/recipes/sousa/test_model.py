"""Data, model, scores, and the whole recipe in its debug preset."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from wavedeck.engine.config import compose, describe  # noqa: E402
from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.errors import WavedeckError  # noqa: E402
from wavedeck.engine.rundir import RunDir  # noqa: E402
from wavedeck.engine.samples import SampleSet  # noqa: E402
from wavedeck.engine.training.stream import ItemKey, item_rng  # noqa: E402
from wavedeck.recipes.sousa.config import AugmentConfig, ModelConfig, SousaConfig  # noqa: E402
from wavedeck.recipes.sousa.data import Clips, augment, load_clip, split_samples  # noqa: E402
from wavedeck.recipes.sousa.evaluate import evaluate  # noqa: E402
from wavedeck.recipes.sousa.generate import generate  # noqa: E402
from wavedeck.recipes.sousa.model import RudimentNet  # noqa: E402
from wavedeck.recipes.sousa.notation import load_rudiments  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402
from wavedeck.recipes.sousa.report import TWINS, score, table_text  # noqa: E402
from wavedeck.recipes.sousa.tables import DataError, Sample  # noqa: E402
from wavedeck.recipes.sousa.train import train  # noqa: E402

TINY = (
    "data.rudiments=[flam,drag,single_paradiddle]", "data.clips=48", "data.duration_s=1.0", "data.profiles=12",
    "model.channels=8", "model.blocks=3", "training.max_steps=4", "training.batch_size=8", "training.val_every=2",
)  # fmt: skip


def tiny(*more: str) -> SousaConfig:
    return compose(RECIPE, [*TINY, *more], "debug").config


def context_in(tmp_path: Path, **options: bool) -> Context:
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    return Context(RunDir(run), tmp_path / "data", device="cpu", **options)


def test_the_face_imports_no_torch() -> None:
    code = "import sys, wavedeck.recipes.sousa.recipe; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_knob_is_documented_and_every_preset_composes() -> None:
    assert all(info.help for info in describe(SousaConfig))
    for preset in RECIPE.presets:
        assert compose(RECIPE, [], preset).config.data.clips >= 1000
    assert compose(RECIPE, ["data=tiny"], None).config.data.clips == 1000


def test_network_shapes_and_size() -> None:
    net = RudimentNet(ModelConfig(), 48, 40)
    assert 200_000 < sum(weight.numel() for weight in net.parameters()) < 320_000
    for frames in (167, 501, 668):
        assert net(torch.zeros(2, 48, frames)).shape == (2, 40)
    loss = net(torch.randn(2, 48, 167)).square().sum()
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_masks_stay_shorter_than_a_grace_note_is_early() -> None:
    mel_MF = torch.rand(48, 500)
    config = AugmentConfig(shift_ms=0.0, gain_db=0.0, mel_mask=0, time_masks=1)
    for index in range(50):
        changed = (augment(mel_MF, config, 6.0, item_rng(0, ItemKey(index, 0))) != mel_MF).any(dim=0).sum()
        assert int(changed) * 6.0 <= 12.0


def test_augmentation_is_a_function_of_epoch_and_clip_and_leaves_the_clip_alone() -> None:
    mel_MF = torch.rand(48, 200)
    before = mel_MF.clone()
    one, same, next_epoch = (
        augment(mel_MF, AugmentConfig(), 6.0, item_rng(3, ItemKey(5, epoch))) for epoch in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, next_epoch)
    assert torch.equal(mel_MF, before)


def test_a_clip_is_cut_padded_and_resampled(tmp_path: Path) -> None:
    def clip(rate: int, seconds: float) -> Sample:
        path = tmp_path / f"{rate}-{seconds}.wav"
        soundfile.write(path, np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 500 / rate), rate)
        return Sample("a", "p", "flam", "beginner", path, "train")

    assert load_clip(clip(16_000, 0.5), 16_000, 16_000)[8_000:].max() == 0
    assert len(load_clip(clip(16_000, 2.0), 16_000, 16_000)) == 16_000
    resampled = load_clip(clip(44_100, 1.0), 16_000, 16_000)
    assert np.argmax(np.abs(np.fft.rfft(resampled))) == 500
    with pytest.raises(DataError, match=r"8000 Hz, less than data\.sample_rate=16000"):
        load_clip(clip(8_000, 1.0), 16_000, 16_000)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    context, config = context_in(tmp_path), tiny()
    generate(config, context)
    samples = split_samples(config, context, "train")
    samples[1].audio.write_bytes(samples[1].audio.read_bytes()[:300])
    with pytest.raises(DataError, match=samples[1].sample_id):
        Clips(samples, config, context, "spectrograms")
    samples[1].audio.unlink()
    with pytest.raises(DataError, match="is missing"):
        Clips(samples, config, context, "spectrograms")


def test_spectrograms_are_the_same_with_and_without_memory_for_them(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    generate(tiny(), context)
    samples = split_samples(tiny(), context, "val")
    kept = Clips(samples, tiny(), context, "")
    fresh = Clips(samples, tiny("data.cache_gib=0"), context, "")
    assert torch.allclose(kept[0][0], fresh[0][0], atol=0.01)


def test_scores_against_a_hand_count() -> None:
    label_N = np.array([0, 0, 0, 1, 1, 2])
    logits_NK = np.eye(4)[[0, 0, 1, 1, 1, 0]]
    scores = score(label_N, logits_NK, ["beginner"] * 3 + ["advanced"] * 3, ("flam", "drag", "flam_tap", "lesson_25"))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert math.isnan(scores.recall_K[3])
    assert scores.macro_f1 == pytest.approx((2 * 2 / 6 + 2 * 2 / 5 + 0) / 3)
    assert scores.tiers == {"beginner": pytest.approx(2 / 3), "advanced": pytest.approx(2 / 3)}
    assert scores.confusions()[0][2] == 1
    assert "lesson_25" in table_text(scores)


def test_twins_really_share_rhythm_accents_and_graces() -> None:
    """What sounds alike once the hands do: equal up to tempo, hands, and where the cycle starts."""

    def pattern(slug: str) -> set[tuple[object, ...]]:
        rudiment = load_rudiments()[slug]
        notes, whole = rudiment.notes, rudiment.cycle_beats
        gaps = [((notes[(i + 1) % len(notes)].offset - note.offset) % whole or whole) for i, note in enumerate(notes)]
        steps = [(gap / min(gaps), note.accent, note.graces, note.buzz) for gap, note in zip(gaps, notes, strict=True)]
        period = next(n for n in range(1, len(steps) + 1) if steps == (steps[n:] + steps[:n]))
        return {tuple((steps + steps)[start : start + period]) for start in range(period)}

    patterns = {slug: pattern(slug) for slug in load_rudiments()}
    groups: list[set[str]] = []
    for slug, own in patterns.items():
        twins = {other for other, theirs in patterns.items() if own & theirs}
        if len(twins) > 1 and twins not in groups:
            groups.append(twins)
        assert slug in twins
    assert sorted(map(sorted, groups)) == sorted(sorted(group) for group in TWINS)


def test_train_then_evaluate_writes_its_results_into_the_run(tmp_path: Path) -> None:
    context, config = context_in(tmp_path), tiny()
    with pytest.raises(WavedeckError, match="run its train stage first"):
        evaluate(config, context)
    generate(config, context)
    train(config, context)
    evaluate(config, context)
    events = [json.loads(raw) for raw in (context.run.path / "events.jsonl").read_text().splitlines()]
    metrics = {key for event in events if event["k"] == "metrics" for key in event["v"]}
    assert {"train/loss", "lr", "val/loss", "val/balanced_accuracy", "test/balanced_accuracy", "test/top5"} <= metrics
    report = json.loads((context.run.path / "evaluation.json").read_text())
    assert report["metrics"].keys() >= {"balanced_accuracy", "accuracy", "top5", "macro_f1"}
    assert set(report["classes"]) == {"flam", "drag", "single_paradiddle"}
    with open(context.run.path / "confusion.csv", newline="") as handle:
        confusion = list(csv.reader(handle))
    assert sum(int(cell) for row in confusion[1:] for cell in row[1:]) == report["clips"]
    names = {path.name for path in context.run.path.iterdir()}
    assert names == {"events.jsonl", "checkpoints", "evaluation.json", "confusion.csv", "samples"}
    _can_be_listened_to(context, config, report, confusion)


def _can_be_listened_to(
    context: Context, config: SousaConfig, report: dict[str, Any], confusion: list[list[str]]
) -> None:
    """The evaluation's items, read back: what was played, what was heard, how sure it was, and the same confusion."""
    found = SampleSet(context.run.path, "test").load()
    items = [found.item(row) for row in range(len(found.items))]
    clips = {sample.sample_id: sample for sample in split_samples(config, context, "test")}
    assert len(items) == report["clips"] == len(clips) and found.bad_lines == 0
    classes, rate = set(report["classes"]), config.data.sample_rate
    for item in items:
        assert set(item.tracks) == {"target", "prediction"} and found.problem(item) is None and not item.problems
        target, performed = (found.audio(item, track, 0, 10 * rate) for track in ("target", "prediction"))
        clip = clips[item.text["clip"]]
        assert np.array_equal(target[:, 0], load_clip(clip, rate, rate)) and item.label == clip.slug
        assert target.shape == (rate, 1) and len(performed) > 0 and np.abs(performed).max() > 0.01
        assert set(item.probabilities) == classes and sum(item.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert item.predicted == max(item.probabilities, key=item.probabilities.__getitem__)
        assert item.metrics["loss"] == pytest.approx(-math.log(item.probabilities[item.label or ""]), abs=1e-5)
        assert ("right" in item.tags) == (item.label == item.predicted)
    header, *rows = confusion
    for name, *cells in rows:
        for predicted, count in zip(header[1:], cells, strict=True):
            assert sum((item.label, item.predicted) == (name, predicted) for item in items) == int(count)


@pytest.mark.slow
def test_the_debug_preset_hears_nine_in_ten_of_held_out_players(tmp_path: Path) -> None:
    """About a minute of one core: make 1,600 clips of eight rudiments, train, and judge on players never heard."""
    context = context_in(tmp_path)
    config = compose(RECIPE, [], "debug").config
    for stage in RECIPE.stages:
        stage.load()(config, context)
    report = json.loads((context.run.path / "evaluation.json").read_text())
    assert report["clips"] >= 300
    assert report["metrics"]["balanced_accuracy"] >= 0.9
