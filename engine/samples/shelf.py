"""One HDF5 file of samples being written, so that others can read it meanwhile and after a `kill -9` (SWMR).

HDF5's single-writer-multiple-readers mode orders its writes such that what stands on the disk is whole at any moment.
Its price: no dataset can be made once it began, so a file is made for the tracks of its first item, and an item with
other tracks, rates or channel counts goes to another file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .ids import dataset_name
from .items import TrackPlace
from .sounds import FRAMES_AT_ONCE, as_float32

if TYPE_CHECKING:
    import h5py

CHUNK_FRAMES = 32768
FORMAT_VERSION = 1
SLACK_BYTES = 256 * 1024
"""Room for what HDF5 keeps besides the samples; a closed file does not have it."""
_INDEX_BYTES = 64
_open: weakref.WeakSet[Shelf] = weakref.WeakSet()
_abandoned: list[Shelf] = []


@dataclass(frozen=True, slots=True)
class Sound:
    """A track to write: samples of shape (frames, channels) in any type `as_float32` takes; rate in Hz."""

    samples: npt.NDArray[Any]
    rate: int

    @property
    def layout(self) -> tuple[int, int]:
        """What has to agree with the dataset: rate and channels."""
        return self.rate, self.samples.shape[1]


class Shelf:
    """An open file; `path` is created exclusively, FileExistsError when somebody else has it.

    Parameters
    ----------
    layouts: (rate, channels) of each track.
    """

    def __init__(self, path: Path, layouts: Mapping[str, tuple[int, int]], step: int | None) -> None:
        import h5py

        with tempfile.TemporaryFile(dir=path.parent) as probe:
            _allocate(probe.fileno(), 0, 2 * SLACK_BYTES)  # a full disk is met here, before HDF5 meets it
        self.name = path.name
        self.step = step
        self.layouts = dict(layouts)
        self._datasets: dict[str, h5py.Dataset] = {}
        # v110 is the oldest format with SWMR, so that older readers understand it; no locks, which NFS and Lustre lack
        # and which the exclusive creation makes needless.
        self._handle = h5py.File(path, "x", libver=("v110", "v110"), locking=False)
        self._descriptor = int(self._handle.id.get_vfd_handle())
        self._reserved = 0
        _open.add(self)
        try:
            self._allocate_to(SLACK_BYTES)
            self._handle.attrs["wavedeck_samples"] = FORMAT_VERSION
            for track, (rate, channels) in self.layouts.items():
                dataset = self._handle.create_dataset(
                    f"tracks/{dataset_name(track)}",
                    shape=(0, channels),
                    maxshape=(None, channels),
                    chunks=(CHUNK_FRAMES, channels),
                    dtype="<f4",
                )
                dataset.attrs["sample_rate"] = rate
                self._datasets[track] = dataset
            self._handle.swmr_mode = True
        except BaseException:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    def fits(self, sounds: Mapping[str, Sound]) -> bool:
        """Whether all of these tracks have their place here."""
        return all(self.layouts.get(track) == sound.layout for track, sound in sounds.items())

    def reserve(self, sounds: Mapping[str, Sound]) -> None:
        """Have the disk set room aside for these tracks, or raise OSError with the file as it was.

        HDF5 does not survive a write that fails: the process dies at the next one or when it ends (SIGSEGV, 2.0).
        """
        chunks = 0
        for track, (_, channels) in self.layouts.items():
            frames = self._datasets[track].shape[0] + (len(sounds[track].samples) if track in sounds else 0)
            chunks += -(-frames // CHUNK_FRAMES) * channels
        self._allocate_to(chunks * (CHUNK_FRAMES * 4 + _INDEX_BYTES) + SLACK_BYTES)

    def _allocate_to(self, end: int) -> None:
        if end > self._reserved:
            _allocate(self._descriptor, self._reserved, end - self._reserved)
            self._reserved = end

    def put(self, sounds: Mapping[str, Sound]) -> dict[str, TrackPlace]:
        """Append an item's tracks and hand them to the system; where they lie now."""
        places = {}
        for track, sound in sounds.items():
            dataset = self._datasets[track]
            start, frames = dataset.shape[0], len(sound.samples)
            if frames:
                dataset.resize(start + frames, axis=0)
            not_finite = 0
            for begin in range(0, frames, FRAMES_AT_ONCE):
                part = as_float32(sound.samples[begin : begin + FRAMES_AT_ONCE])
                not_finite += part.size - int(np.count_nonzero(np.isfinite(part)))
                dataset[start + begin : start + begin + len(part)] = part
            if frames:
                dataset.flush()
            places[track] = TrackPlace(sound.rate, sound.layout[1], start, frames, not_finite)
        return places

    def sync(self) -> None:
        """Have the disk keep what was put here, through a power cut. Raises OSError."""
        _sync(self._descriptor)

    def close(self) -> None:
        """End the file; an error (a full disk) is the business of whoever wrote last."""
        _open.discard(self)
        with contextlib.suppress(Exception):
            self._handle.close()

    def disown(self) -> None:
        """In a forked child: HDF5 would, when the child ends, cut the parent's file to what it was at the fork."""
        nowhere = os.memfd_create("wavedeck") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._descriptor, inheritable=False)
        os.close(nowhere)

    def abandon(self) -> None:
        """After a write that failed all the same (a broken disk): HDF5 may not survive closing, so it stays open."""
        _open.discard(self)
        _abandoned.append(self)


def _allocate(descriptor: int, start: int, length: int) -> None:
    """Set room aside, or raise OSError; where the system cannot, see whether there is as much."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, length)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV):
                raise
    room = os.fstatvfs(descriptor)
    if room.f_bavail * room.f_frsize < 2 * length:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)  # the size is kept with the data; times need not be


def _disown_all() -> None:
    for shelf in list(_open):
        shelf.disown()
    _open.clear()


os.register_at_fork(after_in_child=_disown_all)
