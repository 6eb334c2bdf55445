"""What `policy.json` of a run says about the files of its trainer: whether they are looked for, and by which names."""

from __future__ import annotations

import os
from typing import Any, Tuple

from .file_walk import DEFAULT_PATTERNS, Patterns, is_everything, working_directory
from .records import read_json


class Policy:
    """The patterns as they are now; the file may be replaced while a training runs."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, "policy.json")
        self._seen: Any = ()
        self._patterns = Patterns(())

    def patterns(self) -> Patterns:
        """Its own ones, else the usual ones; none where the backup is switched off."""
        mark = _mark(self._path)
        if mark != self._seen:
            self._seen = mark
            self._patterns = Patterns(_globs(self._path))
        return self._patterns


def wanted(run_dir: str, number: int) -> bool:
    """Whether an attempt's files are looked for: a foreign command's, or where the policy names patterns itself."""
    cwd = working_directory(run_dir, number)
    if cwd is None or is_everything(cwd):
        return False
    policy = read_json(os.path.join(run_dir, "policy.json")) or {}
    if policy.get("patterns"):
        return True
    attempt = read_json(os.path.join(run_dir, "attempts", "{:04d}.json".format(number))) or {}
    manifest = read_json(os.path.join(run_dir, "manifest.json"))
    return bool(attempt.get("parse_console")) or (manifest is not None and manifest.get("recipe") is None)


def _globs(path: str) -> Tuple[Any, ...]:
    policy = read_json(path) or {}
    globs = policy.get("patterns")
    if policy.get("enabled") is False:
        return ()
    return tuple(globs) if isinstance(globs, list) and globs else DEFAULT_PATTERNS


def _mark(path: str) -> Any:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
