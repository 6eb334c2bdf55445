"""Questions about the files of a run on its host, the same for this machine and others.

A file is one of the run's `checkpoints/`, by its name, or one of its trainer's, by the path in its line (`path` of
`CheckpointLine`), relative to where the command works there. No link is followed.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..engine.errors import UsageError, WavedeckError
from ..engine.format import plain
from ..engine.names import RUN_ID
from .payload import run_files as there
from .payload.agent_frames import Refused

LOOK_S = 30.0
HASH_S = 3600.0
"""How long a file may take to be hashed, or to wait for others that are."""
MOST_NAMES = 100
T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileFacts(msgspec.Struct, frozen=True):
    """One file as it is now. `blocks` are of 512 bytes; `kind` is file, dir or other."""

    size: int
    mtime_ns: int
    blocks: int
    inode: int
    kind: str


class FileHash(msgspec.Struct, frozen=True):
    """A digest, with size and time of the file; `changed` when it was not the same while it was read."""

    sha256: str
    size: int
    mtime_ns: int
    changed: bool


class Uncovered(msgspec.Struct, frozen=True):
    """Files over 1 MiB that a trainer wrote since its run began, and that no backup would have.

    `files` are matched by no pattern of the policy, `pending` by one, but what is in them now has no line in the
    manifest (yet). Both hold the largest, as path and bytes. `skipped` says in words what is new and was not looked
    into: links that lead out of the directory, folders of packages. `cut` says why not everything was seen.
    """

    files: list[tuple[str, int]]
    count: int
    bytes: int
    pending: list[tuple[str, int]]
    pending_count: int
    pending_bytes: int
    cut: str = ""
    skipped: list[str] = []


class RunFiles:
    """What both kinds of hosts answer about files. They say how a question reaches the payload's functions."""

    @property
    def name(self) -> str:
        """What users call the host."""
        raise NotImplementedError

    async def uncovered(self, run_id: str) -> Uncovered:
        """What a run's trainer has written and no backup would have; bounded, it takes two seconds at most.

        Raises
        ------
        FileNotFoundError: there is no such run. WavedeckError: it cannot be looked at. LinkDown: the host does not
        answer.
        """
        answer = await self._answer("uncovered", run_id, {}, LOOK_S)
        found = self._believed(answer, Uncovered, f"the files of {run_id}")
        rows = [[(plain(path, 300), size) for path, size in rows[:MOST_NAMES]] for rows in (found.files, found.pending)]
        skipped = [plain(words, 300) for words in found.skipped[:MOST_NAMES]]
        return msgspec.structs.replace(
            found, files=rows[0], pending=rows[1], cut=plain(found.cut, 200), skipped=skipped
        )

    async def file_facts(self, run_id: str, name: str | None = None, *, path: str | None = None) -> FileFacts:
        """Size, time, room and inode of a checkpoint (`name`) or of a trainer's file (`path`).

        Raises
        ------
        FileNotFoundError: there is none. WavedeckError: it cannot be looked at, is a link or leads elsewhere.
        LinkDown: the host does not answer.
        """
        answer = await self._answer("stat", run_id, {"name": name, "path": path}, LOOK_S)
        return self._believed(answer, FileFacts, name or path or "")

    async def sha256_of(
        self, run_id: str, name: str | None = None, *, path: str | None = None, timeout_s: float = HASH_S
    ) -> FileHash:
        """The digest of a checkpoint (`name`) or of a trainer's file (`path`), computed on the host.

        Raises
        ------
        FileNotFoundError: there is none. WavedeckError: it cannot be read, is a link or leads elsewhere. LinkDown: the
        host does not answer.
        """
        answer = await self._answer("sha256", run_id, {"name": name, "path": path}, timeout_s)
        found = self._believed(answer, FileHash, name or path or "")
        if _SHA256.fullmatch(found.sha256) is None:
            raise self._nonsense(name or path or "")
        return found

    async def _ask_of_files(self, op: str, run_id: str, fields: Mapping[str, Any], timeout_s: float) -> object:
        """The answer of the payload's functions, as it came. Raises Refused."""
        raise NotImplementedError

    async def _answer(self, op: str, run_id: str, fields: Mapping[str, Any], timeout_s: float) -> object:
        if RUN_ID.fullmatch(run_id) is None:
            raise UsageError(f"{run_id!r} is no id of a run.")
        try:
            return await self._ask_of_files(op, run_id, fields, timeout_s)
        except Refused as refused:
            what = plain(str(fields.get("name") or fields.get("path") or "its directory"), 200)
            if refused.why == "missing":
                raise FileNotFoundError(2, f"{plain(refused.text, 200)} on {self.name}", what) from None
            raise WavedeckError(
                f"{what} of {run_id} cannot be looked at on {self.name}: {plain(refused.text, 200)}."
            ) from None

    def _believed(self, answer: object, kind: type[T], what: str) -> T:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError:
            raise self._nonsense(what) from None

    def _nonsense(self, what: str) -> WavedeckError:
        return WavedeckError(f"{plain(what, 200)} cannot be looked at on {self.name}: the answer makes no sense.")


async def ask_here(op: str, run_dir: Path, fields: Mapping[str, Any]) -> object:
    """`RunFiles._ask_of_files` for this machine: the same functions, in a thread that ends with the waiting."""
    cancelled = threading.Event()
    place = str(run_dir)

    def look() -> object:
        try:
            if op == "uncovered":
                return there.uncovered(place, cancelled)
            name, path = fields.get("name"), fields.get("path")
            return there.facts(place, name, path) if op == "stat" else there.sha256(place, name, path, cancelled)
        except OSError as error:
            raise Refused("error", error.strerror or str(error)) from None

    try:
        return await asyncio.to_thread(look)
    finally:
        cancelled.set()
