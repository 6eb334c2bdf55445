"""A run in a few numbers, accumulated line by line so that it never has to be read twice.

The accumulator is a plain struct that serialises: `wavedeck ps` over 200 runs reads the cached summaries and only the
bytes that are new. What the cache holds can always be rebuilt from the journals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import compress

import msgspec

from .about import Lines, merge_facts, merge_lines, merge_numbers
from .events import Column, Event, columns_of, safe_name
from .format import plain
from .headline import direction_of, guess_headline, spark_key
from .manifest import Headline

SUMMARY_VERSION = 6
"""Part of the cache's name: a summary of another shape is made anew, never half understood."""
SPARK_POINTS = 64
_MARKS = 40
_BESTS = 64
_RATE_WINDOW_S = 300.0
_SPANS = 128


class Improvement(msgspec.Struct, array_like=True):
    """A best-so-far: value and the step it was reached at."""

    value: float
    step: int | None


class Progress(msgspec.Struct, array_like=True):
    """The last progress event of a run."""

    done: float
    total: float | None
    unit: str
    description: str
    t: float


class Notice(msgspec.Struct, array_like=True):
    """An alert, or a log line of level warning or worse."""

    t: float
    level: str
    text: str
    rule: str = ""
    """Of an alert, what raised it; empty for a log line."""


