"""Names and ids that stay the same across steps, runs and machines, and are safe where they are used.

An item's id is a hash of a key its user gives (a file name, a row number) or of what was put in: the target, else the
input. The prediction changes with every step, so it never makes an id while there is another track.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from ..names import is_set_name
from .items import TRACK_ORDER

__all__ = ["audio_id", "dataset_name", "file_name", "identifying_track", "is_set_name", "item_id"]

_ID_BYTES = 8
_FRAMES_AT_ONCE = 1 << 18
_CHANGING = ("prediction", "output", "estimate")
MOST_NAME = 120
"""Characters of a track, text or metric name; longer ones are cut by the writer."""


def item_id(key: object) -> str:
    """16 hexadecimal digits for a key; `str(key)` is what counts."""
    return hashlib.blake2b(str(key).encode("utf-8", "replace"), digest_size=_ID_BYTES).hexdigest()


def audio_id(samples: npt.NDArray[np.float32], rate: int) -> str:
    """The id of a sound, shape (frames, channels), from its rate and every sample."""
    digest = hashlib.blake2b(f"{rate} {samples.shape}".encode(), digest_size=_ID_BYTES)
    for start in range(0, len(samples), _FRAMES_AT_ONCE):
        digest.update(np.ascontiguousarray(samples[start : start + _FRAMES_AT_ONCE], np.dtype("<f4")).data)
    return digest.hexdigest()


def identifying_track(names: Mapping[str, object]) -> str | None:
    """The track whose samples say which item this is."""
    steady = [name for name in names if name not in _CHANGING]
    for name in TRACK_ORDER:
        if name in steady:
            return name
    return steady[0] if steady else next(iter(names), None)


def dataset_name(track: str) -> str:
    """A track's name as one component of an HDF5 path: slashes and what else is special there become `%2F`.

    No two names share one; the empty name is `%`.
    """
    quoted = quote(track, safe=" ()[]+,=@#&", errors="replace")
    return (quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted) or "%"


def file_name(text: str, fallback: str = "unnamed") -> str:
    """A name of a file or folder from any text: no separators, no leading dot, at most 80 characters."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return re.sub(r"\.{2,}", ".", plain).strip("-").lstrip(".-")[:80] or fallback
