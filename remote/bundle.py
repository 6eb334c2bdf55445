"""What is sent to a host to run the agent there: one command line, and what goes to its standard input.

Nothing is installed. The command line is as short as can be and means the same in sh, bash, zsh, fish and csh, because
sshd hands it to whatever shell the user has there: no variables, no `!`, and single quotes only.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..engine.errors import UsageError

PAYLOAD = Path(__file__).parent / "payload"
MODULES = (
    "agent",
    "agent_files",
    "agent_follow",
    "agent_frames",
    "agent_host",
    "agent_jobs",
    "agent_living",
    "agent_readings",
    "agent_run",
    "agent_sweep",
    "agent_tails",
    "agent_watch",
    "agent_workers",
    "below",
    "file_walk",
    "foreign_lines",
    "foreign_policy",
    "gpu_apps",
    "gpu_stream",
    "host_readings",
    "nvidia_rows",
    "records",
    "run_files",
)
"""Modules of the payload that the agent needs; it imports nothing else but the standard library."""
MARK = "WAVEDECK-AGENT"
"""The agent's first line is this and the nonce; whatever comes before it is noise of the login shell."""
TOO_OLD = 78
"""Exit status when the host's Python is older than 3.8; its standard error then says so in a sentence."""
_PYTHON = re.compile(r"[A-Za-z0-9_./+@%:,=~ -]+")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def agent_command(python: str = "python3") -> str:
    """The command line that becomes the agent.

    Parameters
    ----------
    python: a path or name on the host; Python 3.8 or newer. Nothing is expanded in it.

    Raises
    ------
    UsageError: no quoting would bring that path through every shell.
    """
    if _PYTHON.fullmatch(python) is None or python.startswith("-"):
        raise UsageError(f"{python!r} cannot be used as the host's python: use a path of letters, digits and ./_-+.")
    word = python if re.fullmatch(r"[A-Za-z0-9_./+-]+", python) else f"'{python}'"
    return f"exec {word} -IS -u -c 'import sys;exec(sys.stdin.buffer.read({len(_boot())}))'"


def agent_input(nonce: str, options: Mapping[str, object] | None = None) -> bytes:
    """What goes to its standard input first: the bootstrap, a header and the bundle. Frames follow.

    Parameters
    ----------
    options: `home` (an absolute path or `~/…`), `idle_s`, `credit`, `tmux_socket`, each optional.
    """
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("a nonce is letters and digits")
    header = {"n": len(_bundle()), "nonce": nonce, "options": dict(options or {})}
    return _boot() + json.dumps(header, separators=(",", ":")).encode() + b"\n" + _bundle()


def posix_command() -> str:
    """The command line for a host without Python; its standard input gets `posix_input`."""
    return "exec sh -s"


def posix_input() -> bytes:
    """The script for a host without Python. It ends when standard input does, so that must stay open."""
    return (PAYLOAD / "posix_host.sh").read_bytes()


@lru_cache(maxsize=1)
def _boot() -> bytes:
    return (PAYLOAD / "agent_boot.py").read_bytes()


@lru_cache(maxsize=1)
def _bundle() -> bytes:
    sources = {name: (PAYLOAD / f"{name}.py").read_text("utf-8") for name in MODULES}
    return zlib.compress(json.dumps(sources, ensure_ascii=False).encode(), 9)