class Summary(msgspec.Struct, omit_defaults=True):
    """What the journals said so far. Mutated by `absorb`; copy before handing it to a view.

    Every text in it is safe for a terminal. A `start` that goes back to an earlier step takes back `step`, `last` and
    `bests`; `nan_counts`, `rows` and `spark` are over all attempts.
    """

    step: int | None = None
    epoch: float | None = None
    phase: str | None = None
    progress: Progress | None = None
    marks: list[tuple[float, float]] = []
    """(time, done) of recent progress, thinned to one a second: what the rate is computed from."""
    last: dict[str, float] = {}
    """Newest value of every metric; NaN and infinities as floats. Without those that a resume went back on."""
    last_steps: dict[str, int | None] = {}
    """Step of the newest value of every metric ever seen."""
    bests: dict[str, list[Improvement]] = {}
    """The records of every metric, each better than the one before; beyond 64 the older ones are thinned."""
    nan_counts: dict[str, int] = {}
    """Values that were not finite, in all attempts: a resume does not undo that they occurred."""
    spark_name: str | None = None
    spark: list[float] = []
    spark_width: int = 1
    spark_fill: int = 0
    rows: int = 0
    last_t: float | None = None
    usual_gap_s: float | None = None
    """The longest recent pause between two signs of life, decaying."""
    attempt: int | None = None
    """The newest attempt that wrote a `start`."""
    attempt_t: float | None = None
    """When it did; None for the first, before which there is nothing."""
    began_t: float | None = None
    """When the newest attempt was first heard of."""
    earlier_s: float = 0.0
    """How long the attempts before it ran, each from its first sign to its last; 0 where no journal says."""
    spans: dict[int, tuple[float, float]] = {}
    """First and last sign of each attempt before the newest; the oldest are left out beyond 128."""
    end_reason: str | None = None
    end_attempt: int | None = None
    """The attempt that `end_reason` is about."""
    notices: list[Notice] = []
    facts: dict[str, str] = {}
    """What the trainer says of itself; see `engine.about`. A resume keeps it until it says otherwise."""
    numbers: dict[str, float] = {}
    lines: Lines = {}
    bad_lines: int = 0

    def absorb(self, events: Iterable[Event], *, only_new_keys_than: Summary | None = None) -> None:
        """Take in a batch of events, in file order.

        `only_new_keys_than`: metrics that this other summary knows already are left out (the console repeats what the
        trainer logs itself).
        """
        known: dict[str, int | None] = only_new_keys_than.last_steps if only_new_keys_than is not None else {}
        rows: list[Event] = []
        events = list(events)
        self._note_signs(events)
        for event in events:
            if event.k == "metrics":
                rows.append(event)
            else:
                if event.k == "start" and rows:
                    self._absorb_rows(rows, known)
                    rows = []
                self._absorb_other(event)
        if rows:
            self._absorb_rows(rows, known)

    def _note_signs(self, events: list[Event]) -> None:
        """Note signs of life; the pause before a start (a resume the next day) is no rhythm."""
        if not events:
            return
        last, usual, attempt = self.last_t, self.usual_gap_s, self.attempt
        for event in events:
            if event.k == "start" and event.attempt is not None and event.attempt != attempt:
                if attempt is not None and last is not None and self.began_t is not None:
                    self.earlier_s += max(0.0, last - self.began_t)
                    self.spans = dict(list({**self.spans, attempt: (self.began_t, last)}.items())[-_SPANS:])
                attempt, self.began_t = event.attempt, event.t
            if last is not None and event.k != "start":
                gap = event.t - last
                if gap > 0:
                    usual = gap if usual is None or gap > usual else usual + 0.01 * (gap - usual)
            last = event.t
        self.last_t, self.usual_gap_s = last, usual

    def _absorb_rows(self, rows: list[Event], known: dict[str, int | None]) -> None:
        self.step = next((row.step for row in reversed(rows) if _moves_on(row)), self.step)
        self.epoch = next((row.epoch for row in reversed(rows) if row.epoch is not None), self.epoch)
        self.rows += len(rows)
        for key, column in columns_of(rows).items():
            if key not in known:
                self._absorb_column(key, column, rows)

    def _absorb_column(self, key: str, column: Column, rows: list[Event]) -> None:
        values = column.values
        self.last[key] = values[-1]
        self.last_steps[key] = rows[column.rows[-1]].step
        finite = column
        if not math.isfinite(sum(values)):
            kept = [math.isfinite(value) for value in values]
            finite = Column(list(compress(column.rows, kept)), list(compress(values, kept)))
        if len(finite.values) < len(values):
            self.nan_counts[key] = self.nan_counts.get(key, 0) + len(values) - len(finite.values)
        if finite.values:
            self._improve(key, finite, rows)
        if self.spark_name is None or (key != self.spark_name and spark_key([self.spark_name, key]) == key):
            self.spark_name, self.spark, self.spark_width, self.spark_fill = key, [], 1, 0
        if key == self.spark_name:
            self._draw_spark(values)

    def _improve(self, key: str, finite: Column, rows: list[Event]) -> None:
        """Keep every improvement of the batch, not only its best: a resume may take the later ones back."""
        rising = direction_of(key) == "max"
        stack = self.bests.setdefault(key, [])
        extreme = max(finite.values) if rising else min(finite.values)
        best = stack[-1].value if stack else (-math.inf if rising else math.inf)
        if best >= extreme if rising else best <= extreme:
            return
        records: list[int] = []
        for place, value in enumerate(finite.values):
            if value > best if rising else value < best:
                best = value
                records.append(place)
                if value == extreme:
                    break
        self.bests[key] = [
            Improvement(finite.values[record], rows[finite.rows[record]].step) if isinstance(record, int) else record
            for record in _pushed(stack, records)
        ]

    def _draw_spark(self, values: Sequence[float]) -> None:
        """Bucket means; when the buckets run out, pairs are merged and each bucket covers twice as many values."""
        place = 0
        while place < len(values):
            if len(self.spark) >= 2 * SPARK_POINTS and self.spark_fill == 0:
                pairs = zip(self.spark[::2], self.spark[1::2], strict=True)
                self.spark = [(a + b) / 2 for a, b in pairs]
                self.spark_width *= 2
            if self.spark_width == 1:
                piece = values[place : place + 2 * SPARK_POINTS - len(self.spark)]
                self.spark += piece
            else:
                piece = values[place : place + self.spark_width - self.spark_fill]
                self._fill_bucket(piece)
            place += len(piece)

    def _fill_bucket(self, piece: Sequence[float]) -> None:
        """Values that all belong to the newest bucket."""
        if self.spark_fill == 0:
            self.spark.append(0.0)
        filled = self.spark_fill + len(piece)
        self.spark[-1] += (sum(piece) - self.spark[-1] * len(piece)) / filled
        self.spark_fill = filled % self.spark_width

    def _absorb_other(self, event: Event) -> None:
        if event.k == "progress" and event.done is not None:
            self._mark(event)
        elif event.k == "phase":
            self.phase = plain(event.name or "", 60)
            if self.progress is not None and self.progress.done == self.progress.total:
                self.progress, self.marks = None, []  # the stage before is done; its count says nothing of the next
        elif event.k == "start":
            self._start(event)
        elif event.k == "end":
            self.end_reason = None if event.reason is None else safe_name(event.reason)
            self.end_attempt = event.attempt
        elif event.k == "about":
            merge_facts(self.facts, event.facts)
            merge_numbers(self.numbers, event.numbers)
            merge_lines(self.lines, event.lines)
        elif event.k == "alert" or (event.k == "log" and event.level in ("warning", "error")):
            self._notice(event)

    def _notice(self, event: Event) -> None:
        """Keep the last ten alerts and warnings, a repeated one once."""
        rule = plain(event.rule or "alert", 60) if event.k == "alert" else ""
        notice = Notice(event.t, plain(event.level or "warning", 20), plain(event.text or event.rule or "", 500), rule)
        if notice.text:
            self.notices = [*(old for old in self.notices if old.text != notice.text), notice][-10:]

    def _mark(self, event: Event) -> None:
        assert event.done is not None
        unit, description = plain(event.unit or "step", 20), plain(event.description or "", 120)
        before = self.progress
        if before is not None and (before.unit != unit or before.description != description):
            self.marks = []
        if self.marks and event.done < self.marks[-1][1]:
            self.marks = []
        self.progress = Progress(event.done, event.total, unit, description, event.t)
        if not self.marks or event.t - self.marks[-1][0] >= 1.0:
            self.marks.append((event.t, event.done))
            if len(self.marks) > _MARKS:
                self.marks = [mark for mark in self.marks[::2] if event.t - mark[0] < _RATE_WINDOW_S] or self.marks[-2:]

    def _start(self, event: Event) -> None:
        """A new attempt: what came after the step it resumes from is superseded."""
        self.end_reason = self.end_attempt = None
        self.marks = []
        if event.attempt is not None and event.attempt != self.attempt:  # its training's own `start` comes later
            self.attempt = event.attempt
            if event.attempt > 1:
                self.attempt_t = event.t
                self.notices = []  # what an earlier attempt warned of is in its journal, not in the header of this one
        if event.step is not None:
            self._rewind(event.step)

    def _rewind(self, step: int) -> None:
        """Forget what belongs to later steps. The value before a forgotten one is not known here, so it is none."""
        self.step = step
        for key, at in self.last_steps.items():
            if at is not None and at > step:
                self.last.pop(key, None)
        for key, stack in self.bests.items():
            self.bests[key] = [record for record in stack if record.step is None or record.step <= step]

    @property
    def rate(self) -> float | None:
        """Units of progress per second over the recent minutes; None while unknown."""
        if self.progress is None or not self.marks:
            return None
        t0, done0 = self.marks[0]
        elapsed = self.progress.t - t0
        return (self.progress.done - done0) / elapsed if elapsed > 0.5 and self.progress.done > done0 else None

    def eta_s(self, now: float) -> float | None:
        """Seconds to the end of the current progress at the recent rate; None for an unknown total."""
        progress, rate = self.progress, self.rate
        if progress is None or progress.total is None or rate is None:
            return None
        return max(0.0, (progress.total - progress.done) / rate - max(0.0, now - progress.t))

    def best(self, headline: Headline | None) -> tuple[str, float, int | None] | None:
        """(metric, value, step) of the headline metric's best, guessing the headline when none is declared."""
        chosen = headline if headline and headline.metric in self.bests else guess_headline(self.bests)
        if chosen is None or not self.bests.get(chosen.metric):
            return None
        improvement = self.bests[chosen.metric][-1]
        return chosen.metric, improvement.value, improvement.step

    def best_until(self, step: int, headline: Headline | None) -> tuple[str, float, int | None] | None:
        """`best` as it was at a step: what a run that goes on from there has reached already."""
        until = {
            name: [record for record in stack if record.step is None or record.step <= step]
            for name, stack in self.bests.items()
        }
        return Summary(bests={name: stack for name, stack in until.items() if stack}).best(headline)


