"""Reads what `posix_host.sh` prints on a host without Python: blocks of lines, as values.

Everything in them comes from a host: lines and blocks are bounded, what is no number is unknown, and lines with
another key are left out. Noise before a block (a banner of the login shell) is skipped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from ..engine.format import plain
from ..engine.hosts import HostFacts, TmuxSession
from ..engine.machine import GpuReading, MachineReading
from . import tmux
from .payload.nvidia_rows import FIELDS, GpuTable, explain

BEGIN, END = b"wd-begin 1", b"wd-end"
MAX_LINE = 4096
MAX_LINES = 1000
TIMED_OUT = 124
"""Exit status of `timeout`."""
WITHOUT_PYTHON = (
    "there is no python3 on this host: its GPUs and tmux sessions are shown, but runs cannot be started or followed. "
    "Install Python 3.8 or newer there, or set `python` in hosts.toml."
)


@dataclass(frozen=True, slots=True)
class PosixBlock:
    """One block: the host at one moment."""

    reading: MachineReading
    sessions: tuple[TmuxSession, ...] = ()
    facts: HostFacts | None = None
    """What the host is; in the first block only."""
    missing: tuple[str, ...] = field(default=())
    """Programs that are not there; in the first block only."""


class BlockReader:
    """Blocks from a stream of bytes cut anywhere."""

    def __init__(self) -> None:
        self._partial = b""
        self._lines: list[bytes] | None = None
        self._skipping = False

    def feed(self, data: bytes) -> list[PosixBlock]:
        """The blocks that are whole now."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        found = []
        for line in lines:
            too_long, self._skipping = self._skipping or len(line) > MAX_LINE, False
            block = None if too_long else self._take(line.rstrip(b"\r"))
            if block is not None:
                found.append(block)
        if len(self._partial) > MAX_LINE:
            self._partial, self._skipping = b"", True
        return found

    def _take(self, line: bytes) -> PosixBlock | None:
        if line == BEGIN:
            self._lines = []
        elif line == END and self._lines is not None:
            lines, self._lines = self._lines, None
            return parse_block([line.decode("utf-8", "replace") for line in lines])
        elif self._lines is not None and len(self._lines) < MAX_LINES:
            self._lines.append(line)
        return None


def parse_block(lines: list[str], now: float | None = None) -> PosixBlock:
    """The values in the lines of one block.

    Parameters
    ----------
    now: the time here, for a host that does not tell its own.
    """
    values: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value)
    total, available = _kib(values, "memory_total_kib"), _kib(values, "memory_available_kib")
    gpus, gpu_error = _gpus(values)
    told = _number(_first(values, "time"))
    reading = MachineReading(
        t=(time.time() if now is None else now) if told is None else told,
        load_1m=_number(_first(values, "load")),
        memory_used=None if total is None or available is None else max(0, total - available),
        memory_total=total,
        disk_free=_kib(values, "disk_free_kib"),
        disk_total=_kib(values, "disk_total_kib"),
        gpus=gpus,
        gpu_error=gpu_error,
    )
    return PosixBlock(reading, _sessions(values), _facts(values), tuple(_words(values, "missing")))


def _gpus(values: dict[str, list[str]]) -> tuple[tuple[GpuReading, ...], str | None]:
    if "gpu_fields" not in values:
        return (), None
    fields = [word for word in _first(values, "gpu_fields").split(",") if word in FIELDS]
    table = GpuTable(fields)
    table.feed("\n".join(values.get("gpu", [])).encode(), 0.0)
    table.close(0.0)
    gpus = tuple(msgspec.convert(row, GpuReading) for row in table.rows())
    if gpus:
        return gpus, None
    status = _number(_first(values, "gpu_status"))
    if status == TIMED_OUT:
        return (), "nvidia-smi does not answer: the driver hangs or a GPU is lost."
    return (), explain("\n".join(table.other), None if status is None else int(status))


def _sessions(values: dict[str, list[str]]) -> tuple[TmuxSession, ...]:
    ours = tmux.parse_sessions("\n".join(values.get("ours", [])))
    theirs = tmux.parse_sessions("\n".join(values.get("theirs", [])))
    every = [*ours, *(msgspec.structs.replace(session, ours=False) for session in theirs)]
    return tuple(msgspec.structs.replace(session, name=plain(session.name, 100)) for session in every)


def _facts(values: dict[str, list[str]]) -> HostFacts | None:
    if "system" not in values and "host" not in values:
        return None
    cores = _number(_first(values, "cores"))
    programs: dict[str, str | None] = {word: word for word in _words(values, "program")}
    programs |= dict.fromkeys(_words(values, "missing"))
    programs.pop("python3", None)
    return HostFacts(
        hostname=plain(_first(values, "host"), 200),
        user=plain(_first(values, "user"), 64),
        system=plain(_first(values, "system"), 200),
        cores=None if cores is None else int(cores),
        programs=programs,
        boot_id=plain(_first(values, "boot"), 64) or None,
    )


def _first(values: dict[str, list[str]], key: str) -> str:
    return values.get(key, [""])[0]


def _words(values: dict[str, list[str]], key: str) -> list[str]:
    """Names of programs."""
    return [word for word in values.get(key, [])[:20] if word.replace("-", "").isalnum() and len(word) <= 32]


def _kib(values: dict[str, list[str]], key: str) -> int | None:
    """A number of KiB, in bytes."""
    number = _number(_first(values, key))
    return None if number is None else int(number * 1024)


def _number(text: str) -> float | None:
    head, _, rest = text.partition(".")
    plain_digits = head.isascii() and head.isdigit() and (not rest or (rest.isascii() and rest.isdigit()))
    return float(text) if plain_digits and len(text) <= 16 else None
