"""What the writer makes of a training script's arguments, and in which order it puts it on the disk."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import wavedeck
from tests.fakes.samples import RATE, drum_like, silence, speech_like, stereo
from wavedeck.engine.samples import SampleError, SampleSet, item_id, shelf
from wavedeck.engine.samples import record as recording
from wavedeck.engine.samples.writer import SampleWriter


def lines(run_dir: Path, name: str = "val") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "samples" / name / "index.jsonl").read_text().splitlines()]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    monkeypatch.setenv("WAVEDECK_RUN_DIR", str(path))
    monkeypatch.setattr(recording, "_writers", {})
    monkeypatch.setattr(recording, "_refused", recording.Tally("was not kept"))
    monkeypatch.setattr(recording, "_stripped", recording.Tally("was kept in part"))
    return path


def test_an_item_comes_back_as_it_was_logged(run_dir: Path) -> None:
    target, prediction = speech_like(0.4), stereo(0.3)
    id = wavedeck.log_sample(
        {"prediction": (prediction, 48_000), "target": (target[:, 0], RATE)},
        set="test", step=np.int64(7), epoch=0.5, key="clip.wav", metrics={"wer": np.float32(0.25), "bad": "x"},
        text={"target": "hé", "none": None}, tags=("hard", "long"), label="flam", predicted="drag",
        probabilities={"flam": 0.1, "drag": 0.9}, parameters={"cutoff": (0.5, 0.75), "gain": {"target": 1}},
        attachments={"preset.vital": b"{}"},
    )  # fmt: skip
    samples = SampleSet(run_dir, "test").load()
    item = samples.item(0)
    assert item.id == id == item_id("clip.wav")
    assert (item.step, item.epoch, item.label, item.predicted, item.tags) == (7, 0.5, "flam", "drag", ("hard", "long"))
    assert item.metrics == {"wer": 0.25} and item.text == {"target": "hé"}
    assert item.probabilities == {"flam": 0.1, "drag": 0.9}
    assert item.parameters["cutoff"].error == 0.25 and item.parameters["gain"].predicted is None
    assert list(item.tracks) == ["target", "prediction"], "the order in which they are shown"
    assert samples.audio(item, "target").tobytes() == target.tobytes()
    assert samples.audio(item, "prediction").tobytes() == prediction.tobytes()
    assert item.tracks["prediction"].rate == 48_000 and item.tracks["prediction"].channels == 2
    assert samples.read_attachment(item, "preset.vital") == b"{}" and samples.problem(item) is None


class Tensor:
    """What torch's tensors have and numpy needs."""

    def __init__(self, array: np.ndarray, on_gpu: bool = True, half: bool = False) -> None:
        self.array, self.on_gpu, self.half = array, on_gpu, half

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return Tensor(self.array, False, self.half)

    def float(self) -> Tensor:
        return Tensor(self.array, self.on_gpu)

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        if self.on_gpu or self.half:
            raise TypeError("can't convert")
        return self.array


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.arange(20) / 20, (np.arange(20) / 20)[:, None]),
        (np.ones((2, 20)), np.ones((20, 2))),
        (np.ones((20, 2)), np.ones((20, 2))),
        (np.ones((1, 1, 20)), np.ones((20, 1))),
        (np.array([0, 16384, -32768], np.int16), np.array([[0], [0.5], [-1]])),
        (Tensor(np.ones((1, 20))), np.ones((20, 1))),
        (Tensor(np.ones((1, 20)), half=True), np.ones((20, 1))),
        (np.zeros(0), np.zeros((0, 1))),
        (np.ones((16, 64)), np.ones((16, 64))),
        ([0.0, 0.5], np.array([[0.0], [0.5]])),
    ],
)
def test_arrays_of_any_kind_become_frames_by_channels(tmp_path: Path, value: Any, expected: np.ndarray) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.log({"x": (value, RATE)}, key="k")
    samples = SampleSet(tmp_path, "val").load()
    audio = samples.audio(samples.item(0), "x")
    assert audio.dtype == np.float32 and np.array_equal(audio, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        ({"x": (np.zeros((2, 3, 40)), RATE)}, "one clip a call"),
        ({"x": (np.zeros(4, complex), RATE)}, "give floats"),
        ({"x": (np.zeros(4, np.int64), RATE)}, "give floats"),
        ({"x": (np.zeros((100, 65)), RATE)}, "65 channels"),
        ({"x": (np.zeros(4), 0)}, "sampling rate"),
        ({"x": (np.zeros(4), 22050.5)}, "sampling rate"),
        ({"x": (np.zeros(4), "fast")}, "sampling rate"),
        ({"x": np.zeros(4)}, r"not \(samples, rate\)"),
        ({}, "needs key="),
    ],
)
def test_a_wrong_argument_is_told_and_writes_nothing(tmp_path: Path, tracks: Any, words: str) -> None:
    with SampleWriter(tmp_path) as writer, pytest.raises(SampleError, match=words):
        writer.log(tracks)
    assert not (tmp_path / "samples/val/index.jsonl").exists()


