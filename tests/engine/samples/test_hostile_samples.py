"""Indexes and files that lie: every item says what is wrong with it, and the others are read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.samples import (
    HOSTILE_NAMES,
    RATE,
    append_line,
    drum_like,
    drum_set,
    odd_set,
    odd_sounds,
    place,
)
from wavedeck.engine.samples import SampleError, SampleSet, dataset_name, file_name, sample_sets
from wavedeck.engine.samples.items import decode_index_line, item_of
from wavedeck.engine.samples.superblock import lookup3, settled
from wavedeck.engine.samples.writer import SampleWriter


def one_good_item(run_dir: Path) -> None:
    with SampleWriter(run_dir) as writer:
        writer.log({"target": (drum_like(0.5), RATE)}, step=1, key="good")


def problems(run_dir: Path) -> list[str | None]:
    samples = SampleSet(run_dir, "val").load()
    return [samples.problem(samples.item(row)) for row in range(len(samples))]


def test_every_odd_sound_plays_or_says_why(tmp_path: Path) -> None:
    samples = odd_set(tmp_path)
    sounds = odd_sounds()
    for row in range(len(samples)):
        item = samples.item(row)
        expected = sounds.get(item.text.get("kind", ""), (drum_like(0.1), RATE))[0]
        (track,) = item.tracks
        assert np.array_equal(samples.audio(item, track), expected, equal_nan=True)
        wrong = samples.problem(item)
        kind = item.text.get("kind")
        if kind == "NaN":
            assert wrong == "5 samples of track 'target' are NaN or infinite; they play as silence."
        elif kind == "no samples":
            assert wrong == "Track 'target' has no samples: its length is zero."
        else:
            assert wrong is None
    assert samples.items.broken.sum() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": None}, "names no file"),
        ({"file": "missing.h5"}, "is not there"),
        ({"file": "../../../secret.h5"}, "not in the set's folder"),
        ({"file": "/etc/passwd"}, "not in the set's folder"),
        ({"file": ".."}, "not in the set's folder"),
        ({"file": "a\u0000b"}, "not in the set's folder"),
        ({"file": "\u001b]0;owned\u0007.h5"}, "is not there"),
        ({"file": "x" * 5000}, "cannot be opened"),
        ({"file": "index.jsonl"}, "no HDF5 file"),
        ({"tracks": {"other": place(100)}}, "'other' is named in the index but is not in"),
        ({"tracks": {"target": place(10**9)}}, "ends beyond the end"),
        ({"tracks": {"target": place(100, start=10**11)}}, "ends beyond the end"),
        ({"tracks": {"target": place(100, channels=2)}}, "1 channels in step-000001.h5, but 2 in the index"),
        ({"tracks": {"target": place(0)}}, "has no samples"),
        ({"tracks": {"target": place(-1)}}, "cannot be"),
        ({"tracks": {"target": place(100, rate=0)}}, "cannot be"),
        ({"tracks": {"target": place(2**63)}}, "cannot be"),
        ({"tracks": {"target": {**place(1), "frames": "many"}}}, "cannot be"),
        ({"tracks": {"target": {**place(1), "frames": True}}}, "cannot be"),
        ({"tracks": {"target": {}}}, "cannot be"),
        ({"tracks": [1]}, "'tracks' of its index line"),
        ({"metrics": {"wer": [1]}}, "'metrics' of its index line"),
        ({"metrics": 7}, "'metrics' of its index line"),
        ({"tags": "hard"}, "'tags' of its index line"),
        ({"text": {"a": 1, "b": "kept"}}, "'text' of its index line"),
        ({"step": "one"}, "'step' of its index line"),
        ({"step": 2**63}, "step"),
        ({"parameters": {"a": 1}}, "'parameters' of its index line"),
        ({"attachments": {"x": "../../../../etc/passwd"}}, "leads out|is not there"),
        ({"attachments": {"x": "/etc/passwd"}}, "leads out"),
        ({"attachments": {"x": "."}}, "is no file"),
        ({"attachments": {"x": "gone"}}, "is not there"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_line_that_lies_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    one_good_item(tmp_path)
    line = {"id": "bad", "step": 1, "file": "step-000001.h5", "tracks": {"target": place(100)}, **change}
    append_line(tmp_path, "val", line)
    one_good_item(tmp_path)
    good, bad, also_good = problems(tmp_path)
    assert good is None and also_good is None
    assert bad is not None and re.search(words, bad), bad
    assert bad.isprintable() and len(bad) < 1000


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"null", b"{}", b'{"id":7}', b'{"id":""}', b'{"id":"' + b"x" * 300 + b'"}', b'{"id":"a', b"\xff\xfe",
     b"\x00" * 50, b'{"id":"a","metrics":{"x":' + b"[" * 100_000, b'{"id":"' + b"x" * 5_000_000 + b'"}'],
)  # fmt: skip
def test_a_line_that_is_no_item_costs_itself_only(tmp_path: Path, line: bytes) -> None:
    append_line(tmp_path, "val", {"id": "a"})
    append_line(tmp_path, "val", line)
    append_line(tmp_path, "val", {"id": "b"})
    samples = SampleSet(tmp_path, "val").load()
    assert list(samples.items.ids) == ["a", "b"] and samples.bad_lines == (1 if line else 0)


def test_one_bad_metric_does_not_cost_the_others(tmp_path: Path) -> None:
    append_line(tmp_path, "val", {"id": "a", "metrics": {"x": {}, "wer": 0.5}, "label": 3, "t": 1e300})
    item = SampleSet(tmp_path, "val").load().item(0)
    assert item.metrics == {"wer": 0.5} and item.label is None and item.t is None and len(item.problems) == 2


def _external_link(handle: h5py.File, secret: Path) -> None:
    handle["tracks/target"] = h5py.ExternalLink(str(secret), "tracks/target")


def _soft_link(handle: h5py.File, secret: Path) -> None:
    handle["elsewhere"] = np.zeros((100, 1), np.float32)
    handle["tracks/target"] = h5py.SoftLink("/elsewhere")


def _external_group(handle: h5py.File, secret: Path) -> None:
    handle["tracks"] = h5py.ExternalLink(str(secret), "tracks")


def _virtual(handle: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((100, 1), "f4")
    layout[:] = h5py.VirtualSource(secret, "tracks/target", (100, 1))
    handle.create_virtual_dataset("tracks/target", layout)


def _raw_file(handle: h5py.File, secret: Path) -> None:
    handle.create_dataset("tracks/target", (100, 1), "f4", external=[(str(secret), 0, 400)])


def _group(handle: h5py.File, secret: Path) -> None:
    handle.create_group("tracks/target")


def _flat(handle: h5py.File, secret: Path) -> None:
    handle["tracks/target"] = np.zeros(100, np.float32)


def _words(handle: h5py.File, secret: Path) -> None:
    handle.create_dataset("tracks/target", (100, 1), h5py.string_dtype())


def _whole_numbers(handle: h5py.File, secret: Path) -> None:
    handle["tracks/target"] = np.zeros((100, 1), np.int16)


def _bomb(handle: h5py.File, secret: Path) -> None:
    handle.create_dataset("tracks/target", (2**31, 1), "f4", chunks=(2**28, 1), compression="gzip")


def _nothing(handle: h5py.File, secret: Path) -> None:
    return None


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (_external_link, "points elsewhere"),
        (_soft_link, "points elsewhere"),
        (_external_group, "named in the index but is not in"),
        (_virtual, "points elsewhere"),
        (_raw_file, "points elsewhere"),
        (_group, "points elsewhere"),
        (_flat, "is not sound"),
        (_words, "is not sound"),
        (_whole_numbers, "is not sound"),
        (_bomb, "chunks too large"),
        (_nothing, "named in the index but is not in"),
    ],
)
def test_a_foreign_file_is_not_followed(tmp_path: Path, fill: Callable[[h5py.File, Path], None], words: str) -> None:
    one_good_item(tmp_path)
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as handle:
        handle["tracks/target"] = np.ones((100, 1), np.float32)
    with h5py.File(tmp_path / "samples/val/foreign.h5", "w") as handle:
        fill(handle, secret)
    append_line(tmp_path, "val", {"id": "x", "file": "foreign.h5", "tracks": {"target": place(100)}})
    good, bad = problems(tmp_path)
    assert good is None and bad is not None and words in bad, bad


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_of_another_programs_making_plays(tmp_path: Path, kind: str, libver: str) -> None:
    sound = drum_like(0.2)
    (tmp_path / "samples/val").mkdir(parents=True)
    with h5py.File(tmp_path / "samples/val/mine.h5", "w", libver=libver) as handle:
        handle.create_dataset("tracks/target", data=sound.astype(kind), compression="gzip")
    append_line(tmp_path, "val", {"id": "x", "file": "mine.h5", "tracks": {"target": place(len(sound))}})
    samples = SampleSet(tmp_path, "val").load()
    assert samples.problem(samples.item(0)) is None
    assert np.allclose(samples.audio(samples.item(0), "target"), sound, atol=1e-3)


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    one_good_item(run)
    one_good_item(outside)
    folder = run / "samples/val"
    (folder / "linked.h5").symlink_to(outside / "samples/val/step-000001.h5")
    (folder / "loop.h5").symlink_to("loop.h5")
    (folder / "dangling.h5").symlink_to("nowhere")
    (folder / "same.h5").symlink_to("step-000001.h5")
    os.mkfifo(folder / "pipe.h5")
    (folder / "folder.h5").mkdir()
    (folder / "note").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    for name in ("linked.h5", "loop.h5", "dangling.h5", "pipe.h5", "folder.h5", "same.h5"):
        append_line(run, "val", {"id": name, "file": name, "tracks": {"target": place(100)}})
    append_line(run, "val", {"id": "attached", "attachments": {"a": "note", "b": "fifo"}})
    good, linked, loop, dangling, pipe, folder_, same, attached = problems(run)
    assert good is None and same is None
    assert linked is not None and "leads out of its folder" in linked
    assert all("cannot be opened" in (text or "") for text in (loop, pipe, folder_)) and "not there" in (dangling or "")
    assert attached is not None and "leads out of its folder" in attached and "is no file" in attached


def test_a_set_or_an_index_that_leads_out_is_no_set(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    one_good_item(outside)
    (run / "samples").mkdir(parents=True)
    (run / "samples/out").symlink_to(outside / "samples/val")
    (run / "samples/index").mkdir()
    (run / "samples/index/index.jsonl").symlink_to(outside / "samples/val/index.jsonl")
    (run / "samples/pipe").mkdir()
    os.mkfifo(run / "samples/pipe/index.jsonl")
    assert "out" not in sample_sets(run) and "pipe" not in sample_sets(run)
    for name in ("out", "index"):
        with pytest.raises(SampleError, match="leads out of its folder"):
            SampleSet(run, name).poll()
    with pytest.raises(SampleError, match="cannot be read"):
        SampleSet(run, "pipe").poll()


def test_samples_on_another_disk_may_be_linked_as_a_whole(tmp_path: Path) -> None:
    run, disk = tmp_path / "run", tmp_path / "disk"
    one_good_item(disk)
    run.mkdir()
    (run / "samples").symlink_to(disk / "samples")
    assert sample_sets(run) == ("val",) and problems(run) == [None]


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_name_becomes_a_path(name: str) -> None:
    component = dataset_name(name)
    assert "/" not in component and component not in ("", ".", "..") and "\0" not in component
    safe = file_name(name)
    assert safe and not safe.startswith((".", "-")) and "/" not in safe and ".." not in safe and safe.isascii()


@given(st.lists(st.text(max_size=12), unique=True, max_size=8))
def test_no_two_tracks_share_a_dataset(names: list[str]) -> None:
    names = [name for name in names if name.isprintable()]
    assert len({dataset_name(name) for name in names}) == len(names)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["step", "epoch", "t", "file", "metrics", "text", "tags", "label", "predicted", "probabilities", "parameters",
     "tracks", "attachments"]
)  # fmt: skip


@given(st.dictionaries(fields, json_values | st.dictionaries(st.sampled_from(["a", ".."]), json_values, max_size=2)))
@settings(deadline=None, max_examples=200)
def test_any_object_with_an_id_is_an_item(line: dict[str, Any]) -> None:
    found = decode_index_line(json.dumps({**line, "id": "x"}).encode())
    if found is None:  # numbers or text that JSON parsers refuse
        return
    item = item_of(*found)
    assert item.id == "x" and all(place.rate > 0 and place.frames >= 0 for place in item.tracks.values())


@given(st.binary(max_size=300))
def test_any_bytes_are_an_item_or_none(line: bytes) -> None:
    decode_index_line(line)


@given(st.binary(max_size=100))
def test_the_head_of_another_format_is_left_alone(head: bytes) -> None:
    assert settled(head, 1000) == head
    assert 0 <= lookup3(head) < 2**32


def test_the_checksum_is_hdf5s_own(tmp_path: Path) -> None:
    one_good_item(tmp_path)
    head = (tmp_path / "samples/val/step-000001.h5").read_bytes()[:48]
    assert int.from_bytes(head[44:], "little") == lookup3(head[:44])


DAMAGED = """
import sys, random, numpy as np
from pathlib import Path
from wavedeck.engine.samples import SampleSet, SampleError
chance = random.Random(int(sys.argv[2]))
path = Path(sys.argv[1]) / "samples/val/step-000001.h5"
whole = path.read_bytes()
played = refused = 0
for _ in range(int(sys.argv[3])):
    data = bytearray(whole)
    for _ in range(chance.choice((1, 4, 64))):
        data[chance.randrange(min(len(data), 8192) if chance.random() < 0.9 else len(data))] = chance.randrange(256)
    path.write_bytes(data)
    samples = SampleSet(Path(sys.argv[1]), "val").load()
    for row in range(len(samples)):
        try:
            samples.audio(samples.item(row), "target")
            played += 1
        except SampleError as error:
            assert str(error).isprintable()
            refused += 1
    samples.close()
print(played, refused)
"""


def test_damaged_bytes_are_told_and_end_no_process(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        for number in range(3):
            writer.log({"target": (drum_like(3.0, seed=number), RATE)}, step=1, key=number)
    argv = [sys.executable, "-c", DAMAGED, str(tmp_path), "1", "150"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    played, refused = map(int, told.stdout.split())
    assert played and refused


def test_hostile_names_reach_nothing_outside_the_set(tmp_path: Path) -> None:
    run = tmp_path / "run"
    odd_set(run)
    drum_set(run)
    samples = SampleSet(run, "odd").load()
    found = {track for row in range(len(samples)) for track in samples.item(row).tracks}
    assert {name[:120] for name in HOSTILE_NAMES} <= found
    assert [path.name for path in tmp_path.iterdir()] in (["run"], ["home", "run"], ["run", "home"])
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["odd", "test"]
