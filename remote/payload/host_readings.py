"""Readings of the machine and of one run's processes, from /proc where there is one and from `ps` elsewhere.

Every function answers None for what it cannot find out. Times are seconds, sizes bytes, CPU percentages of one core
(200 is two cores busy) for the run and of the whole machine (0 to 100) for the host.
"""

from __future__ import annotations

import os
import subprocess
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

_TICKS = float(os.sysconf("SC_CLK_TCK"))
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One row of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    cpu_s: float
    rss_bytes: int


def processes(proc: str = "/proc") -> List[Process]:
    """The process table."""
    if not os.path.isdir(os.path.join(proc, "self")):
        return _from_ps()
    found = []
    for name in os.listdir(proc):
        if name.isdigit():
            process = _from_stat(proc, name)
            if process is not None:
                found.append(process)
    return found


def _from_stat(proc: str, name: str) -> Optional[Process]:
    """One process from its `stat` line. The command in brackets may itself hold blanks and brackets."""
    try:
        with open("{}/{}/stat".format(proc, name), "rb") as handle:
            fields = handle.read().rpartition(b")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
        parent, group, session = int(fields[1]), int(fields[2]), int(fields[3])
        return Process(int(name), parent, group, session, cpu_s, max(0, int(fields[21])) * _PAGE)
    except (OSError, ValueError, IndexError):
        return None


def _from_ps() -> List[Process]:
    argv = ["ps", "-axo", "pid=,ppid=,pgid=,time=,rss="]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_ps(done.stdout.decode("utf-8", "replace"))


def parse_ps(text: str) -> List[Process]:
    """Processes from `ps -axo pid=,ppid=,pgid=,time=,rss=`; lines that are no rows are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        try:
            pid, parent, group = int(words[0]), int(words[1]), int(words[2])
            found.append(Process(pid, parent, group, group, _clock_s(words[3]), int(words[4]) * 1024))
        except (ValueError, IndexError):
            continue
    return found


def _clock_s(text: str) -> float:
    """Seconds of `[days-][hours:]minutes:seconds[.hundredths]`."""
    days, _, rest = text.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds + 86400 * int(days or 0)


def tree(table: Sequence[Process], root: int) -> List[Process]:
    """The processes of a run: `root`, its descendants, and what shares its group or session, with their descendants."""
    children: Dict[int, List[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    waiting = [p for p in table if p.pid == root or p.group == root or p.session == root]
    seen: Set[int] = set()
    found = []
    while waiting:
        process = waiting.pop()
        if process.pid not in seen:
            seen.add(process.pid)
            found.append(process)
            waiting.extend(children.get(process.pid, []))
    return found


class CpuMeter:
    """CPU time of a set of processes as percent of one core, from one reading to the next."""

    def __init__(self) -> None:
        self._before: Dict[int, float] = {}
        self._t: Optional[float] = None

    def read(self, members: Sequence[Process], t: float) -> Optional[float]:
        """Percent since the reading before; None at the first one. What a process used before it ended is lost."""
        now = {process.pid: process.cpu_s for process in members}
        used = sum(max(0.0, cpu_s - self._before.get(pid, 0.0)) for pid, cpu_s in now.items())
        elapsed = None if self._t is None else t - self._t
        self._before, self._t = now, t
        return 100 * used / elapsed if elapsed and elapsed > 0 else None


class HostCpuMeter:
    """How busy the whole machine is, from one reading of /proc/stat to the next."""

    def __init__(self, path: str = "/proc/stat") -> None:
        self._path = path
        self._before: Optional[Tuple[float, float]] = None
        self.read()

    def read(self) -> Optional[float]:
        """Percent of all cores since the reading before; None where the kernel does not tell."""
        try:
            with open(self._path) as handle:
                ticks = [int(word) for word in handle.readline().split()[1:9]]
            idle, total = float(ticks[3] + ticks[4]), float(sum(ticks))
        except (OSError, ValueError, IndexError):
            return None
        before, self._before = self._before, (idle, total)
        if before is None or total <= before[1]:
            return None
        return max(0.0, 100 * (1 - (idle - before[0]) / (total - before[1])))


def memory(proc: str = "/proc", groups: str = "/sys/fs/cgroup") -> Tuple[Optional[int], Optional[int]]:
    """Memory in use and memory there is: the control group's where it limits, else the machine's."""
    facts = _numbers(os.path.join(proc, "meminfo"))
    total, available = facts.get("MemTotal:"), facts.get("MemAvailable:")
    if total is None:
        return None, None
    total *= 1024
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, used = _number(os.path.join(groups, limit_file)), _number(os.path.join(groups, used_file))
        if limit is not None and used is not None and limit < total:
            cache = _numbers(os.path.join(groups, os.path.dirname(limit_file), "memory.stat"))
            spare = cache.get("total_inactive_file", cache.get("inactive_file", 0))
            return max(0, used - spare), limit
    return (None if available is None else total - available * 1024), total


def disk(path: str) -> Tuple[Optional[int], Optional[int]]:
    """Bytes free for this user, and bytes there are, on the file system of `path`."""
    try:
        facts = os.statvfs(path)
    except OSError:
        return None, None
    return facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize


def load_1m() -> Optional[float]:
    """Load average of the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _number(path: str) -> Optional[int]:
    try:
        with open(path) as handle:
            return int(handle.read())
    except (OSError, ValueError):
        return None


def _numbers(path: str) -> Dict[str, int]:
    """`name value` lines."""
    found = {}
    try:
        with open(path) as handle:
            for line in handle:
                words = line.split()
                if len(words) >= 2 and words[1].isdigit():
                    found[words[0]] = int(words[1])
    except OSError:
        return {}
    return found
