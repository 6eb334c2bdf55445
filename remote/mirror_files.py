"""The files of a mirrored run here: which names there may be, what is here of them, and which runs stay forgotten."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..engine.errors import RunDirError
from ..engine.files import write_atomic
from ..engine.hosts import MirrorRecord, write_mirror
from ..engine.lineage import Lease
from ..engine.manifest import ExitRecord, read_record
from ..engine.names import SET_NAME
from ..engine.rundir import Home

RECORDS = frozenset(
    {"manifest.json", "supervisor.json", "exit.json", "stop.json", "policy.json", "lease.json", "evaluation.json"}
)
APPENDED = frozenset(
    {"events.jsonl", "console.log", "console.jsonl", "machine.jsonl", "supervisor.log", "checkpoints/manifest.jsonl"}
)
_ATTEMPT = re.compile(r"attempts/[0-9]{4}\.json")
_SAMPLES = re.compile(rf"samples/{SET_NAME}/index\.jsonl")
NAME = re.compile(r"[^/\0]{1,255}")

TAIL_BYTES = 4096
FORGOTTEN = "forgotten.json"


def is_record(name: str) -> bool:
    """Whether `name` is a small file that is replaced as a whole."""
    return name in RECORDS or _ATTEMPT.fullmatch(name) is not None


def is_appended(name: str) -> bool:
    """Whether `name` is a file that only grows."""
    return name in APPENDED or _SAMPLES.fullmatch(name) is not None


def stays(path: Path, data: bytes | None) -> bool:
    """Whether what is here of a record stays, though its host has another (`data`) or none (None).

    A launcher's exit record tells why nothing could be started, and its host never had it. A lease by which a run was
    fenced off here, while its host was away, outweighs the older one that the host comes back with.
    """
    if path.name == "manifest.json":
        return data is None
    if path.name == "exit.json":
        return data is None and _never_started(path)
    if path.name == "lease.json":
        return _outweighs(path, data)
    return False


def _never_started(path: Path) -> bool:
    try:
        record = read_record(path, ExitRecord)
    except RunDirError:
        return False
    return record is not None and record.error is not None


def _outweighs(path: Path, data: bytes | None) -> bool:
    try:
        lease = read_record(path, Lease)
        if lease is None or lease.fenced_by is None:
            return False
        return data is None or msgspec.json.decode(data, type=Lease).generation < lease.generation
    except RunDirError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True


class Copy:
    """One run's copy: where it is and what its `mirror.json` says."""

    def __init__(self, run_id: str, path: Path, record: MirrorRecord) -> None:
        self.id = run_id
        self.path = path
        self.record = record
        self.total = _total(path)
        self.over = False
        """Whether it has reached its limit, and nothing more is appended."""

    def note(self, **changes: Any) -> None:
        """Change what `mirror.json` says, if it changes."""
        record = msgspec.structs.replace(self.record, **changes)
        if record != self.record:
            self.record = record
            write_mirror(self.path, record)


class OpenCopy:
    """An open copy and its size: the offset of the next byte."""

    def __init__(self, descriptor: int, length: int) -> None:
        self.descriptor = descriptor
        self.size = length


def have(place: Path) -> dict[str, list[Any]]:
    """Size and hash of the last bytes of each growing file that is here."""
    found: dict[str, list[Any]] = {}
    for name in (*sorted(APPENDED), *_sample_files(place)):
        try:
            descriptor = os.open(place / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            length = os.fstat(descriptor).st_size
            count = min(length, TAIL_BYTES)
            found[name] = [length, hashlib.sha256(os.pread(descriptor, count, length - count)).hexdigest()]
        finally:
            os.close(descriptor)
    return found


def _sample_files(place: Path) -> Iterable[str]:
    try:
        names = sorted(path.name for path in (place / "samples").iterdir())[:64]
    except OSError:
        return []
    return [name for name in (f"samples/{name}/index.jsonl" for name in names) if _SAMPLES.fullmatch(name)]


def records(place: Path) -> dict[str, str]:
    """Hash of each record that is here."""
    try:
        attempts = [f"attempts/{name}" for name in sorted(path.name for path in (place / "attempts").iterdir())]
    except OSError:
        attempts = []
    found = {}
    for name in (*sorted(RECORDS), *(name for name in attempts if _ATTEMPT.fullmatch(name))):
        with contextlib.suppress(OSError):
            found[name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
    return found


def _total(place: Path) -> int:
    total = 0
    for name in (*APPENDED, *_sample_files(place)):
        for path in ((place / name), *(place / name).parent.glob(f"{Path(name).name}.old-*")):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
    return total


# --- runs that were deleted here while their host was away


def host_folder(home: Home, host: str) -> Path:
    """What this machine keeps about a host."""
    return home.root / "hosts" / host


def forgotten(home: Home, host: str) -> frozenset[str]:
    """Runs of a host that were deleted here and shall not come back."""
    try:
        names = msgspec.json.decode((host_folder(home, host) / FORGOTTEN).read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError):
        return frozenset()
    return frozenset(names)


def forget_run(home: Home, host: str, run_id: str) -> None:
    """Remember that a run was deleted here, so that its host does not bring it back."""
    folder = host_folder(home, host)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{FORGOTTEN}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_atomic(folder / FORGOTTEN, msgspec.json.encode(sorted({*forgotten(home, host), run_id})))
