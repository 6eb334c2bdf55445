"""Processes beside a training, as those see them that start them: never waited for longer than a moment."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Optional

FINISH_S = 2.0
"""How long the companion may take to finish what it has read."""


class Helper:
    """The companion process of one attempt. Whatever happens to it, nothing here raises.

    Parameters
    ----------
    pid: the trainer. offset: size of `console.log` before the trainer wrote to it.
    """

    def __init__(self, run_dir: str, number: int, pid: int, offset: int) -> None:
        self._process = _start("companion.py", run_dir, str(number), str(pid), str(offset))

    def reap(self) -> None:
        """Leave no zombie when it has died."""
        if self._process is not None:
            self._process.poll()

    def close(self) -> None:
        """The end of its standard input tells it to finish and go; it is killed when it takes too long."""
        process = self._process
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(FINISH_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()


class ForeignHelper:
    """The process that looks for the files of one attempt. It ends some time after whoever started it has."""

    def __init__(self, run_dir: str, number: int) -> None:
        self._words = (run_dir, str(number))
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self.started = False

    def start(self) -> None:
        """Start it, once; whatever happens to it, nothing here raises."""
        self.started = True
        self._process = _start("foreign_files.py", *self._words)

    def reap(self) -> None:
        """Leave no zombie when it has died."""
        if self._process is not None:
            self._process.poll()


def _start(script: str, *words: str) -> Optional["subprocess.Popen[bytes]"]:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), script)
    try:
        return subprocess.Popen(
            [sys.executable, "-IS", path, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError:
        return None
