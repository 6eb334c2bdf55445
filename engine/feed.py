"""One run's journals as growing series, read a little at a time.

`RunFeed` lives in a worker thread of the deck or in a headless verb; what crosses to a view is the frozen result of
`views()`. Metrics the trainer logs itself win over the same metrics recognised in its console. A run that was
moved from another host shows what its parent reached before the seam, as one curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .events import Event, columns_of
from .journal import FIRST_PAINT, LIVE, Batch, Budget, JournalReader
from .lineage import ancestors, has_parent
from .rundir import Home, RunDir
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
    """One journal and the table of what it said, after what its run's ancestors said up to the seam.

    Parameters
    ----------
    before: the same journal of the runs it goes on from, oldest first, each with the last step that counts.
    """

    def __init__(self, reader: JournalReader, before: Iterable[tuple[JournalReader, int]] = ()) -> None:
        self.reader = reader
        self._before = list(before)
        self._begin()

    def _begin(self) -> None:
        self.table = SeriesTable()
        self.next_step = 0
        self.bad_lines = 0
        self.more = False
        self._joined = 0
        """How many of the journals before this one were read to their end."""
        self._met = False
        """Whether the first row of this journal was seen."""

    @property
    def readers(self) -> list[JournalReader]:
        """All journals that the table is made of."""
        return [*(reader for reader, _ in self._before), self.reader]

    def poll(self, budget: Budget) -> bool:
        changed = False
        while self._joined < len(self._before):
            batch = self._read_before(budget)
            changed = changed or bool(batch.events)
            if batch.more:
                self.more = True
                return changed
        if self._late(budget):
            return self._again()
        batch = self.reader.poll(budget)
        if batch.rewound and self._before:
            return self._again()
        self.more = batch.more
        self.bad_lines += batch.bad_lines
        if batch.rewound:
            self.table, self.next_step = SeriesTable(), 0
        if self._before and not self._met:
            self._meet(batch.events)
        self._take(batch.events)
        return changed or bool(batch.events) or batch.rewound

    def _read_before(self, budget: Budget) -> Batch:
        """Read on in a journal before this one; what lies beyond the seam is dropped at its end."""
        reader, step = self._before[self._joined]
        batch = reader.poll(budget)
        self._take(batch.events)
        if not batch.more:
            self.table.truncate_after_step(step)
            self.next_step = step
            self._joined += 1
        return batch

    def _meet(self, events: list[Event]) -> None:
        """Cut further back where the run's own rows begin before the seam: a program that tells no start began anew."""
        first = next((row.step for row in events if row.k == "metrics" and row.step is not None), None)
        if first is not None:
            self._met = True
            if first < self._before[-1][1]:
                self.table.truncate_after_step(first - 1)

    def _late(self, budget: Budget) -> bool:
        """Whether an ancestor's journal grew by rows that count: its mirror caught up after the run had moved."""
        for reader, step in self._before:
            batch = reader.poll(budget)
            if batch.rewound or any(
                row.k == "metrics" and (row.step is None or row.step <= step) for row in batch.events
            ):
                return True
        return False

    def _again(self) -> bool:
        """Begin anew: rows are kept in order, so what belongs before others cannot be added after them."""
        for reader in self.readers:
            reader.offset, reader.inode = 0, None
        self._begin()
        self.more = True
        return True

    def _take(self, events: list[Event]) -> None:
        for stretch in _between_starts(events):
            if isinstance(stretch, Event):
                self._rewind(stretch)
            else:
                self._extend(stretch)

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
        self._first = True
        self._join([])
        self._may_join = has_parent(run)

    def _join(self, before: list[tuple[RunDir, int]]) -> None:
        self._trainer = _Source(
            JournalReader(self.run.events), [(JournalReader(run.events), step) for run, step in before]
        )
        self._console = _Source(
            JournalReader(self.run.console_events), [(JournalReader(run.console_events), step) for run, step in before]
        )

    def poll(self, budget: Budget | None = None) -> bool:
        """Read what is new, within the budget; True when anything changed."""
        chosen = budget or (FIRST_PAINT if self._first else LIVE)
        self._first = False
        if self._may_join:
            self._look_back()
        changed = self._trainer.poll(chosen)
        return self._console.poll(chosen) or changed

    def _look_back(self) -> None:
        """Join the charts of a moved run with those before the seam, once it can be told where that is."""
        before = ancestors(Home(self.run.path.parent.parent), self.run)
        if before:
            self._join(before)
        self._may_join = not before and not len(self._trainer.table) and not len(self._console.table)

    @property
    def more(self) -> bool:
        """Whether the last poll ended by its budget."""
        return self._trainer.more or self._console.more

    @property
    def loading(self) -> Loading:
        """How far the reading is."""
        readers = (*self._trainer.readers, *self._console.readers)
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
