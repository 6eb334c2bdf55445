"""Which files of a user's project travel to another machine, known before anything is sent.

Inside a git repository: what git tracks and what is new and not ignored, submodules included. Elsewhere git is asked
the same with an empty repository that lies somewhere else, so that `.gitignore` means there what it always means;
where there is no git at all, rsync reads the ignore files.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...engine import format as fmt
from ...engine.errors import UsageError, WavedeckError
from ...engine.names import slug

MOST_BYTES = 1 << 30
MOST_FILES = 50_000
LIST_S = 120
NEVER = (
    ".git", "__pycache__", ".venv", "venv", "node_modules", "wandb", "mlruns", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".tox", ".ipynb_checkpoints", ".DS_Store", "*.pyc", "*.ckpt", "*.egg-info",
)  # fmt: skip
"""What is left out of a directory that is no git repository."""
_ESCAPED = re.compile(rb"\\#([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Project:
    """A directory tree that is pushed, and where in it the command is run."""

    root: Path
    subdirectory: str
    """Relative to the root; empty for the root itself."""
    is_repository: bool

    @property
    def name(self) -> str:
        """A name fit for a path on a host."""
        return slug(self.root.name)

    @property
    def key(self) -> str:
        """The same for every push of this tree."""
        return f"{self.name}-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be pushed. Paths are bytes, as the file system has them, relative to the root."""

    paths: tuple[bytes, ...]
    size: int
    """Bytes in all."""
    notices: tuple[str, ...] = ()
    """What is left out, as sentences."""


def find_project(cwd: Path) -> Project:
    """The repository that `cwd` lies in, else `cwd` itself. Asks git.

    Raises
    ------
    UsageError: that would be `/` or a home directory.
    """
    cwd = cwd.resolve()
    top = _git(cwd, "rev-parse", "--show-toplevel")
    root = Path(os.fsdecode(top.rstrip(b"\n"))).resolve() if top else cwd
    if _is_too_much(root) and root != cwd:
        root = cwd  # a home directory that is itself a repository, for its dotfiles
    if _is_too_much(root):
        raise UsageError(
            f"{root} is not a project, so it is not pushed: go to the directory of your code, or run in a directory "
            "of the host as it is, with --no-push --cwd DIR."
        )
    subdirectory = cwd.relative_to(root).as_posix() if cwd.is_relative_to(root) else "."
    return Project(root, "" if subdirectory == "." else subdirectory, top is not None)


def _is_too_much(root: Path) -> bool:
    return root == root.parent or root == Path.home().resolve()


def files(project: Project, *, unlimited: bool = False, whole: bool = False) -> Listing:
    """Everything that is pushed, in order. Asks git and looks at every file: call it in a thread.

    Parameters
    ----------
    unlimited: push it however large it is.
    whole: leave nothing out, whatever ignore files say: what is there was chosen before.

    Raises
    ------
    UsageError: it is larger than a project of code is; the largest directories are named. WavedeckError: it cannot be
    listed.
    """
    root = os.fsencode(project.root)
    notices: list[str] = []
    candidates = sorted(set(_everything(root) if whole else _candidates(project, root, notices)))
    paths: list[bytes] = []
    sizes: Counter[bytes] = Counter()
    left_out: list[bytes] = []
    for path in candidates:
        try:
            found = os.lstat(os.path.join(root, path))
        except OSError:
            continue  # deleted, and git still has it
        if stat.S_ISREG(found.st_mode) or (stat.S_ISLNK(found.st_mode) and _stays_inside(root, path)):
            paths.append(path)
            sizes[_folder(path)] += found.st_size if stat.S_ISREG(found.st_mode) else 0
        elif stat.S_ISLNK(found.st_mode):
            left_out.append(path)
    size = sum(sizes.values())
    if not unlimited and (size > MOST_BYTES or len(paths) > MOST_FILES):
        raise UsageError(_too_large(project, paths, sizes, size))
    return Listing(tuple(paths), size, (*notices, *_link_notices(left_out)))


def shown(path: bytes) -> str:
    """A path for people."""
    return fmt.plain(path.decode("utf-8", "replace"), 120)


# -- listing


def _candidates(project: Project, root: bytes, notices: list[str]) -> Iterator[bytes]:
    if project.is_repository:
        yield from _repository(root, b"")
        return
    listed = _as_if_repository(root)
    if listed is None:
        notices.append("git is not installed here: .gitignore is read by rsync, which knows no exceptions (`!name`).")
        listed = _with_rsync(root)
    yield from listed


def _everything(root: bytes) -> Iterator[bytes]:
    for folder, _, names in os.walk(root):
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in names)


