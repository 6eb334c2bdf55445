"""Sound of another host through the reader: a link that hangs holds up nobody else, a file that grows is read right."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import numpy as np
import pytest

from wavedeck.engine.samples import SampleError, SampleSet
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.remote.far_file import FarFile
from wavedeck.tests.fakes.samples import RATE

T = TypeVar("T")


class Host:
    """A host with one run, whose link can hang (`gate`) or fail (`gone`)."""

    def __init__(self, run: Path, copy: Path) -> None:
        self.run, self.copy = run, copy
        self.gate, self.asked, self.gone = threading.Event(), threading.Event(), False
        self.restless = False
        self.fetched = 0
        self.gate.set()

    def opener(self, path: Path) -> BinaryIO:
        there = self.run / path.relative_to(self.copy)

        def fetch(offset: int, count: int) -> tuple[bytes, int, float]:
            if count:
                self.asked.set()
            assert self.gate.wait(60)
            if self.gone:
                raise OSError(110, "gpu1 did not answer within 30 s")
            self.fetched += bool(count)
            with open(there, "rb") as handle:
                handle.seek(offset)
                data = handle.read(count)
            changed = float(self.fetched) if self.restless else there.stat().st_mtime
            return data, there.stat().st_size, changed

        return cast(BinaryIO, FarFile(fetch, self.copy.parent / "cache" / path.name))

    def mirror(self) -> None:
        """Bring the index over, as the mirror does."""
        index = self.copy / "samples/val/index.jsonl"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes((self.run / "samples/val/index.jsonl").read_bytes())

    def samples(self) -> SampleSet:
        self.mirror()
        return SampleSet(self.copy, "val", self.opener).load()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "there", tmp_path / "here")


def noise(number: int, seconds: float = 8.0, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(number).random((int(seconds * RATE), channels), np.float32)


def soon(work: Callable[[], T]) -> T:
    """What `work` gives, without waiting for ever when it hangs."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    assert results, "it hangs"
    return results[0]


def test_a_link_that_hangs_holds_up_neither_local_sound_nor_closing(host: Host, tmp_path: Path) -> None:
    for run in (host.run, tmp_path / "local"):
        with SampleWriter(run) as writer:
            writer.log({"target": (noise(1), RATE)}, step=1, key="a")
            writer.log({"target": (noise(2), RATE)}, step=2, key="a")
    far, local = host.samples(), SampleSet(tmp_path / "local", "val").load()
    item, other = far.item(0), far.item(1)
    assert np.array_equal(far.audio(item, "target", 0, 100), noise(1)[:100])
    host.gate.clear()
    host.asked.clear()
    results: list[object] = []

    def hanging() -> None:
        results.append(far.audio(item, "target"))

    thread = threading.Thread(target=hanging, daemon=True)
    thread.start()
    assert host.asked.wait(20)
    assert np.array_equal(soon(lambda: local.audio(local.item(0), "target")), noise(1))
    # What is here of the same far file plays on too, and the screen can let go of the set.
    assert np.array_equal(soon(lambda: far.audio(item, "target", 0, 100)), noise(1)[:100])
    assert soon(lambda: far.close() or True)
    assert not results
    host.gate.set()
    thread.join(20)
    assert np.array_equal(results[0], noise(1))  # it opened the file again
    assert np.array_equal(far.audio(other, "target"), noise(2))


def test_a_host_that_does_not_answer_is_asked_once(host: Host) -> None:
    with SampleWriter(host.run) as writer:
        writer.log({"target": (noise(1), RATE)}, step=1)
    far = host.samples()
    assert len(far.audio(far.item(0), "target", 0, 10)) == 10
    host.gone = True
    with pytest.raises(SampleError, match=r"cannot be fetched from step-000001.h5 \(gpu1 did not answer within 30 s\)"):
        far.audio(far.item(0), "target")


@pytest.mark.parametrize("restless", [False, True])
def test_items_are_right_while_their_file_grows(host: Host, restless: bool) -> None:
    host.restless = restless
    with SampleWriter(host.run) as writer:
        far: SampleSet | None = None
        for number in range(8):
            tracks = {"target": (noise(number, 1.5), RATE), "prediction": (noise(number + 100, 1.5), RATE)}
            writer.log(tracks, step=1, key=number)
            host.mirror()
            far = far or host.samples()
            far.poll()
            for row in (number, number // 2):
                assert np.array_equal(far.audio(far.item(row), "prediction"), noise(row + 100, 1.5)), row
                assert np.array_equal(far.audio(far.item(row), "target"), noise(row, 1.5)), row


def test_a_long_clip_is_fetched_by_parts_and_once(host: Host) -> None:
    with SampleWriter(host.run) as writer:
        writer.log({"target": (noise(1, 120), RATE)}, step=1)
    far = host.samples()
    item = far.item(0)
    far.audio(item, "target", 0, RATE)
    assert host.fetched < 6
    whole = far.audio(item, "target")
    assert np.array_equal(whole, noise(1, 120))
    before = host.fetched
    far.audio(item, "target")
    assert host.fetched == before
