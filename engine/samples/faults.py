"""What may be wrong with samples, in words that a terminal can bear."""

from __future__ import annotations

from pathlib import Path

from ..errors import WavedeckError
from ..format import plain


class SampleError(WavedeckError):
    """What was asked of a sample cannot be had; the sentence says why."""


class DamagedFile(SampleError):
    """Nothing in the file can be had: it does not open as HDF5."""


def inside(path: Path, folder: Path) -> Path:
    """`path` without links, or a `SampleError` when it leads out of `folder`."""
    try:
        real = path.resolve(strict=True)
    except RuntimeError:  # what Python before 3.13 says to links in a circle
        raise OSError("its links lead in a circle") from None
    if not real.is_relative_to(folder.resolve()):
        raise SampleError(f"{plain(path.name, 80)} is a link that leads out of its folder; it was not followed.")
    return real


def said(track: str) -> str:
    return f"track {plain(track, 40)!r}"


def reason(error: BaseException) -> str:
    """The last of HDF5's own words, without what could steer a terminal."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return plain(text.splitlines()[0], 120) if text else type(error).__name__
