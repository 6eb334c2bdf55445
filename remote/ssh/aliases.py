"""The hosts that the user's ssh configuration names literally: what can be completed and suggested."""

from __future__ import annotations

import glob
import os
import re
import shlex
from pathlib import Path

CONFIG_VARIABLE = "WAVEDECK_SSH_CONFIG"
"""Names another configuration than `~/.ssh/config`."""
_DEEPEST_INCLUDE = 16
_LARGEST = 1 << 20
_MOST_FILES = 200
_LINE = re.compile(r"\s*(?P<keyword>\w+)(?:\s*=\s*|\s+)(?P<rest>.*)")


def config_aliases() -> list[str]:
    """Host names without wildcards, in the order of the configuration; what cannot be read is left out."""
    chosen = os.environ.get(CONFIG_VARIABLE)
    found: dict[str, None] = {}
    _read(Path(chosen).expanduser() if chosen else Path.home() / ".ssh" / "config", found, set(), 0)
    return list(found)


def _read(path: Path, found: dict[str, None], seen: set[Path], depth: int) -> None:
    if depth > _DEEPEST_INCLUDE or len(seen) >= _MOST_FILES or path in seen:
        return
    seen.add(path)
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return
        text = path.read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        matched = _LINE.match(line)
        if matched is None:
            continue
        keyword, words = matched["keyword"].lower(), _words(matched["rest"])
        if keyword == "host":
            found.update(dict.fromkeys(word for word in words if not set("*?!") & set(word) and word.isprintable()))
        elif keyword == "include":
            for pattern in words:
                base = Path.home() / ".ssh" / Path(pattern).expanduser()  # an absolute one stays as it is
                for name in sorted(glob.glob(str(base))):  # noqa: PTH207  the pattern may be absolute
                    _read(Path(name), found, seen, depth + 1)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []
