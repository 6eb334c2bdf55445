"""The files below a run's working directory: a bounded walk that follows no link, and globs that choose among them.

Paths are relative to that directory, with `/`, as UTF-8 text; a name that is not UTF-8 is told with what can be shown
of it. Who looks for checkpoints passes by hidden files and directories, and those in `SKIPPED`, unless a pattern names
them; who looks for what would be lost passes by `PACKAGES` only, and says so.
"""

from __future__ import annotations

import fnmatch
import os
import time
from collections import deque
from typing import Any, Deque, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from .below import open_below
from .records import newest_attempt, read_json

DEFAULT_PATTERNS = ("**/*.ckpt", "**/*.pt", "**/*.pth", "**/*.safetensors", "**/*.nemo")
SKIPPED = frozenset(["node_modules", "wandb", "__pycache__", "venv", "site-packages"])
PACKAGES = frozenset([".git", "node_modules", "__pycache__", "venv", ".venv", "site-packages"])
"""Large, and made again by other programs than a trainer."""
UNTOLD = frozenset([".git", "__pycache__"])
"""Those of them that every program touches: that they are new tells nothing."""
MAX_DEPTH = 12
MAX_ENTRIES = 200000
MAX_OF_FOLDER = 20000
"""A folder of a million recordings must not hide the folders beside it."""
MAX_ODD = 100
MAX_LINKS = 20000
MAX_PATTERNS = 64
MAX_STARS = 6
"""In one component: matching takes a time that grows with the power of it."""


class Patterns:
    """Globs relative to the working directory: `**` is any number of directories, `*` stays within one name.

    An absolute pattern, and one with `..` in it, matches nothing.
    """

    def __init__(self, globs: Iterable[Any]) -> None:
        known = [glob.split("/") for glob in list(globs)[:MAX_PATTERNS] if isinstance(glob, str)]
        self._globs = [_collapsed(parts) for parts in known if _is_glob(parts)]
        words = {part for parts in self._globs for part in parts if not set(part) & set("*?[")}
        self.names = frozenset(word for word in words if _is_passed_by(word))
        """Words of the patterns that are names of what is otherwise passed by: `.ckpts`, `wandb`."""

    def match(self, path: str) -> bool:
        """Whether any of them matches `path`."""
        parts = path.split("/")
        return any(_matches(parts, glob) for glob in self._globs)

    def reach(self, path: str) -> bool:
        """Whether who looks for checkpoints comes to `path` at all."""
        return all(part in self.names or not _is_passed_by(part) for part in path.split("/"))


