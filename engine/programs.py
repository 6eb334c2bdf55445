"""Programs of this machine that are to be supervised: whether they are there, and what to call their runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .errors import UsageError


def check_program(program: str, directory: Path) -> None:
    """Refuse a program that is not on this machine.

    Raises
    ------
    UsageError: there is none, or it may not be executed.
    """
    if os.sep in program:
        path = directory / program
        if not path.exists():
            raise UsageError(f"there is no {program} in {directory}.")
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UsageError(f"{program} is not executable: `chmod +x` it, or name its interpreter first.")
    elif shutil.which(program) is None:
        raise UsageError(f"there is no program {program!r} on the PATH.")


def command_label(argv: Sequence[str]) -> str:
    """The script's name rather than the interpreter's: `python -u train.py` is `train`, `python -m pkg.fit` is `fit`"""
    for before, word in zip(("", *argv), argv, strict=False):
        if before == "-m":
            return word.rsplit(".", 1)[-1]
        if word.endswith((".py", ".sh")):
            return Path(word).stem
    return Path(argv[0]).stem