def test_ids_are_the_same_at_every_step_and_in_every_run(tmp_path: Path) -> None:
    sound = drum_like(0.2)
    ids = set()
    for run in ("a", "b"):
        with SampleWriter(tmp_path / run) as writer:
            for step in (1, 2):
                prediction = drum_like(0.2, seed=step)
                ids.add(writer.log({"prediction": (prediction, RATE), "target": (sound, RATE)}, step=step))
    assert len(ids) == 1
    with SampleWriter(tmp_path / "c") as writer:
        assert writer.log({"target": (sound.astype(np.float64), RATE)}) in ids, "the type does not matter"
        assert writer.log({"target": (sound, RATE + 1)}) not in ids
        quiet = [writer.log({"target": (silence(0.1), RATE)}, step=3) for _ in range(3)]
    assert quiet == [quiet[0], f"{quiet[0]}-2", f"{quiet[0]}-3"], "two clips of silence are two items"


def test_steps_tracks_and_rates_each_find_their_file(tmp_path: Path) -> None:
    mono, two = (drum_like(0.1), RATE), (stereo(0.1), RATE)
    with SampleWriter(tmp_path) as writer:
        for step in (100, 100, 200):
            writer.log({"target": mono}, step=step, key="a")
        writer.log({"target": mono, "prediction": mono}, step=200, key="b")
        writer.log({"prediction": mono}, step=200, key="c")
        writer.log({"target": two}, step=200, key="d")
        writer.log({"target": mono}, step=200, key="e")
        writer.log({"target": mono}, step=100, key="f")
        writer.log({"target": mono}, key="g")
    assert [line["file"] for line in lines(tmp_path)] == [
        "step-000100.h5", "step-000100.h5", "step-000200.h5", "step-000200.2.h5", "step-000200.2.h5",
        "step-000200.3.h5", "step-000200.2.h5", "step-000100.2.h5", "no-step.h5",
    ]  # fmt: skip
    with SampleWriter(tmp_path) as writer:
        writer.log({"target": mono}, step=100, key="h")
    assert lines(tmp_path)[-1]["file"] == "step-000100.3.h5", "a file of another writer is left alone"


def test_any_program_reads_the_files(tmp_path: Path) -> None:
    sound = speech_like(3.0)
    with SampleWriter(tmp_path) as writer:
        for key in "ab":
            writer.log({"target": (sound, RATE)}, step=1, key=key)
        path = tmp_path / "samples/val/step-000001.h5"
        place = lines(tmp_path)[1]["tracks"]["target"]
        code = (
            f"import h5py; d = h5py.File({str(path)!r}, 'r', swmr=True)['tracks/target'];"
            f"print(d[{place['start']}:{place['start'] + place['frames']}].sum(), d.attrs['sample_rate'], d.chunks)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split(maxsplit=1) == [str(sound.sum()), f"{RATE} (32768, 1)\n"]
    with h5py.File(path, "r") as handle:
        assert handle["tracks/target"].shape == (2 * len(sound), 1), "closed: no mode for live files is needed"


def test_a_torn_last_line_spoils_itself_only(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.log({}, key="a")
    with open(tmp_path / "samples/val/index.jsonl", "ab") as handle:
        handle.write(b'{"id":"torn","te')
    with SampleWriter(tmp_path) as writer:
        writer.log({}, key="b")
    samples = SampleSet(tmp_path, "val").load()
    assert list(samples.items.ids) == [item_id("a"), item_id("b")] and samples.bad_lines == 1


def test_attached_files_are_copied_under_names_of_their_own(tmp_path: Path) -> None:
    preset = tmp_path / "lead.vital"
    preset.write_text("one")
    with SampleWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.log({}, step=step, key="a", attachments={"../preset": preset, "notes.txt": b"R L"})
            preset.write_text("two")
    samples = SampleSet(tmp_path, "val").load()
    first, second = samples.item(0), samples.item(1)
    assert samples.read_attachment(first, "../preset") == b"one"
    assert samples.read_attachment(second, "../preset") == b"two"
    assert all(name.startswith("attachments/") and ".." not in name for name in first.attachments.values())
    assert first.attachments["../preset"].endswith(".vital") and second.attachments["notes.txt"].endswith(".txt")
    with SampleWriter(tmp_path) as writer, pytest.raises(SampleError, match="attachment 'x': there is no file"):
        writer.log({}, key="b", attachments={"x": tmp_path / "missing"})
    assert len(lines(tmp_path)) == 2


def test_text_that_is_no_text_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.log({}, key="\ud800", text={"a\ud800": "b\udfff\x00", "long": "x" * 50_000}, metrics={"m": float("nan")})
    item = SampleSet(tmp_path, "val").load().item(0)
    assert item.text["a?"] == "b?\x00" and len(item.text["long"]) == 20_000 and np.isnan(item.metrics["m"])


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 81, "a b", "\x1b"])
def test_a_set_is_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SampleError, match="name of a set"):
        SampleWriter(tmp_path, name)
    with pytest.raises(SampleError, match="name of a set"):
        SampleSet(tmp_path, name)


