"""The sound behind an index line, read by parts from HDF5 files that nobody vouches for.

A file may be half written, cut short, foreign or hostile. Only what we would have written is read: a hard link
`/tracks/<name>` to a two-dimensional float dataset whose values lie in this very file, in chunks of bounded size, in a
regular file inside the set's own folder. Everything else is a `SampleError`, one sentence that names the track or file.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import WavedeckError
from ..format import plain
from .ids import dataset_name
from .items import TrackPlace
from .lines import open_regular
from .superblock import StandingFile

if TYPE_CHECKING:
    import h5py

Audio = npt.NDArray[np.float32]
OpenFile = Callable[[Path], "BinaryIO | Path"]
MOST_OPEN = 8
MOST_VALUES = 2**27
"""Values that one read may bring, 512 MiB: whole songs, not whole days."""
MOST_CHUNK_BYTES = 64 * 1024 * 1024
_ATTEMPTS = 3


class SampleError(WavedeckError):
    """What was asked of a sample cannot be had; the sentence says why."""


@dataclass(slots=True)
class _OpenFile:
    """An open file and the datasets in it that were found to be sound."""

    handle: h5py.File
    stream: StandingFile
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)


class ArrayFiles:
    """The HDF5 files of one set; the last few stay open. May be used from several threads.

    Parameters
    ----------
    directory: the set's folder; no file outside is read.
    open_file: gives, for a path in it, a path on this disk or a seekable binary stream of a remote file. It is called
        again whenever the file must be seen as it is now.
    """

    def __init__(self, directory: Path, open_file: OpenFile | None = None) -> None:
        self._directory = directory
        self._open_file: OpenFile = open_file or (lambda path: path)
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.RLock()

    def read(self, file: str | None, track: str, place: TrackPlace, start: int, frames: int) -> Audio:
        """`frames` rows of a track from its own frame `start` on, float32, shape (frames, channels)."""
        if frames * place.channels > MOST_VALUES:
            raise SampleError(
                f"{frames:,} frames of {_said(track)} at once would not fit in memory: ask for a part of them."
            )

        def part(dataset: h5py.Dataset) -> Audio:
            return np.asarray(dataset[place.start + start : place.start + start + frames], np.float32)

        return self._with_dataset(file, track, place, part)

    def check(self, file: str | None, track: str, place: TrackPlace) -> None:
        """Raise the sentence for what would go wrong, without reading samples."""
        self._with_dataset(file, track, place, lambda dataset: None)

    def close(self) -> None:
        """Close every file; a later read opens again."""
        with self._lock:
            while self._open:
                _close(self._open.popitem()[1])

    def _with_dataset(self, file: str | None, track: str, place: TrackPlace, use: Callable[[h5py.Dataset], Any]) -> Any:
        if not file:
            raise SampleError(f"The index line names no file for {_said(track)}.")
        if not place.frames:
            raise SampleError(f"{_said(track).capitalize()} has no samples: its length is zero.")
        said, where = _said(track).capitalize(), plain(file, 80)
        fault: Exception
        with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    return use(self._dataset(file, track, place))
                except SampleError:
                    raise
                except MemoryError:
                    raise SampleError(f"There is not enough memory for this part of {_said(track)}.") from None
                except Exception as error:  # h5py raises whatever HDF5's error stack resembles
                    fault = error
                # The file has grown, or a checksum failed while its writer was in the middle of that block: look again.
                self._forget(file)
        if isinstance(fault, _Grown):
            raise SampleError(
                f"{said} ends beyond the end of {where}: the file was cut short, or its writer died before the "
                "samples were on the disk."
            )
        if isinstance(fault, _Foreign):
            raise SampleError(f"{where} is no HDF5 file that can be read: it is damaged, cut short or something else.")
        raise SampleError(
            f"{said} cannot be read from {where}: the file is damaged or cut short ({_reason(fault)})."
        ) from fault

    def _dataset(self, file: str, track: str, place: TrackPlace) -> h5py.Dataset:
        opened = self._opened(file)
        dataset = opened.datasets.get(track)
        if dataset is None:
            dataset = opened.datasets[track] = _find(opened.handle, track, file)
        if dataset.shape[1] != place.channels:
            raise SampleError(
                f"{_said(track).capitalize()} has {dataset.shape[1]} channels in {plain(file, 80)}, "
                f"but {place.channels} in the index."
            )
        if place.start + place.frames > dataset.shape[0]:
            raise _Grown
        return dataset

    def _opened(self, file: str) -> _OpenFile:
        import h5py

        known = self._open.get(file)
        if known is not None:
            self._open.move_to_end(file)
            return known
        standing = StandingFile(self._stream(file))
        try:
            handle = h5py.File(standing, "r")
        except Exception as error:
            standing.close()
            raise _Foreign from error
        while len(self._open) >= MOST_OPEN:
            _close(self._open.popitem(last=False)[1])
        opened = self._open[file] = _OpenFile(handle, standing)
        return opened

    def _stream(self, file: str) -> BinaryIO:
        """The file's bytes, after making sure that they lie in the set's folder."""
        if Path(file).name != file or file in (".", "..") or "\0" in file:
            raise SampleError(f"The index line names the file {plain(file, 80)!r}, which is not in the set's folder.")
        try:
            given = self._open_file(self._directory / file)
            if not isinstance(given, Path):
                return given
            path = inside(given, given.parent)
            descriptor = open_regular(path)
        except FileNotFoundError:
            raise SampleError(f"The file {plain(file, 80)} is not there: it was deleted or not copied yet.") from None
        except OSError as error:
            raise SampleError(f"The file {plain(file, 80)} cannot be opened ({_reason(error)}).") from error
        return os.fdopen(descriptor, "rb", buffering=0)  # type: ignore[return-value]

    def _forget(self, file: str) -> None:
        opened = self._open.pop(file, None)
        if opened is not None:
            _close(opened)


class _Grown(Exception):
    """The item lies beyond what the open file shows: it may have grown since."""


class _Foreign(Exception):
    """The file does not open as HDF5."""


def inside(path: Path, folder: Path) -> Path:
    """`path` without links, or a `SampleError` when it leads out of `folder`."""
    try:
        real = path.resolve(strict=True)
    except RuntimeError:  # what Python before 3.13 says to links in a circle
        raise OSError("its links lead in a circle") from None
    if not real.is_relative_to(folder.resolve()):
        raise SampleError(f"{plain(path.name, 80)} is a link that leads out of its folder; it was not followed.")
    return real


def _find(handle: h5py.File, track: str, file: str) -> h5py.Dataset:
    """The dataset of a track, when it is one that we could have written."""
    import h5py

    name = dataset_name(track)
    group = handle.get("tracks", getlink=True)
    link = handle["tracks"].get(name, getlink=True) if isinstance(group, h5py.HardLink) else None
    if link is None:
        raise SampleError(f"{_said(track).capitalize()} is named in the index but is not in {plain(file, 80)}.")
    dataset = handle["tracks"][name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise SampleError(f"{_said(track).capitalize()} in {plain(file, 80)} points elsewhere; it was not followed.")
    if dataset.ndim != 2 or dataset.dtype.kind != "f":
        raise SampleError(
            f"{_said(track).capitalize()} in {plain(file, 80)} is not sound: {dataset.dtype} of shape {dataset.shape} "
            "instead of floats of shape (frames, channels)."
        )
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize > MOST_CHUNK_BYTES:
        raise SampleError(f"{_said(track).capitalize()} in {plain(file, 80)} lies in chunks too large to read.")
    return dataset


def _close(opened: _OpenFile) -> None:
    """Close quietly: a damaged file may fail even at that."""
    for thing in (opened.handle, opened.stream):
        try:
            thing.close()
        except Exception:
            continue


def _said(track: str) -> str:
    return f"track {plain(track, 40)!r}"


def _reason(error: BaseException) -> str:
    """The last of HDF5's own words, without what could steer a terminal."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return plain(text.splitlines()[0], 120) if text else type(error).__name__


def finite(audio: Audio) -> Audio:
    """The same samples with NaN and infinities as silence, for players and meters; no copy when there are none."""
    return audio if np.isfinite(audio).all() else np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
