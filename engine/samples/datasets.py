"""A track's dataset in an HDF5 file that nobody vouches for: found when it is one we could have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..format import plain
from .faults import SampleError, said
from .ids import dataset_name
from .items import TrackPlace

if TYPE_CHECKING:
    import h5py

MOST_CHUNK_BYTES = 64 * 1024 * 1024
MOST_CHUNKS_CHECKED = 4096


def find_dataset(handle: h5py.File, track: str, file: str) -> h5py.Dataset:
    """The dataset of a track, when it is one that we could have written."""
    import h5py

    name = dataset_name(track)
    group = handle.get("tracks", getlink=True)
    link = handle["tracks"].get(name, getlink=True) if isinstance(group, h5py.HardLink) else None
    if link is None:
        raise SampleError(f"{said(track).capitalize()} is named in the index but is not in {plain(file, 80)}.")
    dataset = handle["tracks"][name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise SampleError(f"{said(track).capitalize()} in {plain(file, 80)} points elsewhere; it was not followed.")
    if dataset.ndim != 2 or dataset.dtype.kind != "f":
        raise SampleError(
            f"{said(track).capitalize()} in {plain(file, 80)} is not sound: {dataset.dtype} of shape {dataset.shape} "
            "instead of floats of shape (frames, channels)."
        )
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize > MOST_CHUNK_BYTES:
        raise SampleError(f"{said(track).capitalize()} in {plain(file, 80)} lies in chunks too large to read.")
    return dataset


def end_of(dataset: h5py.Dataset, place: TrackPlace) -> int:
    """The byte of the file before which the samples of `place` end; of very many chunks, some are looked at.

    HDF5 notices a file that was cut short when it reads there, not when it opens. Chunks that were never written are
    nowhere and read as zeros.
    """
    if not dataset.chunks:
        begin = dataset.id.get_offset()
        row_bytes = dataset.shape[1] * dataset.dtype.itemsize
        return 0 if begin is None else int(begin) + (place.start + place.frames) * row_bytes
    tall, wide = dataset.chunks
    across = range(0, dataset.shape[1], wide)
    tops = range(place.start // tall * tall, place.start + place.frames, tall)
    every = -(-len(tops) * len(across) // MOST_CHUNKS_CHECKED)
    end = 0
    for top in {*tops[::every], tops[-1]}:
        for left in across:
            found = dataset.id.get_chunk_info_by_coord((top, left))
            if found.byte_offset is not None:
                end = max(end, int(found.byte_offset) + int(found.size))
    return end