def test_outside_a_run_and_on_other_ranks_nothing_happens(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert wavedeck.log_sample({"target": (drum_like(0.1), RATE)}) is None
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WAVEDECK_RUN_DIR")
    monkeypatch.chdir(tmp_path)
    assert wavedeck.log_sample({"target": "nonsense"}) is None  # type: ignore[dict-item]
    assert list(run_dir.iterdir()) == []


def warnings(run_dir: Path) -> list[str]:
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert all(event["level"] == "warning" for event in events)
    return [event["text"] for event in events]


def test_a_mistake_costs_the_item_and_names_it(run_dir: Path) -> None:
    assert wavedeck.log_sample({"x": (np.zeros((2, 3, 40)), RATE)}, step=1, key="clip07") is None
    assert wavedeck.log_sample({}, set="../../x", key="a") is None
    assert wavedeck.log_sample({}, key="a", metrics=5) is None  # type: ignore[arg-type]
    first, second, third = warnings(run_dir)
    assert first.startswith("sample 'clip07' of val at step 1 was not kept: track 'x' has the shape (2, 3, 40)")
    assert "name of a set" in second and "2 samples were not kept so far" in second
    assert "metrics is an int: give names and values" in third


def test_every_lost_sample_is_counted_though_not_each_is_told(run_dir: Path) -> None:
    for number in range(100):
        wavedeck.log_sample({"x": "nonsense"}, step=number, key=f"clip{number}")  # type: ignore[dict-item]
    told = warnings(run_dir)
    assert len(told) < 12 and "64 samples were not kept so far." in told[-1] and "'clip63'" in told[-1]
    recording._close()
    assert warnings(run_dir)[-1].startswith("100 samples were not kept in all. The last one: sample 'clip99' of val")
    assert not (run_dir / "samples").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics": "wer"}, "metrics is a str: give names and values"),
        ({"text": "said"}, "text is a str"),
        ({"parameters": [1]}, "parameters is a list"),
        ({"tags": 5}, "tags is an int"),
        ({"attachments": {"preset": 5}}, "attachment 'preset' is an int: give bytes"),
        ({"attachments": {"preset": "/no/such/file"}}, "attachment 'preset': there is no file /no/such/file"),
        ({"step": "x"}, "the step 'x' is no number"),
        ({"tracks": 5}, "tracks is an int"),
        ({"tracks": {"x": ([0.0], 1e9)}}, "more than 1,000,000 Hz"),
        ({"tracks": {"x": ([0.0], -1)}}, "give a positive rate"),
        ({"tracks": {"x": ([0.0], 22050.5)}}, "give whole Hz, such as 22050"),
        ({"tracks": {"x": ([0.0], "cd")}}, "which is no number"),
        ({"tracks": {"x": ([[0.0], [1.0, 2.0]], 8000)}}, "its rows differ in length"),
        ({"tracks": {"x": (np.zeros((16, 4000)), 8000)}}, "give (frames, channels), such as array.T"),
    ],
)
def test_what_is_wrong_is_said_in_words_not_pythons(run_dir: Path, given: dict[str, Any], words: str) -> None:
    assert wavedeck.log_sample(**{"tracks": {}, "key": "clip07", **given}) is None
    (text,) = warnings(run_dir)
    assert words in text and "'clip07'" in text and "attribute" not in text and "Error" not in text


def test_a_number_that_is_none_costs_itself_and_is_said(run_dir: Path) -> None:
    given = {"metrics": {"wer": "bad", "snr": 3, "loss": None}, "epoch": "one", "parameters": {"cutoff": ("x", 1)}}
    assert wavedeck.log_sample({}, key="clip07", **given) is not None  # type: ignore[arg-type]
    (line,) = lines(run_dir)
    assert line["metrics"] == {"snr": 3.0} and line["epoch"] is None
    told = " ".join(warnings(run_dir))
    assert "sample 'clip07' of val was kept in part: the epoch 'one' is no number" in told
    assert "metric 'wer' is 'bad', no number" in told and "parameter 'cutoff' is 'x', no number" in told
    assert "loss" not in told
    with SampleWriter(run_dir) as writer, pytest.raises(SampleError, match="metric 'wer' is 'bad'"):
        writer.log({}, key="x", metrics={"wer": "bad"})


