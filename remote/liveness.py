"""Whether a run's supervisor is alive: asked of the process table, never of a file.

A pid alone proves nothing, because pids are used again. The supervisor carries its run directory in its command line,
so the process must exist, not be a zombie, hold the run id there, and belong to this boot of the machine.
"""

from __future__ import annotations

from functools import lru_cache

from ..engine.manifest import SupervisorRecord
from .payload.records import boot_id


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
