"""What one process writes down about its link to a host, for the others here; and what hosts say, made safe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from ..engine.errors import UsageError
from ..engine.files import write_atomic
from ..engine.format import plain
from ..engine.hosts import GpuProcess, LinkRecord, TmuxSession
from ..engine.machine import MachineReading
from ..engine.rundir import Home
from .mirror_files import host_folder

RECORD = "link.json"
FRESH_S = 15.0
"""A record that is older, or from the future, says nothing about now."""


def link_record(home: Home, name: str) -> LinkRecord | None:
    """What another process last said about its link to a host; None when nothing readable is there."""
    path: Path = host_folder(home, name) / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=LinkRecord)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def write_link_record(home: Home, name: str, record: LinkRecord) -> None:
    """Tell the other processes here; a home that cannot be written costs them the news, nothing else."""
    folder = host_folder(home, name)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / RECORD, msgspec.json.encode(record), durable=False)


def is_fresh(record: LinkRecord) -> bool:
    """Whether a record is of now, and the process that wrote it lives."""
    if abs(time.time() - record.written) > FRESH_S:
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's process, but one that is there
    return True


class MirrorLock:
    """The right to copy one host's runs: one process here has it."""

    def __init__(self, home: Home, name: str) -> None:
        self._path = host_folder(home, name) / "mirror.lock"
        self._home = home
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Whether it is ours now.

        Raises
        ------
        UsageError: the home cannot be written.
        """
        if self._descriptor is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._home.runs.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{self._home.root} cannot be written ({error.strerror}): nothing is copied.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def processes_of(header: dict[str, Any]) -> tuple[GpuProcess, ...]:
    """GPU processes as a host told them, at most 256, their texts made safe."""
    found = msgspec.convert(header.get("gpus") or [], list[GpuProcess])[:256]
    return tuple(
        msgspec.structs.replace(
            one,
            name=None if one.name is None else plain(one.name, 200),
            user=None if one.user is None else plain(one.user, 40),
            run=None if one.run is None else plain(one.run, 100),
        )
        for one in found
    )


def sessions_of(header: dict[str, Any]) -> tuple[TmuxSession, ...]:
    """tmux sessions as a host told them, at most 256, their names made safe."""
    found = msgspec.convert(header.get("sessions") or [], list[TmuxSession])[:256]
    return tuple(msgspec.structs.replace(one, name=plain(one.name, 100)) for one in found)


def reading_of(header: dict[str, Any]) -> MachineReading:
    """A reading as a host told it, its texts made safe and its time that of its arrival here.

    Raises
    ------
    msgspec.ValidationError: it is none.
    """
    reading = msgspec.convert({key: value for key, value in header.items() if key != "op"}, MachineReading)
    return safe_reading(reading)


def safe_reading(reading: MachineReading) -> MachineReading:
    """A reading whose texts may be drawn, with the time of its arrival here."""
    gpus = tuple(
        msgspec.structs.replace(gpu, name=None if gpu.name is None else plain(gpu.name, 60))
        for gpu in reading.gpus[:64]
    )
    error = None if reading.gpu_error is None else plain(reading.gpu_error, 300)
    return msgspec.structs.replace(reading, t=time.time(), gpus=gpus, gpu_error=error)
