"""Whether the kernel's out-of-memory killer took the trainer: its counters, looked at before and after.

SIGKILL alone says nothing about who sent it, and a launcher whose worker was killed ends with a status of its own. The
kernel counts its kills per control group (`memory.events` in version 2, `memory.oom_control` in version 1) and for the
whole machine (`/proc/vmstat`). The trainer's own group is blamed for any rise during the attempt. The machine's counter
counts only for a SIGKILL, and only within the last seconds before it, because others are killed there too.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

WINDOW_S = 5.0
"""How often the counters are sampled; a rise of the machine's at most two samples before the death is blamed for it."""
MACHINE = "vmstat"
"""The counter file that is everybody's."""


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
        self._at_first: Dict[str, int] = {}
        self.sample()

    def sample(self) -> None:
        """Remember the counters, at most once in `WINDOW_S`; cheap enough for every turn of a loop."""
        now = self._clock()
        if self._samples and now - self._samples[-1][0] < WINDOW_S:
            return
        counters = self._read()
        self._samples = [*self._samples[-1:], (now, counters)]
        for path, count in counters.items():
            self._at_first.setdefault(path, count)

    def took(self, killed: bool) -> bool:
        """Whether an out-of-memory kill explains an end that was a failure.

        Parameters
        ----------
        killed: the command died of SIGKILL, or says (status 137) that what it ran did.
        """
        return any((oom_kills(path) or 0) > self._before(path, killed) for path in self._at_first)

    def _before(self, path: str, killed: bool) -> float:
        """The count above which a kill is blamed for the end."""
        if os.path.basename(path) != MACHINE:
            return self._at_first[path]
        recent = [counters[path] for _, counters in self._samples if path in counters]
        return recent[0] if killed and recent else float("inf")

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
    """Where the kernel counts out-of-memory kills for process `pid`: its control groups, then the whole machine.

    In a container the file system may show the process's own group as the root while its path names the host's.
    """
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
            found.append(_own(groups, path, "memory.events"))
        elif "memory" in controllers.split(","):
            found.append(_own(os.path.join(groups, "memory"), path, "memory.oom_control"))
    return [*dict.fromkeys(found), "{}/vmstat".format(proc)]


def _own(root: str, path: str, name: str) -> str:
    own = os.path.join(root, path.lstrip("/"), name)
    return own if os.path.exists(own) else os.path.join(root, name)
