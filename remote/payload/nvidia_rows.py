"""What `nvidia-smi --query-gpu` prints, as dictionaries. Pure functions; used on the run's host and by the deck alike.

Drivers differ in three ways that break naive readers: one unknown field fails the whole query, with its message on
standard output; cells may hold words in brackets instead of numbers; and a GPU that fell off the bus keeps printing
rows, sometimes without even its index, with exit status 0. So fields are dropped one by one as a driver refuses them,
every cell is a number or None, and a lost GPU is a row that says so.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

FIELDS: Tuple[str, ...] = (
    "index",
    "uuid",
    "name",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "power.draw",
    "power.draw.instant",
    "power.limit",
    "clocks.sm",
    "fan.speed",
    "pstate",
    "clocks_event_reasons.active",
    "ecc.errors.uncorrected.volatile.total",
)
OLDER_NAMES = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}
"""Asked for instead when a driver (before 535) refuses the new name."""
THROTTLE_BITS: Tuple[Tuple[int, str], ...] = (
    (0x1, "idle"),
    (0x2, "application clocks"),
    (0x4, "power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal"),
    (0x40, "hardware thermal"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
)
"""Bits of `clocks_event_reasons.active`. `power cap` is normal at full load; slowdown, thermal and brake are not."""

_REFUSED = re.compile(r'Field "([^"]{1,80})" is not a valid field to query')
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(?:\.[0-9]{1,9})?")
_LOST = "GPU is lost"
MAX_GPUS = 64
ROUND_GAP_S = 1.0
"""A pause this long separates two samples of a stream that prints one every two seconds."""
MAX_LINE = 4096


def query_argv(fields: Sequence[str] = FIELDS, every_s: Optional[int] = None) -> List[str]:
    """The command: once, or for ever with one row per GPU every `every_s` seconds."""
    argv = ["nvidia-smi", "--query-gpu={}".format(",".join(fields)), "--format=csv,noheader,nounits"]
    return argv if every_s is None else [*argv, "-l", str(every_s)]


def without_refused(fields: Sequence[str], text: str) -> Optional[List[str]]:
    """The fields to ask for next, after the answer `text` refused one; None when it refused none of them.

    nvidia-smi names a field as it was asked for; a few have an older name, which is tried first.
    """
    match = _REFUSED.search(text)
    if match is None or match.group(1) not in fields:
        return None
    refused = match.group(1)
    older = OLDER_NAMES.get(refused)
    kept = [older if field == refused and older else field for field in fields]
    return [field for field in kept if field != refused]


def parse_row(line: str, fields: Sequence[str], position: Optional[int] = None) -> Optional[Dict[str, Any]]:
    """One GPU from one line, every unknown cell None; None when the line is no such row.

    `position` is the index to assume when the row does not tell its own (a lost GPU).
    """
    if len(line) > MAX_LINE:
        return None
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(fields):
        return None
    row = {field: cells[place] for place, field in enumerate(fields)}
    lost = any(_LOST in cell for cell in cells)
    index = _integer(row.get("index"))
    if index is None:
        index = position if lost else None
    if index is None or not 0 <= index < MAX_GPUS:
        return None
    instant = number(row.get("power.draw.instant"))
    reasons = row.get("clocks_event_reasons.active", row.get("clocks_throttle_reasons.active"))
    return {
        "index": index,
        "uuid": _word(row.get("uuid")),
        "name": _word(row.get("name")),
        "utilization_pct": number(row.get("utilization.gpu")),
        "memory_used_mib": number(row.get("memory.used")),
        "memory_total_mib": number(row.get("memory.total")),
        "temperature_c": number(row.get("temperature.gpu")),
        "power_w": number(row.get("power.draw")) if instant is None else instant,
        "power_limit_w": number(row.get("power.limit")),
        "clocks_sm_mhz": number(row.get("clocks.sm")),
        "fan_pct": number(row.get("fan.speed")),
        "pstate": _word(row.get("pstate")),
        "throttle": None if lost else throttle_words(reasons),
        "ecc_errors": _integer(row.get("ecc.errors.uncorrected.volatile.total")),
        "lost": lost,
    }


def number(cell: Optional[str]) -> Optional[float]:
    """A cell as a number, with or without its unit; None for `[N/A]`, an empty cell and all other words."""
    if not cell:
        return None
    head, _, unit = cell.partition(" ")
    if _NUMBER.fullmatch(head) is None or unit not in ("", "%", "MiB", "W", "MHz", "C", "us"):
        return None
    return float(head)


def throttle_words(cell: Optional[str]) -> Optional[List[str]]:
    """The reasons in a hexadecimal bit mask, as words; empty for none, None when the cell is no mask."""
    if not cell or re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", cell) is None:
        return None
    mask = int(cell, 16)
    return [word for bit, word in THROTTLE_BITS if mask & bit]


def _integer(cell: Optional[str]) -> Optional[int]:
    return int(cell) if cell and re.fullmatch(r"[0-9]{1,15}", cell) else None


def _word(cell: Optional[str]) -> Optional[str]:
    if not cell or cell.startswith("[") or cell == "N/A" or not cell.isprintable():
        return None
    return cell[:80]


class GpuTable:
    """The newest row of every GPU, from a stream of bytes cut anywhere.

    nvidia-smi writes each field by itself and separates samples by nothing, so only whole lines count, and a row
    without an index is taken for the GPU after the one before it.
    """

    def __init__(self, fields: Sequence[str] = FIELDS) -> None:
        self._fields = list(fields)
        self._partial = b""
        self._previous = -1
        self._read_at = float("-inf")
        self._count = 0
        self._rows: Dict[int, Tuple[float, Dict[str, Any]]] = {}
        self.other: List[str] = []
        """Lines that are no rows: error messages. Bounded."""

    def feed(self, data: bytes, t: float) -> None:
        """Take the next bytes, read at time `t` (seconds)."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()[-MAX_LINE:]
        for line in lines:
            self._take(line.decode("utf-8", "replace").strip(), t)

    def close(self, t: float) -> None:
        """The stream has ended: its last line counts without a newline."""
        self.feed(b"\n", t)

    def rows(self, newer_than: float = float("-inf")) -> List[Dict[str, Any]]:
        """The newest row of each GPU read after `newer_than`, by index."""
        return [row for _, (t, row) in sorted(self._rows.items()) if t > newer_than]

    def _take(self, line: str, t: float) -> None:
        if not line:
            return
        row = parse_row(line, self._fields, self._following(t))
        if row is None:
            self.other = [*self.other[-7:], line[:300]]
            return
        if row["index"] <= self._previous:
            self._count = max(self._count, self._previous + 1)
        self._previous, self._read_at = row["index"], t
        self._rows[row["index"]] = (t, _keep_names(row, self._rows.get(row["index"])))

    def _following(self, t: float) -> int:
        """The index after the previous row's: 0 again after a pause, or once a whole round is known to be over."""
        following = self._previous + 1
        if t - self._read_at > ROUND_GAP_S:
            self._count = max(self._count, following)
            return 0
        return 0 if self._count and following >= self._count else following


