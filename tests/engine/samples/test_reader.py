"""Columns, items on demand and sound by parts, while an index grows, is replaced or is very long."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from tests.fakes.samples import RATE, append_line, drum_like, large_index, long_clip, place, speech_like, speech_set
from wavedeck.engine.journal import Budget
from wavedeck.engine.samples import NO_STEP, SampleError, SampleSet, finite, item_id, sample_sets
from wavedeck.engine.samples.columns import MOST_METRICS
from wavedeck.engine.samples.writer import SampleWriter


def test_columns_hold_what_the_lines_say(tmp_path: Path) -> None:
    append_line(tmp_path, "val", {"id": "a", "step": 1, "metrics": {"wer": 1}, "label": "x", "tags": ["t"]})
    append_line(tmp_path, "val", {"id": "b", "metrics": {"snr": "NaN"}, "predicted": "x", "text": {"k": "HÉ"}})
    samples = SampleSet(tmp_path, "val")
    assert samples.poll().new == 2
    before = samples.items
    append_line(
        tmp_path, "val", {"id": "c", "step": 2, "epoch": 3, "metrics": {"wer": 2.5}, "tracks": {"x": place(8000)}}
    )
    assert samples.poll().new == 1 and samples.poll().new == 0
    columns = samples.items
    assert list(columns.ids) == ["a", "b", "c"] and columns.steps.tolist() == [1, NO_STEP, 2]
    assert np.array_equal(columns.metrics["wer"], [1, np.nan, 2.5], equal_nan=True)
    assert np.isnan(columns.metrics["snr"]).all() and columns.epochs[2] == 3 and columns.seconds[2] == 0.5
    assert [columns.classes[code] if code >= 0 else None for code in columns.label_codes] == ["x", None, None]
    assert columns.texts[1] == "hé" and columns.tag_sets[columns.tag_codes[0]] == ("t",)
    assert len(before) == 2 and len(before.metrics["wer"]) == 2, "an earlier snapshot stays as it was"


def test_the_same_item_at_several_steps_and_a_line_that_replaces_another(tmp_path: Path) -> None:
    for id, step, wer in [("a", 1, 0.9), ("b", 1, 0.8), ("a", 2, 0.5), ("a", 1, 0.7), ("b", None, 0.1)]:
        append_line(tmp_path, "val", {"id": id, "step": step, "metrics": {"wer": wer}})
    samples = SampleSet(tmp_path, "val").load()
    columns = samples.items
    assert columns.current.tolist() == [False, True, True, True, True]
    assert columns.newest().tolist() == [False, True, True, False, False]
    assert samples.history("a") == (3, 2) and samples.history("b") == (4, 1) and samples.history("?") == ()
    assert columns.all_steps().tolist() == [NO_STEP, 1, 2]
    found = samples.find("a", 1)
    assert found is not None and found.metrics["wer"] == 0.7 and found.row == 3
    assert samples.find("nobody") is None
    append_line(tmp_path, "val", {"id": "ab", "step": 1})
    append_line(tmp_path, "val", {"id": "ac", "step": 1})
    samples.poll()
    assert columns.current.tolist() == [False, True, True, True, True]
    exact = samples.find("a")
    assert exact is not None and exact.step == 2, "an id is itself before it is the beginning of others"
    append_line(tmp_path, "val", {"id": "xyz", "step": 1})
    append_line(tmp_path, "val", {"id": "xyw", "step": 1})
    samples.poll()
    begun = samples.find("xyz"[:3])
    assert begun is not None and begun.id == "xyz"
    with pytest.raises(SampleError, match="2 items"):
        samples.find("xy")


def test_a_poll_is_bounded_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    samples = large_index(tmp_path, items=20_000)
    polls = []
    while not polls or polls[-1].more:
        polls.append(samples.poll(Budget(records=1000, seconds=10)))
    assert len(polls) > 5 and sum(poll.new for poll in polls) == len(samples) == 20_000
    assert samples.item(19_999).text["target"].endswith(" 19999") and samples.item(0).text["target"].endswith(" 0")


def test_an_index_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    samples = speech_set(tmp_path, items=3)
    old = samples.item(1)
    folder = tmp_path / "samples/val"
    (folder / "new").write_bytes(b'{"id":"other","step":1}\n')
    os.replace(folder / "new", folder / "index.jsonl")
    assert "no longer there" in " ".join(samples.item(2).problems)
    poll = samples.poll()
    assert poll.rewound and poll.new == 1 and list(samples.items.ids) == ["other"] and samples.rewinds == 1
    assert samples.item(0).id == "other" and old.id != "other"
    with pytest.raises(SampleError, match="read again"):
        samples.item(1)


def test_a_line_without_its_newline_is_not_yet(tmp_path: Path) -> None:
    append_line(tmp_path, "val", {"id": "a"})
    path = tmp_path / "samples/val/index.jsonl"
    with open(path, "ab") as handle:
        handle.write(b'{"id":')
    samples = SampleSet(tmp_path, "val").load()
    assert len(samples) == 1 and samples.bad_lines == 0
    with open(path, "ab") as handle:
        handle.write(b'"b"}\r\n\n')
    assert samples.poll().new == 1 and samples.item(1).id == "b" and samples.bad_lines == 0


def test_a_set_that_is_not_there_is_empty_and_sets_are_listed(tmp_path: Path) -> None:
    assert sample_sets(tmp_path) == ()
    assert SampleSet(tmp_path, "val").poll().new == 0
    speech_set(tmp_path, "val", items=1, steps=(1,))
    append_line(tmp_path, "test", {"id": "a"})
    (tmp_path / "samples/empty").mkdir()
    (tmp_path / "samples/.hidden").mkdir()
    (tmp_path / "samples/file").touch()
    assert sample_sets(tmp_path) == ("test", "val")


def test_any_part_of_a_track_is_what_it_was(tmp_path: Path) -> None:
    sound = speech_like(5.0)
    with SampleWriter(tmp_path) as writer:
        writer.log({"x": (drum_like(1.0), RATE)}, step=1, key="a")
        writer.log({"x": (sound, RATE)}, step=1, key="b")
        writer.log({"x": (drum_like(1.0), RATE)}, step=1, key="c")
    samples = SampleSet(tmp_path, "val").load()
    item = samples.item(1)
    for start, frames in [(0, 1), (32_000, 40_000), (79_999, 10), (-5, 10), (0, 0), (90_000, 5), (10, -3)]:
        begin = min(max(start, 0), len(sound))
        expected = sound[begin : max(begin, start + frames)]
        assert np.array_equal(samples.audio(item, "x", start, frames), expected), (start, frames)
    assert np.array_equal(np.concatenate(list(samples.parts(item, "x", 7001))), sound)
    with pytest.raises(SampleError, match="no track 'y'"):
        samples.audio(item, "y")


def test_nan_and_infinite_samples_come_as_they_are_and_can_be_silenced() -> None:
    sound = np.array([[0.5], [np.nan], [np.inf], [-np.inf]], np.float32)
    assert finite(sound).tolist() == [[0.5], [0], [0], [0]]
    assert finite(sound[:1]) is not None and finite(sound[:1]).base is sound


TWO_HOURS = """
import sys, resource, numpy as np
from pathlib import Path
from wavedeck.engine.samples import SampleSet
samples = SampleSet(Path(sys.argv[1]), "long").load()
item = samples.item(0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
clicks = frames = 0
for part in samples.parts(item, "target"):
    clicks += int(np.count_nonzero(part)); frames += len(part)
print(clicks, frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_two_hours_open_at_once_and_are_read_in_little_memory(tmp_path: Path) -> None:
    samples = long_clip(tmp_path)
    item = samples.item(0)
    assert item.seconds == 7200 and samples.problem(item) is None
    assert samples.audio(item, "target", 48_000 * 3600, 3)[:, 0].tolist() == [0.5, 0, 0]
    with pytest.raises(SampleError, match="ask for a part"):
        samples.audio(item, "target")
    told = subprocess.run([sys.executable, "-c", TWO_HOURS, str(tmp_path)], capture_output=True, text=True, check=True)
    clicks, frames, grown_kib = map(int, told.stdout.split())
    assert (clicks, frames) == (120, 7200 * 48_000)
    assert grown_kib < 64 * 1024 * (1 if resource.getpagesize() == 4096 else 4)


def test_a_two_hour_clip_is_written_by_parts(tmp_path: Path) -> None:
    """Memory stays that of the array: a broadcast view of one sample stands for two hours."""
    sound = np.broadcast_to(np.float16(0.25), (1, 60 * 48_000))
    with SampleWriter(tmp_path) as writer:
        writer.log({"x": (sound, 48_000)}, key="long")
    samples = SampleSet(tmp_path, "val").load()
    assert samples.item(0).seconds == 60
    assert samples.audio(samples.item(0), "x", 60 * 48_000 - 2).tolist() == [[0.25], [0.25]]


class Ranges(io.RawIOBase):
    """A remote file: seekable, short reads, counts what it gave."""

    def __init__(self, data: bytes, given: list[int]) -> None:
        self._inner, self._given = io.BytesIO(data), given

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(min(size, 10_000))
        self._given.append(len(data))
        return data


def test_a_remote_file_is_read_by_ranges_also_while_it_is_written(tmp_path: Path) -> None:
    given: list[int] = []
    asked: list[str] = []

    def fetch(path: Path) -> BinaryIO:
        asked.append(path.name)
        return Ranges(path.read_bytes(), given)  # type: ignore[return-value]

    samples = SampleSet(tmp_path, "val", open_file=fetch)
    with SampleWriter(tmp_path) as writer:
        for number in range(6):
            writer.log({"x": (drum_like(6.0, seed=number), RATE)}, step=1, key=number)
            samples.poll()
            assert np.array_equal(samples.audio(samples.item(number), "x"), drum_like(6.0, seed=number))
    assert samples.audio(samples.item(0), "x", 0, 100).shape == (100, 1)
    assert len(asked) == 6, "opened again only when an item lay beyond what was seen"
    given.clear()
    samples.close()
    samples.audio(samples.item(3), "x", 0, 1000)
    assert sum(given) < 400_000, "a second of a clip does not cost the file"


def test_a_remote_file_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    speech_set(tmp_path, items=1, steps=(1,))

    def refuse(path: Path) -> BinaryIO:
        raise ConnectionError("the link to gpu1 is down")

    samples = SampleSet(tmp_path, "val", open_file=refuse).load()
    assert "the link to gpu1 is down" in (samples.problem(samples.item(0)) or "")


def test_more_metric_names_than_columns_stay_with_their_item(tmp_path: Path) -> None:
    many = {f"m{number}": float(number) for number in range(MOST_METRICS + 50)}
    append_line(tmp_path, "val", {"id": "a", "metrics": many})
    samples = SampleSet(tmp_path, "val").load()
    assert len(samples.items.metrics) == MOST_METRICS and len(samples.item(0).metrics) == MOST_METRICS + 50


def test_an_id_is_that_of_its_key() -> None:
    assert item_id("clip-0001.wav") == item_id("clip-0001.wav") != item_id("clip-0002.wav")
    assert item_id(7) == item_id("7") and len(item_id("")) == 16
