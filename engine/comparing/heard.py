"""The sound of a report: the same clips as different runs heard them, packed small enough for one page.

Where runs were evaluated on the same items, those are chosen on which the runs disagree most; each answer is there
once, with the runs that gave it. Runs that share no item bring their own worst ones.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import WavedeckError
from ..samples import SampleItem, SampleSet, sample_sets
from .runs import ComparedRun

ITEMS = 6
"""Clips that can be heard, of all runs together or, where they share none, of each of the first runs."""
MOST_RUNS = 24
MOST_SECONDS = 8.0
"""Longer sounds are cut, and said to be."""
MOST_BYTES = 12 * 2**20
"""Of all sound in the page, as it stands there (base64)."""
MOST_SHARED = 4000
"""Items of a set that are looked at."""
PREFERRED_SETS = ("test", "val")
SOURCE_TRACKS = ("target", "input")


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound as a data URI. `cut`: longer in truth."""

    uri: str
    seconds: float
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What some runs made of a clip."""

    words: str
    right: bool | None
    runs: tuple[str, ...]
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip, and the answers to it, the most common first."""

    name: str
    truth: str
    tags: tuple[str, ...]
    sound: Sound | None
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """`clips` to listen to; `shared`: all runs heard the same ones. `notes`: what is not here, and why."""

    clips: tuple[Clip, ...] = ()
    shared: bool = True
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Packer:
    """Makes data URIs until the page is full."""

    room: int = MOST_BYTES
    left_out: int = 0
    notes: list[str] = field(default_factory=list)

    def pack(self, samples: SampleSet, item: SampleItem, track: str) -> Sound | None:
        """A track as a sound, or None when it is not there, cannot be read or has no room."""
        place = item.tracks.get(track)
        if place is None:
            return None
        frames = min(place.frames, round(MOST_SECONDS * place.rate))
        try:
            wave = samples.audio(item, track, 0, frames)
        except (WavedeckError, OSError) as error:
            self._note(str(error))
            return None
        uri = data_uri(wave, place.rate)
        if len(uri) > self.room:
            self.left_out += 1
            return None
        self.room -= len(uri)
        return Sound(uri, place.seconds, frames < place.frames)

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 5:
            self.notes.append(text)


def data_uri(wave: np.ndarray, rate: int) -> str:
    """Samples (frames, channels) as FLAC of 16 bits, or WAV where FLAC cannot be written; NaN is silence."""
    mono = np.clip(np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0), -1, 1)[:, :2]
    out, kind = io.BytesIO(), "flac"
    try:
        import soundfile

        if not len(mono) or not 8000 <= rate <= 48_000:
            raise ValueError("browsers differ")
        soundfile.write(out, mono, rate, subtype="PCM_16", format="FLAC")
    except (ImportError, OSError, ValueError, RuntimeError):
        import wave as riff

        kind, out = "wav", io.BytesIO()
        with riff.open(out, "wb") as handle:
            handle.setnchannels(mono.shape[1])
            handle.setsampwidth(2)
            handle.setframerate(rate)
            handle.writeframes(np.rint(mono * 32767).astype("<i2").tobytes())
    return f"data:audio/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


