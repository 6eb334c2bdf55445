"""Finds the checkpoints that another program's trainer writes, and records them: `foreign_files.py RUN_DIR ATTEMPT`.

The companion starts it beside the attempts of foreign commands. It looks through the run's working directory every few
seconds for files that match the patterns of `policy.json`, and adds a line to `checkpoints/manifest.jsonl` for each
that has rested, looks whole, is open for writing nowhere, and was the same before and after it was hashed. A writer
that overwrites one file all the time never gets a line: no moment of that file could be vouched for.

It is a process of its own because hashing twenty gigabytes takes a minute, and because the last checkpoint is written
just before a trainer ends: when its standard input ends it goes on for a while, whatever becomes of the supervisor, but
not beside the next attempt, nor once the run went on elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import select
import signal
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

if not __package__:  # started as a plain script: its folder becomes the package (PEP 366), so siblings import alike
    _OWN = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(_OWN))
    __package__ = os.path.basename(_OWN)
    importlib.import_module(__package__)

from .below import Stamp, facts_of, has_writer, open_file, stamp_of
from .file_structure import is_whole
from .file_walk import Walk, began, own_directories, working_directory
from .foreign_lines import Lines, can_be_named, numbers_of, safe_name, step_said
from .foreign_policy import Policy
from .json_lines import JsonLines
from .known_metrics import Known
from .orders import Orders
from .records import newest_attempt, read_json

SCAN_S = 2.0
SCAN_LIMIT_S = 5.0
SCAN_SHARE, LATE_SHARE = 0.02, 0.25
"""A large directory is looked through less often, so that it never costs more of a core than this."""
MAX_PAUSE_S = 60.0
REST_S = 3.0
LONG_REST_S = 15.0
"""For formats whose structure tells nothing."""
LATE_S = 60.0
"""How long after the trainer's end files may still come to rest."""
LATE_HASH_S = 900.0
"""And how long those that have may take to be read."""
BLOCK = 1 << 20
SLICE = 64 << 20
MAX_TRACKED = 5000
NO_ROOM = 1 << 20


class Over(Exception):
    """There is a next attempt, or the run went on elsewhere, or is deleted, or time is up."""


class Seen:
    """One file as it was when it was last changed."""

    def __init__(self, facts: os.stat_result, now: float) -> None:
        self.stamp = stamp_of(facts)
        self.facts = facts
        self.since = now
        self.looks = 1
        self.whole: Optional[bool] = None
        self.checked = False
        self.done = False
        self.doubtful = False
        """It changed while the disk had no room: where its structure tells nothing it is not taken."""


