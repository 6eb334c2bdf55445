"""Sample sets for readers, screens and players: made quickly, the same every time, written by the real writer.

Sounds have shape (frames, channels), float32, full scale 1. What only a hostile or broken run would hold is written by
hand (`append_line`, `broken_set`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wavedeck.engine.samples import SampleSet
from wavedeck.engine.samples.writer import SampleWriter

Audio = npt.NDArray[np.float32]
RATE = 16_000
RUDIMENTS = ("flam", "drag", "paradiddle", "single stroke roll")
HOSTILE_NAMES = (
    "../../etc/passwd",
    "a/b",
    "[red]bold[/]",
    "bell\x07\x1b]0;owned\x07",
    "..",
    "",
    "\u202eright",
    "n" * 300,
)
_SYLLABLES = 5.0


def speech_like(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> Audio:
    """A voice's looks: harmonics of a gliding pitch, three formants, syllables and pauses; mono."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * t + seed) + 4 * rng.standard_normal()
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(t)
    for harmonic in range(1, 25):
        frequency = harmonic * pitch
        gain = sum(np.exp(-(((frequency - formant) / 180) ** 2)) for formant in (600 + 40 * seed % 200, 1300, 2500))
        voice += (gain + 0.02) * np.sin(harmonic * phase) * (frequency < rate / 2)
    syllables = np.clip(np.sin(np.pi * _SYLLABLES * t + seed), 0, 1) ** 0.5
    breath = 0.01 * rng.standard_normal(len(t))
    return _mono(0.25 * voice * syllables / max(1e-9, np.abs(voice).max(initial=0)) + breath)


def drum_like(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> Audio:
    """Strokes on a snare: a noise burst and a damped 190 Hz tone every eighth, with accents; mono."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * rate))
    length = int(0.18 * rate)
    decay = np.exp(-np.arange(length) / (0.035 * rate))
    tone = np.sin(2 * np.pi * 190 * np.arange(length) / rate)
    for number, start in enumerate(range(int(0.05 * rate), len(sound), int(0.125 * rate))):
        stroke = (0.5 * rng.standard_normal(length) + 0.6 * tone) * decay * (0.8 if (number + seed) % 4 == 0 else 0.35)
        end = min(len(sound), start + length)
        sound[start:end] += stroke[: end - start]
    return _mono(np.clip(sound, -0.98, 0.98))


def silence(seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> Audio:
    """Digital zero."""
    return np.zeros((int(seconds * rate), channels), np.float32)


def clipping(seconds: float = 2.0, rate: int = RATE) -> Audio:
    """A sine driven into its limits, with a DC offset of 0.1 before."""
    t = np.arange(int(seconds * rate)) / rate
    return _mono(np.clip(2.5 * np.sin(2 * np.pi * 220 * t) + 0.1, -1, 1))


def stereo(seconds: float = 2.0, rate: int = RATE) -> Audio:
    """Speech on the left, drums on the right."""
    return np.concatenate([speech_like(seconds, rate), drum_like(seconds, rate)], axis=1)


def many_channels(seconds: float = 2.0, rate: int = RATE, channels: int = 8) -> Audio:
    """A tone of its own on each channel."""
    t = np.arange(int(seconds * rate))[:, None] / rate
    return (0.3 * np.sin(2 * np.pi * 110 * (1 + np.arange(channels)) * t)).astype(np.float32)


def with_nan(seconds: float = 2.0, rate: int = RATE) -> Audio:
    """Speech with three NaN, one +Inf and one -Inf in the middle."""
    sound = speech_like(seconds, rate)
    middle = len(sound) // 2
    sound[middle : middle + 3] = np.nan
    sound[middle + 10], sound[middle + 11] = np.inf, -np.inf
    return sound


def worse(sound: Audio, amount: float, seed: int = 0) -> Audio:
    """A prediction of `sound`: `amount` 0 is perfect, 1 is noise."""
    noise = 0.2 * np.random.default_rng(seed).standard_normal(sound.shape)
    return ((1 - amount) * sound + amount * noise).astype(np.float32)


def speech_set(
    run_dir: Path, name: str = "val", *, items: int = 6, steps: tuple[int, ...] = (100, 200, 300)
) -> SampleSet:
    """Transcripts: each item at every step, its WER falling; `target` and `prediction`, texts, tags."""
    clips = [speech_like(1.0, seed=item) for item in range(items)]
    words = ["the quick brown fox jumps", "over a lazy dog", "she sells sea shells", "by the sea shore"]
    with SampleWriter(run_dir, name) as writer:
        for number, step in enumerate(steps):
            for item, clean in enumerate(clips):
                wer = round((item + 1) / (items + 1) / (number + 1), 3)
                said = words[item % len(words)]
                writer.log(
                    {"target": (clean, RATE), "prediction": (worse(clean, wer, step), RATE)},
                    step=step,
                    key=f"clip-{item}",
                    metrics={"wer": wer, "snr": 20 - 20 * wer},
                    text={"target": said, "prediction": said.replace("sea", "see") if wer > 0.2 else said},
                    tags=["hard"] if wer > 0.4 else [],
                )
    return SampleSet(run_dir, name).load()


def drum_set(run_dir: Path, name: str = "test", *, items: int = 24, step: int = 400) -> SampleSet:
    """Classes with probabilities; every fifth item is taken for the class after its own."""
    with SampleWriter(run_dir, name) as writer:
        for item in range(items):
            label = item % len(RUDIMENTS)
            predicted = (label + (item % 5 == 0)) % len(RUDIMENTS)
            chances = np.full(len(RUDIMENTS), 0.1)
            chances[predicted] = 0.7
            writer.log(
                {"input": (drum_like(0.5, seed=item), RATE)},
                step=step,
                key=f"rudiment-{item}",
                metrics={"loss": float(-np.log(chances[label]))},
                label=RUDIMENTS[label],
                predicted=RUDIMENTS[predicted],
                probabilities=dict(zip(RUDIMENTS, chances.tolist(), strict=True)),
                parameters={"tempo": (90 + item, 92.5 + item), "swing": (0.5, 0.5 + 0.01 * item)},
                attachments={"notation": b"R L R R L R L L\n"},
            )
    return SampleSet(run_dir, name).load()


def odd_sounds() -> dict[str, tuple[Audio, int]]:
    """One of each kind of sound a player must take, by name: (samples, rate)."""
    return {
        "silence": (silence(0.5), RATE),
        "clipping": (clipping(0.5), RATE),
        "stereo": (stereo(0.5), RATE),
        "8 channels": (many_channels(0.5), RATE),
        "NaN": (with_nan(0.5), RATE),
        "no samples": (silence(0.0), RATE),
        "one sample": (np.full((1, 1), 0.5, np.float32), RATE),
        "4 kHz": (speech_like(0.5, 4000), 4000),
        "192 kHz": (drum_like(0.1, 192_000), 192_000),
    }


def odd_set(run_dir: Path, name: str = "odd", step: int = 1) -> SampleSet:
    """Every odd sound as an item whose key, text field `kind` and tag say what it is, and one for each hostile name."""
    with SampleWriter(run_dir, name) as writer:
        for kind, (sound, rate) in odd_sounds().items():
            writer.log({"target": (sound, rate)}, step=step, key=kind, text={"kind": kind}, tags=[kind])
        for hostile in HOSTILE_NAMES:
            tracks = {hostile: (drum_like(0.1), RATE)}
            writer.log(tracks, step=step, key=hostile, text={hostile: hostile}, tags=[hostile], label=hostile)
    return SampleSet(run_dir, name).load()


def append_line(run_dir: Path, name: str, line: Mapping[str, Any] | bytes) -> None:
    """An index line exactly as given, whatever it says."""
    folder = run_dir / "samples" / name
    folder.mkdir(parents=True, exist_ok=True)
    data = line if isinstance(line, bytes) else json.dumps(dict(line)).encode()
    with open(folder / "index.jsonl", "ab") as handle:
        handle.write(data + b"\n")


def place(frames: int, start: int = 0, rate: int = RATE, channels: int = 1) -> dict[str, int]:
    """A track's entry in an index line."""
    return {"rate": rate, "channels": channels, "start": start, "frames": frames}


def long_clip(run_dir: Path, name: str = "long", seconds: float = 7200.0, rate: int = 48_000) -> SampleSet:
    """Two hours of a file that takes no room: silence that was never written, and one click at each full minute."""
    import h5py

    frames = int(seconds * rate)
    folder = run_dir / "samples" / name
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "step-000001.h5", "w", libver=("v110", "v110")) as handle:
        dataset = handle.create_dataset(
            "tracks/target", shape=(frames, 1), maxshape=(None, 1), chunks=(32768, 1), dtype="<f4"
        )
        for start in range(0, frames, 60 * rate):
            dataset[start] = 0.5
    append_line(
        run_dir, name,
        {"id": "long", "step": 1, "file": "step-000001.h5", "tracks": {"target": place(frames, rate=rate)}},
    )  # fmt: skip
    return SampleSet(run_dir, name).load()