def heard(runs: Sequence[ComparedRun], items: int = ITEMS) -> Heard:
    """What can be listened to of these runs; their order is kept."""
    packer = _Packer()
    opened = [(run, found) for run in runs[:MOST_RUNS] if (found := _open(run, packer)) is not None]
    if not opened:
        return Heard(notes=("none of these runs has samples to listen to here.", *packer.notes))
    try:
        chosen = _disputed(opened, items)
        if chosen:
            clips = [_shared_clip(packer, key, members) for key, members in chosen]
        else:
            each = max(1, items // len(opened))
            clips = [clip for run, found in opened for clip in _worst(packer, run, found, each)][: 2 * items]
    finally:
        for _, found in opened:
            found.close()
    notes = list(packer.notes)
    if packer.left_out:
        notes.append(f"{packer.left_out} sounds are left out: a page holds {MOST_BYTES // 2**20} MiB of them.")
    if len(runs) > MOST_RUNS:
        notes.append(f"sound of the first {MOST_RUNS} of {len(runs)} runs.")
    return Heard(tuple(clips), bool(chosen), tuple(notes))


def _open(run: ComparedRun, packer: _Packer) -> SampleSet | None:
    names = sample_sets(run.path)
    name = next((name for name in PREFERRED_SETS if name in names), next(iter(names), None))
    if name is None:
        return None
    try:
        return SampleSet(run.path, name).load()
    except (WavedeckError, OSError) as error:
        packer._note(f"{run.label}: {error}")
        return None


Members = list[tuple[ComparedRun, SampleSet, SampleItem]]


def _disputed(opened: Sequence[tuple[ComparedRun, SampleSet]], most: int) -> list[tuple[str, Members]]:
    """Items that several runs have, by their key, those first whose answers differ most."""
    by_key: dict[str, Members] = {}
    for run, found in opened:
        for key, item in _items(found):
            by_key.setdefault(key, []).append((run, found, item))
    shared = [(key, members) for key, members in by_key.items() if len(members) > 1]

    def dispute(entry: tuple[str, Members]) -> tuple[float, float, str]:
        key, members = entry
        wrong = sum(item.predicted != item.label for _, _, item in members if item.label is not None)
        answers = len({item.predicted for _, _, item in members})
        return -min(wrong, len(members) - wrong) / len(members) - 0.01 * answers, -wrong / len(members), key

    return sorted(shared, key=dispute)[:most]


def _items(found: SampleSet) -> Iterator[tuple[str, SampleItem]]:
    """The newest evaluation of each item that its user called something."""
    columns = found.items
    for row in np.flatnonzero(columns.newest())[:MOST_SHARED].tolist():
        if columns.keys[row]:
            yield columns.keys[row], found.item(row)


def _shared_clip(packer: _Packer, key: str, members: Members) -> Clip:
    """One clip; answers that are the same class are one, others are of their run alone."""
    _, found, first = members[0]
    sound = next((sound for track in SOURCE_TRACKS if (sound := packer.pack(found, first, track))), None)
    groups: dict[object, Members] = {}
    for run, samples, item in members:
        groups.setdefault(item.predicted if item.predicted is not None else run.id, []).append((run, samples, item))
    answers = [_answer(packer, group) for group in sorted(groups.values(), key=len, reverse=True)]
    return Clip(key, first.label or "", first.tags, sound, tuple(answers))


def _answer(packer: _Packer, group: Members) -> Answer:
    _, samples, item = group[0]
    right = None if item.label is None or item.predicted is None else item.label == item.predicted
    sound = None if right else packer.pack(samples, item, "prediction")
    words = item.predicted if item.predicted is not None else _texts(item)
    return Answer(words, right, tuple(other.id for other, _, _ in group), sound)


def _texts(item: SampleItem) -> str:
    """What a model said, or its numbers, where it names no class."""
    said = item.text.get("prediction")
    if said is not None:
        return said
    return ", ".join(f"{name} {value:.3g}" for name, value in list(item.metrics.items())[:3])


def _worst(packer: _Packer, run: ComparedRun, found: SampleSet, most: int) -> Iterator[Clip]:
    """The items of one run with the largest loss, or the first ones."""
    columns = found.items
    rows = np.flatnonzero(columns.newest())[:MOST_SHARED]
    loss = columns.metrics.get("loss")
    if loss is not None:
        rows = rows[np.argsort(-np.nan_to_num(loss[rows], nan=-np.inf), kind="stable")]
    for row in rows[:most].tolist():
        item = found.item(row)
        yield _shared_clip(packer, item.key or item.id, [(run, found, item)])
