"""What a project needs, read from the files it has: one text that does not depend on where it lies.

Files that are named by others (`-r`, `-c`) are put in their place. Lines that install from the project's own directory
are left out: an environment is shared by launches, and each of them runs its own copy of the code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ...engine.errors import WavedeckError
from ...engine.format import plain

LOCK, UV_LOCK, REQUIREMENTS = "requirements.lock", "uv.lock", "requirements.txt"
EXPORT_S = 60
_MOST_FILES = 50
_MOST_BYTES = 256 << 10
_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]*(?P<path>\S.*)")
_CONSTRAIN = re.compile(r"(?:-c|--constraint)[ =]*(?P<path>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)[ =]")
_LOCAL = re.compile(r"(?:\.{1,2}(?:/|$|\[)|[\w.-]+/|\S+\s*@\s*(?:file:)?\.{1,2}/)")
"""`.`, `.[extra]`, `./folder`, `../folder`, `vendored/wheel.whl`, `name @ ./folder`; an address has a scheme first."""


@dataclass(slots=True)
class Requirements:
    """A project's requirements, flattened."""

    source: str
    """The file they were found in, as a name."""
    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    """What was left out, as sentences."""

    @property
    def text(self) -> bytes:
        """As a file."""
        return _encoded(self.lines)

    @property
    def constraint_text(self) -> bytes:
        """The constraints as a file; empty without any."""
        return _encoded(self.constraints)


def read_requirements(root: Path) -> Requirements | None:
    """`requirements.lock`, else `uv.lock` where uv is here, else `requirements.txt`; None without any of them.

    Raises
    ------
    WavedeckError: a file cannot be read, names one that is missing, or is much too large.
    """
    if (root / LOCK).is_file():
        return _flatten(root / LOCK)
    exported = _export(root) if (root / UV_LOCK).is_file() else None
    if exported is not None:
        return Requirements(UV_LOCK, exported.splitlines())
    return _flatten(root / REQUIREMENTS) if (root / REQUIREMENTS).is_file() else None


def _export(root: Path) -> str | None:
    """What uv.lock says, as requirements; None without uv.

    Raises
    ------
    WavedeckError: uv refuses.
    """
    beside = Path(sys.executable).parent / "uv"
    uv = shutil.which("uv") or (str(beside) if beside.is_file() else None)
    if uv is None:
        return None
    argv = [uv, "export", "--frozen", "--no-hashes", "--no-emit-project", "--no-emit-workspace", "-q"]
    try:
        done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=EXPORT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WavedeckError(f"uv cannot read {UV_LOCK}: {error}.") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WavedeckError(f"uv cannot read {UV_LOCK}: {plain(said, 300)}. `uv lock` makes it anew.")
    return "\n".join(line for line in done.stdout.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _flatten(path: Path) -> Requirements:
    found = Requirements(path.name)
    _read_into(found, path, found.lines, set())
    return found


def _read_into(found: Requirements, path: Path, into: list[str], seen: set[Path]) -> None:
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    if len(seen) > _MOST_FILES:
        raise WavedeckError(f"{found.source} names more than {_MOST_FILES} other files.")
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WavedeckError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(data) > _MOST_BYTES:
        raise WavedeckError(f"{path} is too large to be a list of requirements.")
    for line in _logical(lines):
        words = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not words:
            continue
        if include := _INCLUDE.fullmatch(words):
            _read_into(found, path.parent / include["path"].strip(), into, seen)
        elif constrain := _CONSTRAIN.fullmatch(words):
            _read_into(found, path.parent / constrain["path"].strip(), found.constraints, seen)
        elif _EDITABLE.match(words) or _LOCAL.match(words):
            found.notices.append(
                f"{path.name}: `{plain(words, 80)}` is left out, because the code runs from its own copy; "
                "put what it needs into the file itself."
            )
        else:
            into.append(words)


def _logical(lines: list[str]) -> list[str]:
    """Lines with those that end in a backslash joined to the next."""
    joined: list[str] = []
    open_line = ""
    for line in lines:
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            open_line += line.rstrip()[:-1].rstrip() + " "
            continue
        joined.append(open_line + line)
        open_line = ""
    return [*joined, open_line] if open_line else joined


def _encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
