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
from wavedeck.engine.samples import SampleError, SampleSet, item_id
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
    monkeypatch.setattr(recording, "_warned", set())
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
    with SampleWriter(tmp_path) as writer, pytest.raises(SampleError, match="No such file"):
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


def test_a_mistake_costs_the_item_and_is_said_once(run_dir: Path) -> None:
    for _ in range(3):
        assert wavedeck.log_sample({"x": (np.zeros((2, 3, 40)), RATE)}, step=1) is None
        assert wavedeck.log_sample({}, set="../../x", key="a") is None
        assert wavedeck.log_sample({}, key="a", metrics=5) is None  # type: ignore[arg-type]
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert len(events) == 3 and all(event["level"] == "warning" for event in events)
    assert "one clip a call" in events[0]["text"]


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
