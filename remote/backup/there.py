"""What is asked of a host about the files of a run: whether they are there, what they hash to.

Where a checkpoint lies is told by its line, and a line is data of the host: only plain paths inside the run's own
directory, or inside its working directory, are ever asked for, and the host's helper follows no link below those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.catalog import newest_attempt
from ...engine.checkpoints import CheckpointLine, is_safe_name, is_safe_path
from ...engine.errors import RunDirError, WavedeckError
from ...engine.manifest import read_manifest
from ...engine.names import RUN_ID
from ...engine.rundir import RunDir
from ..mirror_files import APPENDED
from ..provision.there import RemoteHost, ask

SCRIPT = "backup_files.py"
NAMES_BYTES = 384 << 10
"""Of names in one question; together with the helper it must fit into one frame."""
HASH_RATE = 8 << 20
"""Bytes per second that even a busy disk reads: the time a hash there may take."""
ANSWER_S = 60.0
MOST_BYTES = 1 << 50
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Refused(WavedeckError):
    """A file that is never taken: its name leads elsewhere, or it is a link."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: a directory there, and a path inside it."""

    base: str
    name: str

    @property
    def file(self) -> str:
        """The last component."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Facts:
    """A file there, as it is now."""

    size: int
    mtime_ns: int
    allocated: int
    inode: int

    @property
    def sparse(self) -> bool:
        """Whether much of it are holes."""
        return self.size > SPARSE_FROM and self.allocated < self.size * 0.8


SPARSE_FROM = 1 << 20


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file there and what it hashes to."""

    sha256: str
    size: int
    mtime_ns: int


def place_of(run: RunDir, line: CheckpointLine, run_dir: str) -> Place:
    """Where a checkpoint lies on its host; `run_dir` is the run's directory there.

    Raises
    ------
    Refused: its line leads elsewhere.
    """
    if not is_safe_name(line.name):
        raise Refused(f"{line.name!r} is no name of a checkpoint: it is not taken.")
    if _SHA256.fullmatch(line.sha256) is None or not 0 <= line.bytes < MOST_BYTES:
        raise Refused(f"the line of {line.name} makes no sense: it is not taken.")
    if line.path is None:
        return Place(f"{run_dir}/checkpoints", line.name)
    if not is_safe_path(line.path):
        raise Refused(f"{line.name} would lie outside the run's directory: it is not taken.")
    return Place(_working_directory(run, line), line.path)


def _working_directory(run: RunDir, line: CheckpointLine) -> str:
    """Where the trainer works: as for the agent, the newest attempt tells, else the manifest."""
    try:
        attempt = newest_attempt(run)
        found = [None if attempt is None else attempt.cwd, read_manifest(run.manifest).cwd]
    except (RunDirError, OSError) as error:
        raise Refused(f"{line.name} cannot be found: {error}") from error
    for cwd in found:
        if cwd and cwd.startswith("/") and "\0" not in cwd:
            return cwd
    raise Refused(f"{line.name} cannot be found: the run does not say where it works.")


async def look(host: RemoteHost, base: str, names: Sequence[str]) -> list[Facts | str]:
    """Each file as it is now, or the word why it is not taken: missing, link, other, outside, unreadable."""
    found: list[Facts | str] = []
    for some in _portions(names):
        answer = await ask(host, SCRIPT, {"op": "look", "base": base, "names": some}, timeout_s=ANSWER_S)
        found += [_facts(row) for row in _rows(answer, len(some))]
    return found


async def hash_there(host: RemoteHost, base: str, names: Sequence[str], size: int) -> list[Hashed | str]:
    """What each file hashes to there; `changed` for one that was written to meanwhile. `size` is that of all."""
    found: list[Hashed | str] = []
    for some in _portions(names):
        request = {"op": "hash", "base": base, "names": some}
        answer = await ask(host, SCRIPT, request, timeout_s=ANSWER_S + size / HASH_RATE)
        found += [_hashed(row) for row in _rows(answer, len(some))]
    return found


