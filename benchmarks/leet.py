"""The peer: `wandb leet`, on the same numbers in the W&B SDK's own files."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from .generate import Shape
from .viewer import Viewer

ENV = {"WANDB_ERROR_REPORTING": "false"}
STEP = re.compile(r"\b_step\s+(\d+)")


def program() -> str | None:
    """The `wandb` command of this environment, or of the PATH."""
    beside = Path(sys.executable).with_name("wandb")
    return str(beside) if beside.exists() else shutil.which("wandb")


def viewer(command: str, file: Path) -> Viewer:
    """LEET on one run file. The exit record is the file's last, so `Finished` means all of it was read."""
    return Viewer("wandb leet", [command, "leet", str(file)], ENV, _loaded, _newest)


def state(text: str) -> str:
    """The state LEET shows."""
    found = re.search(r"State:\s*(\w+)", text)
    return found.group(1) if found else "?"


def _loaded(text: str, shape: Shape) -> bool:
    return state(text) in ("Finished", "Failed")


def _newest(text: str) -> int | None:
    found = STEP.search(text)
    return int(found.group(1)) if found else None
