"""What the Listen screen's threads tell it. A newer picture of the same thing replaces an older one."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from ...engine.samples import SampleColumns
from ...engine.samples.query import NoteColumns
from ...widgets.track_view import TrackView


class SamplesSeen(Message):
    """A set as far as it was read. `more`: the index goes on. `rewinds`: rows mean something else after each.

    `sets`: the names of all sets of the run.
    """

    def __init__(
        self,
        set_name: str,
        columns: SampleColumns,
        notes: NoteColumns,
        *,
        sets: tuple[str, ...],
        more: bool,
        rewinds: int,
        bad_lines: int,
    ) -> None:
        super().__init__()
        self.set_name, self.columns, self.notes, self.sets = set_name, columns, notes, sets
        self.more, self.rewinds, self.bad_lines = more, rewinds, bad_lines

    def can_replace(self, message: Message) -> bool:
        """Only the newest counts."""
        return isinstance(message, SamplesSeen) and message.set_name == self.set_name


class TracksSeen(Message):
    """The tracks of what is shown, as far as they were read. `generation` tells which showing they belong to.

    `wrong`: what is wrong with the item, in sentences, or nothing.
    """

    def __init__(self, generation: int, views: Sequence[TrackView], wrong: str) -> None:
        super().__init__()
        self.generation, self.views, self.wrong = generation, tuple(views), wrong

    def can_replace(self, message: Message) -> bool:
        """A more complete picture of the same showing replaces an older one."""
        return isinstance(message, TracksSeen) and message.generation == self.generation
