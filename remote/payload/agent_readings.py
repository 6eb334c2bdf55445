"""Readings of the host, and what its user should know: a disk that fills, a GPU that fails."""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Dict, Optional

from . import host_readings as host
from .agent_frames import Frame
from .agent_host import find
from .gpu_stream import EVERY_S, GpuStream

GPU_TURN_S = 0.25
SILENT_S = 30.0
"""How long nvidia-smi may say nothing: without persistence mode a driver takes seconds per GPU to wake up."""
DISK_SHARE, DISK_BYTES = 0.02, 1 << 30
KMSG = "/dev/kmsg"
KMSG_S = 1.0
KMSG_RECORDS = 200
"""Kernel messages that are read in one turn."""
OLD_S = 86400.0
"""Xids from before the agent began are told when they are younger."""
MAX_NOTICES = 20
_XID = re.compile(r"NVRM: Xid \(([^)]{1,60})\): ([0-9]{1,4})(?:, ?(.{0,300}))?")

Tell = Callable[[Frame], None]


class Readings:
    """A `reading` every two seconds."""

    def __init__(self, home: str, tell: Tell) -> None:
        self._home = home
        self._tell = tell
        self._cpu = host.HostCpuMeter()
        self._gpus = GpuStream()
        self._begun = time.monotonic()
        self._heard: Optional[float] = None
        self._nvidia_smi = find("nvidia-smi") is not None
        self._next_gpu = 0.0
        self._next = self._begun + 0.3
        self._low_disk = LowDisk(tell)
        self.index_of: Dict[str, int] = {}
        """GPU index by uuid, as last read."""

    def due(self) -> float:
        """When there is something to do again."""
        return min(self._next, self._next_gpu if self._nvidia_smi else float("inf"))

    def turn(self, now: float) -> None:
        """Take what nvidia-smi printed, and tell a reading when it is time."""
        if self._nvidia_smi and now >= self._next_gpu:
            self._next_gpu = now + GPU_TURN_S
            self._gpus.turn()
        if now >= self._next:
            self._next = now + EVERY_S
            self._tell(self._reading(now))

    def close(self) -> None:
        """End nvidia-smi."""
        self._gpus.close()

    def _reading(self, now: float) -> Frame:
        rows = self._gpus.rows()
        if rows:
            self._heard = now
            self.index_of = {row["uuid"]: row["index"] for row in rows if row["uuid"]}
        used, total = host.memory()
        free, size = host.disk(_existing(self._home))
        self._low_disk.look(self._home, free, size)
        return {
            "op": "reading",
            "t": round(time.time(), 3),
            "host_cpu_pct": _rounded(self._cpu.read(), 1),
            "load_1m": _rounded(host.load_1m(), 2),
            "memory_used": used,
            "memory_total": total,
            "disk_free": free,
            "disk_total": size,
            "gpus": rows,
            "gpu_error": None if rows else self._gpu_error(now),
        }

    def _gpu_error(self, now: float) -> Optional[str]:
        silent = now - (self._begun if self._heard is None else self._heard)
        if self._gpus.error is None and self._nvidia_smi and silent > SILENT_S:
            return "nvidia-smi does not answer: the driver hangs or a GPU is lost."
        return self._gpus.error


class LowDisk:
    """Tells once that the disk is almost full, and again only after it was better."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = False

    def look(self, path: str, free: Optional[int], size: Optional[int]) -> None:
        """What `statvfs` says of the file system of `path` now."""
        if free is None or not size:
            return
        if free < DISK_BYTES or free < DISK_SHARE * size:
            if not self._told:
                text = "the disk of {} is almost full: {:.1f} GiB are left ({:.1f} %)."
                self._tell({"op": "notice", "text": text.format(path, free / (1 << 30), 100 * free / size)})
            self._told = True
        elif free > 2 * DISK_BYTES and free > 2 * DISK_SHARE * size:
            self._told = False


class KernelLog:
    """Xids (GPU errors) in the kernel's log, where it may be read: the last day's once, then as they come."""

    def __init__(self, tell: Tell, path: str = KMSG) -> None:
        self._tell = tell
        self._told = 0
        self._next = 0.0
        try:
            self._descriptor: Optional[int] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None

    def due(self) -> float:
        """When there is something to do again."""
        return float("inf") if self._descriptor is None else self._next

    def turn(self, now: float) -> None:
        """Read some records; one `read` gives one."""
        if self._descriptor is None or now < self._next:
            return
        self._next = now + KMSG_S
        for _ in range(KMSG_RECORDS):
            try:
                record = os.read(self._descriptor, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # the ring has lapped us: the next read goes on with its oldest record
            except OSError:
                record = b""
            if not record:
                self.close()
                return
            self._take(record)
        self._next = now  # there is more

    def close(self) -> None:
        """Look no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, record: bytes) -> None:
        if b"Xid" not in record:
            return
        age_s = _age_s(record)
        text = xid_sentence(record.decode("utf-8", "replace"), time.time() - age_s)
        if text is not None and age_s < OLD_S and self._told < MAX_NOTICES:
            self._told += 1
            self._tell({"op": "notice", "text": text})


def xid_sentence(record: str, t: float) -> Optional[str]:
    """A sentence for a kernel message about an Xid that was logged at `t`; None for any other message."""
    match = _XID.search(record)
    if match is None:
        return None
    device, number, rest = match.group(1), match.group(2), (match.group(3) or "").strip().rstrip(".")
    clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(t))
    return "the driver reported Xid {} on {} at {}{}.".format(number, device, clock, ": " + rest if rest else "")


def _age_s(record: bytes) -> float:
    """How long ago a kernel message was logged: `priority,sequence,microseconds,flags;text`."""
    try:
        return max(0.0, time.monotonic() - int(record.split(b",", 3)[2]) / 1e6)
    except (ValueError, IndexError):
        return 0.0


def _existing(path: str) -> str:
    """`path`, or the nearest folder above it that exists."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _rounded(value: Optional[float], digits: int) -> Optional[float]:
    return None if value is None else round(value, digits)
