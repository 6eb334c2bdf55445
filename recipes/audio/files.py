"""Audio files in and out, through soundfile; every error names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from ...engine.errors import WavedeckError


class AudioFileError(WavedeckError):
    """A sound file is missing, damaged, or not what the recipe needs."""


def write_audio(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write `samples` (S,) or (S, channels), float in -1…1, as FLAC or WAV by the name's ending.

    FLAC gets 16 bit; WAV keeps 32-bit floats. Values past full scale are clipped by FLAC.
    """
    subtype = "FLOAT" if path.suffix.lower() == ".wav" else "PCM_16"
    try:
        soundfile.write(path, samples, sample_rate, subtype=subtype)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioFileError(f"{path} cannot be written: {_reason(error)}.") from error


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """The samples as float32, mono (channels averaged), shape (S,), and the sample rate in Hz.

    Raises
    ------
    AudioFileError: missing, damaged, cut short, or empty; the sentence names the file.
    """
    try:
        with soundfile.SoundFile(path) as sound:
            expected = sound.frames
            samples = sound.read(dtype="float32", always_2d=True)
            rate = sound.samplerate
    except (OSError, soundfile.LibsndfileError) as error:
        if not path.exists():
            raise AudioFileError(f"{path} is missing.") from error
        raise AudioFileError(f"{path} is not a readable sound file: {_reason(error)}.") from error
    if len(samples) < expected or not len(samples):
        raise AudioFileError(f"{path} is cut short: {len(samples)} of {expected} samples.")
    return (samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)), rate


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
