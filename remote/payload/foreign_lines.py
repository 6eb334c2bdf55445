"""Lines of `checkpoints/manifest.jsonl` for files that another program's trainer wrote, as `engine/checkpoints.py`.

The name of such a line is made of the file's own and of its content, so that a name never stands for two contents;
`path` tells where the file lies, relative to the run's working directory, and `mtime_ns` which of its states was meant.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import PurePosixPath
from typing import Any, Dict, Optional, Tuple

MAX_MANIFEST = 16 << 20
MAX_PATH = 1024
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]")
_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,15}")
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter(?:ation)?|global_step)s?[=_-]?([0-9]{1,15})(?![0-9])", re.IGNORECASE)
_EPOCH = re.compile(r"epochs?[=_-]?([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_DIGITS = re.compile(r"(?<![0-9])([0-9]{1,15})(?![0-9])")
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}")


def safe_name(path: str, sha256: str) -> str:
    """`<stem>.<sha12><suffix>` as one plain path component: `foreign_name` of `engine/checkpoints.py`."""
    file = PurePosixPath(path)
    stem = re.sub(r"\.{2,}", ".", _UNSAFE.sub("_", file.stem)).strip("._=+-")
    if stem.lower().startswith("manifest"):
        stem = "file-" + stem  # `manifest.jsonl` belongs to the list itself
    suffix = file.suffix if _SUFFIX.fullmatch(file.suffix) else ""
    return "{}.{}{}".format(stem[:120].rstrip(".") or "file", sha256[:12], suffix)


def can_be_named(path: str) -> bool:
    """Whether a line may have this path: `is_safe_path` of `engine/checkpoints.py`."""
    return len(path) <= MAX_PATH and not path.startswith("~")


def numbers_of(path: str) -> Tuple[Optional[int], Optional[float]]:
    """Step and epoch as a path tells them (`step=1200`, `checkpoint-500/…`, `epoch=3`, a bare number)."""
    name = _SHARD.sub("", path)
    steps, epochs = _STEP.findall(name), _EPOCH.findall(name)
    epoch = float(epochs[-1]) if epochs else None
    if steps:
        return int(steps[-1]), epoch
    bare = [] if epochs else _DIGITS.findall(os.path.splitext(name.rsplit("/", 1)[-1])[0])
    return (int(bare[-1]) if bare else None), epoch


def step_said(path: str) -> Optional[int]:
    """The step that a path names with a word: `step=1200`, `checkpoint-500/…`. Its trainer knows best."""
    steps = _STEP.findall(_SHARD.sub("", path))
    return int(steps[-1]) if steps else None


class Lines:
    """What the manifest says of foreign files, and how it is added to. A full disk delays a line and never tears two.

    Parameters
    ----------
    run_dir: the manifest is in its `checkpoints`, which may not be a link.
    """

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self.known: Dict[str, Dict[str, Any]] = {}
        """The last line of each path."""
        self._read()

    def is_current(self, path: str, facts: os.stat_result) -> bool:
        """Whether the last line of a path tells the content of the file as it is, by its size and time."""
        line = self.known.get(path) or {}
        return line.get("bytes") == facts.st_size and line.get("mtime_ns") == facts.st_mtime_ns

    def same(self, path: str, sha256: str) -> bool:
        """Whether the last line of a path tells this very content."""
        return (self.known.get(path) or {}).get("sha256") == sha256

    def append(self, line: Dict[str, Any]) -> None:
        """Append one line and sync it; a tail that was torn by a full disk is closed first. Raises OSError."""
        text = json.dumps(line, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        data = text.encode("utf-8", "replace") + b"\n"
        folder = os.path.join(self._run_dir, "checkpoints")
        if os.path.islink(folder):
            raise OSError("{} is a link".format(folder))
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(os.path.join(folder, "manifest.jsonl"), flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            if os.write(descriptor, data) != len(data):
                raise OSError(28, "No space left on device")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.known[line["path"]] = line

    def _read(self) -> None:
        try:
            path = os.path.join(self._run_dir, "checkpoints", "manifest.jsonl")
            with open(path, "rb") as handle:
                size = os.fstat(handle.fileno()).st_size
                handle.seek(max(0, size - MAX_MANIFEST))
                rows = handle.read(MAX_MANIFEST).split(b"\n")[:-1]
        except OSError:
            return
        for row in rows:
            try:
                line = json.loads(row.decode("utf-8"))
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("path"), str):
                self.known[line["path"]] = line
