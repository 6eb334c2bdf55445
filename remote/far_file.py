"""A file of a run on another host, read by ranges: only what is asked for is fetched, once, and kept here.

Made for arrays of samples: a one-hour recording opens at once, and playing begins before all of it is here. What was
fetched stays readable when the host is gone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..engine.files import write_atomic

BLOCK = 256 << 10
Fetch = Callable[[int, int], tuple[bytes, int, float]]
"""Gets (offset, count); gives the bytes there, and the size and modification time of the file now. May wait."""


class Kept(msgspec.Struct):
    """Which blocks of which version of a file are here."""

    size: int = 0
    changed: float = 0.0
    blocks: list[int] = []


class FarFile(io.RawIOBase):
    """A seekable binary stream of a file elsewhere. Used by one thread at a time, never by the one that draws.

    Parameters
    ----------
    fetch: asks the host. Its failures (OSError, WavedeckError) come through `read` as OSError.
    cache: where its blocks are kept, a sparse file with a map beside it.
    """

    def __init__(self, fetch: Fetch, cache: Path) -> None:
        super().__init__()
        self._fetch = fetch
        self._path = cache
        self._map = cache.with_name(f"{cache.name}.map")
        self._at = 0
        cache.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(cache, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._kept = self._remembered()
        self._here = set(self._kept.blocks)
        self._look()

    def _remembered(self) -> Kept:
        try:
            return msgspec.json.decode(self._map.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            return Kept()

    def _look(self) -> None:
        """Ask for the file's size now; a file that was written to since is fetched anew."""
        try:
            _, size, changed = self._ask(0, 0)
        except OSError:
            if not self._kept.size:
                raise
            return  # its host is gone: what is here is what there is
        if (size, changed) != (self._kept.size, self._kept.changed):
            self._here.clear()
            self._kept = Kept(size, changed)
            os.ftruncate(self._handle, 0)
            os.ftruncate(self._handle, size)

    def _ask(self, offset: int, count: int) -> tuple[bytes, int, float]:
        try:
            return self._fetch(offset, count)
        except OSError:
            raise
        except Exception as error:
            raise OSError(5, str(error)) from error

    # --- as a stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._kept.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._kept.size - self._at))
        if count:
            self._bring(self._at, count)
            view[:count] = os.pread(self._handle, count, self._at)
            self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()

    # --- blocks

    def _bring(self, offset: int, count: int) -> None:
        """Fetch what is not here of a range."""
        missing = [n for n in range(offset // BLOCK, (offset + count - 1) // BLOCK + 1) if n not in self._here]
        for number in missing:
            start = number * BLOCK
            wanted = min(BLOCK, self._kept.size - start)
            data, _, _ = self._ask(start, wanted)
            if len(data) < wanted:
                raise OSError(5, "the file became shorter while it was read")
            os.pwrite(self._handle, data, start)
            self._here.add(number)
        if missing:
            self._kept.blocks = sorted(self._here)
            write_atomic(self._map, msgspec.json.encode(self._kept), durable=False)
