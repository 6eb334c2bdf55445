"""Takes back what launches left on this host that died: environments, which hold secrets.

A launcher hands an environment over in a file that the supervisor deletes as it reads it. One whose connection broke in
between cannot take it back; the next agent here does.
"""

from __future__ import annotations

import os
import time

EVERY_S = 60.0
OLD_S = 60.0
"""A supervisor that has not come by then never will: its launcher has given up long before."""
MOST_RUNS = 5000


class Sweep:
    """Deletes `attempts/.env-*` of every run, and half-written ones, once they are a minute old."""

    def __init__(self, runs: str) -> None:
        self._runs = runs
        self._next = 0.0

    def due(self) -> float:
        """When there is something to do again."""
        return self._next

    def turn(self, now: float) -> None:
        """Look through all runs, once a minute."""
        if now < self._next:
            return
        self._next = now + EVERY_S
        try:
            names = os.listdir(self._runs)[:MOST_RUNS]
        except OSError:
            return
        for name in names:
            self._sweep("{}/{}/attempts".format(self._runs, name))

    def close(self) -> None:
        """Nothing is held."""

    def _sweep(self, folder: str) -> None:
        try:
            names = [name for name in os.listdir(folder) if name.startswith((".env-", "..env-"))]
        except OSError:
            return
        for name in names:
            path = "{}/{}".format(folder, name)
            try:
                if time.time() - os.lstat(path).st_mtime > OLD_S:
                    os.unlink(path)
            except OSError:
                continue
