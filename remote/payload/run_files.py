"""What is asked about the files of a run on its host: facts, hashes, and what no backup would cover.

A file is either one of the run's `checkpoints/`, by its name, or one of its trainer's, by its path relative to the
directory that the command works in. No link is followed and no path leads out of either; what lies behind a link is
never read, and yet who is asked what would be lost must not be silent about it.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import stat
import threading
import time
from collections import deque
from typing import Any, Dict, List, Set, Tuple

from .agent_frames import Refused
from .below import Outside, facts_of, open_file, stamp_of
from .file_walk import Walk, began, own_directories, working_directory
from .foreign_lines import Lines, can_be_named
from .foreign_policy import Policy

BLOCK = 1 << 20
LOOK_S = 2.0
LARGE = 1 << 20
"""Smaller files are logs and settings, which nobody misses for long."""
MOST_NAMES = 50
SHOWN = 1000
LINK = "it is a link, which is never followed"
_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"))


def facts(run_dir: str, name: Any, path: Any) -> Dict[str, Any]:
    """Size, times, room on disk, inode and kind of a file. Raises Refused (`missing`), OSError."""
    root, inner = _place(run_dir, name, path)
    try:
        found = facts_of(root, inner)
    except Outside as error:
        raise Refused("error", str(error)) from None
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("missing", "there is no such file") from None
    if stat.S_ISLNK(found.st_mode):
        raise Refused("error", LINK)
    kind = next((word for test, word in _KINDS if test(found.st_mode)), "other")
    return {
        "size": found.st_size,
        "mtime": found.st_mtime,
        "mtime_ns": found.st_mtime_ns,
        "blocks": found.st_blocks,
        "inode": found.st_ino,
        "kind": kind,
    }


def sha256(run_dir: str, name: Any, path: Any, cancelled: threading.Event) -> Dict[str, Any]:
    """The digest of a file, and whether it was the same before and after it was read. Raises Refused, OSError."""
    root, inner = _place(run_dir, name, path)
    try:
        descriptor = open_file(root, inner)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("missing", "there is no such file") from None
    except OSError as error:
        raise Refused("error", LINK if error.errno == errno.ELOOP else error.strerror or str(error)) from None
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "rb", buffering=0) as handle:
        before = os.fstat(descriptor)
        while not cancelled.is_set():
            block = handle.read(BLOCK)
            if not block:
                break
            digest.update(block)
            size += len(block)
        changed = stamp_of(os.fstat(descriptor)) != stamp_of(before) or size != before.st_size
    return {"sha256": digest.hexdigest(), "size": size, "mtime_ns": before.st_mtime_ns, "changed": changed}


def uncovered(run_dir: str, cancelled: threading.Event, limit_s: float = LOOK_S) -> Dict[str, Any]:
    """Large files that a trainer wrote since the run began and that would be lost with this machine.

    `files` are matched by no pattern, `pending` by one, but their present content is not in the manifest (yet): the
    largest of each as `[path, bytes]`, beside how many there are and their bytes. `skipped` are words about what lies
    behind links that lead out, or in folders of packages, and is new. `cut` says why not all were seen.
    """
    cwd = working_directory(run_dir)
    if cwd is None:
        raise Refused("missing", "there is no such run, or no record of where it works")
    own, ends = own_directories(run_dir), time.monotonic() + 2 * limit_s
    walk = Walk(cwd, own, limit_s, everywhere=True)
    patterns, lines, since = Policy(run_dir).patterns(), Lines(run_dir), began(run_dir)
    free, pending = _Heap(), _Heap()
    for path, entry in walk:
        if cancelled.is_set():
            break
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if _counts(found, since) and not lines.is_current(path, found):
            covered = patterns.match(path) and patterns.reach(path) and can_be_named(path)
            (pending if covered else free).add(path, found.st_size)
    for path, found in walk.odd.items():
        if _counts(found, since):
            free.add(path, found.st_size)
    beyond = _Beyond(cwd, own, since, ends, cancelled)
    beyond.look(walk)
    return {
        "files": free.rows(), "count": free.count, "bytes": free.bytes, "pending": pending.rows(),
        "pending_count": pending.count, "pending_bytes": pending.bytes, "cut": walk.cut or beyond.cut,
        "skipped": [words[:SHOWN] for words in beyond.said[:MOST_NAMES]],
    }  # fmt: skip


def _counts(found: os.stat_result, since: float) -> bool:
    return found.st_size > LARGE and max(found.st_mtime, found.st_ctime) >= since


class _Beyond:
    """What is behind the links that lead out of a directory, and in the folders that were not entered.

    Sizes and times are looked at there, and nothing is opened: a link to recordings that nobody wrote to is no loss.
    """

    def __init__(
        self, cwd: str, own: Set[Tuple[int, int]], since: float, ends: float, cancelled: threading.Event
    ) -> None:
        self._inside = os.path.join(os.path.realpath(cwd), "")
        self._own = own
        self._since = since
        self._ends = ends
        self._cancelled = cancelled
        self._seen: Set[str] = set()
        self.said: List[str] = []
        self.cut = ""

    def look(self, walk: Walk) -> None:
        """At what a walk through the directory passed by."""
        self._folders("", walk)
        waiting = deque((path, os.path.join(self._inside, path)) for path in walk.links)
        while waiting and not self._cancelled.is_set():
            if time.monotonic() >= self._ends:
                self.cut = self.cut or "looking took too long"
                return
            shown, link = waiting.popleft()
            target = os.path.realpath(link)
            if target in self._seen or os.path.join(target, "").startswith(self._inside):
                continue
            self._seen.add(target)
            waiting.extend((shown + "/" + path, os.path.join(target, path)) for path in self._target(shown, target))

    def _target(self, shown: str, target: str) -> List[str]:
        """Look at what a link leads to; the links in it."""
        words = _shown("{} -> {}".format(shown, target))
        try:
            found = os.stat(target)
        except OSError:
            return []
        if not stat.S_ISDIR(found.st_mode):
            if stat.S_ISREG(found.st_mode) and _counts(found, self._since):
                self.said.append(words)
            return []
        walk = Walk(target, self._own, max(0.0, self._ends - time.monotonic()), everywhere=True)
        count = 0
        for _, entry in walk:
            if self._cancelled.is_set():
                break
            try:
                count += _counts(entry.stat(follow_symlinks=False), self._since)
            except OSError:
                continue
        count += sum(_counts(found, self._since) for found in walk.odd.values())
        if count or walk.cut:
            self.said.append("{} ({})".format(words, "{} large files".format(count) if count else walk.cut))
        self._folders(shown + "/", walk)
        return walk.links

    def _folders(self, before: str, walk: Walk) -> None:
        for path, found in walk.passed.items():
            if max(found.st_mtime, found.st_ctime) >= self._since:
                self.said.append(_shown(before + path + "/"))


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


class _Heap:
    """The largest of many files."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self._largest: List[Tuple[int, str]] = []

    def add(self, path: str, size: int) -> None:
        self.count += 1
        self.bytes += size
        heapq.heappush(self._largest, (size, path[:SHOWN]))
        if len(self._largest) > MOST_NAMES:
            heapq.heappop(self._largest)

    def rows(self) -> List[List[Any]]:
        return [[path, size] for size, path in sorted(self._largest, reverse=True)]


def _place(run_dir: str, name: Any, path: Any) -> Tuple[str, str]:
    """A directory and a path below it. Raises Refused."""
    if not os.path.isdir(run_dir):
        raise Refused("missing", "there is no such run")
    if (name is None) == (path is None):
        raise Refused("error", "a file is asked for by its name or by its path")
    if name is not None:
        if not isinstance(name, str) or "/" in name:
            raise Refused("error", "that is no name of a checkpoint")
        return run_dir, "checkpoints/" + name
    cwd = working_directory(run_dir)
    if cwd is None:
        raise Refused("missing", "no record tells where that run works")
    return cwd, path
