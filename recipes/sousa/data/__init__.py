"""From the tables of a set to batches: which clips, how they are heard, kept in memory, augmented and mixed."""

from .augment import augment_spectrogram, augment_wave
from .batch import Batch, Collate, Item, collate_plain
from .check import check_set
from .clips import Clips, load_clip
from .module import SousaData, split_samples

__all__ = [
    "Batch",
    "Clips",
    "Collate",
    "Item",
    "SousaData",
    "augment_spectrogram",
    "augment_wave",
    "check_set",
    "collate_plain",
    "load_clip",
    "split_samples",
]