def large_index(run_dir: Path, name: str = "large", items: int = 100_000, *, sound: bool = False) -> SampleSet:
    """An index of many items, unread; with `sound` all of them share one short clip that is there."""
    folder = run_dir / "samples" / name
    folder.mkdir(parents=True, exist_ok=True)
    file, frames = "none.h5", 4000
    if sound:
        with SampleWriter(run_dir, name) as writer:
            writer.log({"target": (drum_like(0.25), RATE)}, step=1, key="clip")
        first = json.loads((folder / "index.jsonl").read_text())
        file, frames = first["file"], first["tracks"]["target"]["frames"]
        (folder / "index.jsonl").unlink()
    rng = np.random.default_rng(0)
    wer, loss = rng.random(items).round(4), rng.random(items).round(4)
    labels, predicted = rng.integers(0, len(RUDIMENTS), items), rng.integers(0, len(RUDIMENTS), items)
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "lazy",
        "dog",
        "and",
        "sells",
        "sea",
        "shells",
        "by",
        "the",
        "shore",
    ]
    picked = rng.integers(0, len(words), (items, 6))
    with open(folder / "index.jsonl", "w") as handle:
        for row in range(items):
            handle.write(
                f'{{"id":"{row * 2654435761 % 2**32:016x}","step":1000,"epoch":1.0,"t":1790000000.0,"file":"{file}",'
                f'"metrics":{{"wer":{wer[row]},"loss":{loss[row]}}},'
                f'"text":{{"target":"{" ".join(words[word] for word in picked[row])} {row}"}},'
                f'"tags":{["[]", chr(91) + chr(34) + "hard" + chr(34) + chr(93)][row % 7 == 0]},'
                f'"label":"{RUDIMENTS[labels[row]]}","predicted":"{RUDIMENTS[predicted[row]]}",'
                f'"tracks":{{"target":{{"rate":16000,"channels":1,"start":0,"frames":{frames}}}}}}}\n'
            )
    return SampleSet(run_dir, name)


def _mono(sound: npt.NDArray[Any]) -> Audio:
    return sound.astype(np.float32)[:, None]
