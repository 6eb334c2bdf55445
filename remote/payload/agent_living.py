"""Which processes of a run live: asked of the process table, never of a file. `remote/liveness.py` without psutil.

A pid alone proves nothing, because pids are used again: the supervisor carries its run directory in its command line,
the trainer the run's id in its environment, and both belong to this boot of the machine. A zombie has no command line.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from .records import boot_id, read_json

SCRIPT = "supervisor.py"
READ_BYTES = 128 << 10
PROC = os.path.isdir("/proc/self")
BOOT = boot_id()


def supervisors(run_dir: str) -> List[Tuple[int, Optional[int]]]:
    """Pid and attempt of every supervisor of this run, whatever its records say. Reads the whole process table."""
    found = []
    for pid, words in _table():
        words = words[:10]
        at = next((i for i, word in enumerate(words) if os.path.basename(word) == SCRIPT), None)
        given = [] if at is None else [word for word in words[at + 1 :] if not word.startswith("--")]
        if given and _same(given[0], run_dir):
            number = given[1] if len(given) > 1 else ""
            found.append((pid, int(number) if number.isdecimal() and len(number) < 9 else None))
    return found


def living(run_dir: str) -> Dict[str, Any]:
    """What of a run lives, for an answer."""
    found = supervisors(run_dir)
    record = read_json(os.path.join(run_dir, "supervisor.json")) or {}
    left = None if found else orphan(os.path.basename(run_dir), record)
    return {"supervisors": [list(pair) for pair in found], "orphan": left}


def alive(run: str, record: Dict[str, Any]) -> bool:
    """Whether the supervisor in `record` lives on this machine. Costs some microseconds."""
    pid = _pid(record, "pid")
    if pid is None or not _this_boot(record):
        return False
    if not PROC:
        return _exists(pid)
    return run.encode() in _read("/proc/{}/cmdline".format(pid))


def orphan(run: str, record: Dict[str, Any]) -> Optional[int]:
    """The trainer's pid if it lives, for when its supervisor does not (it ignored the hang-up)."""
    pid = _pid(record, "child")
    if pid is None or not _this_boot(record) or run_of(pid) != run:
        return None
    return pid


def run_of(pid: int) -> Optional[str]:
    """The run a process belongs to, by its environment; None when it has none or is not ours to look at."""
    mark = b"WAVEDECK_RUN_ID="
    for word in _read("/proc/{}/environ".format(pid)).split(b"\0"):
        if word.startswith(mark):
            return word[len(mark) :].decode("utf-8", "replace")[:100]
    return None


def _table() -> List[Tuple[int, List[str]]]:
    """Pid and command line of every process that can be seen."""
    if PROC:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [(pid, _words(_read("/proc/{}/cmdline".format(pid)))) for pid in pids]
    argv = ["ps", "-axww", "-o", "pid=,command="]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split() for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return [(int(row[0]), row[1:]) for row in rows if row and row[0].isdigit()]


def _words(command_line: bytes) -> List[str]:
    return [os.fsdecode(word) for word in command_line.split(b"\0")]


def _same(named: str, run_dir: str) -> bool:
    """Whether a command line names this run; a directory that was moved since is taken for it by its id."""
    if os.path.basename(named) != os.path.basename(run_dir):
        return False
    return not os.path.exists(named) or os.path.realpath(named) == os.path.realpath(run_dir)


def _this_boot(record: Dict[str, Any]) -> bool:
    boot = record.get("boot_id")
    return boot is None or BOOT is None or boot == BOOT


def _pid(record: Dict[str, Any], key: str) -> Optional[int]:
    pid = record.get(key)
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 1 << 31 else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