def _is_passed_by(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def _is_glob(parts: List[str]) -> bool:
    return all(part not in ("", ".", "..") and part.count("*") <= MAX_STARS for part in parts) and len(parts) <= 32


def _collapsed(parts: List[str]) -> List[str]:
    parts = [*parts, "*"] if parts[-1] == "**" else parts
    return [part for at, part in enumerate(parts) if part != "**" or at == 0 or parts[at - 1] != "**"]


def _matches(parts: List[str], glob: List[str]) -> bool:
    """Which prefixes of the glob fit the path so far: at most one walk over both, however many `**` there are."""
    fitting = {0}
    for part in parts:
        reached: Set[int] = set()
        for at in _open_ended(fitting, glob):
            if at < len(glob) and glob[at] == "**":
                reached.add(at)
            elif at < len(glob) and fnmatch.fnmatchcase(part, glob[at]):
                reached.add(at + 1)
        fitting = reached
    return len(glob) in fitting


def _open_ended(fitting: Set[int], glob: List[str]) -> Set[int]:
    """With every `**` left out as well."""
    return fitting | {at + 1 for at in fitting if at < len(glob) and glob[at] == "**"}


class Walk:
    """One look at everything below a directory, the nearest first.

    Parameters
    ----------
    skip: device and inode of directories that are not entered: Wavedeck's own.
    limit_s: it ends after that time; `cut` then says so.
    names: what is entered although it is hidden or in `SKIPPED`. everywhere: all is entered but `PACKAGES`.
    """

    def __init__(
        self,
        cwd: str,
        skip: Set[Tuple[int, int]],
        limit_s: float,
        names: Iterable[str] = (),
        everywhere: bool = False,
    ) -> None:
        self._cwd = cwd
        self._skip = skip
        self._deadline = time.monotonic() + limit_s
        self._names = frozenset(names)
        self._everywhere = everywhere
        self._entries = 0
        self.cut = ""
        """Why not everything was looked at; empty when it was."""
        self.odd: Dict[str, os.stat_result] = {}
        """Files whose names are not UTF-8, by what can be shown of them."""
        self.links: List[str] = []
        """Links that were not followed."""
        self.passed: Dict[str, os.stat_result] = {}
        """Folders that were not entered although everything was asked for."""

    def __iter__(self) -> Iterator[Tuple[str, Any]]:
        """Path and directory entry of every regular file. Whoever is not interested in a name need not `stat` it."""
        if is_everything(self._cwd):
            self.cut = "the command works in /, which is not looked through"
            return
        try:
            root = os.open(self._cwd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self.cut = "the working directory cannot be read"
            return
        try:
            waiting: Deque[Tuple[bytes, ...]] = deque([()])
            while waiting and not self._late():
                for found in self._folder(root, waiting.popleft(), waiting):
                    yield found
        finally:
            os.close(root)

    def _folder(
        self, root: int, inner: Tuple[bytes, ...], waiting: Deque[Tuple[bytes, ...]]
    ) -> Iterator[Tuple[str, Any]]:
        try:
            folder = open_below(root, inner)
        except (FileNotFoundError, NotADirectoryError):
            return  # it is gone, or another thing by now
        except OSError:
            self.cut = "a folder cannot be read"
            return
        try:
            facts = os.fstat(folder)
            if (facts.st_dev, facts.st_ino) in self._skip:
                return
            with os.scandir(folder) as entries:
                for at, entry in enumerate(entries):
                    self._entries += 1
                    if at >= MAX_OF_FOLDER:
                        self.cut = "a folder has more than {} files".format(MAX_OF_FOLDER)
                        return
                    if self._entries % 256 == 0 and self._late():
                        return
                    name = os.fsencode(entry.name)
                    if entry.is_symlink():
                        self._link(inner, name)
                    elif self._is_passed_by(name.decode("utf-8", "replace")):
                        if self._everywhere:
                            self._pass(inner, name, entry)
                    elif entry.is_dir(follow_symlinks=False):
                        self._enter(inner, name, waiting)
                    elif entry.is_file(follow_symlinks=False):
                        path = self._text(b"/".join((*inner, name)), entry)
                        if path is not None:
                            yield path, entry
        except OSError:
            return
        finally:
            os.close(folder)

    def _enter(self, inner: Tuple[bytes, ...], name: bytes, waiting: Deque[Tuple[bytes, ...]]) -> None:
        if len(inner) < MAX_DEPTH:
            waiting.append((*inner, name))
        else:
            self.cut = "folders lie deeper than {} in each other".format(MAX_DEPTH)

    def _is_passed_by(self, name: str) -> bool:
        if name in self._names:
            return False
        return name in PACKAGES if self._everywhere else _is_passed_by(name)

    def _link(self, inner: Tuple[bytes, ...], name: bytes) -> None:
        if len(self.links) < MAX_LINKS:
            self.links.append(os.fsdecode(b"/".join((*inner, name))))
        elif self._everywhere:
            self.cut = "there are more than {} links".format(MAX_LINKS)

    def _pass(self, inner: Tuple[bytes, ...], name: bytes, entry: Any) -> None:
        told = name.decode("utf-8", "replace") not in UNTOLD and len(self.passed) < MAX_ODD
        if told and entry.is_dir(follow_symlinks=False):
            shown = b"/".join((*inner, name)).decode("utf-8", "replace")
            self.passed[shown] = entry.stat(follow_symlinks=False)

    def _text(self, path: bytes, entry: Any) -> Optional[str]:
        try:
            return path.decode("utf-8")
        except UnicodeDecodeError:
            if len(self.odd) < MAX_ODD:
                self.odd[path.decode("utf-8", "replace")] = entry.stat(follow_symlinks=False)
            return None

    def _late(self) -> bool:
        if self._entries >= MAX_ENTRIES:
            self.cut = "there are more than {} files".format(MAX_ENTRIES)
        elif time.monotonic() >= self._deadline:
            self.cut = "looking took too long"
        else:
            return False
        return True


def is_everything(cwd: str) -> bool:
    """Whether that is the whole machine, with /proc and all: nobody's place for checkpoints."""
    return os.path.realpath(cwd) == "/"


def own_directories(run_dir: str) -> Set[Tuple[int, int]]:
    """What no walk enters: the runs and the home they are in, where they lie in a trainer's own directory."""
    found = set()
    for path in (run_dir, os.path.dirname(run_dir), os.path.dirname(os.path.dirname(run_dir))):
        try:
            facts = os.stat(path)
        except OSError:
            continue
        found.add((facts.st_dev, facts.st_ino))
    return found


def working_directory(run_dir: str, number: Optional[int] = None) -> Optional[str]:
    """Where the trainer of an attempt (the newest one) works; None when no record tells."""
    try:
        number = newest_attempt(run_dir) if number is None else number
    except OSError:
        number = 0
    records: List[Dict[str, Any]] = [
        read_json(os.path.join(run_dir, "attempts", "{:04d}.json".format(number))) or {},
        read_json(os.path.join(run_dir, "manifest.json")) or {},
    ]
    for record in records:
        cwd = record.get("cwd")
        if isinstance(cwd, str) and os.path.isabs(cwd) and "\0" not in cwd:
            return cwd
    return None


def began(run_dir: str, number: int = 1) -> float:
    """When an attempt was asked for, by the clock of this machine: the launcher's own may be hours off."""
    try:
        return os.stat(os.path.join(run_dir, "attempts", "{:04d}.json".format(number))).st_mtime
    except OSError:
        return 0.0
