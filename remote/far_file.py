"""A file of a run on another host, read by ranges: only what is asked for is fetched, once, and kept here.

Made for arrays of samples: a one-hour recording opens at once, and playing begins before all of it is here. What was
fetched stays readable when the host is gone.

Each version of the file (size and time of change) is a file of its own in the cache, which is never cut: several
readers may share it, and one that still reads an older version keeps that until it lets go.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..engine.files import write_atomic
from ..engine.samples.superblock import Changed, Missing

BLOCK = 256 << 10
MAP = "map"
Fetch = Callable[[int, int], tuple[bytes, int, float]]
"""Gets (offset, count); gives the bytes there, and the size and modification time of the file now. May wait."""


class Kept(msgspec.Struct):
    """Which blocks of a version are here, with a CRC-32 of each: after a power cut the map may be here without them."""

    size: int = 0
    changed: float = 0.0
    blocks: dict[int, int] = {}


class FarFile(io.RawIOBase):
    """A seekable binary stream of a file elsewhere; a `FarStream` for those who must not wait while they read.

    `read` and `seek` are for one thread at a time; `bring` may be called by several, also meanwhile.

    Parameters
    ----------
    fetch: asks the host. Its failures (OSError, WavedeckError) come through as OSError.
    cache: the folder where what was fetched is kept.
    """

    def __init__(self, fetch: Fetch, cache: Path) -> None:
        super().__init__()
        self.waits = True
        self._fetch = fetch
        self._folder = cache
        self._at = 0
        self._strict = True
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        if cache.is_file():  # what earlier versions of Wavedeck kept there
            cache.unlink()
        cache.mkdir(parents=True, exist_ok=True)
        self._kept = self._look()
        name = _version(self._kept)
        self._map = cache / f"{name}.{MAP}"
        self._handle = os.open(cache / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._handle, self._kept.size)  # no change but for a new one, or what a power cut left
        self._here: set[int] = set()
        self._forget_others(name)

    def _look(self) -> Kept:
        """The version there is now, with the blocks that are here of it; when its host is gone, the newest here."""
        try:
            _, size, changed = self._ask(0, 0)
        except OSError:
            maps = sorted(self._folder.glob(f"*.{MAP}"), key=lambda path: path.stat().st_mtime)
            kept = _remembered(maps[-1]) if maps else None
            if kept is None or not kept.size:
                raise
            return kept
        known = _remembered(self._folder / f"{_version(Kept(size, changed))}.{MAP}")
        return known if known is not None and (known.size, known.changed) == (size, changed) else Kept(size, changed)

    def _forget_others(self, name: str) -> None:
        """Other versions: whoever has one open keeps it until he closes it."""
        for path in self._folder.iterdir():
            if path.name not in (name, self._map.name) and not path.name.startswith(".") and path.is_file():
                with contextlib.suppress(OSError):
                    path.unlink()

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
            if self.waits:
                self.bring(self._at, count)
            elif self._missing(self._at, count):
                raise Missing(self._at, count)
            data = os.pread(self._handle, count, self._at)
            if len(data) < count:
                raise OSError(5, "its copy here was cut short")
            view[:count] = data
            self._at += count
        return count

    def close(self) -> None:
        """Wait for nobody: a fetch under way finds it closed."""
        with self._lock:
            if not self.closed:
                os.close(self._handle)
            super().close()

    # --- blocks

    def take_any_version(self) -> None:
        """Take bytes as they are when they are asked for, in a copy that is nobody else's and is not kept.

        For a file that is written to all the time. Readers of it bear a mixture, as those of the file itself do.
        """
        with tempfile.TemporaryFile(dir=self._folder) as own, self._lock:
            os.close(self._handle)
            self._handle = os.dup(own.fileno())
            os.ftruncate(self._handle, self._kept.size)
            self._strict, self._here = False, set()
            self._kept = Kept(self._kept.size, self._kept.changed)

    def bring(self, offset: int, count: int) -> None:
        """Fetch what is not here of a range.

        Raises
        ------
        OSError: it cannot be had. Changed: the file is not the version any more that was opened.
        """
        count = max(0, min(count, self._kept.size - offset))
        missing = self._missing(offset, count)
        try:
            for number in missing:
                with self._fetching:
                    if self._missing(number * BLOCK, 1):
                        self._bring_block(number)
        finally:
            if missing and self._strict:
                self._remember()

    def _missing(self, offset: int, count: int) -> list[int]:
        """Blocks of a range that are not here. One that is said to be here is looked at once."""
        if not count:
            return []
        wanted = range(offset // BLOCK, (offset + count - 1) // BLOCK + 1)
        with self._lock:
            return [number for number in wanted if number not in self._here and not self._found(number)]

    def _found(self, number: int) -> bool:
        check = self._kept.blocks.get(number)
        if check is None or self.closed:
            return False
        if zlib.crc32(os.pread(self._handle, BLOCK, number * BLOCK)) != check:
            del self._kept.blocks[number]
            return False
        self._here.add(number)
        return True

    def _bring_block(self, number: int) -> None:
        start = number * BLOCK
        wanted = min(BLOCK, self._kept.size - start)
        data, size, changed = self._ask(start, wanted)
        if self._strict and (size, changed) != (self._kept.size, self._kept.changed):
            raise Changed(5, "the file was written to while it was read")
        if len(data) < wanted:
            raise OSError(5, "the file became shorter while it was read")
        with self._lock:
            if self.closed:
                raise OSError(9, "it was closed meanwhile")
            os.pwrite(self._handle, data, start)
            self._here.add(number)
            self._kept.blocks[number] = zlib.crc32(data)

    def _remember(self) -> None:
        """Write the map, with what other readers of this version have added to it; none of a version that is gone."""
        with self._lock, contextlib.suppress(OSError):
            if self.closed or not self._kept.blocks or not os.fstat(self._handle).st_nlink:
                return
            others = _remembered(self._map)
            if others is not None:
                self._kept.blocks = others.blocks | self._kept.blocks
            write_atomic(self._map, msgspec.json.encode(self._kept), durable=False)


def _version(kept: Kept) -> str:
    return f"{kept.size}-{kept.changed!r}"


def _remembered(path: Path) -> Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
