"""One run's journals as growing series, read a little at a time.

`RunFeed` lives in a worker thread of the deck or in a headless verb; what crosses to a view is the frozen result of
`views()`. Metrics the trainer logs itself win over the same metrics recognised in its console.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .events import Event, columns_of
from .journal import FIRST_PAINT, LIVE, Budget, JournalReader
from .rundir import RunDir
from .series import SeriesTable
from .series_view import SeriesView

_PIECE = Budget(records=16_000, seconds=math.inf)


@dataclass(frozen=True, slots=True)
class Loading:
    """How much of the journals has been read: bytes so far and in all."""

    read: int
    size: int

    @property
    def done(self) -> bool:
        """Whether everything written so far has been read."""
        return self.read >= self.size

    @property
    def fraction(self) -> float:
        """0 to 1; 1 for empty journals."""
        return 1.0 if self.size == 0 else min(1.0, self.read / self.size)


class _Source:
    """One journal and the table of what it said."""

    def __init__(self, reader: JournalReader) -> None:
        self.reader = reader
        self.table = SeriesTable()
        self.next_step = 0
        self.bad_lines = 0
        self.more = False

    def poll(self, budget: Budget) -> bool:
        batch = self.reader.poll(budget)
        self.more = batch.more
        self.bad_lines += batch.bad_lines
        if batch.rewound:
            self.table, self.next_step = SeriesTable(), 0
        for stretch in _between_starts(batch.events):
            if isinstance(stretch, Event):
                self._rewind(stretch)
            else:
                self._extend(stretch)
        return bool(batch.events) or batch.rewound

    def _rewind(self, start: Event) -> None:
        if start.step is not None:
            self.table.truncate_after_step(start.step)
            self.next_step = start.step

    def _extend(self, rows: list[Event]) -> None:
        """Take metric rows. One that names no step comes after the row before it."""
        steps: list[int] = [row.step for row in rows]  # type: ignore[misc]
        if None in steps:
            steps = self._numbered(steps)
        self.next_step = steps[-1] + 1
        epochs = [math.nan if row.epoch is None else row.epoch for row in rows]
        columns = columns_of(rows)
        self.table.extend(
            steps,
            [row.t for row in rows],
            epochs,
            {name: column.values for name, column in columns.items()},
            {name: column.rows for name, column in columns.items() if len(column.rows) < len(rows)},
        )

    def _numbered(self, steps: Iterable[int | None]) -> list[int]:
        numbered = []
        following = self.next_step
        for step in steps:
            numbered.append(following if step is None else step)
            following = numbered[-1] + 1
        return numbered


def _between_starts(events: list[Event]) -> Iterator[Event | list[Event]]:
    """Stretches of metric rows, split by the `start` events that rewind them."""
    rows: list[Event] = []
    for event in events:
        if event.k == "metrics":
            rows.append(event)
        elif event.k == "start" and event.step is not None:
            if rows:
                yield rows
                rows = []
            yield event
    if rows:
        yield rows


class RunFeed:
    """Reads the metrics of one run incrementally."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._trainer = _Source(JournalReader(run.events))
        self._console = _Source(JournalReader(run.console_events))
        self._first = True

    def poll(self, budget: Budget | None = None) -> bool:
        """Read what is new, within the budget; True when anything changed."""
        chosen = budget or (FIRST_PAINT if self._first else LIVE)
        self._first = False
        changed = self._trainer.poll(chosen)
        return self._console.poll(chosen) or changed

    @property
    def more(self) -> bool:
        """Whether the last poll ended by its budget."""
        return self._trainer.more or self._console.more

    @property
    def loading(self) -> Loading:
        """How far the reading is."""
        readers = (self._trainer.reader, self._console.reader)
        return Loading(sum(r.offset for r in readers), sum(r.size for r in readers))

    @property
    def bad_lines(self) -> int:
        """Whole lines that were not events."""
        return self._trainer.bad_lines + self._console.bad_lines

    def views(self) -> dict[str, SeriesView]:
        """Frozen series of every metric; unchanged ones are the same objects as before."""
        views = dict(self._trainer.table.views())
        for name, view in self._console.table.views().items():
            views.setdefault(name, view)
        return views


def read_metrics(run: RunDir) -> dict[str, SeriesView]:
    """All metrics of a run, read to the end; in pieces, since a million decoded rows at once are most of a gigabyte."""
    feed = RunFeed(run)
    feed.poll(_PIECE)
    while feed.more:
        feed.poll(_PIECE)
    return feed.views()
