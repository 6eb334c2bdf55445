"""Made-up sounds for pictures: like speech, like drums, silent, clipped, stereo; spectrograms by formula.

The spectrograms are whole decibels that no transform computed, so that their pictures are the same on every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wavedeck.engine.samples.measures import measure
from wavedeck.engine.samples.overview import Overview
from wavedeck.engine.samples.spectrogram import FLOOR_DB, Spectrogram
from wavedeck.widgets.track_view import TrackView

Sound = npt.NDArray[np.float32]
RATE = 16000
BANDS = 80


def speech(seconds: float = 3.0, rate: int = RATE) -> Sound:
    """Syllables: a tone with harmonics that swells and fades, shape (frames, 1)."""
    t = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    swell = np.clip(np.sin(2 * np.pi * 1.7 * t) + 0.4 * np.sin(2 * np.pi * 0.6 * t), 0, 2)
    return np.round(0.3 * tone * swell, 4).astype(np.float32)[:, None]


def drums(seconds: float = 2.0, rate: int = RATE) -> Sound:
    """A hit every quarter of a second, alternating left and right, shape (frames, 2)."""
    t = np.arange(round(seconds * rate)) / rate
    since = t % 0.25
    hit = np.sin(2 * np.pi * 90 * since) * np.exp(-since * 18)
    left = (np.floor(t / 0.25) % 2) == 0
    return np.round(np.stack((hit * (0.3 + 0.6 * left), hit * (0.9 - 0.6 * left)), axis=1), 4).astype(np.float32)


def spectrum_of(kind: str, seconds: float, rate: int = RATE, columns: int = 150) -> Spectrogram:
    """A picture that looks like `kind`, in whole decibels."""
    t = (np.arange(columns) + 0.5)[None, :] * seconds / columns
    band = np.arange(BANDS)[:, None]
    if kind == "drums":
        since = t % 0.25
        db = -8 - 260 * since - 0.35 * band + 0 * band
    elif kind == "speech":
        swell = np.sin(2 * np.pi * 1.7 * t) + 0.4 * np.sin(2 * np.pi * 0.6 * t)
        formants = np.minimum(np.abs(band - 20 - 8 * np.sin(5 * t)), np.abs(band - 48 - 14 * np.sin(3 * t)))
        db = -15 - 2.4 * formants - np.where(swell > 0, 12 * (1 - swell), 200)
    else:
        db = np.full((BANDS, columns), FLOOR_DB)
    mel = np.linspace(0, 1, BANDS + 2)[1:-1]
    centres = np.round(700 * (10 ** (mel * np.log10(1 + rate / 2 / 700)) - 1), 1)
    levels = np.clip(np.round(db), FLOOR_DB, 0).astype(np.float32)
    return Spectrogram(levels, centres, 0, round(seconds * rate))


def track(name: str, sound: Sound, kind: str, letter: str = "", rate: int = RATE, **more: object) -> TrackView:
    """A track of which everything is known."""
    overview = Overview(len(sound), sound.shape[1])
    overview.put(0, sound)
    return TrackView(
        name,
        letter,
        rate,
        sound.shape[1],
        len(sound),
        overview,
        spectrogram=spectrum_of(kind, len(sound) / rate, rate),
        measures=measure(sound, rate),
        **more,  # type: ignore[arg-type]
    )


def speech_tracks() -> tuple[TrackView, ...]:
    """A target and a quieter, shorter prediction."""
    sound = speech()
    return (
        track("target", sound, "speech", "a"),
        track("prediction", (sound[:40000] * np.float32(0.5)).copy(), "speech", "b", note="step 9000"),
    )


def drum_tracks() -> tuple[TrackView, ...]:
    """Stereo, and the same so loud that it clips."""
    sound = drums()
    return (
        track("target", sound, "drums", "a"),
        track("prediction", np.clip(sound * np.float32(3), -1, 1), "drums", "b"),
    )


def odd_tracks() -> tuple[TrackView, ...]:
    """Silence, a hostile name on a faint sound with NaN in it, a track that cannot be read, one still being read."""
    faint = speech(2.0) * np.float32(0.02) + np.float32(0.02)
    faint[8000:8200] = np.nan
    return (
        track("target", np.zeros((24000, 1), np.float32), "silence", "a"),
        track("../evil[red]\x1b[2J", faint, "speech", "b"),
        TrackView("input", "c", RATE, 1, RATE, problem="The file step-000100.h5 is not there: it was deleted."),
        TrackView("later", "d", 48000, 2, 96000),
    )
