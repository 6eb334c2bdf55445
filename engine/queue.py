"""The queue of this machine: runs that were planned and wait for their turn.

A waiting run is a directory with its manifest and `queued.json`, its planned first attempt, and no attempt yet. Whoever
creates the attempt exclusively has started the run, or taken it out: nothing else decides, so that no run starts twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

import msgspec

from .errors import RunDirError, WavedeckError
from .format import plain
from .hosts import MIRROR_FILE
from .manifest import Attempt, read_manifest, read_record, write_record
from .names import RUN_ID
from .run_view import RunView
from .rundir import Home, RunDir
from .state import RunState

QUEUED_FILE = "queued.json"
SETTINGS_FILE = "queue.json"
LOG_FILE = "queue.log"
"""In the home: what the runner could not say anywhere else."""
LOG_TAIL_BYTES = 4096


class Queued(msgspec.Struct, frozen=True):
    """A run's place in the queue and what will be started; written once, by whoever queued it."""

    t: float
    place: int
    attempt: Attempt


class QueueSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the user told the queue."""

    paused: bool = False


def queued_of(run: RunDir) -> Queued | None:
    """A run's place in the queue, whether it waits or has had its turn; None for a run that never was in it.

    Raises
    ------
    RunDirError: the record is damaged.
    """
    return read_record(run.path / QUEUED_FILE, Queued)


def was_queued(run: RunDir) -> bool:
    """Whether a run came through the queue of this machine."""
    return (run.path / QUEUED_FILE).exists() and not (run.path / MIRROR_FILE).exists()


def is_waiting(run: RunDir) -> bool:
    """Whether a run is in the queue and has not had its turn."""
    return was_queued(run) and not _began(run)


def _began(run: RunDir) -> bool:
    try:
        with os.scandir(run.attempts) as entries:
            return any(entry.name.endswith(".json") for entry in entries)
    except FileNotFoundError:
        return False


def queue_runs(home: Home) -> list[RunDir]:
    """Every run that came through the queue, in no order."""
    try:
        names = [path.name for path in home.runs.iterdir() if RUN_ID.match(path.name)]
    except OSError:
        return []
    return [run for run in map(home.run, names) if was_queued(run)]


def waiting(home: Home) -> list[RunDir]:
    """The runs that wait for their turn, the next one first."""
    return sorted((run for run in queue_runs(home) if not _began(run)), key=_order)


def _order(run: RunDir) -> tuple[float, int, str]:
    with contextlib.suppress(RunDirError):
        record = queued_of(run)
        if record is not None:
            return record.t, record.place, run.id
    return 0.0, 0, run.id  # what is damaged comes first, and says so as it is started


def planned_attempt(run: RunDir) -> Attempt:
    """The first attempt of a waiting run; where its record is damaged, what the manifest knows of it.

    Raises
    ------
    RunDirError: neither can be read.
    """
    with contextlib.suppress(RunDirError):
        record = queued_of(run)
        if record is not None:
            return record.attempt
    manifest = read_manifest(run.manifest)
    return Attempt(attempt=1, requested=manifest.created, argv=manifest.command, cwd=manifest.cwd or "/")


def read_settings(home: Home) -> QueueSettings:
    """What the user told the queue; a damaged file counts as paused, so that nothing starts by mistake."""
    try:
        return read_record(home.root / SETTINGS_FILE, QueueSettings) or QueueSettings()
    except RunDirError:
        return QueueSettings(paused=True)


def pause(home: Home, paused: bool) -> None:
    """Start nothing more, or go on. What runs is left alone.

    Raises
    ------
    WavedeckError: the home cannot be written.
    """
    home.ensure_writable()
    try:
        write_record(home.root / SETTINGS_FILE, QueueSettings(paused=paused))
    except OSError as error:
        raise WavedeckError(f"{home.root / SETTINGS_FILE} cannot be written: {error.strerror}.") from error


def last_trouble(home: Home) -> str | None:
    """The last line that the runner left, if it is about what waits now: nothing older than the first of that."""
    first = next(iter(waiting(home)), None)
    if first is None:
        return None
    try:
        if (home.root / LOG_FILE).stat().st_mtime < (first.path / QUEUED_FILE).stat().st_mtime:
            return None
        with open(home.root / LOG_FILE, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL_BYTES))
            lines = log.read(LOG_TAIL_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    return next((plain(line.strip(), 300) for line in reversed(lines) if line.strip()), None)


def places(views: Iterable[RunView]) -> dict[str, int]:
    """The place of every waiting run in the queue, from 1, as far as the views tell (oldest first)."""
    ids = [view.id for view in views if view.state is RunState.QUEUED and not view.is_copy]
    return {run_id: place for place, run_id in enumerate(ids, 1)}


def ordinal(place: int) -> str:
    """`1st`, `2nd`, `11th`."""
    if place % 100 in (11, 12, 13):
        return f"{place}th"
    return f"{place}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th') }"
