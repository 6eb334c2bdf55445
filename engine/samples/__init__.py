"""Eval samples: what a model heard, said and should have said, one item a line, with the sound beside it.

`samples/<set>/index.jsonl` is append-only; HDF5 files beside it hold the sound, one a step. Readers and writers need
not know of each other. Nothing here imports h5py before a sound is read or written.
"""

from .arrays import Audio, OpenFile, finite
from .columns import NO_STEP, SampleColumns
from .faults import SampleError
from .ids import dataset_name, file_name, item_id
from .items import Parameter, SampleItem, TrackPlace
from .reader import SamplePoll, SampleSet, sample_sets

__all__ = [
    "NO_STEP",
    "Audio",
    "OpenFile",
    "Parameter",
    "SampleColumns",
    "SampleError",
    "SampleItem",
    "SamplePoll",
    "SampleSet",
    "TrackPlace",
    "dataset_name",
    "file_name",
    "finite",
    "item_id",
    "sample_sets",
]
