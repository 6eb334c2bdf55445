"""Exported files against their samples, and ratings kept beside the run."""

from __future__ import annotations

import csv
import io
import math
import resource
import signal
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
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.samples import SampleError, SampleSet, export_sound
from wavedeck.engine.samples.export import ExportCancelled, export_set, export_track, flac_limit
from wavedeck.engine.samples.measures import measure
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
    for name, words in [("x.mp3", "neither"), ("x.flac", "Export it as .wav"), ("none/x.wav", "could not be written")]:
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


def test_a_wav_beyond_4_gib_is_an_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = one(tmp_path, drum_like(0.5))
    monkeypatch.setattr(export_sound, "MOST_WAV_BYTES", 4 * len(drum_like(0.5)) - 1)
    export_track(samples, samples.item(0), "x", tmp_path / "x.wav")
    back, _ = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    assert (tmp_path / "x.wav").read_bytes()[:4] == b"RF64" and np.array_equal(back, drum_like(0.5))
    monkeypatch.undo()
    export_track(samples, samples.item(0), "x", tmp_path / "x.wav")
    assert (tmp_path / "x.wav").read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize("rate", [65_535, 65_537, 65_540, 99_999, 655_350, 655_351, 768_000])
def test_flac_holds_a_rate_or_says_that_it_does_not(tmp_path: Path, rate: int) -> None:
    samples = one(tmp_path, drum_like(0.1), rate)
    if flac_limit(rate, 1) is None:
        export_track(samples, samples.item(0), "x", tmp_path / "x.flac")
        back, back_rate = soundfile.read(tmp_path / "x.flac", always_2d=True)
        assert back_rate == rate and len(back) == len(drum_like(0.1))
    else:
        with pytest.raises(SampleError, match=r"FLAC holds rates .*Export it as \.wav"):
            export_track(samples, samples.item(0), "x", tmp_path / "x.flac")
        assert not list(tmp_path.glob("*.flac"))
    assert (flac_limit(rate, 1) is None) == (rate in (65_535, 65_540, 655_350))


def test_an_empty_track_among_flacs_is_an_empty_wav(tmp_path: Path) -> None:
    samples = one(tmp_path, np.zeros((0, 2), np.float32))
    report = export_set(samples, [0], tmp_path / "out", kind="flac")
    (written,) = report.files
    assert written.path.suffix == ".wav" and soundfile.info(written.path).frames == 0
    assert table(report.table)[0]["file/x"] == written.path.name
    assert export_track(samples, samples.item(0), "x", tmp_path / "y.flac").path == tmp_path / "y.wav"
    assert not list(tmp_path.rglob("*.flac"))


def test_a_cancelled_export_leaves_whole_files_and_a_table_of_them(tmp_path: Path) -> None:
    samples = speech_set(tmp_path)
    rows, seen = samples.items.newest().nonzero()[0].tolist(), []
    out = tmp_path / "out"
    with pytest.raises(ExportCancelled, match=f"cancelled after 3 of {len(rows)} items"):
        export_set(samples, rows, out, progress=lambda done, total: seen.append(done), cancelled=lambda: len(seen) >= 3)
    assert seen == [1, 2, 3] and len(table(out / "samples.csv")) == 3
    named = {row[name] for row in table(out / "samples.csv") for name in row if name.startswith("file/")} - {""}
    assert {path.name for path in out.iterdir()} == {*named, "samples.csv"}
    with pytest.raises(ExportCancelled):
        export_track(
            samples, samples.item(0), next(iter(samples.item(0).tracks)), tmp_path / "x.wav", cancelled=lambda: True
        )
    assert not (tmp_path / "x.wav").exists() and not list(tmp_path.glob(".*"))