async def hash_one(host: RemoteHost, place: Place, size: int) -> Hashed | str:
    """`hash_there` of one file."""
    return (await hash_there(host, place.base, [place.name], size))[0]


async def look_at(host: RemoteHost, place: Place) -> Facts | str:
    """`look` at one file."""
    return (await look(host, place.base, [place.name]))[0]


@dataclass(frozen=True, slots=True)
class RunThere:
    """What there is of a run on its host: the number of its newest attempt, and the size of each of its journals."""

    id: str
    attempt: int
    sizes: dict[str, int]


async def runs_there(host: RemoteHost) -> tuple[list[RunThere], bool]:
    """Every run on a host, whoever copies it; and whether that are all.

    Raises
    ------
    LinkDown, WavedeckError.
    """
    request = {"op": "runs", "base": f"{host.home}/runs", "journals": sorted(APPENDED)}
    answer = await ask(host, SCRIPT, request, timeout_s=ANSWER_S)
    rows = answer.get("runs")
    if not isinstance(rows, list):
        raise WavedeckError(f"the answer of {host.name} about its runs makes no sense: see `wavedeck hosts check`.")
    found = []
    for row in rows:
        name, attempt, sizes = row if isinstance(row, list) and len(row) == 3 else (None, None, None)
        if not isinstance(name, str) or RUN_ID.fullmatch(name) is None:
            continue
        if type(attempt) is not int or not isinstance(sizes, dict):
            raise WavedeckError(f"the answer of {host.name} about {name} makes no sense: see `wavedeck hosts check`.")
        found.append(RunThere(name, attempt, {key: size for key, size in sizes.items() if type(size) is int}))
    return found, answer.get("cut") is not True


async def unlink_there(host: RemoteHost, place: Place, line: CheckpointLine) -> str:
    """Delete one file there if its bytes are those of its line; the word why it was not deleted, else an empty one.

    Raises
    ------
    LinkDown, WavedeckError.
    """
    answer = await ask(host, SCRIPT, unlink_request(place, line), timeout_s=ANSWER_S + line.bytes / HASH_RATE)
    return "" if answer.get("done") is True else str(answer.get("why") or "unreadable")


def unlink_request(place: Place, line: CheckpointLine) -> dict[str, Any]:
    """What the helper is to delete."""
    return {"op": "unlink", "base": place.base, "name": place.name, "size": line.bytes, "sha256": line.sha256}


def _portions(names: Iterable[str]) -> list[list[str]]:
    """Names in portions that fit into one question each."""
    portions: list[list[str]] = [[]]
    left = NAMES_BYTES
    for name in names:
        cost = 6 * len(name) + 4 if not name.isascii() else 2 * len(name) + 4
        if cost > left and portions[-1]:
            portions.append([])
            left = NAMES_BYTES
        portions[-1].append(name)
        left -= cost
    return [portion for portion in portions if portion]


def _rows(answer: dict[str, Any], count: int) -> list[Any]:
    rows = answer.get("files")
    if not isinstance(rows, list) or len(rows) != count:
        raise WavedeckError("the host's answer about its files makes no sense: see `wavedeck hosts check`.")
    return rows


def _facts(row: Any) -> Facts | str:
    if isinstance(row, list) and len(row) == 4 and all(type(value) is int and value >= 0 for value in row):
        return Facts(*row)
    return row if isinstance(row, str) and row in WORDS else "unreadable"


def _hashed(row: Any) -> Hashed | str:
    if (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and len(row[0]) == 64
        and all(type(value) is int for value in row[1:])
    ):
        return Hashed(*row)
    return row if isinstance(row, str) and row in WORDS else "unreadable"


WORDS = {
    "missing": "is gone there",
    "nowhere": "cannot be looked for there: its directory is not there, or not mounted",
    "link": "is a link there, which is never followed",
    "other": "is no regular file there",
    "outside": "lies outside the run's directory",
    "unreadable": "cannot be read there",
    "changed": "was written to while it was read there",
}
"""What the helper's words mean, after the name of a file."""
