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

from ..format import plain
from .datasets import end_of, find_dataset
from .faults import DamagedFile, SampleError, inside, reason, said
from .items import TrackPlace
from .lines import open_regular
from .superblock import Changed, Missing, StandingFile

if TYPE_CHECKING:
    import h5py

Audio = npt.NDArray[np.float32]
OpenFile = Callable[[Path], "BinaryIO | Path"]
MOST_OPEN = 8
MOST_VALUES = 2**27
"""Values that one read may bring, 512 MiB: whole songs, not whole days."""
PIECE_VALUES = 1 << 20
"""Values that are read while others wait for the lock; with a file elsewhere, what is read anew once more has come."""
_ATTEMPTS = 3
MOST_TURNS = 100
"""Looks at one file for one read; most of them, if there are many, found it closed by reads of other files."""


@dataclass(slots=True)
class _OpenFile:
    """An open file and the datasets in it that were found to be sound.

    Parameters
    ----------
    rows: items that were known when it was opened. A copy of a file elsewhere shows the samples of those for certain.
    """

    stream: StandingFile
    rows: int
    handle: h5py.File | None = None
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    closed: bool = False


@dataclass(slots=True)
class _Found:
    """What one look at a dataset gave: a result, or a fault, or bytes that are not here yet."""

    result: Any = None
    fault: Exception | None = None
    missing: Missing | None = None


