"""Items in files that are not whole: known when a set is listed, and said of each item."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.fakes.samples import RATE, append_line, drum_like, place
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.samples import SampleError, SampleSet
from wavedeck.engine.samples.superblock import stored_end
from wavedeck.engine.samples.writer import SampleWriter

ITEMS = 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four items of six seconds in one file, and a fifth in another."""
    with SampleWriter(tmp_path) as writer:
        for number in range(ITEMS):
            writer.log({"target": (drum_like(6.0, seed=number), RATE)}, step=1, key=f"clip{number}")
        writer.log({"target": (drum_like(0.1), RATE)}, step=2, key="other")
        writer.log({}, step=2, key="words")
    return tmp_path / "samples/val/step-000001.h5"


def broken(run_dir: Path) -> list[int]:
    samples = SampleSet(run_dir, "val").load()
    assert not samples.items.broken.any(), "the index alone tells nothing"
    found = np.flatnonzero(samples.checked().broken).tolist()
    for row in range(len(samples)):
        assert (samples.problem(samples.item(row)) is not None) == (row in found), row
    return found


def test_whole_files_are_whole(tmp_path: Path, file: Path) -> None:
    assert broken(tmp_path) == []


def test_of_a_file_cut_short_the_items_behind_the_cut_are_broken(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    rows = broken(tmp_path)
    samples = SampleSet(tmp_path, "val").load()
    assert rows and rows[-1] == ITEMS - 1 and set(rows) < set(range(ITEMS))
    for row in range(ITEMS):
        if row in rows:
            with pytest.raises(SampleError, match="cut short"):
                samples.audio(samples.item(row), "target")
        else:
            assert np.array_equal(samples.audio(samples.item(row), "target"), drum_like(6.0, seed=row))


@pytest.mark.parametrize("content", [b"", b"RIFF and so on" * 100, None])
def test_a_file_that_is_foreign_or_gone_breaks_all_of_its_items(
    tmp_path: Path, file: Path, content: bytes | None
) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert broken(tmp_path) == list(range(ITEMS))


def test_of_a_copy_what_is_not_here_is_not_broken(tmp_path: Path, file: Path) -> None:
    file.unlink()
    write_mirror(tmp_path, MirrorRecord("gpu1"))
    assert not SampleSet(tmp_path, "val").load().checked().broken.any()


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("chunks", [None, (1000, 1)])
def test_foreign_hdf5_files_are_understood(tmp_path: Path, libver: str, chunks: tuple[int, int] | None) -> None:
    folder = tmp_path / "samples/val"
    folder.mkdir(parents=True)
    with h5py.File(folder / "a.h5", "w", libver=libver) as handle:
        handle.create_dataset("tracks/x", data=np.ones((9000, 2), np.float32), chunks=chunks)
    for number in range(3):
        track = place(3000, 3000 * number, channels=2)
        append_line(tmp_path, "val", {"id": str(number), "file": "a.h5", "tracks": {"x": track}})
    path = folder / "a.h5"
    whole = path.read_bytes()
    assert stored_end(whole[:64]) == len(whole) and broken(tmp_path) == []
    path.write_bytes(whole[:-30_000])
    assert 2 in broken(tmp_path)


def test_a_name_or_a_beginning_of_it_finds_an_item(tmp_path: Path, file: Path) -> None:
    samples = SampleSet(tmp_path, "val").load()
    for name in ("clip2", samples.items.ids[2], samples.items.ids[2][:8]):
        found = samples.find(name)
        assert found is not None and found.key == "clip2"
    other = samples.find("oth")
    assert other is not None and other.key == "other" and samples.find("clip9") is None
    with pytest.raises(SampleError, match="4 items of 'val' begin with 'clip', such as clip0, clip1, clip2: give more"):
        samples.find("clip")
