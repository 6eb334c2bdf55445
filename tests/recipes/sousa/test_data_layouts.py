"""The made set and the three shapes of the public one give the same clips, and what is broken in them is named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from wavedeck.engine.context import Context
from wavedeck.recipes.sousa.config import SousaConfig
from wavedeck.recipes.sousa.data import load_clip
from wavedeck.recipes.sousa.generate import generate, is_done
from wavedeck.recipes.sousa.tables import DataError, Sample, load_samples, read_samples, set_directory
from wavedeck.tests.fakes.sousa_data import (
    SLUGS,
    as_published_beside,
    as_published_inside,
    as_the_generator_leaves_it,
    data_config,
    rewrite,
    table,
)

LAYOUTS = [as_the_generator_leaves_it, as_published_beside, as_published_inside]


def pointing_at(root: Path, **changes: object) -> SousaConfig:
    return data_config(path=str(root), **changes)


def told(samples: list[Sample]) -> list[tuple[object, ...]]:
    return sorted((s.sample_id, s.profile_id, s.slug, s.tier, s.split, s.tempo_bpm, s.kit, s.group) for s in samples)


@pytest.mark.parametrize("dress", LAYOUTS)
def test_every_layout_gives_the_same_clips(
    dress: Callable[[Path, Path], Path], made_set: Path, tmp_path: Path, context: Context
) -> None:
    config = pointing_at(dress(made_set, tmp_path / "public"))
    generate(config, context)
    assert is_done(config, context.data_root)
    found = load_samples(config, context.data_root)
    ours = read_samples(made_set, SLUGS)
    assert told(found) == told(ours)
    assert all(sample.tempo_bpm and sample.kit and sample.group and sample.audio.is_file() for sample in found)
    sound = {sample.sample_id: load_clip(sample, 16_000, 16_000) for sample in found[:6]}
    for sample in ours:
        if sample.sample_id in sound:
            mine = load_clip(sample, 16_000, 16_000)
            assert np.corrcoef(mine, sound[sample.sample_id])[0, 1] > 0.9


def test_a_packed_set_is_unpacked_once_byte_for_byte(made_set: Path, tmp_path: Path, context: Context) -> None:
    config = pointing_at(as_published_inside(made_set, tmp_path / "public"))
    assert not is_done(config, context.data_root)
    with pytest.raises(DataError, match="run the generate stage"):
        load_samples(config, context.data_root)
    generate(config, context)
    root = set_directory(config, context.data_root)
    one = table(made_set)[0]
    unpacked = root / "audio" / one["rudiment_slug"] / f"{one['sample_id']}.flac"
    assert unpacked.read_bytes() == (made_set / one["audio_path"]).read_bytes()
    stamp = unpacked.stat().st_mtime_ns
    generate(config, context)
    assert unpacked.stat().st_mtime_ns == stamp


def test_damaged_tables_are_named(made_set: Path, tmp_path: Path, context: Context) -> None:
    packed = as_published_inside(made_set, tmp_path / "packed")
    broken = packed / "audio" / "test-00000-of-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"test-00000.*cannot be read"):
        generate(pointing_at(packed), context)
    theirs = as_the_generator_leaves_it(made_set, tmp_path / "theirs")
    lists = json.loads((theirs / "splits.json").read_text())
    lists["test_profile_ids"].append(lists["train_profile_ids"][0])
    (theirs / "splits.json").write_text(json.dumps(lists))
    with pytest.raises(DataError, match=f"player {lists['train_profile_ids'][0]} is in the splits train and test"):
        read_samples(theirs, SLUGS)
    (theirs / "splits.json").write_text("[]")
    with pytest.raises(DataError, match="not a list of players by split"):
        read_samples(theirs, SLUGS)


def test_names_of_others_for_rudiments_splits_and_groups_are_understood(made_set: Path, tmp_path: Path) -> None:
    rows = table(made_set)
    for row in rows:
        row["split"] = {"val": "Validation"}.get(row["split"], row["split"])
        row["rudiment_slug"] = row["rudiment_slug"].replace("_", "-")
        del row["augmentation_group_id"]
        row["tempo_bpm"] = "" if row is rows[0] else row["tempo_bpm"]
    found = read_samples(rewrite(tmp_path, rows), SLUGS)
    ours = read_samples(made_set, SLUGS)
    assert [(s.slug, s.split, s.group) for s in found] == [(s.slug, s.split, s.group) for s in ours]
    assert found[0].tempo_bpm is None and found[1].tempo_bpm is not None


def test_data_clips_takes_a_share_of_an_existing_set_the_same_each_time(
    made_set: Path, context: Context, say: Callable[[str, str], None], said: list[str]
) -> None:
    config = pointing_at(made_set, clips=24)
    few = load_samples(config, context.data_root, say)
    assert few == load_samples(config, context.data_root)
    assert abs(len(few) - 24) <= 3 and set(few) < set(read_samples(made_set, SLUGS))
    assert {(sample.split, sample.slug) for sample in few} == {(s, c) for s in ("train", "val", "test") for c in SLUGS}
    assert said == ["info: 24 of the set's 48 clips are used (data.clips)."]


def test_unseen_kits_of_an_existing_set(
    made_set: Path, tmp_path: Path, context: Context, say: Callable[[str, str], None], said: list[str]
) -> None:
    rows = table(made_set)
    for number, row in enumerate(rows):
        row["soundfont"] = row["aug_soundfont"] = ("generalu", "marching", "douglasn", "fluidr")[number // 3 % 4]
    root = rewrite(tmp_path, rows)
    kept = load_samples(pointing_at(root, unseen_kits=True), context.data_root, say)
    heard = {split: {s.kit for s in kept if s.split == split} for split in ("train", "val", "test")}
    assert not heard["train"] & (heard["val"] | heard["test"]) and not heard["val"] & heard["test"]
    assert "keep the kits apart" in said[0]
    for row in rows:
        row["soundfont"] = "one"
    with pytest.raises(DataError, match="needs three kits"):
        load_samples(pointing_at(rewrite(root, rows), unseen_kits=True), context.data_root)


def test_a_set_made_with_unseen_kits_holds_them_out(context: Context) -> None:
    config = data_config(unseen_kits=True, clips=200)
    from wavedeck.recipes.sousa.generate import kits_by_split, plan_set

    plans = plan_set(config)
    heard = {split: {plan.kit.name for plan in plans if plan.split == split} for split in ("train", "val", "test")}
    assert not heard["train"] & (heard["val"] | heard["test"]) and not heard["val"] & heard["test"]
    assert {split: len(kits) for split, kits in kits_by_split(config).items()} == {"train": 9, "val": 2, "test": 3}
    every = Counter(plan.kit.name for plan in plan_set(data_config(clips=200)) if plan.split == "test")
    assert len(every) > 5


def test_a_hole_in_the_table_is_named(made_set: Path, tmp_path: Path) -> None:
    def refused(match: str, **cells: str) -> None:
        rows = [dict(row) for row in table(made_set)]
        rows[2].update(cells)
        with pytest.raises(DataError, match=match):
            read_samples(rewrite(tmp_path, rows), SLUGS)

    name = table(made_set)[2]["sample_id"]
    refused(f"{name} has no audio_path", audio_path="")
    refused(rf"audio_path of {name}, \.\./\.\./secret\.flac, leads out", audio_path="../../secret.flac")
    refused(f"audio_path of {name}, /etc/passwd, leads out", audio_path="/etc/passwd")
    refused(f"tempo_bpm of {name} is 'fast'", tempo_bpm="fast")
    refused(f"tempo_bpm of {name} is '-80'", tempo_bpm="-80")
    refused(f"{name} is in split 'holdout'", split="holdout")
    refused("is there twice", sample_id=table(made_set)[3]["sample_id"])


def test_players_and_performances_in_two_splits_are_named(made_set: Path, tmp_path: Path) -> None:
    rows = table(made_set)
    trained = next(row for row in rows if row["split"] == "train")
    judged = next(row for row in rows if row["split"] == "test")
    mixed = [dict(row) for row in rows]
    next(row for row in mixed if row["sample_id"] == judged["sample_id"])["profile_id"] = trained["profile_id"]
    with pytest.raises(DataError, match=f"player {trained['profile_id']} is in the splits"):
        read_samples(rewrite(tmp_path, mixed), SLUGS)
    mixed = [dict(row) for row in rows]
    next(row for row in mixed if row["sample_id"] == judged["sample_id"])["augmentation_group_id"] = trained[
        "augmentation_group_id"
    ]
    with pytest.raises(DataError, match=f"performance {trained['augmentation_group_id']} is in the splits"):
        read_samples(rewrite(tmp_path, mixed), SLUGS)


def test_a_link_inside_the_set_may_lead_anywhere(made_set: Path, tmp_path: Path) -> None:
    """The publisher's own staging folder is made of links."""
    root = tmp_path / "linked"
    root.mkdir()
    shutil.copy(made_set / "samples.csv", root)
    (root / "audio").symlink_to(made_set / "audio")
    assert load_clip(read_samples(root, SLUGS)[0], 16_000, 16_000).any()
