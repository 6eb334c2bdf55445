"""What a recipe's stage is given besides its config: where to write, how to tell, on which device."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .about import number_of
from .logger import EventWriter
from .rundir import RunDir

T = TypeVar("T")


@dataclass(slots=True)
class Context:
    """Handed to every stage as its second argument.

    Parameters
    ----------
    run: the run's directory.
    data_root: `$WAVEDECK_HOME/data/<recipe>`; data sets lie in a directory per signature below it.
    resume: continue from the newest whole checkpoint.
    attempt: 1 for a launch, counting up with each resume.
    checkpoint: name of the checkpoint to evaluate; None is the best one.
    """

    run: RunDir
    data_root: Path
    resume: bool = False
    attempt: int = 1
    device: str = "auto"
    checkpoint: str | None = None
    journal: EventWriter = field(init=False)
    _last_progress: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.journal = EventWriter(self.run.events)

    def log(self, values: Mapping[str, Any], step: int | None = None, epoch: float | None = None) -> None:
        """Record scalar metrics of one step."""
        self.journal.metrics(values, step, epoch)

    def phase(self, name: str) -> None:
        """Say what is going on now: generate, train, validate, evaluate."""
        self.journal.write("phase", name=name)

    def say(self, text: str, level: str = "info") -> None:
        """One line for the journal and the console."""
        self.journal.write("log", level=level, text=text)
        print(text, file=sys.stderr if level != "info" else sys.stdout, flush=True)

    def about(
        self,
        facts: Mapping[str, str | None] | None = None,
        numbers: Mapping[str, float | None] | None = None,
        lines: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Say what this run is made of; it stands in its header, in `show` and in comparisons.

        Called again, names that were said before are replaced and the others stay; None takes one back. What
        `engine.about` has no room for is left out.

        Parameters
        ----------
        facts: short texts by name: architecture, front end, digest of the weights.
        numbers: finite numbers by name, the unit in the name: `trainable_parameters`, `train_s`, `memory_gib`.
        lines: levels across the chart of a metric, `{metric: {label: value}}`.
        """
        fields: dict[str, Any] = {
            "facts": dict(facts or {}),
            "numbers": {name: number_of(value) for name, value in (numbers or {}).items()},
            "lines": {
                metric: {label: number_of(value) for label, value in levels.items()}
                for metric, levels in (lines or {}).items()
            },
        }
        if any(fields.values()):
            self.journal.write("about", **{name: value for name, value in fields.items() if value})

    def progress(self, done: float, total: float | None, unit: str, description: str = "") -> None:
        """Record progress, at most five times a second; the last unit of a known total is always recorded."""
        now = time.monotonic()
        if now - self._last_progress < 0.2 and done != total:
            return
        self._last_progress = now
        self.journal.progress(done, total, unit, description)

    def track(self, items: Iterable[T], total: int, unit: str, description: str = "") -> Iterator[T]:
        """Iterate with progress on the deck."""
        for done, item in enumerate(items):
            self.progress(done, total, unit, description)
            yield item
        self.progress(total, total, unit, description)


def default_threads() -> int:
    """torch threads per run: one unless told otherwise, since two were 3 to 23 times slower on a busy machine."""
    return int(os.environ.get("WAVEDECK_THREADS", "1"))
