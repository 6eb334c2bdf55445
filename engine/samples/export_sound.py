"""A track as a file that any program opens: WAV or FLAC, whole or not at all.

WAV keeps the float32 samples as they are; one that would pass 4 GiB is an RF64 (EBU Tech 3306), which says so in its
first four bytes and keeps the name `.wav`. FLAC has 24 bits, limits of its own (`flac_limit`), and clips at full scale,
which is counted and said. NaN and infinite samples become silence in both, counted too. Files are written under a
temporary name and renamed when whole.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..format import plain
from .arrays import Audio
from .faults import SampleError
from .items import SampleItem, TrackPlace
from .reader import PART_FRAMES, SampleSet

KINDS = ("wav", "flac")
MOST_WAV_BYTES = 2**32 - 2**16
"""RIFF counts its bytes in 32 bits, headers included; of a longer one libsndfile loses the rest without a word."""
MOST_FLAC_CHANNELS = 8
MOST_FLAC_RATE = 655_350
"""RFC 9639, streaminfo. libFLAC counts frames in 36 bits: 397 hours at 48 kHz, more than an item may have."""
MOST_ODD_FLAC_RATE = 65_535
"""A frame's header has 16 bits for Hz or for tens of Hz; libsndfile writes a file without frames at other rates."""
_FORMATS = {"wav": ("WAV", "FLOAT"), "rf64": ("RF64", "FLOAT"), "flac": ("FLAC", "PCM_24")}
FULL_BYTES = 1 << 20
"""Free space below which a failed write is called a full disk."""
Cancelled = Callable[[], bool]


class ExportCancelled(SampleError):
    """Nobody wants the rest any more."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file. `clipped` samples were beyond full scale (FLAC), `silenced` ones were NaN or infinite."""

    path: Path
    frames: int
    clipped: int = 0
    silenced: int = 0


def export_track(
    samples: SampleSet,
    item: SampleItem,
    track: str,
    path: Path,
    *,
    start: int = 0,
    frames: int | None = None,
    cancelled: Cancelled = lambda: False,
) -> Exported:
    """Write a track, or `frames` frames from `start` on, to `path`; its ending says `.wav` or `.flac`.

    Reads and writes by parts: two hours take no more memory than a second. A file that is there is replaced. A track
    without samples becomes a `.wav` in any case, since no FLAC file can be empty; the answer says where it is.

    Raises
    ------
    SampleError: the samples cannot be read, the file cannot be written or hold them, or `cancelled()` became true.
    """
    place = item.tracks.get(track)
    if place is None:
        raise SampleError(f"The item has no track {plain(track, 40)!r}.")

    def read(begin: int, count: int) -> Audio:
        return samples.audio(item, track, begin, count)

    return export_read(read, track, place, path, start=start, frames=frames, cancelled=cancelled)


def export_read(
    read: Callable[[int, int], Audio],
    track: str,
    place: TrackPlace,
    path: Path,
    *,
    start: int = 0,
    frames: int | None = None,
    cancelled: Cancelled = lambda: False,
) -> Exported:
    """Write what `read(start, frames)` gives, called `track`, with the rate, channels and length of `place`.

    For what is no track of an item, a difference of two; otherwise see `export_track`.

    Raises
    ------
    SampleError: the samples cannot be read, the file cannot be written or hold them, or `cancelled()` became true.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise SampleError(f"{plain(path.name, 80)} is neither .wav nor .flac.")
    limit = flac_limit(place.rate, place.channels) if kind == "flac" else None
    if limit is not None:
        raise SampleError(f"Track {plain(track, 40)!r}: {limit} Export it as .wav.")
    begin = min(max(start, 0), place.frames)
    end = place.frames if frames is None else min(max(start + frames, begin), place.frames)
    if kind == "flac" and begin == end:  # to FLAC a length of zero means that it is not known
        kind, path = "wav", path.with_suffix(".wav")
    if kind == "wav" and (end - begin) * place.channels * 4 > MOST_WAV_BYTES:
        kind = "rf64"
    return _write(path, kind, place.rate, place.channels, _parts(read, begin, end, cancelled))


def flac_limit(rate: int, channels: int) -> str | None:
    """Why FLAC cannot hold such a track, as a sentence; None when it can."""
    if channels > MOST_FLAC_CHANNELS:
        return f"FLAC holds at most {MOST_FLAC_CHANNELS} channels, not {channels}."
    if not 1 <= rate <= MOST_FLAC_RATE:
        return f"FLAC holds rates up to {MOST_FLAC_RATE:,} Hz, not {rate:,}."
    if rate > MOST_ODD_FLAC_RATE and rate % 10:
        return f"FLAC holds rates above {MOST_ODD_FLAC_RATE:,} Hz in tens of Hz only, not {rate:,}."
    return None


def _parts(read: Callable[[int, int], Audio], begin: int, end: int, cancelled: Cancelled) -> Iterator[Audio]:
    for start in range(begin, end, PART_FRAMES):
        if cancelled():
            raise ExportCancelled("The export was cancelled.")
        yield read(start, min(PART_FRAMES, end - start))


def _write(path: Path, kind: str, rate: int, channels: int, parts: Iterator[Audio]) -> Exported:
    soundfile = _soundfile()
    temporary = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    frames = clipped = silenced = 0
    file_format, subtype = _FORMATS[kind]
    try:
        temporary.open("xb").close()  # the system's own words where libsndfile only has "System error"
        with soundfile.SoundFile(
            temporary, "w", samplerate=rate, channels=channels, subtype=subtype, format=file_format
        ) as sound:
            for part in parts:
                good = np.isfinite(part)
                silenced += part.size - int(np.count_nonzero(good))
                part = np.where(good, part, np.float32(0))
                if kind == "flac":
                    clipped += int(np.count_nonzero(np.abs(part) > 1))
                    part = np.clip(part, -1, 1)
                sound.write(part)
                frames += len(part)
        if not _is_whole(soundfile, temporary, frames):  # what libsndfile writes last, it writes without a word
            raise OSError(errno.EIO, "it came out shorter than it is")
        temporary.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise SampleError(f"{path} could not be written ({words_of(error, path.parent)}).") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Exported(path, frames, clipped, silenced)


def _is_whole(soundfile: Any, path: Path, frames: int) -> bool:
    """Whether the last frame is there: the header of a FLAC file promises it even when the disk had no room."""
    with soundfile.SoundFile(path) as sound:
        if sound.frames != frames:
            return False
        if frames:
            sound.seek(frames - 1)
        return len(sound.read(1)) == min(frames, 1)


def words_of(error: Exception, folder: Path) -> str:
    """Why something could not be written."""
    with contextlib.suppress(OSError):
        room = shutil.disk_usage(folder)
        if room.total and room.free < FULL_BYTES:
            return "the disk is full"
    return plain(getattr(error, "strerror", None) or str(error), 160)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise SampleError("Export needs the soundfile package and libsndfile: pip install soundfile.") from error
    return soundfile