def test_an_unknown_argument_is_a_warning(run_dir: Path) -> None:
    assert wavedeck.log_sample({}, key="clip07", steps=3) is not None  # type: ignore[call-arg]
    assert wavedeck.log_sample({}, 3, key="clip08") is not None  # type: ignore[arg-type, call-arg, misc]
    assert wavedeck.log_sample(key="clip09") is not None  # type: ignore[call-arg]
    first, second = warnings(run_dir)
    assert "'clip07' of val was kept in part: log_sample has no argument 'steps'. Did you mean step" in first
    assert "need their names" in second and [line["key"] for line in lines(run_dir)] == ["clip07", "clip08", "clip09"]


def test_a_key_is_kept_as_it_was_given(run_dir: Path) -> None:
    wavedeck.log_sample({}, key="clips/clip07.wav", step=1)
    wavedeck.log_sample({}, key=8, step=1)
    wavedeck.log_sample({"x": (drum_like(0.1), RATE)}, step=1)
    samples = SampleSet(run_dir, "val").load()
    assert [samples.item(row).key for row in range(3)] == ["clips/clip07.wav", "8", None]
    assert samples.item(0).id == item_id("clips/clip07.wav")


def test_importing_the_package_loads_neither_numpy_nor_h5py() -> None:
    code = (
        "import sys, wavedeck; assert not {'numpy', 'h5py', 'msgspec'} & set(sys.modules);"
        "wavedeck.log_sample({}); assert not {'h5py', 'soundfile', 'torch'} & set(sys.modules);"
        "from wavedeck.engine.samples import SampleSet; assert 'h5py' not in sys.modules"
    )
    environment = {key: value for key, value in os.environ.items() if key != "WAVEDECK_RUN_DIR"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


FULL_DISK = """
import resource, sys, numpy as np
from pathlib import Path
from wavedeck.engine.samples import SampleError
from wavedeck.engine.samples.writer import SampleWriter
writer = SampleWriter(sys.argv[1])
sound = np.arange(100_000) / 100_000
writer.log({"x": (sound, 16000)}, step=1, key="before")
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
for key in ("lost", "lost too"):
    try:
        writer.log({"x": (sound, 16000)}, step=1, key=key)
    except SampleError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.log({"x": (sound, 16000)}, step=1, key="after")
writer.close()
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY, reason="a limit is set")
def test_a_full_disk_costs_the_items_it_had_no_room_for(tmp_path: Path) -> None:
    """A limit on file sizes fails the same writes that a full disk fails."""
    told = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "could not be written" in told.stdout
    samples = SampleSet(tmp_path, "val").load()
    assert {item_id("before"), item_id("after")} <= set(samples.items.ids)
    expected = (np.arange(100_000) / 100_000).astype(np.float32)[:, None]
    for row in range(len(samples)):
        item = samples.item(row)
        assert samples.problem(item) is None and np.array_equal(samples.audio(item, "x"), expected)


FORK = """
import os, sys, numpy as np
from wavedeck.engine.samples.writer import SampleWriter
writer = SampleWriter(sys.argv[1])
def put(number):
    writer.log({"x": (np.full(50_000, number / 10), 16000)}, step=1, key=number)
put(1)
child = os.fork()
if child:
    put(2); put(3)
    os.waitpid(child, 0)
    put(4)
else:
    put(5)
    sys.exit()
"""


def test_a_forked_child_harms_nothing_of_its_parent(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and not told.stderr, told.stderr
    samples = SampleSet(tmp_path, "val").load()
    assert len(samples) == 5
    for row in range(5):
        item = samples.item(row)
        number = next(number for number in range(1, 6) if item_id(number) == item.id)
        assert samples.problem(item) is None
        assert np.array_equal(samples.audio(item, "x"), np.full((50_000, 1), np.float32(number / 10)))


def test_the_sound_is_on_the_disk_before_its_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, write = shelf._sync, os.write

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append("sound")

    def written(descriptor: int, data: bytes) -> int:
        done.append("line")
        return write(descriptor, data)

    monkeypatch.setattr(shelf, "_sync", synced)
    monkeypatch.setattr(os, "write", written)
    with SampleWriter(tmp_path) as writer:
        for number in range(2):
            writer.log({"x": (np.ones(10, np.float32), 16000)}, step=1, key=number)
        assert done == ["sound", "line"] * 2

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(shelf, "_sync", broken)
        with pytest.raises(SampleError, match="Input/output error"):
            writer.log({"x": (np.ones(10, np.float32), 16000)}, step=1, key="lost")
    assert len(SampleSet(tmp_path, "val").load()) == 2
