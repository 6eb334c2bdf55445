"""What others ask of a run, in two small files: `stop.json` asks an attempt to end, `lease.json` says who may write.

A lineage (a run and what it was moved to) has one holder. Where the lease names another run, or says by whom this one
was fenced off, this copy of the training must end, and none may start. A lease that cannot be understood counts as
none, because a disk's defect must not end a training, and stands in `supervisor.log`: a lease is only ever replaced as
a whole.
"""

from __future__ import annotations

import os
import re
import time
from typing import Optional, Tuple

from .records import read_json

MAX_ID = 100
_SAFE = re.compile(r"[^A-Za-z0-9._-]")


class Orders:
    """Polls both files of one attempt; a look costs two `stat`.

    Parameters
    ----------
    quiet: somebody else writes to `supervisor.log`.
    """

    def __init__(self, run_dir: str, number: int, quiet: bool = False) -> None:
        self._run_dir = run_dir
        self._quiet = quiet
        self._number = number
        self._stop_seen: Optional[Tuple[int, int]] = None
        self._lease_seen: Optional[Tuple[int, int]] = None
        self._fence: Optional[str] = None

    def stop_asked(self) -> bool:
        """Whether a new `stop.json` asks for the end of this very attempt; one left from an earlier one does not."""
        path = os.path.join(self._run_dir, "stop.json")
        seen = _mark(path)
        if seen is None or seen == self._stop_seen:
            return False
        self._stop_seen = seen
        request = read_json(path)
        return request is not None and request.get("attempt") == self._number

    def fenced_by(self) -> Optional[str]:
        """The run that the lineage went on as, once this one may not write any more."""
        path = os.path.join(self._run_dir, "lease.json")
        seen = _mark(path)
        if seen != self._lease_seen:
            self._lease_seen = seen
            self._fence = None if seen is None else self._read(path)
        return self._fence

    def _read(self, path: str) -> Optional[str]:
        lease = read_json(path) or {}
        holder, fence = lease.get("holder"), lease.get("fenced_by")
        if not isinstance(holder, str) or not holder or not (fence is None or isinstance(fence, str)):
            if not self._quiet:
                say(self._run_dir, "lease.json cannot be understood: it counts as none.")
            return None
        if fence:
            return _SAFE.sub("?", fence)[:MAX_ID]
        return None if holder == os.path.basename(self._run_dir) else _SAFE.sub("?", holder)[:MAX_ID]


def say(run_dir: str, text: str) -> None:
    """One line in `supervisor.log`. Whatever the disk does, nothing is raised."""
    try:
        with open(os.path.join(run_dir, "supervisor.log"), "a") as handle:
            handle.write("{} {}\n".format(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text))
    except OSError:
        return


def _mark(path: str) -> Optional[Tuple[int, int]]:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
