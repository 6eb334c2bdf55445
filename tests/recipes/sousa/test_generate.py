"""The generate stage: the set's tables, its splits, and what happens when it is interrupted or done twice at once."""

from __future__ import annotations

import csv
import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavedeck.engine.context import Context
from wavedeck.engine.rundir import RunDir
from wavedeck.recipes.sousa import generate as generate_module
from wavedeck.recipes.sousa.config import DataConfig, SousaConfig, SynthConfig, data_signature
from wavedeck.recipes.sousa.generate import generate, is_done, make_clip, plan_set
from wavedeck.recipes.sousa.tables import (
    SAMPLE_COLUMNS,
    STROKE_COLUMNS,
    DataError,
    class_names,
    read_samples,
    set_directory,
)

SLUGS = ("flam", "drag", "single_paradiddle")


def small_config(clips: int = 36, **synth: Any) -> SousaConfig:
    data = DataConfig(clips=clips, rudiments=SLUGS, duration_s=1.0, profiles=12)
    return SousaConfig(data=data, synth=SynthConfig(**synth))


def context_in(tmp_path: Path, name: str = "run") -> Context:
    run = tmp_path / name
    run.mkdir()
    return Context(RunDir(run), tmp_path / "data")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("made")
    generate(small_config(), context_in(base))
    return set_directory(small_config(), base / "data")


def test_the_set_appears_whole_with_the_columns_of_the_real_one(made: Path) -> None:
    samples, strokes = table(made / "samples.csv"), table(made / "strokes.csv")
    assert tuple(samples[0]) == SAMPLE_COLUMNS
    assert tuple(strokes[0]) == STROKE_COLUMNS
    assert len(samples) == 36
    for row in samples:
        assert re.fullmatch(r"(beg|int|adv|pro)\d{3}_[a-z0-9_]+_\d+bpm_[a-z]+_[a-z]+", row["sample_id"])
        assert (made / row["audio_path"]).is_file()
        own = [stroke for stroke in strokes if stroke["sample_id"] == row["sample_id"]]
        assert len(own) == int(row["num_strokes"])
        assert [int(stroke["index"]) for stroke in own] == list(range(len(own)))
    assert [path.name for path in made.parent.iterdir() if not path.name.startswith(".")] == [made.name]


def test_no_player_is_in_two_splits_and_every_tier_is_in_each(made: Path) -> None:
    rows = table(made / "samples.csv")
    homes = {(row["profile_id"], row["split"]) for row in rows}
    assert len(homes) == len({profile for profile, _ in homes}) == 12
    for split in ("train", "val", "test"):
        assert len({row["skill_tier"] for row in rows if row["split"] == split}) == 4
        assert {row["rudiment_slug"] for row in rows if row["split"] == split} == set(SLUGS)


def test_a_clip_depends_on_seed_and_sample_id_alone() -> None:
    few, many = plan_set(small_config(24)), plan_set(small_config(36))
    assert [plan.sample_id for plan in few] == [plan.sample_id for plan in many[:24]]
    one, other = make_clip(small_config(), few[3])[1], make_clip(small_config(), few[3])[1]
    assert np.array_equal(one, other)
    assert not np.array_equal(one, make_clip(small_config(seed=1), few[3])[1])


def test_the_signature_follows_what_is_heard_and_nothing_else() -> None:
    config = small_config()
    before = data_signature(config)
    config.training.lr = 1.0
    config.data.cache_gib = 0.5
    assert data_signature(config) == before
    config.synth.hand_timbre = 0.0
    assert data_signature(config) != before


def test_a_set_that_exists_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, config = context_in(tmp_path), small_config(24)
    assert not is_done(config, context.data_root)
    generate(config, context)
    assert is_done(config, context.data_root)
    stamp = (set_directory(config, context.data_root) / "samples.csv").stat().st_mtime_ns
    generate(config, context)
    assert "already" in capsys.readouterr().out
    assert (set_directory(config, context.data_root) / "samples.csv").stat().st_mtime_ns == stamp
    events = (context.run.path / "events.jsonl").read_text()
    assert '"done":24,"total":24,"unit":"clip"' in events


