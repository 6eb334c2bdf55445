"""Which files look whole, which globs match, what a path says of a step: the judgement about foreign checkpoints."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.checkpoints import foreign_name, is_safe_name, is_safe_path
from wavedeck.remote.payload.below import components
from wavedeck.remote.payload.file_structure import is_whole
from wavedeck.remote.payload.file_walk import Patterns, Walk, own_directories
from wavedeck.remote.payload.foreign_lines import can_be_named, numbers_of, safe_name
from wavedeck.remote.payload.known_metrics import MAX_METRICS, Known


def torch_like(size: int = 50_000, seed: int = 0) -> bytes:
    """What `torch.save` writes: a zip of stored members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"step": seed}))
        archive.writestr("archive/data/0", bytes([seed % 256]) * size)
    return buffer.getvalue()


def safetensors(size: int = 4000, seed: int = 0) -> bytes:
    """One tensor."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}, "__metadata__": {"a": "b"}})
    return struct.pack("<Q", len(header)) + header.encode() + bytes([seed % 256]) * size


def nemo() -> bytes:
    """A tar of two files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("model_weights.ckpt", "model_config.yaml"):
            member = tarfile.TarInfo(name)
            member.size = 3000
            archive.addfile(member, io.BytesIO(b"x" * 3000))
    return buffer.getvalue()


def judge(folder: Path, name: str, data: bytes) -> bool | None:
    path = folder / name
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return is_whole(descriptor, name, len(data))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "data"), [("a.pt", torch_like()), ("a.safetensors", safetensors()), ("a.nemo", nemo())]
)
def test_a_whole_file_is_told_from_every_beginning_of_it(tmp_path: Path, name: str, data: bytes) -> None:
    assert judge(tmp_path, name, data) is True
    for length in {0, 1, 7, 8, 100, 512, 1024, len(data) // 2, len(data) - 1}:
        assert judge(tmp_path, name, data[:length]) in (False, None)
        if length > 512:
            assert judge(tmp_path, name, data[:length]) is False
    assert judge(tmp_path, name, data + b"\0" * 700) is False
    assert judge(tmp_path, name, b"\0" * len(data)) is False


def test_a_zip_with_a_comment_and_an_empty_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"PK\x05\x06 is no end" * 10
        archive.writestr("x", b"y" * 100)
    assert judge(tmp_path, "a.pt", buffer.getvalue()) is True
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    assert judge(tmp_path, "a.pt", buffer.getvalue()) is True


def test_a_large_zip_is_read_at_its_ends_only(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for number in range(70_000):  # more entries than the old record can count
            archive.writestr(zipfile.ZipInfo(str(number)), b"")
    descriptor = os.open(path, os.O_RDWR)
    size = os.fstat(descriptor).st_size
    assert is_whole(descriptor, "a.pt", size) is True
    assert is_whole(descriptor, "a.pt", size - 1) in (True, False)  # another size than the file has: no crash
    os.truncate(descriptor, size - 10)
    assert is_whole(descriptor, "a.pt", size - 10) is False
    os.close(descriptor)


def test_of_pickles_little_can_be_told(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": list(range(1000))}, protocol=4)
    assert judge(tmp_path, "a.ckpt", whole) is None and judge(tmp_path, "a.ckpt", whole[:-5]) is False
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"rest without an end"
    assert judge(tmp_path, "a.pth", legacy) is None
    assert judge(tmp_path, "a.ckpt", b"something else") is None


@pytest.mark.parametrize("header", [b"[]", b"{", b'{"w": 3}', b'{"w": {"data_offsets": ["x", null]}}', b"\xff\xff"])
def test_headers_that_make_no_sense_are_no_checkpoint(tmp_path: Path, header: bytes) -> None:
    assert judge(tmp_path, "a.safetensors", struct.pack("<Q", len(header)) + header) is False
    assert judge(tmp_path, "a.safetensors", struct.pack("<Q", 1 << 62) + header) is False


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("**/*.pt", "a.pt", True),
        ("**/*.pt", "x/y/a.pt", True),
        ("**/*.pt", "a.ptx", False),
        ("*.pt", "x/a.pt", False),
        ("out/**", "out/a/b.bin", True),
        ("out/**", "out", False),
        ("a/**/b/**/*.h5", "a/1/2/b/3/x.h5", True),
        ("a/**/b/**/*.h5", "a/b/x.h5", True),
        ("a/**/b/**/*.h5", "a/x.h5", False),
        ("../*", "../a", False),
        ("/etc/*", "etc/a", False),
        ("checkpoint-*/model*.safetensors", "checkpoint-500/model-00001-of-00004.safetensors", True),
        ("*a*a*a*a*a*a*a*a*a*", "a" * 60, False),
        (7, "7", False),
    ],
)
def test_globs(glob: object, path: str, fits: bool) -> None:
    assert Patterns([glob]).match(path) is fits


@pytest.mark.parametrize(
    ("path", "step", "epoch"),
    [
        ("epoch=3-step=1200.ckpt", 1200, 3.0),
        ("out/checkpoint-500/model-00001-of-00004.safetensors", 500, None),
        ("model_step_77.pt", 77, None),
        ("epoch_12.pth", None, 12.0),
        ("G_44000.pth", 44000, None),
        ("latest.pt", None, None),
        ("global_step1000/mp_rank_00.pt", 1000, None),
        ("9" * 400 + ".pt", None, None),
    ],
)
def test_numbers_in_names(path: str, step: int | None, epoch: float | None) -> None:
    assert numbers_of(path) == (step, epoch)


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=300))
def test_names_of_lines_are_the_ones_that_the_deck_would_make(name: str) -> None:
    path, sha = f"out/{name}", "0123456789abcdef" * 4
    if components(path) is not None:
        assert safe_name(path, sha) == foreign_name(path, sha) and is_safe_name(safe_name(path, sha))
        assert is_safe_path(path) == can_be_named(path)


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", ".", "a/", "a\0b", None, 3, ["a"], "\udcff"])
def test_paths_that_lead_elsewhere_have_no_components(path: object) -> None:
    assert components(path) is None


