"""Ends a trainer that has outlived its supervisor: sent over standard input to a host's python3, or called here.

Nobody is left there who would obey a lease. The process must say by its environment that it belongs to the run, and
its group is asked to end before it is made to; a process of that group that does not say so is left alone.

After this script standard input holds one line of JSON; the answer is one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, Dict, List, Optional

GRACE_S = 10.0
KILL_S = 3.0
LOOK_S = 0.1
READ_BYTES = 128 << 10
MARK = b"WAVEDECK_RUN_ID="


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    sys.stdout.write(json.dumps({"answer": end(request["run"], request["pid"])}) + "\n")


def end(run: str, pid: int, grace_s: float = GRACE_S) -> Dict[str, Any]:
    """End it; `left` are the pids that are still there, `why` says what the system said about that."""
    why: Optional[str] = None
    if _run_of(pid) != run:
        return {"left": [], "why": None}
    try:
        leads = os.getpgid(pid) == pid
    except OSError:
        leads = False
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        for member in _members(run, pid, leads):
            try:
                os.kill(member, number)
            except ProcessLookupError:
                continue
            except OSError as error:
                why = error.strerror
        deadline = time.monotonic() + wait_s
        while _members(run, pid, leads):
            if time.monotonic() > deadline:
                break
            time.sleep(LOOK_S)
        else:
            return {"left": [], "why": None}
    return {"left": _members(run, pid, leads), "why": why}


def _members(run: str, pid: int, leads: bool) -> List[int]:
    """The processes of its group that belong to the run; itself alone where it leads none."""
    if not leads:
        return [pid] if _run_of(pid) == run else []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getpgid(int(name)) == pid and _run_of(int(name)) == run:
                    found.append(int(name))
            except OSError:
                continue
    return found


def _run_of(pid: int) -> Optional[str]:
    """The run a process says that it belongs to; None for a zombie, and for what is not ours to look at."""
    try:
        with open("/proc/{}/environ".format(pid), "rb") as handle:
            words = handle.read(READ_BYTES).split(b"\0")
    except OSError:
        return None
    return next((word[len(MARK) :].decode("utf-8", "replace") for word in words if word.startswith(MARK)), None)


if __name__ == "__main__":
    main()
