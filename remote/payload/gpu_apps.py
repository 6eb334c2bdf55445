"""Which processes hold memory on which GPU, from `nvidia-smi --query-compute-apps`. Pure functions.

Four things make this answer less than it looks. A process name may hold commas, so it is asked for last and is whatever
follows the third one. Inside a container the driver speaks of the process ids of the host, or of none: an empty answer
says nothing about who is alive. With MIG a row may name a slice that is in no list of GPUs. And a driver that cannot
tell prints its failure on standard output.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from .nvidia_rows import number

APP_FIELDS = ("gpu_uuid", "pid", "used_gpu_memory", "process_name")
MAX_APPS = 512
MAX_LINE = 4096
MAX_NAME = 200
MAX_PID = 2**31 - 1

_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]{1,80}")
_PID = re.compile(r"[0-9]{1,10}")
_NO_NAME = ("", "N/A", "-")


def query_apps_argv() -> List[str]:
    """The command: one row per process and GPU, nothing at all when no process uses one."""
    return ["nvidia-smi", "--query-compute-apps={}".format(",".join(APP_FIELDS)), "--format=csv,noheader,nounits"]


def parse_apps(text: str, uuids: Dict[str, int]) -> List[Dict[str, Any]]:
    """Rows `{gpu, pid, memory_mib, name}` from the output; lines that are something else are left out.

    `uuids` is what the GPUs of this host are called: uuid -> index. A row of a device that is not in it has `gpu` None.
    At most MAX_APPS rows are read.
    """
    rows: List[Dict[str, Any]] = []
    for line in text.split("\n"):
        row = parse_app(line, uuids)
        if row is not None:
            rows.append(row)
        if len(rows) >= MAX_APPS:
            break
    return rows


def parse_app(line: str, uuids: Dict[str, int]) -> Optional[Dict[str, Any]]:
    """One process from one line; None when the line is no such row."""
    if len(line) > MAX_LINE:
        return None
    cells = [cell.strip() for cell in line.split(",", 3)]
    if len(cells) != 4 or _UUID.fullmatch(cells[0]) is None or _PID.fullmatch(cells[1]) is None:
        return None
    pid = int(cells[1])
    if not 0 < pid <= MAX_PID:
        return None
    return {"gpu": uuids.get(cells[0]), "pid": pid, "memory_mib": number(cells[2]), "name": _name(cells[3])}


def _name(cell: str) -> Optional[str]:
    """A process name without control characters; None for `[Not Found]`, `[Insufficient Permissions]` and the like."""
    if cell in _NO_NAME or (cell.startswith("[") and cell.endswith("]")):
        return None
    return "".join(char if char.isprintable() else "?" for char in cell[:MAX_NAME])