def _moves_on(row: Event) -> bool:
    """Whether a row says how far the training is: a final test is logged at the step of its checkpoint."""
    return row.step is not None and not all(name.startswith("test/") for name in row.v or {"": None})


def all_notices(trainer: Summary, spoken: Summary) -> tuple[Notice, ...]:
    """The notices of both journals of a run, oldest first: the last ten of the newest attempt, each text once.

    Only the trainer's journal says when an attempt starts, so what the console said before that is left out here.
    """
    since = -math.inf if trainer.attempt_t is None else trainer.attempt_t
    newest = {notice.text: notice for notice in (*spoken.notices, *trainer.notices) if notice.t >= since}
    return tuple(sorted(newest.values(), key=lambda notice: notice.t)[-10:])


def _pushed(stack: list[Improvement], records: list[int]) -> list[Improvement | int]:
    """The stack with new records on it, thinned each time it is full, exactly as if they had come one by one.

    The first record stays: going back a long way ends at an early best rather than at none.
    """
    grown: list[Improvement | int] = list(stack)
    done = 0
    while done < len(records):
        room = _BESTS + 1 - len(grown)
        grown += records[done : done + room]
        done += room
        if len(grown) > _BESTS:
            del grown[1 : _BESTS // 2 : 2]
    return grown