def test_several_processes_make_the_same_set_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "_WORTH_WORKERS", 10)
    config = small_config(36)
    generate(config, Context(RunDir(tmp_path), tmp_path / "one"))
    config.training.workers = 2
    generate(config, Context(RunDir(tmp_path), tmp_path / "two"))
    one, two = (set_directory(config, tmp_path / name) for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file()) and len(files) == 38
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes()


def _generate_in(run: Path, data: Path, clips: int) -> None:
    run.mkdir()
    generate(small_config(clips), Context(RunDir(run), data))


def test_two_runs_making_the_same_set_do_not_collide(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [
        fork.Process(target=_generate_in, args=(tmp_path / f"run{number}", tmp_path / "data", 60)) for number in (1, 2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    said = "".join((tmp_path / f"run{number}/events.jsonl").read_text() for number in (1, 2))
    assert said.count("60 clips in") == 1
    root = set_directory(small_config(60), tmp_path / "data")
    assert len(table(root / "samples.csv")) == len(list((root / "audio").iterdir())) == 60
    assert not list((tmp_path / "data").glob(".*.partial"))


def test_a_killed_generation_leaves_no_set_and_is_cleared_away(tmp_path: Path, wait_for: Any) -> None:
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_generate_in, args=(tmp_path / "first", tmp_path / "data", 4000))
    process.start()
    partial = tmp_path / "data" / f".{data_signature(small_config(4000))}.partial"
    wait_for(lambda: len(list(partial.glob("audio/*.flac"))) > 3, 30, "some clips")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(20)
    assert not is_done(small_config(4000), tmp_path / "data")
    again = tmp_path / "data" / f".{data_signature(small_config(24))}.partial"
    again.mkdir()
    (again / "left over").touch()
    _generate_in(tmp_path / "second", tmp_path / "data", 24)
    root = set_directory(small_config(24), tmp_path / "data")
    assert sorted(path.name for path in root.iterdir()) == ["audio", "samples.csv", "strokes.csv"]


def test_a_folder_without_a_table_is_named(tmp_path: Path) -> None:
    config = small_config()
    config.data.path = str(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds no samples\.csv"):
        generate(config, context_in(tmp_path))
    with pytest.raises(DataError, match="run the generate stage"):
        read_samples(tmp_path / "nothing", SLUGS)


def test_tables_that_would_cheat_or_starve_are_refused(made: Path, tmp_path: Path) -> None:
    rows = table(made / "samples.csv")

    def write(changed: list[dict[str, str]]) -> Path:
        with open(tmp_path / "samples.csv", "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(changed[0]))
            writer.writeheader()
            writer.writerows(changed)
        return tmp_path

    leaky = [dict(row) for row in rows]
    trained = next(row for row in leaky if row["split"] == "train")
    leaky.append({**trained, "sample_id": "again", "split": "test"})
    with pytest.raises(DataError, match=f"player {trained['profile_id']} is in the splits train and test"):
        read_samples(write(leaky), SLUGS)
    with pytest.raises(DataError, match="no training clip of flam"):
        read_samples(write([row for row in rows if row["rudiment_slug"] != "flam"]), SLUGS)
    with pytest.raises(DataError, match="no column profile_id"):
        read_samples(write([{k: v for k, v in row.items() if k != "profile_id"} for row in rows]), SLUGS)


def test_a_table_without_splits_is_split_by_player(made: Path, tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "split"} for row in table(made / "samples.csv")]
    with open(tmp_path / "samples.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    homes = {(sample.profile_id, sample.split) for sample in read_samples(tmp_path, SLUGS)}
    assert len(homes) == 12


def test_an_unknown_rudiment_is_named() -> None:
    with pytest.raises(DataError, match="no rudiment 'flamm'"):
        class_names(SousaConfig(data=DataConfig(rudiments=("flamm", "drag"))))
    with pytest.raises(DataError, match="at least two"):
        class_names(SousaConfig(data=DataConfig(rudiments=("drag", "drag"))))