class ArrayFiles:
    """The HDF5 files of one set; the last few stay open. May be used from several threads.

    Waiting for another host happens outside of every lock, HDF5's own included: what is missing is noticed while
    reading, fetched, and the reading done again. So a link that hangs holds up only who reads over it, never `close`.

    Parameters
    ----------
    directory: the set's folder; no file outside is read.
    open_file: gives, for a path in it, a path on this disk or a seekable binary stream of a remote file. It is called
        again whenever the file must be seen as it is now. May wait.
    rows: how many items are known by now.
    """

    def __init__(self, directory: Path, open_file: OpenFile | None = None, rows: Callable[[], int] = lambda: 0) -> None:
        self._directory = directory
        self._open_file: OpenFile = open_file or (lambda path: path)
        self._rows = rows
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.RLock()

    def read(self, file: str | None, track: str, place: TrackPlace, start: int, frames: int, row: int = 0) -> Audio:
        """`frames` rows of a track from its own frame `start` on, float32, shape (frames, channels).

        `row`: the item's, which says how new the file must be seen to hold it.
        """
        if frames * place.channels > MOST_VALUES:
            raise SampleError(
                f"{frames:,} frames of {said(track)} at once would not fit in memory: ask for a part of them."
            )
        piece = max(1, PIECE_VALUES // place.channels)
        if frames <= piece:
            return self._part(file, track, place, start, frames, row)
        try:
            whole = np.empty((frames, place.channels), np.float32)
        except MemoryError:
            raise SampleError(f"There is not enough memory for this part of {said(track)}.") from None
        for at in range(0, frames, piece):
            count = min(piece, frames - at)
            whole[at : at + count] = self._part(file, track, place, start + at, count, row)
        return whole

    def check(self, file: str | None, track: str, place: TrackPlace, row: int = 0) -> None:
        """Raise the sentence for what would go wrong, without reading samples."""

        def look(dataset: h5py.Dataset, size: int) -> None:
            if end_of(dataset, place) > size:
                raise _Grown

        self._with_dataset(file, track, place, row, look)

    def close(self) -> None:
        """Close every file; a later read opens again. Waits for no host."""
        with self._lock:
            while self._open:
                _close(self._open.popitem()[1])

    def _part(self, file: str | None, track: str, place: TrackPlace, start: int, frames: int, row: int) -> Audio:
        def part(dataset: h5py.Dataset, size: int) -> Audio:
            return np.asarray(dataset[place.start + start : place.start + start + frames], np.float32)

        audio: Audio = self._with_dataset(file, track, place, row, part)
        return audio

    def _with_dataset(
        self, file: str | None, track: str, place: TrackPlace, row: int, use: Callable[[h5py.Dataset, int], Any]
    ) -> Any:
        if not file:
            raise SampleError(f"The index line names no file for {said(track)}.")
        if not place.frames:
            raise SampleError(f"{said(track).capitalize()} has no samples: its length is zero.")
        fault: Exception = OSError("other reads closed it again and again")
        changed, attempts, turns = False, 0, 0
        while attempts < _ATTEMPTS and turns < MOST_TURNS:
            turns += 1
            opened = self._opened(file, row, any_version=changed)
            found = self._used(opened, file, track, place, use)
            while found.missing is not None and not opened.closed:
                try:
                    opened.stream.bring(found.missing)
                except Changed as error:
                    changed, found = True, _Found(fault=error)
                    break
                except OSError as error:
                    if opened.closed:
                        break
                    what = f"{said(track).capitalize()} cannot be fetched from {plain(file, 80)}"
                    raise SampleError(f"{what} ({reason(error)}).") from error
                found = self._used(opened, file, track, place, use)
            if found.fault is None and found.missing is None:
                return found.result
            if found.fault is not None:
                fault, attempts = found.fault, attempts + 1
            # The file has grown, or a checksum failed while its writer was in the middle of that block: look again.
            self._forget(file, opened)
        raise self._unreadable(file, track, fault) from fault

    def _used(
        self, opened: _OpenFile, file: str, track: str, place: TrackPlace, use: Callable[[h5py.Dataset, int], Any]
    ) -> _Found:
        with self._lock:
            if opened.closed:
                return _Found(missing=Missing(0, 0))
            opened.stream.missing = None
            found = _Found()
            try:
                found.result = use(self._dataset(opened, file, track, place), opened.stream.size)
            except SampleError as error:
                if opened.stream.missing is None:
                    raise
                found.fault = error
            except MemoryError:
                raise SampleError(f"There is not enough memory for this part of {said(track)}.") from None
            except Exception as error:  # h5py raises whatever HDF5's error stack resembles
                found.fault = error
            if opened.stream.missing is not None:
                return _Found(missing=opened.stream.missing)
            return found

    @staticmethod
    def _unreadable(file: str, track: str, fault: Exception) -> SampleError:
        what, where = said(track).capitalize(), plain(file, 80)
        if isinstance(fault, _Grown):
            return SampleError(
                f"{what} ends beyond the end of {where}: the file was cut short, or its writer died before the "
                "samples were on the disk."
            )
        if isinstance(fault, _Foreign):
            return DamagedFile(f"{where} is no HDF5 file that can be read: it is damaged, cut short or something else.")
        return SampleError(f"{what} cannot be read from {where}: the file is damaged or cut short ({reason(fault)}).")

    def _dataset(self, opened: _OpenFile, file: str, track: str, place: TrackPlace) -> h5py.Dataset:
        import h5py

        if opened.handle is None:
            try:
                opened.handle = h5py.File(opened.stream, "r")
            except Exception as error:
                raise _Foreign from error
        dataset = opened.datasets.get(track)
        if dataset is None:
            dataset = opened.datasets[track] = find_dataset(opened.handle, track, file)
        if dataset.shape[1] != place.channels:
            raise SampleError(
                f"{said(track).capitalize()} has {dataset.shape[1]} channels in {plain(file, 80)}, "
                f"but {place.channels} in the index."
            )
        if place.start + place.frames > dataset.shape[0]:
            raise _Grown
        return dataset

    def _opened(self, file: str, row: int, *, any_version: bool) -> _OpenFile:
        """The file's stream, open and fit for the item of `row`; holds no lock while it is opened."""
        with self._lock:
            known = self._open.get(file)
            if known is not None and (known.stream.far is None or row < known.rows):
                self._open.move_to_end(file)
                return known
        rows = max(self._rows(), row + 1)
        stream = self._stream(file, any_version)
        with self._lock:
            there = self._open.get(file)
            if (
                there is not None and there is not known and (there.stream.far is None or row < there.rows)
            ):  # another thread was quicker
                stream.close()
                return there
            if there is not None:
                _close(self._open.pop(file))
            while len(self._open) >= MOST_OPEN:
                _close(self._open.popitem(last=False)[1])
            opened = self._open[file] = _OpenFile(stream, rows)
            return opened

    def _stream(self, file: str, any_version: bool) -> StandingFile:
        """The file's bytes as HDF5 may read them."""
        source = self._source(file)
        try:
            if any_version and hasattr(source, "take_any_version"):
                source.take_any_version()
            return StandingFile(source)
        except Changed:
            source.close()
            return self._stream(file, True)
        except OSError as error:
            source.close()
            raise SampleError(f"The file {plain(file, 80)} cannot be opened ({reason(error)}).") from error
        except BaseException:
            source.close()
            raise

    def _source(self, file: str) -> BinaryIO:
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
            raise SampleError(f"The file {plain(file, 80)} cannot be opened ({reason(error)}).") from error
        return os.fdopen(descriptor, "rb", buffering=0)  # type: ignore[return-value]

    def _forget(self, file: str, opened: _OpenFile) -> None:
        """Close this one, unless another thread has opened the file anew by now."""
        with self._lock:
            if self._open.get(file) is opened:
                del self._open[file]
            _close(opened)


class _Grown(Exception):
    """The item lies beyond what the open file shows: it may have grown since."""


class _Foreign(Exception):
    """The file does not open as HDF5."""


def _close(opened: _OpenFile) -> None:
    """Close quietly: a damaged file may fail even at that."""
    opened.closed = True
    opened.datasets.clear()
    for thing in (opened.handle, opened.stream):
        try:
            if thing is not None:
                thing.close()
        except Exception:
            continue


def finite(audio: Audio) -> Audio:
    """The same samples with NaN and infinities as silence, for players and meters; no copy when there are none."""
    return audio if np.isfinite(audio).all() else np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
