"""The one-line logger for anyone's training script: `from wavedeck import log; log({"loss": 0.5}, step=10)`.

Standard library only. It finds its run directory in `WAVEDECK_RUN_DIR`, which the supervisor sets; outside a run
every call is a no-op. One `os.write` per line on an `O_APPEND` descriptor, so `kill -9` loses no line that `log`
returned from.
Only rank 0 writes (`RANK`, `SLURM_PROCID`, `OMPI_COMM_WORLD_RANK`). A full disk costs lines, never the training: the
logger counts what it lost and says so in an `alert` as soon as writing works again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any

RUN_DIR_VARIABLE = "WAVEDECK_RUN_DIR"
EVENTS_FILE = "events.jsonl"
_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_MOST_STEP = 2**62
_MOST_AMOUNT = 1e18
_MOST_EPOCH = 1e12
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode


class EventWriter:
    """Appends event lines to one journal.

    Parameters
    ----------
    path: the journal, created when missing. A torn last line left by a killed writer is closed with a newline first,
        so that it spoils itself only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._descriptor: int | None = None
        self._owner = 0
        self._refused: set[str] = set()
        self._torn = False
        self.lost_lines = 0

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event of `kind`; NaN and infinities become strings, unknown objects their `str`."""
        record = {"t": time.time(), "k": kind, **fields}
        try:
            line = _encode(record)
        except ValueError:
            line = _encode(_strict(record))
        self._append(line + "\n")

    def metrics(self, values: Mapping[str, Any], step: int | None = None, epoch: float | None = None) -> None:
        """Append one `metrics` row. Values are anything `float()` takes (tensors, numpy scalars).

        What is no number is left out and said once; never raises because of an argument.
        """
        numbers: dict[str, float | str] = {}
        for key, value in values.items():
            number = value if type(value) is float else _number(value)
            if number is None:
                self._refuse(f"metric {key!r}", value)
            else:
                numbers[str(key)] = number if math.isfinite(number) else _word(number)
        row: dict[str, Any] = {"t": round(time.time(), 4), "k": "metrics"}
        if step is not None:
            place = step if type(step) is int else _number(step)
            if place is None or not -_MOST_STEP < place < _MOST_STEP:
                self._refuse("the step", step)
            else:
                row["step"] = int(place)
        if epoch is not None:
            number = epoch if type(epoch) is float else _number(epoch)
            if number is None or not -_MOST_EPOCH < number < _MOST_EPOCH:
                self._refuse("the epoch", epoch)
            else:
                row["epoch"] = number
        row["v"] = numbers
        self._append(_encode(row) + "\n")

    def progress(self, done: Any, total: Any = None, unit: str = "step", description: str = "") -> None:
        """Append how far the current work is; one whose `done` is no finite number is left out and said once.

        A `total` that is not finite (the length of an endless loader) is unknown.
        """
        count = done if type(done) is int else _number(done)
        if count is None or not -_MOST_AMOUNT < count < _MOST_AMOUNT:
            self._refuse("progress", done)
            return
        whole = total if total is None or type(total) is int else _number(total)
        if total is not None and whole is None:
            self._refuse("the total of progress", total)
        elif whole is not None and not -_MOST_AMOUNT < whole < _MOST_AMOUNT:
            whole = None
        self.write("progress", done=count, total=whole, unit=str(unit), description=str(description))

    def close(self) -> None:
        """Release the descriptor; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _refuse(self, what: str, value: Any) -> None:
        """Say once that an argument is no number we can keep: a typo in a log call must not end a training."""
        if what not in self._refused:
            self._refused.add(what)
            kind = type(value).__name__
            reason = "too large or not finite" if _number(value) is not None else f"{kind} is not one number"
            self.write("log", level="warning", text=f"{what} was not recorded: {reason}")

    def _append(self, line: str) -> None:
        try:
            descriptor = self._descriptor
            if descriptor is None or self._owner != os.getpid():
                descriptor = self._open()
            if self.lost_lines or self._torn:
                self._confess(descriptor)
            self._write_whole(descriptor, line.encode())
        except OSError:
            self.lost_lines += 1

    def _write_whole(self, descriptor: int, data: bytes) -> None:
        """Write `data` in one call. After a short write (the disk just filled up) the torn line still needs its end."""
        written = os.write(descriptor, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError("short write")

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        self._descriptor, self._owner = descriptor, os.getpid()
        return descriptor

    def _confess(self, descriptor: int) -> None:
        """There is room again: end the torn line and say how many were lost."""
        text = f"{self.lost_lines} journal lines were lost: the disk of the run directory was full or not writable."
        line = _encode({"t": time.time(), "k": "alert", "level": "error", "rule": "journal-lost", "text": text})
        self._write_whole(descriptor, ("\n" * self._torn + line + "\n").encode())
        self.lost_lines = 0


def _number(value: Any) -> float | None:
    """One float from a number, a one-element tensor or array; None for anything else."""
    try:
        item = getattr(value, "item", None)
        return float(item()) if item is not None else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _word(number: float) -> str:
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _strict(value: Any) -> Any:
    """The same structure with every non-finite float as its word: strict JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return _word(value)
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value


def is_main_process(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is rank 0 of its job (or no job at all)."""
    for name in _RANK_VARIABLES:
        rank = environ.get(name, "")
        if rank:
            return rank.strip() == "0"
    return True


_writers: dict[str, EventWriter] = {}


def _writer() -> EventWriter | None:
    directory = os.environ.get(RUN_DIR_VARIABLE)
    if not directory:
        return None
    writer = _writers.get(directory)
    if writer is None:
        if not is_main_process():
            return None
        writer = _writers[directory] = EventWriter(os.path.join(directory, EVENTS_FILE))
    return writer


def log(values: Mapping[str, Any], step: int | None = None, epoch: float | None = None) -> None:
    """Record scalar metrics of one step in the run this process belongs to; a no-op outside a run.

    `log({"train/loss": loss, "lr": 1e-4}, step=120)`. Values may be floats, ints, one-element tensors or arrays.
    NaN and infinities are kept and shown. Costs about 10 µs; never raises because of the disk.
    """
    writer = _writer()
    if writer is not None:
        writer.metrics(values, step, epoch)


def progress(done: float, total: float | None = None, unit: str = "step", description: str = "") -> None:
    """Record how far the current work is; `total` may be unknown. A no-op outside a run."""
    writer = _writer()
    if writer is not None:
        writer.progress(done, total, unit, description)
