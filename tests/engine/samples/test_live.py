"""Real processes: a reader follows a writer, and a writer is killed at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.samples import RATE, drum_like, place
from wavedeck.engine.samples import SampleError, SampleSet
from wavedeck.engine.samples.writer import SampleWriter

SOUND = """
import sys, numpy as np
from pathlib import Path
from wavedeck.engine.samples import SampleSet
from wavedeck.engine.samples.writer import SampleWriter
def sound(number):
    return np.random.default_rng(number).random((100 + number * 7919 % 60_000, 1 + number % 2), np.float32)
def good(samples, row):
    item = samples.item(row)
    number = int(item.metrics["number"])
    tracks = {"target": sound(number)} | ({"prediction": sound(number + 1)} if number % 3 else {})
    assert list(item.tracks) == list(tracks), item
    for name, expected in tracks.items():
        assert np.array_equal(samples.audio(item, name), expected), (number, name)
def put(writer, number):
    tracks = {"target": (sound(number), 16000)} | ({"prediction": (sound(number + 1), 8000)} if number % 3 else {})
    writer.log(tracks, step=number // 40, key=number, metrics={"number": number})
"""

WRITER = (
    SOUND
    + """
writer = SampleWriter(sys.argv[1])
for number in range(int(sys.argv[2])):
    if number % 50 == 0:
        sys.stdin.readline()
    put(writer, number)
"""
)

READER = (
    SOUND
    + """
import time
samples, seen = SampleSet(Path(sys.argv[1]), "val"), 0
deadline = time.monotonic() + 60
while seen < int(sys.argv[2]) and time.monotonic() < deadline:
    samples.poll()
    for row in range(seen, len(samples)):
        good(samples, row)
        good(samples, row // 2)
    if len(samples) > seen:
        seen = len(samples)
        print(seen, flush=True)
"""
)

KILLED = (
    SOUND
    + """
import os, random, signal, threading
import h5py
root, rounds = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(int(sys.argv[3]))
read = 0
for round in range(rounds):
    run, delay = root / str(round), chance.uniform(0, 0.15)
    child = os.fork()
    if not child:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        with SampleWriter(run, durable=bool(round % 2)) as writer:
            for number in range(10_000):
                put(writer, number)
    os.waitpid(child, 0)
    samples = SampleSet(run, "val").load()
    for row in range(len(samples)):
        good(samples, row)
        assert samples.problem(samples.item(row)) is None
    read += len(samples)
    with SampleWriter(run) as writer:
        put(writer, 10_000)
    samples.load()
    good(samples, len(samples) - 1)
print(read)
"""
)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def test_a_reader_follows_a_writer_item_by_item(tmp_path: Path) -> None:
    """The writer stops every 50 items until the reader has checked them all, samples included."""
    reader, writer = start(READER, tmp_path, 150), start(WRITER, tmp_path, 150)
    assert reader.stdout is not None and writer.stdin is not None
    for wanted in (50, 100, 150):
        print(file=writer.stdin, flush=True)
        seen = 0
        while seen < wanted:
            line = reader.stdout.readline()
            assert line, reader.communicate()[1]
            seen = int(line)
        assert seen == wanted
    assert (writer.wait(60), reader.wait(60)) == (0, 0)


def test_what_the_index_names_is_there_after_kill_9_at_any_moment(tmp_path: Path) -> None:
    process = start(KILLED, tmp_path, 25, 4)
    told, wrong = process.communicate(timeout=150)
    assert process.returncode == 0, wrong
    assert int(told) > 25, "the writers lived long enough to tell"


def test_a_reader_in_the_writers_own_process_sees_each_item_at_once(tmp_path: Path) -> None:
    samples = SampleSet(tmp_path, "val")
    with SampleWriter(tmp_path) as writer:
        for number in range(5):
            sound = drum_like(2.5, seed=number)
            writer.log({"target": (sound, RATE)}, step=1, key=number)
            assert samples.poll().new == 1
            for row in range(number + 1):
                assert np.array_equal(samples.audio(samples.item(row), "target"), drum_like(2.5, seed=row))


def test_data_that_come_after_their_line_are_found_when_they_are_there(tmp_path: Path) -> None:
    """As in a copy, whose index may be here before the rest of the file."""
    with SampleWriter(tmp_path) as writer:
        writer.log({"target": (drum_like(1.0), RATE)}, step=1, key="a")
        path = tmp_path / "samples/val/step-000001.h5"
        early = path.read_bytes()
        writer.log({"target": (drum_like(5.0, seed=1), RATE)}, step=1, key="b")
    whole = path.read_bytes()
    path.write_bytes(early)
    samples = SampleSet(tmp_path, "val").load()
    assert samples.problem(samples.item(0)) is None
    assert "ends beyond the end" in (samples.problem(samples.item(1)) or "")
    path.write_bytes(whole)
    assert samples.problem(samples.item(1)) is None
    assert np.array_equal(samples.audio(samples.item(1), "target"), drum_like(5.0, seed=1))
    assert samples.item(1).tracks["target"].frames == place(80_000)["frames"]


@pytest.mark.parametrize("cut", [0, 1, 40, 48, 500, 2000, 100_000])
def test_a_file_cut_short_plays_as_far_as_it_goes(tmp_path: Path, cut: int) -> None:
    with SampleWriter(tmp_path) as writer:
        for number in range(4):
            writer.log({"target": (drum_like(6.0, seed=number), RATE)}, step=1, key=number)
    path = tmp_path / "samples/val/step-000001.h5"
    whole = path.read_bytes()
    samples = SampleSet(tmp_path, "val").load()
    for kept in (cut, len(whole) - 150_000):
        path.write_bytes(whole[:kept])
        samples.close()
        heard = 0
        for row in range(4):
            try:
                audio = samples.audio(samples.item(row), "target")
            except Exception as error:
                assert isinstance(error, SampleError) and "cut short" in str(error)
            else:
                heard += np.array_equal(audio, drum_like(6.0, seed=row))
    assert heard >= 2, "the items before the cut play"
