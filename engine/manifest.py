"""The launcher's and the supervisor's records of a run, as frozen values with strict JSON on disk.

`manifest.json` is written once, before anything starts. Everything that happens later has its own file, so that no
two writers ever share one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import RunDirError
from .files import write_atomic

FORMAT_VERSION = 1


class GitState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the code stood: commit hash and whether the tree had changes."""

    commit: str
    dirty: bool = False


class Headline(msgspec.Struct, frozen=True):
    """The metric a run is judged by: its journal key and whether larger is better."""

    metric: str
    direction: str = "min"  # "min" or "max"

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a > b if self.direction == "max" else a < b


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a run is. No secrets ever stand here."""

    id: str
    name: str
    created: float
    format: int = FORMAT_VERSION
    recipe: str | None = None
    stage: str | None = None
    preset: str | None = None
    overrides: list[str] = []
    command: list[str] = []
    """What is executed, as an argv list."""
    config: dict[str, Any] = {}
    """The resolved config; empty for a foreign command."""
    signature: str | None = None
    """Hash of the resolved config: equal signatures are the same experiment."""
    host: str = "local"
    cwd: str | None = None
    git: GitState | None = None
    packages: dict[str, str] = {}
    parent: str | None = None
    parent_step: int | None = None
    """The step of the parent's checkpoint that a moved run goes on from; 0 when it begins anew."""
    headline: Headline | None = None
    columns: list[str] = []
    """Journal keys of the loss table, in order; empty means every metric."""
    price_per_hour: float | None = None
    """What the machine costs, where its user said so: the basis of a run's cost."""
    gpus: list[int] = []
    """Indices of the GPUs it was given; empty when nobody chose, or when it was to see none."""
    tags: list[str] = []
    batch: str | None = None
    """The batch that a run was planned with; its runs wait for each other in the queue."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One launch or resume, created exclusively by whoever asked for it; the supervisor runs it."""

    attempt: int
    requested: float
    argv: list[str]
    cwd: str
    env: dict[str, str] = {}
    grace_s: list[float] = msgspec.field(default_factory=lambda: [10.0, 10.0])
    """Seconds from SIGINT to SIGTERM, and from SIGTERM to SIGKILL, once a stop is asked for."""
    parse_console: bool = False
    patterns: list[str] = []
    resume: bool = False
    stage: str | None = None
    """The one stage of the recipe that this attempt runs; None is what the manifest says."""
    checkpoint: str | None = None
    """Name of the checkpoint that the stage is to use; None leaves the choice to it."""
    restarts: int = 0
    """How often its supervisor may start the next attempt by itself after a crash, all attempts since a user started
    one taken together."""
    restarted: int = 0
    """Which of those restarts this attempt is; 0 when a user started it."""
    crash: str | None = None
    """How the attempt before ended, in words, when this one is a restart."""
    crash_step: int | None = None
    """The last step that the attempt before told; a restart that comes no further is not restarted."""
    not_before: float | None = None
    """When a restart begins, seconds since the epoch: what crashed may need a moment to go away."""
    backoff_s: float = 2.0
    """Seconds before the first restart; each further one waits twice as long, at most half a minute."""
    after: str | None = None
    """An attempt that only judges a checkpoint: the state that the run was in, and is in again once that is done."""
    columns: int = 120
    rows: int = 40


class SupervisorRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Written by the supervisor once the child runs: who to ask whether this run is alive."""

    attempt: int
    pid: int
    started: float
    child: int | None = None
    boot_id: str | None = None
    session: str | None = None
    """tmux session, or None when the supervisor runs without tmux."""


class StopRequest(msgspec.Struct, frozen=True):
    """Written by whoever wants the run to end; the supervisor polls for it and escalates."""

    attempt: int
    t: float


class ExitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt ended, told by the process that waited for it."""

    attempt: int
    ended: float
    started: float | None = None
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    stop_requested: bool = False
    error: str | None = None
    """Why the command could not even be started."""
    fenced: str | None = None
    """The run that took over, when the supervisor ended this one because it may no longer write."""
    not_restarted: str | None = None
    """Why a crash was not followed by another attempt, where restarts had been asked for."""
    tail: list[str] = []


T = TypeVar("T")


def encode(record: msgspec.Struct) -> bytes:
    """Readable JSON of a record, for its file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def write_record(path: Path, record: msgspec.Struct) -> None:
    """Replace `path` atomically by `record`."""
    write_atomic(path, encode(record))


def read_record(path: Path, kind: type[T]) -> T | None:
    """The record in `path`, or None when there is no such file.

    Raises
    ------
    RunDirError: the file exists but cannot be read as a `kind`; the sentence names file and reason.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunDirError(f"{path.name} cannot be read: {error.strerror}.") from error
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path.name} is damaged: {error}.") from error


def read_manifest(path: Path) -> Manifest:
    """The manifest in a run directory.

    Raises
    ------
    RunDirError: missing, damaged, or written by a newer Wavedeck.
    """
    try:
        manifest = read_record(path, Manifest)
    except RunDirError:
        newer = _newer_format(path)
        if newer is None:
            raise
        raise RunDirError(_too_new(newer)) from None
    if manifest is None:
        raise RunDirError("there is no manifest.json: the launch was cut short, or this is not a run directory.")
    if manifest.format > FORMAT_VERSION:
        raise RunDirError(_too_new(manifest.format))
    return manifest


def _newer_format(path: Path) -> int | None:
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    version = raw.get("format") if isinstance(raw, dict) else None
    return version if isinstance(version, int) and version > FORMAT_VERSION else None


def _too_new(version: int) -> str:
    return f"format version {version} is newer than this Wavedeck reads ({FORMAT_VERSION}): upgrade Wavedeck."