def _keep_names(row: Dict[str, Any], before: Optional[Tuple[float, Dict[str, Any]]]) -> Dict[str, Any]:
    """A lost GPU keeps the name it had."""
    if before is not None and row["lost"]:
        for key in ("uuid", "name"):
            row[key] = row[key] or before[1][key]
    return row


_SENTENCES: Tuple[Tuple[str, str], ...] = (
    ("couldn't communicate with the NVIDIA driver", "the NVIDIA driver is not loaded on this host."),
    ("couldn't find libnvidia-ml", "this container was started without GPU access (libnvidia-ml.so is missing)."),
    (
        "Driver/library version mismatch",
        "the host's NVIDIA driver was upgraded under running programs: restart the container or the machine.",
    ),
    (
        "Failed to initialize NVML: Unknown Error",
        "the container lost its GPU devices: a running training may go on, a new one cannot start. Back up now.",
    ),
    ("GPU is lost", "a GPU fell off the bus: save what can be saved and move to another host."),
    (
        "Unable to determine the device handle",
        "a GPU fell off the bus: save what can be saved and move to another host.",
    ),
    ("No devices were found", "the driver works but sees no GPU."),
    ("Insufficient Permissions", "this user may not read the GPU."),
    ("Not supported on the device", "this GPU does not support the query."),
    ("is not a valid field to query", "this driver refuses a field that was asked for."),
)
_STATUSES = {
    9: "the NVIDIA driver is not loaded on this host.",
    12: "this container was started without GPU access (libnvidia-ml.so is missing).",
    15: "a GPU fell off the bus: save what can be saved and move to another host.",
    127: "there is no nvidia-smi on this host.",
}


def explain(text: str, status: Optional[int] = None) -> Optional[str]:
    """A sentence for what nvidia-smi printed or how it exited; None when neither tells of a failure."""
    for mark, sentence in _SENTENCES:
        if mark in text:
            return sentence
    if status in _STATUSES:
        return _STATUSES[status]
    return None if not status else "nvidia-smi failed with exit status {}.".format(status)