class ForeignFiles:
    """Everything about the foreign files of one attempt."""

    def __init__(self, run_dir: str, number: int, cwd: str) -> None:
        self._run_dir = run_dir
        self._number = number
        self._cwd = cwd
        self._began = (began(run_dir), began(run_dir, number))
        self._known = Known(run_dir)
        self._lines = Lines(run_dir)
        self._orders = Orders(run_dir, number, quiet=True)
        self._events = JsonLines(os.path.join(run_dir, "console.jsonl"))
        self._policy = Policy(run_dir)
        self._seen: Dict[str, Seen] = {}
        self._unwritten: Dict[str, Tuple[Stamp, Dict[str, Any]]] = {}
        self._said: Dict[str, str] = {}
        self._ended: Optional[float] = None
        self._next = 0.0
        self._took_s = 0.0

    def run(self) -> None:
        """Until everything that the trainer left is told, or nobody wants to know any more."""
        try:
            while True:
                self._listen(min(SCAN_S, max(0.0, self._next - time.monotonic())))
                if time.monotonic() < self._next:
                    continue
                self.turn()
                share = SCAN_SHARE if self._ended is None else LATE_SHARE
                self._next = time.monotonic() + max(SCAN_S, min(self._took_s / share, MAX_PAUSE_S))
                if self._ended is not None and not self._waits():
                    return
        except Over:
            return
        except Exception as error:
            self._say("", "checkpoints are not looked for any more: {!r}".format(error))

    def turn(self) -> None:
        """One look, and what follows from it. Raises Over."""
        self._check()
        self._known.turn()
        self._scan()
        self._write_again()
        rested = [(seen.facts.st_mtime_ns, path) for path, seen in self._seen.items() if self._has_rested(path, seen)]
        for _, path in sorted(rested):  # lines in the order of the files: the last line is the newest checkpoint
            self._take(path, self._seen[path])

    # When to end

    def _listen(self, timeout_s: float) -> None:
        """Wait, and notice the end of standard input."""
        if self._ended is not None:
            time.sleep(timeout_s)
        elif select.select([0], [], [], timeout_s)[0] and not os.read(0, 4096):
            self._ended = time.monotonic()
            self._next = 0.0

    def _check(self) -> None:
        self._listen(0.0)
        late = 0.0 if self._ended is None else time.monotonic() - self._ended
        try:
            newer = newest_attempt(self._run_dir) > self._number
        except OSError:
            raise Over from None
        if newer or late > LATE_HASH_S or self._orders.fenced_by() is not None:
            raise Over

    def _waits(self) -> bool:
        """Whether something may still come to rest, or could not be written down yet."""
        assert self._ended is not None
        if time.monotonic() - self._ended > LATE_S:
            return False
        return bool(self._unwritten) or any(not seen.done for seen in self._seen.values())

    # What is there

    def _scan(self) -> None:
        found: Dict[str, Seen] = {}
        patterns = self._policy.patterns()
        now, full = time.monotonic(), self._is_full()
        walk = Walk(self._cwd, own_directories(self._run_dir), SCAN_LIMIT_S, patterns.names)
        for path, entry in walk:
            if not patterns.match(path) or len(found) >= MAX_TRACKED:
                continue
            if not can_be_named(path):
                self._say(path, "{} is not covered by the backup: its path is too long or odd.".format(path[:300]))
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if not facts.st_size or max(facts.st_mtime, facts.st_ctime) < self._began[0]:
                continue
            seen = self._seen.get(path)
            if seen is not None and seen.stamp == stamp_of(facts):
                seen.looks += 1
            else:
                seen = Seen(facts, now)
                seen.done = self._lines.is_current(path, facts)
            seen.doubtful = seen.doubtful or (full and not seen.done and now - seen.since < LONG_REST_S)
            found[path] = seen
        if walk.cut:
            self._say("", "not all of {} is looked through for checkpoints: {}.".format(self._cwd, walk.cut))
        for path, facts in walk.odd.items():
            if patterns.match(path) and max(facts.st_mtime, facts.st_ctime) >= self._began[0]:
                self._say(path, "{} is not covered by the backup: its name is not UTF-8.".format(path))
        self._seen = found
        self._took_s = time.monotonic() - now

    def _is_full(self) -> bool:
        try:
            facts = os.statvfs(self._cwd)
        except OSError:
            return False
        return facts.f_bavail * facts.f_frsize < NO_ROOM

    def _has_rested(self, path: str, seen: Seen) -> bool:
        """Whether a file is to be taken now; its structure is looked at once it has rested a little."""
        rested_s = time.monotonic() - seen.since
        if seen.done or path in self._unwritten or seen.looks < 2 or rested_s < REST_S:
            return False
        if not seen.checked:
            seen.whole, seen.checked = self._look_inside(path, seen), True
        if seen.whole:
            return True
        if rested_s < LONG_REST_S:
            return False
        trusted = False if seen.whole is False else self._was_finished(seen)
        if trusted is False:
            seen.done = True
            why = "its end is missing" if seen.whole is False else "nothing tells whether it is whole"
            self._say(path, "{} is not taken for a checkpoint: {}.".format(path, why))
        return bool(trusted)

    def _was_finished(self, seen: Seen) -> Optional[bool]:
        """Whether a file that cannot be looked into was not cut short: by a full disk, or by the trainer's death.

        None while it is not known yet how the trainer ended.
        """
        if seen.doubtful or max(seen.facts.st_mtime, seen.facts.st_ctime) < self._began[1]:
            return False
        if self._ended is None or seen.since + LONG_REST_S < self._ended:
            return True
        record = read_json(os.path.join(self._run_dir, "exit.json")) or {}
        return record.get("exit_code") == 0 if record.get("attempt") == self._number else None

    def _look_inside(self, path: str, seen: Seen) -> Optional[bool]:
        try:
            descriptor = open_file(self._cwd, path)
        except OSError:
            return False
        try:
            if stamp_of(os.fstat(descriptor)) != seen.stamp:
                return False
            return is_whole(descriptor, path, seen.facts.st_size)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    # Taking one

    def _take(self, path: str, seen: Seen) -> None:
        """Hash a file and write its line, if it is the same file afterwards. Raises Over."""
        digest = self._hash(path, seen)
        if digest is None:
            return
        seen.done = True
        if self._lines.same(path, digest):
            return
        self._known.turn()
        step, epoch, metrics = self._known.at(seen.facts.st_mtime)
        own_step, own_epoch = numbers_of(path)
        said = step_said(path)
        if said is not None and step is not None and said <= step:
            step = said  # what it had told by then may be steps later: a file takes time to be written
        line = {
            "name": safe_name(path, digest),
            "step": step if step is not None else own_step or 0,
            "bytes": seen.facts.st_size,
            "sha256": digest,
            "t": round(seen.facts.st_mtime, 3),
            "epoch": epoch if epoch is not None else own_epoch,
            "metrics": metrics,
            "best": False,
            "kind": "foreign",
            "path": path,
            "mtime_ns": seen.facts.st_mtime_ns,
        }
        self._unwritten[path] = (seen.stamp, line)
        self._write_again()

    def _write_again(self) -> None:
        """Write the lines that wait, unless their files have changed meanwhile. A full disk makes them wait."""
        for path, (stamp, line) in list(self._unwritten.items()):
            if self._stamp(path) != stamp:
                del self._unwritten[path]
                continue
            try:
                self._lines.append(line)
            except OSError as error:
                self._say(path, "{} cannot be recorded yet: {}.".format(path, error.strerror or error))
                return
            del self._unwritten[path]

    def _hash(self, path: str, seen: Seen) -> Optional[str]:
        """The digest of a file that was the same before, while and after it was read; else None."""
        try:
            descriptor = open_file(self._cwd, path)
        except OSError:
            return None
        digest, at = hashlib.sha256(), 0
        try:
            if has_writer(descriptor):
                if time.monotonic() - seen.since > LONG_REST_S:
                    self._say(path, "{} is not taken for a checkpoint yet: it is open for writing.".format(path))
                return None
            while stamp_of(os.fstat(descriptor)) == seen.stamp:
                self._check()
                end = at + SLICE
                while at < end:
                    block = os.read(descriptor, BLOCK)
                    if not block:
                        same = stamp_of(os.fstat(descriptor)) == seen.stamp == self._stamp(path)
                        whole = same and at == seen.facts.st_size and not has_writer(descriptor)
                        return digest.hexdigest() if whole else None
                    digest.update(block)
                    at += len(block)
        except OSError as error:
            seen.done = True
            self._say(path, "{} cannot be read: {}.".format(path, error.strerror or error))
        finally:
            os.close(descriptor)
        return None

    def _stamp(self, path: str) -> Optional[Stamp]:
        try:
            return stamp_of(facts_of(self._cwd, path))
        except OSError:
            return None

    def _say(self, path: str, text: str) -> None:
        """Once for each path and text, and for a hundred of them."""
        if self._said.get(path) == text or (path not in self._said and len(self._said) >= 100):
            return
        self._said[path] = text
        self._events.append([{"t": time.time(), "k": "log", "level": "warning", "text": text[:1000]}])


def main(argv: List[str]) -> int:
    """Exit status 0 once nobody wants to know any more."""
    if len(argv) != 2 or not argv[1].isdigit():
        sys.stderr.write("usage: foreign_files.py RUN_DIR ATTEMPT\n")
        return 2
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(10)
    run_dir, number = os.path.abspath(argv[0]), int(argv[1])
    cwd = working_directory(run_dir, number)
    if cwd is not None:
        ForeignFiles(run_dir, number, cwd).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
