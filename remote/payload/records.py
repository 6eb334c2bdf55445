"""The supervisor's files: small JSON records, replaced atomically, durable, and possible even on a full disk."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any, Dict, List, Optional

RESERVED_BYTES = 32768
"""Room kept on disk for the exit record: more than its longest tail needs."""
CUT_SHORT = "the launch was cut short before its environment arrived: launch it again."
CLAIM_S = 10.0
"""How long the supervisor of the attempt before may take to go: it has written its exit record by then."""


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """The object in `path`; None when it is missing or is not a JSON object."""
    try:
        with open(path, "rb") as handle:
            value = json.loads(handle.read())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: str, record: Dict[str, Any]) -> None:
    """Replace `path` by `record`: temporary name, fsync, rename, fsync of the directory. Raises OSError."""
    temporary = "{}.{}.tmp".format(_hidden(path), os.getpid())
    try:
        with open(temporary, "wb") as handle:
            handle.write(_encode(record))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        _forget(temporary)
        raise
    sync_directory(os.path.dirname(path))


class ReservedRecord:
    """A record whose disk space is taken in advance, so that it can be written when the disk has filled up since.

    The reserved file is filled with blanks now, overwritten in place later, cut to length and renamed. Where nothing
    could be reserved, `write` falls back to a fresh file.
    """

    def __init__(self, path: str, label: str) -> None:
        self.path = path
        self._reserved: Optional[str] = "{}.{}.reserved".format(_hidden(path), label)
        try:
            with open(self._reserved, "wb") as handle:
                handle.write(b" " * RESERVED_BYTES)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError:
            self.release()

    def write(self, record: Dict[str, Any]) -> None:
        """Put `record` at its path, atomically. Raises OSError when even that is impossible; may be called again."""
        data = _encode(record)
        if self._reserved is None or len(data) > RESERVED_BYTES:
            write_json(self.path, record)
            return
        descriptor = os.open(self._reserved, os.O_WRONLY)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError("short write")
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(self._reserved, self.path)
        self._reserved = None
        sync_directory(os.path.dirname(self.path))

    def keep(self, record: Dict[str, Any], limit_s: float) -> bool:
        """`write`; on a disk that refuses it, go on trying with a smaller record. Whether it was written in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and os.path.isdir(os.path.dirname(self.path)):
            try:
                self.write(record)
                return True
            except OSError:
                self.release()
                record["tail"] = []
                time.sleep(1.0)
        return False

    def release(self) -> None:
        """Give the space back; `write` uses a fresh file from now on."""
        if self._reserved is not None:
            _forget(self._reserved)
            self._reserved = None


def take_environment(path: str) -> Optional[Dict[str, str]]:
    """The environment the launcher left at `path`, which is deleted at once; None when there is none.

    This is how secrets travel: never on a command line, never in a file that stays. Whoever deletes the file decides:
    a launcher that withdrew it first has given the attempt up, and nothing may be started with it any more.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as handle:
        data = handle.read()
    try:
        os.unlink(path)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else None


def claim_attempt(run_dir: str, number: int, wait_s: float = CLAIM_S) -> Optional[List[int]]:
    """The right to run an attempt, as locks that end with this process; None when it must not be run (any more).

    One attempt never runs twice, and one run never has two supervisors: a slow one may come up after its launch was
    given up and a resume has asked for the next attempt. The supervisor of the attempt before, which is about to end,
    is waited for up to `wait_s` seconds. File systems without locks are trusted.

    Raises
    ------
    OSError: there is no record of the attempt, or the run directory cannot be written to.
    """
    folder = os.path.join(run_dir, "attempts")
    held = [os.open(os.path.join(folder, "{:04d}.json".format(number)), os.O_RDONLY | os.O_CLOEXEC)]
    held.append(os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    claimed = _lock(held[0])
    deadline = time.monotonic() + wait_s
    while claimed and not _lock(held[1]):
        claimed = time.monotonic() < deadline and newest_attempt(run_dir) <= number
        time.sleep(0.02)
    ended = (read_json(os.path.join(run_dir, "exit.json")) or {}).get("attempt")
    if claimed and newest_attempt(run_dir) <= number and not (isinstance(ended, int) and ended >= number):
        return held
    for descriptor in held:
        os.close(descriptor)
    return None


def newest_attempt(run_dir: str) -> int:
    """The highest number of an attempt that was asked for; 0 when there is none."""
    names = [name[:-5] for name in os.listdir(os.path.join(run_dir, "attempts")) if name.endswith(".json")]
    return max([int(name) for name in names if name.isdigit()] or [0])


def _lock(descriptor: int) -> bool:
    """Whether the lock is ours now, or cannot be had on this file system by anybody."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def boot_id() -> Optional[str]:
    """Changes with every start of the machine; None where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as handle:
            return handle.read().strip() or None
    except OSError:
        return None


def sync_directory(path: str) -> None:
    """fsync a directory; file systems that cannot are left as they are."""
    try:
        descriptor = os.open(path or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _encode(record: Dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _hidden(path: str) -> str:
    return os.path.join(os.path.dirname(path), "." + os.path.basename(path))


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
