"""Whether the kernel's out-of-memory killer took the trainer: its counters, looked at before and after.

SIGKILL alone says nothing about who sent it. The kernel counts its own kills per control group (`memory.events` in
version 2, `memory.oom_control` in version 1) and for the whole machine (`/proc/vmstat`). Only a rise within the last
seconds before the death counts, because on a shared machine others are killed too.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

WINDOW_S = 5.0
"""How often the counters are sampled; a rise at most two samples before the death is blamed for it."""


class OomWatch:
    """Samples the counters from before the trainer starts until it has died.

    Parameters
    ----------
    files: the counter files, instead of those of the control groups of `pid`, looked up anew at every sample.

    Attributes
    ----------
    pid: this process until the trainer, which inherits its control groups, has a pid of its own.
    """

    def __init__(self, files: Optional[Sequence[str]] = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.pid = os.getpid()
        self._files = files
        self._clock = clock
        self._samples: List[Tuple[float, Dict[str, int]]] = []
        self.sample()

    def sample(self) -> None:
        """Remember the counters, at most once in `WINDOW_S`; cheap enough for every turn of a loop."""
        now = self._clock()
        if self._samples and now - self._samples[-1][0] < WINDOW_S:
            return
        self._samples = [*self._samples[-1:], (now, self._read())]

    def rose(self) -> bool:
        """Whether a counter is higher now than it was at the older of the last two samples."""
        before = self._samples[0][1]
        known = set(before).union(*(counters for _, counters in self._samples))
        now = {path: oom_kills(path) for path in known}
        return any((now[path] or 0) > self._first(path) for path in known)

    def _first(self, path: str) -> int:
        return next(counters[path] for _, counters in self._samples if path in counters)

    def _read(self) -> Dict[str, int]:
        files = counter_files(self.pid) if self._files is None else self._files
        counts = {path: oom_kills(path) for path in files}
        return {path: count for path, count in counts.items() if count is not None}


def oom_kills(path: str) -> Optional[int]:
    """The number after `oom_kill` in a counter file; None when there is no such file or line."""
    try:
        with open(path) as handle:
            for line in handle:
                words = line.split()
                if len(words) == 2 and words[0] == "oom_kill":
                    return int(words[1])
    except (OSError, ValueError):
        return None
    return None


def counter_files(pid: int, proc: str = "/proc", groups: str = "/sys/fs/cgroup") -> List[str]:
    """Where the kernel counts out-of-memory kills for process `pid`: its control groups, then the whole machine."""
    found = []
    try:
        with open("{}/{}/cgroup".format(proc, pid)) as handle:
            lines = handle.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            found += [os.path.join(groups, path.lstrip("/"), "memory.events"), os.path.join(groups, "memory.events")]
        elif "memory" in controllers.split(","):
            root = os.path.join(groups, "memory")
            found += [os.path.join(root, path.lstrip("/"), "memory.oom_control")]
            found += [os.path.join(root, "memory.oom_control")]
    return [*dict.fromkeys(found), "{}/vmstat".format(proc)]
