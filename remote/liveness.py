"""Whether a run's supervisor is alive: asked of the process table, never of a file.

A pid alone proves nothing, because pids are used again. The supervisor carries its run directory in its command line,
so the process must exist, not be a zombie, hold the run id there, and belong to this boot of the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..engine.manifest import SupervisorRecord
from .payload.records import boot_id

SCRIPT = "supervisor.py"


@dataclass(frozen=True, slots=True)
class Living:
    """A supervisor in the process table: its pid and, as far as its command line tells, its attempt."""

    pid: int
    attempt: int | None


def supervisors(run_dir: Path) -> list[Living]:
    """Supervisors of this run that live on this machine, whatever its records say.

    Reads every command line of the machine: for decisions, not for polling. A tmux server that was started by the
    launch names them too, but further back in its command line.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:10]
            at = next((i for i, word in enumerate(words) if Path(word).name == SCRIPT), None)
            if at is None or len(words) <= at + 1 or not _same(Path(words[at + 1]), run_dir):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                number = words[at + 2] if len(words) > at + 2 else ""
                found.append(Living(process.pid, int(number) if number.isdecimal() else None))
        except (psutil.Error, OSError, ValueError):
            continue  # it has ended meanwhile, or is not ours to look at
    return found


def _same(named: Path, run_dir: Path) -> bool:
    """Whether a command line names this run; a directory that was moved since is taken for it by its id."""
    if named.name != run_dir.name:
        return False
    return not named.exists() or os.path.realpath(named) == os.path.realpath(run_dir)


def alive(run_id: str, record: SupervisorRecord) -> bool:
    """Whether the supervisor in `record` lives on this machine. Synchronous, well below a millisecond."""
    if record.boot_id is not None and _boot() is not None and record.boot_id != _boot():
        return False
    import psutil

    try:
        process = psutil.Process(record.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return any(run_id in word for word in process.cmdline())
    except (psutil.Error, OSError, ValueError):
        return False


def orphan(run_id: str, record: SupervisorRecord) -> int | None:
    """The trainer's pid when it outlived its supervisor (it ignored the hang-up); None when it did not."""
    if record.child is None or (record.boot_id is not None and record.boot_id != _boot()):
        return None
    import psutil

    try:
        process = psutil.Process(record.child)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead or process.environ().get("WAVEDECK_RUN_ID") != run_id else record.child
    except (psutil.Error, OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _boot() -> str | None:
    return boot_id()