def _repository(root: bytes, prefix: bytes) -> Iterator[bytes]:
    """What git knows and what is new, below `root`; repositories inside (submodules or not) are asked themselves."""
    here = os.path.join(root, prefix)
    listed = _git(here, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        raise WavedeckError(f"git cannot list the files of {shown(here)}: `git -C {shown(here)} status` says why.")
    for name in listed.split(b"\0"):
        if not name:
            continue
        inside = os.path.join(here, name)
        if _is_directory(inside):
            if os.path.lexists(os.path.join(inside, b".git")):
                yield from _repository(root, os.path.join(prefix, name.rstrip(b"/")) + b"/")
        else:
            yield prefix + name


def _is_directory(path: bytes) -> bool:
    """A directory itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _as_if_repository(root: bytes) -> Iterable[bytes] | None:
    """What git would track if `root` were a repository; None without git."""
    with tempfile.TemporaryDirectory(prefix="wavedeck-") as empty:
        if _git(os.fsencode(empty), "init", "-q", "--bare", ".") is None:
            return None
        excludes = [word for name in NEVER for word in ("-x", name)]
        listed = _git(
            root, f"--git-dir={empty}", f"--work-tree={os.fsdecode(root)}",
            "ls-files", "-z", "--others", "--exclude-standard", *excludes,
        )  # fmt: skip
    if listed is None:
        return None
    return [path for path in _inner(root, listed.split(b"\0")) if path]


def _inner(root: bytes, names: list[bytes]) -> Iterator[bytes]:
    for name in names:
        if name.endswith(b"/"):  # a repository inside: git names it and goes no further
            yield from _repository(root, name)
        else:
            yield name


def _with_rsync(root: bytes) -> Iterator[bytes]:
    excludes = [word for name in NEVER for word in ("--exclude", name)]
    with tempfile.TemporaryDirectory(prefix="wavedeck-") as empty:
        argv: list[str | bytes] = [
            "rsync",
            "-rln8",
            "--filter=:- .gitignore",
            *excludes,
            "--out-format=%n",
            "--",
            root + b"/",
            empty + "/",
        ]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=LIST_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WavedeckError("neither git nor rsync is here to list the files: install git.") from error
    for line in done.stdout.split(b"\n"):
        name = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), line)
        if name and not name.endswith(b"/"):
            yield name


def _git(cwd: bytes | Path, *arguments: str) -> bytes | None:
    """What git prints; None when it fails or is missing. It takes no locks and runs no program a repository names."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    argv: list[str | bytes] = [
        "git",
        "-C",
        os.fsencode(cwd),
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.quotePath=false",
        *arguments,
    ]
    try:
        done = subprocess.run(argv, capture_output=True, env=environment, timeout=LIST_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# -- links


def _stays_inside(root: bytes, path: bytes) -> bool:
    """Whether a link is relative and leads to somewhere in the tree."""
    target = os.readlink(os.path.join(root, path))  # noqa: PTH115  bytes: a name need not be text
    if target.startswith(b"/"):
        return False
    folder, _, _ = path.rpartition(b"/")
    led = os.path.normpath(os.path.join(folder or b".", target))
    return led != b".." and not led.startswith(b"../")


def _link_notices(left_out: list[bytes]) -> tuple[str, ...]:
    if not left_out:
        return ()
    names = ", ".join(shown(path) for path in left_out[:3]) + (" and more" if len(left_out) > 3 else "")
    many = len(left_out) > 1
    return (f"{names} {'lead' if many else 'leads'} out of the project and {'are' if many else 'is'} not pushed.",)


# -- size


def _folder(path: bytes) -> bytes:
    """The directory a file counts to: at most two levels deep."""
    parts = path.split(b"/")[:-1]
    return b"/".join(parts[:2])


def _too_large(project: Project, paths: list[bytes], sizes: Counter[bytes], size: int) -> str:
    if size > MOST_BYTES:
        what = f"{fmt.size(size)}, more than {fmt.size(MOST_BYTES)}"
        largest = [f"{shown(name) or '.'}/ ({fmt.size(value)})" for name, value in sizes.most_common(3) if value]
    else:
        what = f"{fmt.count(len(paths))} files, more than {fmt.count(MOST_FILES)}"
        counts = Counter(_folder(path) for path in paths)
        largest = [f"{shown(name) or '.'}/ ({fmt.count(value)})" for name, value in counts.most_common(3)]
    advice = "put what is no code into .gitignore, or add --push-large"
    return f"{project.root} has {what}: {', '.join(largest)}; {advice}."
