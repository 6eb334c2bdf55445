"""Writes items of one set: the sound into an HDF5 file, flushed, then one line into the index.

In that order, and fsynced between the two, so that a reader never meets a line whose sound is not there, nor after a
power cut, when room that was set aside would read as silence. Several processes may write one set: files
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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..files import sync_directory
from ..format import plain
from .arguments import (
    attached_of,
    epoch_of,
    id_of,
    key_of,
    name_of,
    numbers_of,
    parameters_of,
    sounds_of,
    step_of,
    tags_of,
    texts_of,
)
from .faults import SampleError
from .ids import file_name, is_set_name
from .items import TrackPlace
from .reader import ATTACHMENTS, INDEX_FILE, SAMPLES_FOLDER
from .shelf import Shelf, Sound

MOST_SHELVES = 8
MOST_TRACKS = 16
MOST_LINE_BYTES = 1024 * 1024
_STEPS_COUNTED = 4


class SampleWriter:
    """Appends items to `samples/<set>/` of a run. May be used from several threads; close it, or use it with `with`.

    Parameters
    ----------
    durable: False spares the fsync of each item (some milliseconds on an SSD): after a power cut an item of the last
        seconds may then be listed without its sound.
    """

    def __init__(self, run_dir: Path | str, set: str = "val", *, durable: bool = True) -> None:
        if not is_set_name(set):
            raise SampleError(f"{plain(str(set), 80)!r} cannot be the name of a set: use letters, digits and - _ .")
        self.directory = Path(run_dir) / SAMPLES_FOLDER / set
        self._durable = durable
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
        remark: Callable[[str], object] | None = None,
    ) -> str:
        """Write one item and return its id. Arguments as `wavedeck.log_sample` has them.

        `remark` is told of each number that is none, when the item is kept without it; None: that raises too.

        Raises
        ------
        SampleError: an argument is not what it should be, or the disk took no more; nothing is in the index then.
        """
        remarks: list[str] = []
        sounds = sounds_of(tracks)
        files = attached_of(attachments)
        line: dict[str, Any] = {
            "id": "",
            "key": None if key is None else key_of(key),
            "step": step_of(step),
            "epoch": epoch_of(epoch, remarks),
            "t": round(time.time(), 3),
            "file": None,
            "metrics": numbers_of("metric", metrics, remarks),
            "text": texts_of(text),
            "tags": tags_of(tags),
            "label": None if label is None else name_of(label),
            "predicted": None if predicted is None else name_of(predicted),
            "probabilities": numbers_of("probability", probabilities, remarks),
            "parameters": parameters_of(parameters, remarks),
        }
        if remarks and remark is None:
            raise SampleError(remarks[0])
        with self._lock:
            self._after_fork()
            line["id"] = id_of(key, sounds)
            self._turn_to(line["step"])
            if key is None:
                line["id"] = self._told_apart(line["id"], line["step"])
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                line["attachments"] = self._attach(line["id"], files)
                line["file"], places = self._put(sounds, line["step"])
                line["tracks"] = {name: _place(place) for name, place in places.items()}
                self._append(line)
            except SampleError:
                raise
            except Exception as error:  # h5py raises whatever HDF5's error stack resembles
                reason = getattr(error, "strerror", None) or plain(str(error), 120)
                raise SampleError(f"A sample could not be written to {self.directory}: {reason}.") from error
        if remark is not None:
            for told in remarks:
                remark(told)
        return str(line["id"])

    def close(self) -> None:
        """End the files that are open; a later item begins new ones."""
        with self._lock:
            self._after_fork()
            for shelf in self._shelves:
                shelf.close()
            if self._index is not None:
                if self._durable:
                    with contextlib.suppress(OSError):
                        os.fsync(self._index)
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
            if self._durable:
                shelf.sync()
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
                with contextlib.suppress(FileExistsError):
                    shelf = Shelf(path, layouts, step)
                    if self._durable:
                        sync_directory(self.directory)
                    return shelf
        raise AssertionError("count() does not end")

    def _attach(self, id: str, attachments: Mapping[str, bytes | str | os.PathLike[str]]) -> dict[str, str]:
        """Copy each attachment below the set's folder, under a name of its own; name to relative path."""
        kept = {}
        for name, content in attachments.items():
            wanted = file_name(f"{id}-{name}")
            if not isinstance(content, bytes):
                ending = re.sub(r"[^A-Za-z0-9.]", "", Path(content).suffix)[:12]
                wanted += "" if wanted.endswith(ending) else ending
            kept[name_of(name)] = f"{ATTACHMENTS}/{self._store(wanted, content)}"
        return kept

    def _store(self, wanted: str, content: bytes | str | os.PathLike[str]) -> str:
        """The name under which the content lies now: `wanted`, or with a number when there is such a file."""
        folder = self.directory / ATTACHMENTS
        folder.mkdir(exist_ok=True)
        stem, ending = Path(wanted).stem, Path(wanted).suffix
        with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as source:
            for number in itertools.count(1):
                name = wanted if number == 1 else f"{stem}.{number}{ending}"
                with contextlib.suppress(FileExistsError), open(folder / name, "xb") as target:
                    shutil.copyfileobj(source, target)
                    if self._durable:
                        target.flush()
                        os.fsync(target.fileno())
                        sync_directory(folder)
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


def _place(place: TrackPlace) -> dict[str, int]:
    told = {"rate": place.rate, "channels": place.channels, "start": place.start, "frames": place.frames}
    return told | ({"not_finite": place.not_finite} if place.not_finite else {})
