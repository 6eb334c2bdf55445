"""Exported files against their samples, and ratings kept beside the run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.fakes.samples import (
    RATE,
    append_line,
    clipping,
    drum_like,
    drum_set,
    many_channels,
    odd_set,
    place,
    speech_set,
    with_nan,
)
from wavedeck.engine.samples import SampleError, SampleSet
from wavedeck.engine.samples.export import export_set, export_track
from wavedeck.engine.samples.notes import Note, SampleNotes
from wavedeck.engine.samples.query import parse
from wavedeck.engine.samples.writer import SampleWriter


def one(run_dir: Path, sound: np.ndarray, rate: int = RATE) -> SampleSet:
    with SampleWriter(run_dir) as writer:
        writer.log({"x": (sound, rate)}, step=1, key="k")
    return SampleSet(run_dir, "val").load()


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("rate", [4000, 44_100, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_wav_is_the_samples_themselves(tmp_path: Path, rate: int, channels: int) -> None:
    sound = 3 * many_channels(0.2, rate, channels)
    samples = one(tmp_path, sound, rate)
    written = export_track(samples, samples.item(0), "x", tmp_path / "x.wav")
    back, back_rate = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    assert back_rate == rate and np.array_equal(back, sound) and (written.clipped, written.silenced) == (0, 0)


def test_flac_has_24_bits_and_says_what_it_clipped(tmp_path: Path) -> None:
    sound = np.concatenate([drum_like(0.5), np.array([[1.5], [-2.0]], np.float32)])
    samples = one(tmp_path, sound)
    written = export_track(samples, samples.item(0), "x", tmp_path / "x.flac")
    back, _ = soundfile.read(tmp_path / "x.flac", dtype="float32", always_2d=True)
    assert written.clipped == 2 and np.abs(back - np.clip(sound, -1, 1)).max() <= 2**-22


def test_a_region_and_nothing_can_be_exported(tmp_path: Path) -> None:
    samples = one(tmp_path, drum_like(1.0))
    item = samples.item(0)
    for start, frames, expected in [(100, 50, drum_like(1.0)[100:150]), (0, 0, drum_like(1.0)[:0]), (15_999, 9, None)]:
        written = export_track(samples, item, "x", tmp_path / "part.wav", start=start, frames=frames)
        back, _ = soundfile.read(tmp_path / "part.wav", dtype="float32", always_2d=True)
        assert written.frames == len(back) == (1 if expected is None else len(expected))
        assert expected is None or np.array_equal(back, expected)


def test_nan_becomes_silence_and_is_counted(tmp_path: Path) -> None:
    samples = one(tmp_path, with_nan(0.5))
    written = export_track(samples, samples.item(0), "x", tmp_path / "x.wav")
    back, _ = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    assert written.silenced == 5 and np.isfinite(back).all() and len(back) == 8000


def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    samples = one(tmp_path, many_channels(0.1, channels=9))
    item = samples.item(0)
    out = tmp_path / "out"
    out.mkdir()
    for name, words in [("x.mp3", "neither"), ("x.flac", "export as .wav"), ("none/x.wav", "could not be written")]:
        with pytest.raises(SampleError, match=words):
            export_track(samples, item, "x", out / name)
    with pytest.raises(SampleError, match="no track"):
        export_track(samples, item, "y", out / "x.wav")
    next((tmp_path / "samples/val").glob("*.h5")).unlink()
    with pytest.raises(SampleError, match="is not there"):
        export_track(SampleSet(tmp_path, "val").load(), item, "x", out / "x.wav")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_set_becomes_files_and_one_table(tmp_path: Path, kind: str) -> None:
    samples = drum_set(tmp_path)
    append_line(tmp_path, "test", {"id": "gone", "file": "gone.h5", "tracks": {"input": place(10)}})
    samples.poll()
    notes = SampleNotes(tmp_path)
    notes.rate(samples.item(0), 2)
    told: list[tuple[int, int]] = []
    report = export_set(
        samples, range(len(samples)), tmp_path / "out", kind=kind, notes=notes,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    rows = table(report.table)
    assert len(rows) == 25 and len(report.files) == 24 and told[-1] == (25, 25)
    assert rows[0]["rating"] == "2" and float(rows[0]["metric/loss"]) == pytest.approx(-math.log(0.1))
    assert rows[0]["label"] == "flam" and rows[0]["predicted/tempo"] == "92.5"
    assert "is not there" in rows[-1]["problem"] and report.problems == (f"gone: {rows[-1]['problem']}",)
    for row in rows[:-1]:
        assert soundfile.info(tmp_path / "out" / row["file/input"]).frames == 8000


def test_hostile_items_are_exported_inside_the_folder_and_harm_no_spreadsheet(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    odd_set(run)
    with SampleWriter(run, "odd") as writer:
        for key in ("=1+1", "@sum", "+cmd", "-x\x1b[31m"):
            writer.log({}, step=2, key=key, text={"=cmd": key, "number": "-5"}, label=key)
    samples = SampleSet(run, "odd").load()
    report = export_set(samples, range(len(samples)), out)
    assert {path.parent for path in out.rglob("*")} == {out} and len({file.path for file in report.files}) == 17
    rows = table(report.table)
    assert all(cell[:1] not in ("=", "@", "+") for row in rows for cell in (*row, *row.values()))
    assert rows[-1]["text/=cmd"] == "'-x·[31m" and rows[-1]["text/number"] == "-5"
    assert sum("became silence" in text for text in report.problems) == 1


def test_two_items_with_one_name_get_two_files(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.log({"a/b": (clipping(0.1), RATE), "A-B": (clipping(0.1), RATE)}, key="k")
    samples = SampleSet(tmp_path, "val").load()
    report = export_set(samples, [0, 0], tmp_path / "out")
    assert len({file.path.name.casefold() for file in report.files}) == 4


def test_ratings_and_notes_are_kept_beside_the_run(tmp_path: Path) -> None:
    samples = speech_set(tmp_path, items=3, steps=(1, 2))
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "samples/val").iterdir())
    notes, other = SampleNotes(tmp_path), SampleNotes(tmp_path)
    first, same_later = samples.item(0), samples.item(3)
    assert notes.of(first) == Note() and first.id == same_later.id
    notes.rate(first, 4)
    notes.write(first, "  Clear \x1b sibilants\n")
    assert notes.of(same_later) == Note(), "a rating belongs to one step"
    assert other.poll() and other.of(first) == Note(4, "Clear \x1b sibilants")
    assert not other.poll()
    columns = other.columns(samples.items, "val")
    assert np.flatnonzero(parse("rating:4 note~clear").mask(samples.items, columns)).tolist() == [0]
    notes.rate(first, None)
    notes.write(first, "")
    assert SampleNotes(tmp_path).of(first) == Note()
    with pytest.raises(SampleError, match="1 to 5"):
        notes.rate(first, 6)
    assert (tmp_path / "notes/samples.jsonl").exists()
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "samples/val").iterdir())


def test_notes_that_are_damaged_cost_their_line_only(tmp_path: Path) -> None:
    samples = speech_set(tmp_path, items=2, steps=(1,))
    notes = SampleNotes(tmp_path)
    notes.rate(samples.item(0), 3)
    with open(notes.path, "ab") as handle:
        handle.write(b'nonsense\n{"set":"val","id":"x","rating":99}\n{"set":"val","id":"torn')
    SampleNotes(tmp_path).rate(samples.item(1), 5)
    again = SampleNotes(tmp_path)
    assert again.of(samples.item(0)).rating == 3 and again.of(samples.item(1)).rating == 5


def test_a_note_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    samples = speech_set(tmp_path, items=1, steps=(1,))
    (tmp_path / "notes").write_text("a file where the folder should be")
    with pytest.raises(SampleError, match="could not be written"):
        SampleNotes(tmp_path).rate(samples.item(0), 3)
