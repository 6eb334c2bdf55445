"""Run directories on the host: made whole or not at all, records placed atomically, deleted by way of the trash.

Names are checked here whatever the deck has checked: a run is an id, a file inside it a few plain components, and no
symbolic link inside a run directory is followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
from typing import Any, List, Optional, Sequence, Tuple

from .agent_frames import Frame, Refused
from .records import sync_directory

RUN_ID = re.compile(r"[0-9]{8}-[0-9]{4}-[a-z0-9][a-z0-9-]{0,63}")
PLAIN = re.compile(r"[A-Za-z0-9_.+=@-]{1,128}")
DIGEST = re.compile(r"[0-9a-f]{8,64}")
BLOCK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def run_id(value: Any) -> str:
    """`value`, if it is the id of a run. Raises Refused."""
    if not isinstance(value, str) or RUN_ID.fullmatch(value) is None:
        raise Refused("error", "that is no id of a run")
    return value


def inner_name(value: Any, most: int = 3) -> List[str]:
    """The components of a file's name inside a run directory. Raises Refused."""
    parts = value.split("/") if isinstance(value, str) else []
    if not 1 <= len(parts) <= most or not all(PLAIN.fullmatch(part) and part not in (".", "..") for part in parts):
        raise Refused("error", "that is no name of a file in a run")
    return parts


def open_inside(run_dir: str, parts: Sequence[str]) -> int:
    """Open a file of a run for reading, following no link inside the run directory. Raises OSError."""
    if len(parts) == 1:
        return os.open("{}/{}".format(run_dir, parts[0]), _READ)
    folder = open_folder(run_dir, parts[:-1])
    try:
        return os.open(parts[-1], _READ, dir_fd=folder)
    finally:
        os.close(folder)


def open_folder(run_dir: str, parts: Sequence[str]) -> int:
    """Open a folder of a run, following no link inside the run directory. Raises OSError."""
    folder = os.open(run_dir, _FOLDER)
    for part in parts:
        try:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