def test_attachments_of_an_item_are_exported_too(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.log({}, step=1, key="k", attachments={"preset": b"abc", "notes.txt": b"words"})
    samples = SampleSet(tmp_path, "val").load()
    report = export_set(samples, [0], tmp_path / "out", attachments=True)
    assert sorted(path.read_bytes() for path in report.attachments) == [b"abc", b"words"] and not report.problems
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(p.name for p in report.attachments),
        "samples.csv",
    }
    write_mirror(tmp_path, MirrorRecord("gpu1"))
    next((tmp_path / "samples/val/attachments").glob("*preset*")).unlink()
    copy = SampleSet(tmp_path, "val", lambda path: io.BytesIO(b"from gpu1")).load()  # type: ignore[arg-type, return-value]
    item = copy.item(0)
    assert copy.problem(item) is None and copy.attachment_place(item, "preset") == "on gpu1"
    assert copy.attachment_place(item, "notes.txt") == "here" and copy.read_attachment(item, "preset") == b"from gpu1"


def test_names_begin_with_the_key_and_the_table_has_it(tmp_path: Path) -> None:
    sound = {"prediction": (drum_like(0.1), RATE)}
    with SampleWriter(tmp_path) as writer:
        writer.log(sound, step=300, key="clip07", metrics={"wer": float("nan"), "snr": 1})
        writer.log(sound, step=300, key="../a b/c", attachments={"prediction": b"abc"})
        unnamed = writer.log(sound, step=300)
    samples = SampleSet(tmp_path, "val").load()
    report = export_set(samples, range(3), tmp_path / "out", attachments=True)
    assert [file.path.name for file in report.files] == [
        "clip07-step300-prediction.wav", "a-b-c-step300-prediction.wav", f"{unnamed}-step300-prediction.wav",
    ]  # fmt: skip
    rows = table(report.table)
    assert [row["key"] for row in rows] == ["clip07", "../a b/c", ""] and {row["set"] for row in rows} == {"val"}
    assert [row["metric/wer"] for row in rows] == ["NaN", "", ""]
    assert (
        rows[1]["file/prediction"].endswith(".wav") and rows[1]["attachment/prediction"] == report.attachments[0].name
    )


def test_an_item_that_gave_nothing_is_named(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        for key in ("whole", "cut"):
            writer.log({"x": (drum_like(0.1), RATE)}, step=len(key), key=key)
        writer.log({}, step=1, key="words only", text={"target": "x"})
    path = tmp_path / "samples/val/step-000003.h5"
    path.write_bytes(path.read_bytes()[:600])
    report = export_set(SampleSet(tmp_path, "val").load(), range(3), tmp_path / "out")
    assert report.empty == ("cut",) and len(report.files) == 1 and report.problems[0].startswith("cut: ")


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_disk_that_fills_up_at_the_last_block_leaves_nothing(tmp_path: Path, kind: str) -> None:
    """libFLAC writes its last block while it closes, and libsndfile does not tell that it could not."""
    noise = np.random.default_rng(0).uniform(-1, 1, (33_500, 1)).astype(np.float32)
    samples = one(tmp_path, noise)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SampleError, match="could not be written"):
            export_track(samples, samples.item(0), "x", tmp_path / f"x.{kind}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


def test_a_folder_that_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    samples = one(tmp_path, drum_like(0.1))
    (tmp_path / "file").write_text("x")
    for name, words in [("file", "is a file"), ("file/below", "is a file"), ("/proc/x", "cannot be made")]:
        with pytest.raises(SampleError, match=words):
            export_set(samples, [0], tmp_path / name)
    with pytest.raises(SampleError, match="Not a directory"):
        export_track(samples, samples.item(0), "x", tmp_path / "file/x.wav")


def test_a_cancelled_item_is_in_the_table_with_the_files_it_has(tmp_path: Path) -> None:
    samples, out = speech_set(tmp_path, items=1, steps=(1,)), tmp_path / "out"
    asked = iter([False, True])
    with pytest.raises(ExportCancelled, match="after 0 of 1"):
        export_set(samples, [0], out, cancelled=lambda: next(asked))
    (row,) = table(out / "samples.csv")
    assert {path.name for path in out.iterdir()} == {row["file/target"], "samples.csv"}


def test_sixteen_channels_are_written_measured_and_exported(tmp_path: Path) -> None:
    sound = many_channels(0.5, channels=16)
    samples = one(tmp_path, sound)
    assert measure(sound, RATE).channels == 16 and math.isfinite(measure(sound, RATE).heard_lufs)
    export_track(samples, samples.item(0), "x", tmp_path / "x.wav")
    back, _ = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    assert np.array_equal(back, sound)
