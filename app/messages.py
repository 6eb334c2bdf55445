"""What watchers tell screens. Pictures may be merged, since a newer one replaces an older one of the same run; endings
and failures are never dropped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from textual.message import Message

from ..engine.console import ConsolePicture
from ..engine.feed import Loading
from ..engine.hosts import HostView
from ..engine.machine import MachineReading
from ..engine.run_view import RunView
from ..engine.series_view import SeriesView
from ..widgets.backup_line import Copying

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from ..engine.alerts.alert import Alert
    from ..engine.alerts.rules import Open
    from ..engine.backup.places import Where
    from ..remote.ssh.questions import Question


M = TypeVar("M", bound=Message)
H = TypeVar("H")


def while_running(handler: Callable[[H, M], None]) -> Callable[[H, M], None]:
    """A handler that does nothing once its app ends: screens are then taken down while the queue is still read."""

    @functools.wraps(handler)
    def guarded(self: H, message: M) -> None:
        if cast("MessagePump", self).is_running:
            handler(self, message)

    return guarded


class RunsSeen(Message):
    """All runs of the home, as they are now."""

    def __init__(self, views: tuple[RunView, ...]) -> None:
        super().__init__()
        self.views = views

    def can_replace(self, message: Message) -> bool:
        """A newer list replaces an older one."""
        return isinstance(message, RunsSeen)


@dataclass(frozen=True, slots=True, eq=False)
class RunPicture:
    """The series of one run at one moment; unchanged series are the same objects as before."""

    run_id: str
    series: Mapping[str, SeriesView]
    loading: Loading


class RunSeen(Message):
    """A watched run has new metrics."""

    def __init__(self, picture: RunPicture) -> None:
        super().__init__()
        self.picture = picture

    def can_replace(self, message: Message) -> bool:
        """A newer picture of the same run replaces an older one."""
        return isinstance(message, RunSeen) and message.picture.run_id == self.picture.run_id


class MachineHistorySeen(Message):
    """The machine readings of a run as series."""

    def __init__(self, run_id: str, series: Mapping[str, SeriesView]) -> None:
        super().__init__()
        self.run_id = run_id
        self.series = series

    def can_replace(self, message: Message) -> bool:
        """A newer history of the same run replaces an older one."""
        return isinstance(message, MachineHistorySeen) and message.run_id == self.run_id


class ConsoleSeen(Message):
    """New lines on a run's console."""

    def __init__(self, run_id: str, picture: ConsolePicture) -> None:
        super().__init__()
        self.run_id = run_id
        self.picture = picture

    def can_replace(self, message: Message) -> bool:
        """A newer picture of the same console replaces an older one."""
        return isinstance(message, ConsoleSeen) and message.run_id == self.run_id


class MachineSeen(Message):
    """A reading of the machine the deck runs on."""

    def __init__(self, reading: MachineReading) -> None:
        super().__init__()
        self.reading = reading

    def can_replace(self, message: Message) -> bool:
        """Only the newest reading counts."""
        return isinstance(message, MachineSeen)


class HostsSeen(Message):
    """All machines, as they are now."""

    def __init__(self, views: tuple[HostView, ...]) -> None:
        super().__init__()
        self.views = views

    def can_replace(self, message: Message) -> bool:
        """A newer picture replaces an older one."""
        return isinstance(message, HostsSeen)


class QuestionAsked(Message):
    """A connection needs to know something; `answer` takes the reply, None for "leave it". Never dropped."""

    def __init__(self, question: Question, answer: Callable[[str | None], None]) -> None:
        super().__init__()
        self.question = question
        self.answer = answer


class LaunchProgress(Message):
    """How far a launch on another host has come; `done` and `total` are None where nobody can tell."""

    def __init__(self, host: str, text: str, done: float | None, total: float | None) -> None:
        super().__init__()
        self.host = host
        self.text = text
        self.done = done
        self.total = total

    def can_replace(self, message: Message) -> bool:
        """A newer word replaces an older one."""
        return isinstance(message, LaunchProgress) and message.host == self.host


class CheckpointsSeen(Message):
    """Where the checkpoints of a run are, what the backup does for it, and what it was asked for."""

    def __init__(self, run_id: str, rows: Sequence[Where], copying: Copying | None, policy: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.rows = rows
        self.copying = copying
        self.policy = policy

    def can_replace(self, message: Message) -> bool:
        """A newer picture of the same run replaces an older one."""
        return isinstance(message, CheckpointsSeen) and message.run_id == self.run_id


class WorkProgress(Message):
    """How far something has come that its user began; `key` says what."""

    def __init__(self, key: str, phase: str, text: str, done: float | None, total: float | None) -> None:
        super().__init__()
        self.key = key
        self.phase = phase
        self.text = text
        self.done = done
        self.total = total

    def can_replace(self, message: Message) -> bool:
        """A newer word about the same phase replaces an older one."""
        return isinstance(message, WorkProgress) and (message.key, message.phase) == (self.key, self.phase)


class AlertTold(Message):
    """Something that its user should know. Never dropped."""

    def __init__(self, alert: Alert) -> None:
        super().__init__()
        self.alert = alert


class BellRung(Message):
    """alerts.toml wants the terminal's bell."""

    def can_replace(self, message: Message) -> bool:
        """One is enough."""
        return isinstance(message, BellRung)


class AlertsSeen(Message):
    """What stands in `alerts.jsonl`, what is open, and who watches: words for a line."""

    def __init__(self, alerts: Sequence[Alert], problems: Sequence[Open], watching: str) -> None:
        super().__init__()
        self.alerts = alerts
        self.problems = problems
        self.watching = watching

    def can_replace(self, message: Message) -> bool:
        """A newer list replaces an older one."""
        return isinstance(message, AlertsSeen)


class Told(Message):
    """A sentence for the user from a worker or another thread."""

    def __init__(self, text: str, severity: str = "information") -> None:
        super().__init__()
        self.text = text
        self.severity = severity


class WatchFailed(Message):
    """A watcher could not go on; the sentence goes on screen."""

    def __init__(self, what: str, error: str) -> None:
        super().__init__()
        self.what = what
        self.error = error