class Home:
    """Wavedeck's home on this host. Everything here may wait for a disk: call it from a worker."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.runs = os.path.join(root, "runs")
        self.trash = os.path.join(root, "trash")

    def run_dir(self, run: str) -> str:
        """Where a run lies."""
        return os.path.join(self.runs, run)

    def create_run(self, run: str, files: Any, payload: bytes) -> Frame:
        """Make a run directory under a hidden name and rename it when it is whole: no reader sees half a run."""
        contents = _contents(files, payload)
        final = self.run_dir(run)
        if os.path.lexists(final):
            raise Refused("exists", "there is a run {} already".format(run))
        hidden = os.path.join(self.runs, ".{}.{}.new".format(run, secrets.token_hex(4)))
        os.makedirs(self.runs, exist_ok=True)
        try:
            os.mkdir(hidden)
            os.mkdir(os.path.join(hidden, "attempts"), 0o700)
            os.mkdir(os.path.join(hidden, "checkpoints"))
            for parts, data in contents:
                os.makedirs(os.path.join(hidden, *parts[:-1]), exist_ok=True)
                _write_new(os.path.join(hidden, *parts), data, _mode(parts[-1]))
            sync_directory(os.path.join(hidden, "attempts"))
            sync_directory(hidden)
            os.rename(hidden, final)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            if os.path.lexists(final):
                raise Refused("exists", "there is a run {} already".format(run)) from error
            raise
        sync_directory(self.runs)
        return {}

    def place(self, run: str, parts: List[str], data: bytes, exclusive: bool) -> Frame:
        """Put one file into a run, atomically. Raises Refused (`exists`, `missing`)."""
        folder = self._folder(run, parts)
        temporary = ".{}.{}.tmp".format(parts[-1], secrets.token_hex(4))
        try:
            try:
                _write_new(temporary, data, _mode(parts[-1]), folder)
                if exclusive:
                    _link(temporary, parts[-1], folder, data)
                else:
                    os.replace(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except FileExistsError:
                raise Refused("exists", "{} is there already".format("/".join(parts))) from None
            finally:
                _forget(temporary, folder)
            _sync(folder)
        finally:
            os.close(folder)
        return {}

    def withdraw(self, run: str, parts: List[str]) -> Frame:
        """Unlink a file of a run, and say whether it was there: whoever unlinks it decides."""
        folder = self._folder(run, parts, make=False)
        try:
            os.unlink(parts[-1], dir_fd=folder)
            return {"existed": True}
        except FileNotFoundError:
            return {"existed": False}
        finally:
            os.close(folder)

    def exists(self, run: str, parts: List[str]) -> Frame:
        """Whether a file of a run is there."""
        folder = self._folder(run, parts, make=False)
        try:
            os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            return {"existed": True}
        except FileNotFoundError:
            return {"existed": False}
        finally:
            os.close(folder)

    def discard(self, run: str) -> Frame:
        """Take a run out of the runs; `empty_trash` deletes it."""
        os.makedirs(self.trash, exist_ok=True)
        try:
            os.rename(self.run_dir(run), os.path.join(self.trash, "{}.{}".format(run, secrets.token_hex(4))))
        except FileNotFoundError:
            raise Refused("missing", "there is no run {}".format(run)) from None
        return {}

    def empty_trash(self) -> Frame:
        """Delete what was discarded, now or by an agent that was cut off."""
        try:
            names = os.listdir(self.trash)
        except OSError:
            return {}
        for name in names:
            path = os.path.join(self.trash, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                _forget(path, None)
        return {}

    def payload(self, digest: Any, name: Any, data: bytes) -> Frame:
        """Keep one of our own files for the supervisor, once for all runs of the same version."""
        if not isinstance(digest, str) or DIGEST.fullmatch(digest) is None:
            raise Refused("error", "that is no digest")
        if not isinstance(name, str) or PLAIN.fullmatch(name) is None or name.startswith("."):
            raise Refused("error", "that is no plain name of a file")
        folder = os.path.join(self.root, "payload", digest)
        path = os.path.join(folder, name)
        os.makedirs(folder, exist_ok=True)
        existed = _content(path) == data
        if not existed:
            temporary = os.path.join(folder, ".{}.{}.tmp".format(name, secrets.token_hex(4)))
            try:
                _write_new(temporary, data, 0o644)
                os.replace(temporary, path)
            finally:
                _forget(temporary, None)
        return {"path": path, "existed": existed}

    def stat(self, path: Any) -> Frame:
        """Size, time and kind of any path of this host. Raises Refused (`missing`)."""
        try:
            facts = os.stat(self._any(path))
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("missing", "there is no such file") from None
        kind = "file" if stat.S_ISREG(facts.st_mode) else "dir" if stat.S_ISDIR(facts.st_mode) else "other"
        return {"size": facts.st_size, "mtime": facts.st_mtime, "kind": kind}

    def read(self, run: str, name: Any, offset: Any, count: Any) -> Frame:
        """Bytes of a file of a run, with its size and time now; fewer at its end. Raises Refused (`missing`)."""
        parts = inner_name(name, 4)  # samples/SET/attachments/FILE is the deepest
        if not (isinstance(offset, int) and offset >= 0 and isinstance(count, int) and 0 <= count <= BLOCK):
            raise Refused("error", "that is no range")
        try:
            descriptor = open_inside(self.run_dir(run), parts)
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("missing", "there is no such file") from None
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise Refused("error", "that is no regular file")
            data = os.pread(descriptor, count, offset) if count else b""
        finally:
            os.close(descriptor)
        return {"size": facts.st_size, "mtime": facts.st_mtime, "data": data}

    def sha256(self, path: Any, cancelled: threading.Event) -> Frame:
        """The digest of any regular file of this host. Raises Refused (`missing`)."""
        try:
            descriptor = os.open(self._any(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("missing", "there is no such file") from None
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "rb", buffering=0) as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("error", "that is no regular file")
            while not cancelled.is_set():
                block = handle.read(BLOCK)
                if not block:
                    break
                digest.update(block)
                size += len(block)
        return {"sha256": digest.hexdigest(), "size": size}

    def _any(self, path: Any) -> str:
        if not isinstance(path, str) or not path or "\0" in path:
            raise Refused("error", "that is no path")
        return os.path.join(self.root, path)

    def _folder(self, run: str, parts: List[str], make: bool = True) -> int:
        """The folder a file of a run is in, opened. Raises Refused (`missing`)."""
        path = self.run_dir(run)
        try:
            if make and parts[:-1] == ["attempts"] and os.path.isdir(path):
                os.makedirs(os.path.join(path, "attempts"), mode=0o700, exist_ok=True)
            return open_folder(path, parts[:-1])
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("missing", "there is no run {} or no such folder in it".format(run)) from None


def _contents(files: Any, payload: bytes) -> List[Tuple[List[str], bytes]]:
    """The files of a new run, cut out of one payload."""
    found, at = [], 0
    for row in files if isinstance(files, list) else [None]:
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[1], int) or row[1] < 0:
            raise Refused("error", "`files` must be names with lengths")
        found.append((inner_name(row[0]), payload[at : at + row[1]]))
        at += row[1]
    if at != len(payload):
        raise Refused("error", "the lengths of `files` do not add up")
    return found


def _mode(name: str) -> int:
    return 0o600 if name.startswith(".env-") else 0o644


def _write_new(path: str, data: bytes, mode: int, folder: Optional[int] = None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode, dir_fd=folder), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _link(temporary: str, name: str, folder: int, data: bytes) -> None:
    """Give a file its name unless there is one. Raises FileExistsError."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise
    except OSError:  # exFAT, some network mounts: no hard links there
        _write_new(name, data, _mode(name), folder)


def _content(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as handle:
            return handle.read(BLOCK + 1)
    except OSError:
        return None


def _forget(path: str, folder: Optional[int]) -> None:
    try:
        os.unlink(path, dir_fd=folder)
    except OSError:
        return


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError:
        return
