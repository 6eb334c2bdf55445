"""Is this set fit to train on? In words, before the first step.

What the tables alone tell (leaks, duplicates, absent classes, paths that lead astray) is refused when they are read, by
`tables.check_table`, in every stage. Here the sounds are looked at: `headers` opens each file and reads its last
samples, which finds missing, empty, damaged and truncated ones in about a third of a millisecond; of more than 20,000
files it opens an even sample of 20,000 and only looks whether the others exist, so that 100,000 clips take seconds.
`all` reads every file to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ...audio.files import AudioFileError, read_audio
from ..config import SousaConfig
from ..errors import DataError
from ..layouts import names
from ..tables import SPLITS, Sample, Say, check_table, class_names

MOST_OPENED = 20_000
_TAIL = 256
_SHORTER_S, _LONGER_S = 0.5, 6.0
"""How far a file may differ from `duration_sec`: rendering adds a tail, but takes nothing away."""

Progress = Callable[[float, float | None, str, str], None]
"""`Context.progress`: done, total, unit, description."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one file: what is wrong with it, or its rate in Hz."""

    sample: Sample
    fault: str | None
    rate: int = 0


def check_set(
    config: SousaConfig, samples: Sequence[Sample], root: Path, say: Say, progress: Progress | None = None,
    splits: Sequence[str] = SPLITS,
) -> None:  # fmt: skip
    """Look at the set in `root`: at the table of all its `samples`, and at the sounds of `splits`.

    Absent classes in validation and test, rates that differ, and a set without tempi are said as warnings.

    Raises
    ------
    DataError: it is not fit to train on; the sentence names the first five files, players or clips, and how many.
    """
    classes = class_names(config)
    check_table(str(root), samples, classes)
    for split in SPLITS[1:] if "train" in splits else splits:  # before a training, not after it
        say_absent(samples, split, classes, say)
    if config.data.check_audio == "none":
        return
    looked = [sample for sample in samples if sample.split in splits]
    looks = look_at_files(config, looked, say, progress)
    faults = [look for look in looks if look.fault is not None]
    if faults:
        first = "; ".join(f"{look.sample.audio} {look.fault}" for look in faults[:5])
        more = f"; and {len(faults) - 5:,} more" if len(faults) > 5 else ""
        made = "" if config.data.path else f", or delete {root} to have the clips made again"
        raise DataError(
            f"{len(faults):,} of {len(looked):,} sounds cannot be used: {first}{more}. Restore them, or take them out "
            f"of the table{made}."
        )
    _say_rates(config, looks, say)


def say_absent(samples: Sequence[Sample], split: str, classes: Sequence[str], say: Say) -> None:
    """Warn of classes that a split has no clip of.

    Raises
    ------
    DataError: the split is empty.
    """
    heard = {sample.slug for sample in samples if sample.split == split}
    if not heard:
        raise DataError(f"the {split} split is empty: raise data.clips or data.profiles.")
    absent = [slug for slug in classes if slug not in heard]
    if absent:
        say(f"the {split} split has no clip of {names(absent)}: its scores leave them out.", "warning")


def look_at_files(
    config: SousaConfig, samples: Sequence[Sample], say: Say, progress: Progress | None = None
) -> list[Look]:
    """Open the files of `samples` as `data.check_audio` says; in their order, and with a progress bar."""
    thorough = config.data.check_audio == "all"
    step = 1 if thorough else max(1, -(-len(samples) // MOST_OPENED))
    if step > 1:
        say(f"of {len(samples):,} sounds one in {step} is opened (data.check_audio=all reads them all).", "info")
    rate = config.data.sample_rate

    def look(numbered: tuple[int, Sample]) -> Look:
        number, sample = numbered
        if number % step:
            return Look(sample, None if sample.audio.is_file() else "is missing")
        return look_at_file(sample, rate, thorough)

    looks: list[Look] = []
    # Decoding leaves the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(max(1, config.training.workers)) as pool:
        for seen in pool.map(look, enumerate(samples), chunksize=1):
            looks.append(seen)
            if progress is not None:
                progress(len(looks), len(samples), "clip", "check the sounds")
    return looks


def look_at_file(sample: Sample, sample_rate: int, thorough: bool) -> Look:
    """One file: does it open, end where its header says, and fit the table and `data.sample_rate`?"""
    path = sample.audio
    if not path.is_file():
        return Look(sample, "is missing")
    if not path.stat().st_size:
        return Look(sample, "is empty")
    try:
        with soundfile.SoundFile(path) as sound:
            frames, rate = sound.frames, sound.samplerate
            sound.seek(max(0, frames - _TAIL))
            tail = len(sound.read(_TAIL, dtype="float32"))
        wave_S = read_audio(path)[0] if thorough and frames else None
    except (OSError, RuntimeError, AudioFileError):
        return Look(sample, "is damaged or cut short")
    if not frames:
        return Look(sample, "is empty")
    if tail < min(frames, _TAIL):
        return Look(sample, "is cut short")
    if wave_S is not None and not np.isfinite(wave_S).all():
        return Look(sample, "holds samples that are no numbers")
    if rate < sample_rate:
        return Look(sample, f"has {rate} Hz, less than data.sample_rate={sample_rate}")
    seconds, told = frames / rate, sample.duration_s
    if told is not None and not told - _SHORTER_S <= seconds <= told + _LONGER_S:
        return Look(sample, f"lasts {seconds:.1f} s, the table says {told:.1f} s")
    return Look(sample, None, rate)


def _say_rates(config: SousaConfig, looks: Sequence[Look], say: Say) -> None:
    rates = Counter(look.rate for look in looks if look.rate)
    if len(rates) < 2:
        return
    usual = rates.most_common(1)[0][0]
    others = [look for look in looks if look.rate not in (0, usual)]
    listed = names(f"{look.sample.audio.name} ({look.rate} Hz)" for look in others)
    say(
        f"{len(others):,} sounds have another rate than the usual {usual} Hz: {listed}. All are resampled to "
        f"{config.data.sample_rate} Hz.",
        "warning",
    )
