"""Writes items of one set: the sound into an HDF5 file, flushed, then one line into the index.

In that order, so that a reader never meets a line whose sound is not there. Several processes may write one set: files
are created exclusively and an index line is one `write` on an `O_APPEND` descriptor. A file that a killed writer left
behind is never written again.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..events import json_number
from ..format import plain
from .arrays import SampleError
from .ids import MOST_NAME, audio_id, file_name, identifying_track, is_set_name, item_id
from .items import TrackPlace
from .reader import INDEX_FILE, SAMPLES_FOLDER
from .shelf import Shelf, Sound
from .sounds import as_float32, audio_of, rate_of

MOST_SHELVES = 8
MOST_TRACKS = 16
MOST_TEXT = 20_000
MOST_LINE_BYTES = 1024 * 1024
_ATTACHMENTS = "attachments"
_STEPS_COUNTED = 4


class SampleWriter:
    """Appends items to `samples/<set>/` of a run. May be used from several threads; close it, or use it with `with`."""

    def __init__(self, run_dir: Path | str, set: str = "val") -> None:
        if not is_set_name(set):
            raise SampleError(f"{plain(str(set), 80)!r} cannot be the name of a set: use letters, digits and - _ .")
        self.directory = Path(run_dir) / SAMPLES_FOLDER / set
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._shelves: list[Shelf] = []
        self._steps: set[int | None] = set()
        self._counts: dict[int | None, dict[str, int]] = {}
        self._index: int | None = None
        self._torn = False

    def log(
        self,
        tracks: Mapping[str, tuple[Any, float]],
        *,
        step: int | None = None,
        epoch: float | None = None,
        key: object = None,
        metrics: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        label: object = None,
        predicted: object = None,
        probabilities: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        attachments: Mapping[str, bytes | str | os.PathLike[str]] | None = None,
    ) -> str:
        """Write one item and return its id. Arguments as `wavedeck.log_sample` has them.

        Raises
        ------
        SampleError: an argument is not what it should be, or the disk took no more; nothing is in the index then.
        """
        sounds = _sounds(tracks)
        line: dict[str, Any] = {
            "id": "",
            "step": None if step is None else _step(step),
            "epoch": _number(epoch),
            "t": round(time.time(), 3),
            "file": None,
            "metrics": _numbers(metrics),
            "text": {_name(name): _text(value) for name, value in (text or {}).items() if value is not None},
            "tags": [_name(tag) for tag in ([tags] if isinstance(tags, str) else tags)],
            "label": None if label is None else _name(label),
            "predicted": None if predicted is None else _name(predicted),
            "probabilities": _numbers(probabilities),
            "parameters": {_name(name): _sides(value) for name, value in (parameters or {}).items()},
        }
        with self._lock:
            self._after_fork()
            line["id"] = _id_of(key, sounds)
            self._turn_to(line["step"])
            if key is None:
                line["id"] = self._told_apart(line["id"], line["step"])
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                line["attachments"] = self._attach(line["id"], attachments or {})
                line["file"], places = self._put(sounds, line["step"])
                line["tracks"] = {name: _place(place) for name, place in places.items()}
                self._append(line)
            except SampleError:
                raise
            except Exception as error:  # h5py raises whatever HDF5's error stack resembles
                reason = getattr(error, "strerror", None) or plain(str(error), 120)
                raise SampleError(f"A sample could not be written to {self.directory}: {reason}.") from error
        return str(line["id"])

    def close(self) -> None:
        """End the files that are open; a later item begins new ones."""
        with self._lock:
            self._after_fork()
            for shelf in self._shelves:
                shelf.close()
            if self._index is not None:
                os.close(self._index)
            self._begin()

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> None:
        """A forked child begins files of its own; those of its parent are out of its hands (`shelf`)."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._begin()

    def _turn_to(self, step: int | None) -> None:
        """A new step ends the files of the others, so that they can be read by anything; going back opens new ones."""
        if step not in self._steps:
            for shelf in self._shelves:
                shelf.close()
            self._shelves = []
            self._steps.add(step)
        self._counts.setdefault(step, {})
        while len(self._counts) > _STEPS_COUNTED:
            del self._counts[next(iter(self._counts))]

    def _told_apart(self, id: str, step: int | None) -> str:
        """Two clips of silence are two items: without a key the second of a step is `<id>-2`."""
        counts = self._counts[step]
        count = counts[id] = counts.get(id, 0) + 1
        return id if count == 1 else f"{id}-{count}"

    def _put(self, sounds: dict[str, Sound], step: int | None) -> tuple[str | None, dict[str, TrackPlace]]:
        if not sounds:
            return None, {}
        shelf = next((shelf for shelf in reversed(self._shelves) if shelf.step == step and shelf.fits(sounds)), None)
        if shelf is None:
            shelf = self._new_shelf(sounds, step)
            self._shelves.append(shelf)
        shelf.reserve(sounds)
        self._shelves.remove(shelf)
        try:
            places = shelf.put(sounds)
        except BaseException:  # what it holds may be half an item: nothing more is put there
            shelf.abandon()
            raise
        self._shelves.append(shelf)  # the one used longest ago is closed first
        return shelf.name, places

    def _new_shelf(self, sounds: dict[str, Sound], step: int | None) -> Shelf:
        layouts = {track: sound.layout for track, sound in sounds.items()}
        before = next((shelf.layouts for shelf in reversed(self._shelves) if shelf.step == step), {})
        if len(before | layouts) <= MOST_TRACKS:  # what came before comes again: a file for both
            layouts = before | layouts
        while len(self._shelves) >= MOST_SHELVES:
            self._shelves.pop(0).close()
        stem = "no-step" if step is None else f"step-{step:06d}"
        for number in itertools.count(1):
            path = self.directory / (f"{stem}.h5" if number == 1 else f"{stem}.{number}.h5")
            if not path.exists():
                try:
                    return Shelf(path, layouts, step)
                except FileExistsError:
                    continue
        raise AssertionError("count() does not end")

    def _attach(self, id: str, attachments: Mapping[str, bytes | str | os.PathLike[str]]) -> dict[str, str]:
        """Copy each attachment below the set's folder, under a name of its own; name to relative path."""
        kept = {}
        for name, content in attachments.items():
            wanted = file_name(f"{id}-{name}")
            if not isinstance(content, bytes):
                ending = re.sub(r"[^A-Za-z0-9.]", "", Path(content).suffix)[:12]
                wanted += "" if wanted.endswith(ending) else ending
            kept[_name(name)] = f"{_ATTACHMENTS}/{self._store(wanted, content)}"
        return kept

    def _store(self, wanted: str, content: bytes | str | os.PathLike[str]) -> str:
        """The name under which the content lies now: `wanted`, or with a number when there is such a file."""
        folder = self.directory / _ATTACHMENTS
        folder.mkdir(exist_ok=True)
        stem, ending = Path(wanted).stem, Path(wanted).suffix
        with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as source:
            for number in itertools.count(1):
                name = wanted if number == 1 else f"{stem}.{number}{ending}"
                with contextlib.suppress(FileExistsError), open(folder / name, "xb") as target:
                    shutil.copyfileobj(source, target)
                    return name
        raise AssertionError("count() does not end")

    def _append(self, line: dict[str, Any]) -> None:
        data = msgspec.json.encode(line) + b"\n"
        if len(data) > MOST_LINE_BYTES:
            raise OSError(f"its index line has {len(data):,} bytes; {MOST_LINE_BYTES:,} are allowed")
        if self._index is None:
            self._index = self._open_index()
        if self._torn:
            data = b"\n" + data
        written = os.write(self._index, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError("the disk is full")

    def _open_index(self) -> int:
        path = self.directory / INDEX_FILE
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(descriptor).st_size
        self._torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
        return descriptor


def _sounds(tracks: Mapping[str, tuple[Any, float]]) -> dict[str, Sound]:
    sounds = {}
    for name, value in tracks.items():
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise SampleError(f"track {plain(str(name), 40)!r} is not (samples, rate), such as (audio, 16000).")
        sounds[_name(name)] = Sound(audio_of(str(name), value[0]), rate_of(str(name), value[1]))
    return sounds


def _id_of(key: object, sounds: Mapping[str, Sound]) -> str:
    if key is not None:
        return item_id(key)
    track = identifying_track(sounds)
    if track is None:
        raise SampleError("An item without a track needs key=…, such as its file name, to be known again.")
    return audio_id_of(sounds[track])


def audio_id_of(sound: Sound) -> str:
    """The id that a track's samples give, whatever type they came in."""
    return audio_id(as_float32(sound.samples), sound.rate)


def _step(step: Any) -> int:
    number = _number(step)
    if number is None or not -(2**62) < number < 2**62:
        raise SampleError(f"The step {step!r} is no number.")
    return int(step) if isinstance(step, int) else int(number)


def _name(value: object) -> str:
    """A name as text that UTF-8 can hold, at most `MOST_NAME` characters."""
    return str(value)[:MOST_NAME].encode("utf-8", "replace").decode()


def _text(value: object) -> str:
    text = str(value)
    if len(text) > MOST_TEXT:
        text = text[: MOST_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def _number(value: Any) -> float | None:
    """One float from a number or a one-element tensor; None for anything else."""
    try:
        item = getattr(value, "item", None)
        return float(item()) if item is not None else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float | str | None]:
    """Numbers for strict JSON; what is no number is left out."""
    pairs = ((_name(name), _number(value)) for name, value in (values or {}).items())
    return {name: json_number(number) for name, number in pairs if number is not None}


def _sides(value: Any) -> dict[str, float | str | None]:
    """`(target, predicted)` or a mapping with those names."""
    if isinstance(value, Mapping):
        sides = (value.get("target"), value.get("predicted"))
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        sides = (value[0], value[1])
    else:
        sides = (None, value)
    return {name: json_number(_number(side)) for name, side in zip(("target", "predicted"), sides, strict=True)}


def _place(place: TrackPlace) -> dict[str, int]:
    told = {"rate": place.rate, "channels": place.channels, "start": place.start, "frames": place.frames}
    return told | ({"not_finite": place.not_finite} if place.not_finite else {})
