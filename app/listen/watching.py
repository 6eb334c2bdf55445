"""The thread that follows a set while it grows."""

from __future__ import annotations

from threading import Lock

from textual.message_pump import MessagePump

from ...engine.journal import LIVE
from ...engine.samples import SampleSet, sample_sets
from ...engine.samples.notes import SampleNotes
from ..watchers import Watcher
from .messages import SamplesSeen

REST_S = 0.5


class SamplesWatcher(Watcher):
    """Polls one set and its notes, and posts their columns when anything changed."""

    def __init__(self, samples: SampleSet, notes: SampleNotes, lock: Lock, target: MessagePump) -> None:
        super().__init__(f"samples of {samples.run_dir.name}", target)
        self._samples, self._notes, self._lock = samples, notes, lock
        self._posted: tuple[object, ...] | None = None

    def look(self) -> float:
        """Read one budget's worth. A failure is on screen in place of the list: what is read next is posted anew."""
        posted, self._posted = self._posted, None
        polled = self._samples.poll(LIVE)
        with self._lock:
            noted = self._notes.poll()
        sets = sample_sets(self._samples.run_dir)
        columns = self._samples.items
        state = (len(columns), self._samples.rewinds, polled.more, sets)
        if noted or state != posted:
            with self._lock:
                notes = self._notes.columns(columns, self._samples.name)
            self.target.post_message(
                SamplesSeen(
                    self._samples.name,
                    columns,
                    notes,
                    sets=sets,
                    more=polled.more,
                    rewinds=self._samples.rewinds,
                    bad_lines=self._samples.bad_lines,
                )
            )
        self._posted = state
        return 0.01 if polled.more else REST_S