# --- the walk


def test_the_walk_enters_nothing_hidden_and_follows_no_link(tmp_path: Path) -> None:
    cwd = tmp_path / "project"
    for name in ("a.pt", "x/b.pt", ".git/c.pt", ".venv/d.pt", "node_modules/e.pt", "wandb/f.pt", "__pycache__/g.pt"):
        (cwd / name).parent.mkdir(parents=True, exist_ok=True)
        (cwd / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "h.pt").touch()
    (cwd / "link").symlink_to(tmp_path / "elsewhere")
    (cwd / "link.pt").symlink_to(tmp_path / "elsewhere" / "h.pt")
    (cwd / "x" / "up").symlink_to(cwd)
    os.mkfifo(cwd / "fifo.pt")
    (cwd / os.fsdecode(b"\xff.pt")).touch()
    run = cwd / "home" / "runs" / "20261120-1759-drums-brisk-heron"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "own.ckpt").touch()
    walk = Walk(str(cwd), own_directories(str(run)), 5.0)
    assert [path for path, _ in walk] == ["a.pt", "x/b.pt"]
    assert list(walk.odd) == ["\ufffd.pt"] and walk.cut == ""
    assert list(Walk(str(tmp_path / "none"), set(), 5.0)) == []
    assert list(Walk(str(cwd / "home"), own_directories(str(run)), 5.0)) == [], "Wavedeck's own home"
    everything = Walk("/", set(), 5.0)
    assert list(everything) == [] and "works in /" in everything.cut


def test_hidden_folders_are_entered_where_a_pattern_names_them(tmp_path: Path) -> None:
    for name in (".ckpts/a.pt", "wandb/b.pt", "c.pt", ".git/d.pt", ".last.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "away").symlink_to("/")

    def seen(*globs: str, everywhere: bool = False) -> list[str]:
        patterns = Patterns(globs)
        walk = Walk(str(tmp_path), set(), 5.0, patterns.names, everywhere)
        found = sorted(path for path, _ in walk)
        assert walk.links == ["away"]
        assert everywhere or found == sorted(path for path in found if patterns.reach(path))
        return found

    assert seen("**/*.pt") == ["c.pt"]
    assert seen(".ckpts/*.pt", "**/wandb/**") == [".ckpts/a.pt", "c.pt", "wandb/b.pt"]
    assert seen(".last.pt") == [".last.pt", "c.pt"]
    assert seen(everywhere=True) == [".ckpts/a.pt", ".last.pt", "c.pt", "wandb/b.pt"]


def test_the_walk_is_bounded_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavedeck.remote.payload import file_walk

    for number in range(30):
        (tmp_path / f"{number}.pt").touch()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / "a.pt").touch()
    monkeypatch.setattr(file_walk, "MAX_DEPTH", 1)
    walk = Walk(str(tmp_path), set(), 5.0)
    assert len(list(walk)) == 30 and "deeper than 1" in walk.cut
    monkeypatch.setattr(file_walk, "MAX_OF_FOLDER", 10)
    walk = Walk(str(tmp_path), set(), 5.0)
    assert len(list(walk)) <= 10 and "more than 10 files" in walk.cut
    walk = Walk(str(tmp_path), set(), 0.0)
    assert list(walk) == [] and "too long" in walk.cut


# --- what was known when a file was written


def event(t: float, **fields: object) -> str:
    return json.dumps({"t": t, "k": "metrics", **fields}) + "\n"


def test_numbers_are_those_of_the_time_of_the_file(tmp_path: Path) -> None:
    known = Known(str(tmp_path))
    console, events = tmp_path / "console.jsonl", tmp_path / "events.jsonl"
    console.write_text(event(10, step=100, v={"loss": 0.5}) + event(20, step=200, epoch=2, v={"loss": "NaN"}))
    known.turn()
    assert known.at(15) == (100, None, {"loss": 0.5})
    assert known.at(25) == (200, 2.0, {"loss": "NaN"})
    assert known.at(1) == (100, None, {"loss": 0.5})
    events.write_text(event(12, step=150, v={"val/loss": 0.1}) + '{"t": 30, "k": "metrics", "st')
    known.turn()
    assert known.at(99) == (150, None, {"val/loss": 0.1}), "a trainer that logs is believed before its console"
    events.write_text(event(40, step=7, v={}))
    known.turn()
    assert known.at(99)[0] == 7, "a file that was written anew"


def test_rubbish_in_event_lines_is_passed_over(tmp_path: Path) -> None:
    rows = ["[1]", "{", "null", '{"k": "metrics", "t": "x"}', "[" * 100_000, "\udcff" * 3]
    rows.append(json.dumps({"t": 1, "k": "metrics", "step": True, "epoch": -1, "v": [1]}))
    strange = '{"a": NaN, "b": 1e999, "c": [1], "d": "x", "e": 1, "f": %s}' % ("9" * 400)
    rows.append('{"t": 2, "k": "metrics", "step": 5, "v": ' + strange + "}")
    text = "".join(row + "\n" for row in rows)
    (tmp_path / "events.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    known = Known(str(tmp_path))
    known.turn()
    assert known.at(9) == (5, None, {"e": 1})
    many = {f"m{number}": float(number) for number in range(200)}
    (tmp_path / "events.jsonl").write_text(event(3, step=6, v=many))
    known.turn()
    assert list(known.at(9)[2]) == [f"m{number}" for number in range(200 - MAX_METRICS, 200)]
