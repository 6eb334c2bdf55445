"""The data of a run as a `LightningDataModule`: the made set and the public one, behind the same doors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lightning as L
import torch
from torch.utils.data import DataLoader

from ....engine.context import Context
from ....engine.training.stream import ItemKey, Stream
from ..config import SousaConfig
from ..generate import generate, is_done
from ..models.base import FrontEnd
from ..preflight import refuse_label_inputs
from ..tables import Sample, class_names, load_samples, set_directory
from .batch import Batch, Collate, collate_plain
from .check import check_set, say_absent
from .clips import Clips, InputKind


class SousaData(L.LightningDataModule):
    """Clips for training, validation and test, checked, and heard through a network's own front end.

    `setup` reads and checks the set and gives `train_samples`, `validation_samples`, `test_samples`; the data sets
    `train`, `validation`, `test` are there once `hear_through` (or the constructor) has named a front end.

    Raises
    ------
    DataError: `data.inputs` names anything but the sound.
    """

    def __init__(
        self, config: SousaConfig, context: Context, front_end: FrontEnd | None = None,
        input_kind: InputKind = "spectrogram",
    ) -> None:  # fmt: skip
        super().__init__()
        refuse_label_inputs(config.data.inputs)
        self.config, self.context = config, context
        self.front_end, self.input_kind = front_end, input_kind
        self.collate = Collate(config.seed, config.augment.mixup)
        self.collate_plain = collate_plain
        self._samples: list[Sample] | None = None
        self._checked: set[str] = set()
        self._clips: dict[str, Clips] = {}

    def prepare_data(self) -> None:
        """Make the clips, or unpack them, unless they are there."""
        if not is_done(self.config, self.context.data_root):
            generate(self.config, self.context)

    def setup(self, stage: str | None = None) -> None:
        """Read the tables and look at the sounds that `stage` needs: `fit`, `validate`, `test`, or all of them.

        Raises
        ------
        DataError: the set is not fit to train on; the sentence says what to do.
        """
        if self._samples is None:
            self._samples = load_samples(self.config, self.context.data_root, self.context.say)
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(str(stage), _ALL)
        missing = [split for split in wanted if split not in self._checked]
        if missing:
            root = set_directory(self.config, self.context.data_root)
            # The whole table is judged each time; of the sounds only those that are heard now, and each once.
            check_set(self.config, self._samples, root, self.context.say, self.context.progress, missing)
            self._checked.update(missing)

    def hear_through(self, front_end: FrontEnd, input_kind: InputKind) -> None:
        """Hear the clips from now on through this front end, as its network takes them."""
        self.front_end, self.input_kind = front_end, input_kind
        self._clips.clear()

    @property
    def train_samples(self) -> list[Sample]:
        """The training split's clips."""
        return self._of("train")

    @property
    def validation_samples(self) -> list[Sample]:
        """The validation split's clips, of players that training does not hear."""
        return self._of("val")

    @property
    def test_samples(self) -> list[Sample]:
        """The test split's clips, of players that neither training nor validation hears."""
        return self._of("test")

    @property
    def train(self) -> Clips:
        """The training split, augmented where it is asked with an `ItemKey`."""
        return self._heard("train")

    @property
    def validation(self) -> Clips:
        """The validation split."""
        return self._heard("val")

    @property
    def test(self) -> Clips:
        """The test split."""
        return self._heard("test")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches with augmentation and mixup, an epoch at a time, for a trainer of one's own."""
        batches = _Epochs(Stream(len(self.train), self.config.training.batch_size, self.config.seed))
        workers = self.config.training.workers
        return DataLoader(
            self.train, batch_sampler=batches, collate_fn=self.collate, num_workers=workers,
            persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation split, as they are."""
        return self._plain(self.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test split, as they are."""
        return self._plain(self.test)

    def _plain(self, clips: Clips) -> DataLoader[Batch]:
        training = self.config.training
        return DataLoader(
            clips, training.batch_size, shuffle=False, collate_fn=collate_plain, num_workers=training.workers,
            persistent_workers=training.workers > 0, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def _of(self, split: str) -> list[Sample]:
        if self._samples is None:
            raise RuntimeError("setup() comes before the samples")
        return [sample for sample in self._samples if sample.split == split]

    def _heard(self, split: str) -> Clips:
        if self.front_end is None:
            raise RuntimeError("hear_through() comes before the data sets: the network decides how the sound goes in")
        if split not in self._clips:
            left_gib = self.config.data.cache_gib - sum(clips.cache_gib for clips in self._clips.values())
            self._clips[split] = Clips(
                self._of(split), self.config, self.front_end, self.input_kind, self.context.say, left_gib
            )
        return self._clips[split]


_ALL = ("train", "val", "test")


class _Epochs:
    """A `Stream` cut into epochs of whole batches, for loaders that must end; each goes on where the last one ended."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return max(1, self.stream.items // self.stream.batch)

    def __iter__(self) -> Iterator[Sequence[ItemKey]]:
        first = self.stream.position
        self.stream.position += len(self)
        for position in range(first, first + len(self)):
            yield self.stream.batch_at(position)


def split_samples(config: SousaConfig, context: Context, split: str) -> list[Sample]:
    """The clips of one split; says so when some class has none there.

    Raises
    ------
    DataError: the split is empty, or the set is not usable.
    """
    samples = load_samples(config, context.data_root, context.say)
    say_absent(samples, split, class_names(config), context.say)
    return [sample for sample in samples if sample.split == split]
