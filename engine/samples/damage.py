"""Which items lie in files that are not whole: known for a whole set from a look at each file's first bytes.

A file that its writer closed is as long as its superblock says. Of one that is shorter, or that is no HDF5 file, the
items are looked at one by one; all others cost nothing. Only files of this disk are looked at: what is not here of a
copy is on its host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .columns import Mask, SampleColumns
from .faults import DamagedFile, SampleError
from .lines import open_regular
from .superblock import HEAD_BYTES, SIGNATURE, stored_end

MOST_LOOKED_AT = 20_000
"""Items of damaged files that are looked at themselves; more of them count as broken without a look."""


def is_suspicious(path: Path) -> bool:
    """Whether a file is shorter than it says, or does not begin like HDF5. Raises OSError: it cannot be opened."""
    descriptor = open_regular(path)
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
        end = stored_end(head)
        return not head.startswith(SIGNATURE) or (end is not None and os.fstat(descriptor).st_size < end)
    finally:
        os.close(descriptor)


def broken_rows(columns: SampleColumns, directory: Path, check: Callable[[int], None], *, elsewhere: bool) -> Mask:
    """`columns.broken`, and True where a row's file is not there, not HDF5, or cut short before its samples.

    Parameters
    ----------
    check: raises `SampleError` for what is wrong with a row's tracks, `DamagedFile` when nothing in its file opens.
    elsewhere: files that are not here may be on another host.
    """
    broken = columns.broken | ((columns.track_codes >= 0) & (columns.file_codes < 0))
    with_sound = columns.track_codes >= 0
    looked = 0
    for code, name in enumerate(columns.files):
        rows = np.flatnonzero((columns.file_codes == code) & with_sound)
        try:
            if Path(name).name != name or "\0" in name or name in (".", ".."):
                broken[rows] = True
            elif not is_suspicious(directory / name):
                continue
        except FileNotFoundError:
            if not elsewhere:
                broken[rows] = True
            continue
        except OSError:
            broken[rows] = True
            continue
        for place, row in enumerate(rows[columns.current[rows]].tolist()):
            looked += 1
            if looked > MOST_LOOKED_AT:
                broken[rows[place:]] = True
                break
            try:
                check(row)
            except DamagedFile:
                broken[rows] = True
                break
            except SampleError:
                broken[row] = True
    return broken
