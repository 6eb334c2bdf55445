"""The part of the launch form about what happens to a run's checkpoints, its money and its host; closed at first."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Collapsible, Input, Label, Select

from ...engine.backup.policy import BackupPolicy
from ...engine.errors import UsageError
from ...engine.hosts import HostView
from ...engine.rundir import Home
from ...remote.backup.policies import asked_policy

NOBODY = "nobody"


class BackupFields(Vertical):
    """Says what was filled in, as a policy and as words of the equal command.

    Messages
    --------
    Changed: a field was edited.
    """

    DEFAULT_CSS = """
    BackupFields { height: auto; }
    BackupFields Collapsible { background: transparent; border: none; padding: 0; margin-top: 1; }
    BackupFields CollapsibleTitle { padding: 0; color: $text-muted; }
    BackupFields Collapsible Contents { padding: 0 0 0 1; }
    """

    class Changed(Message):
        """A field was edited."""

    def __init__(self, hosts: Sequence[HostView], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._hosts = [view.name for view in hosts if not view.is_local]

    def compose(self) -> ComposeResult:
        """One group."""
        with Collapsible(title="backup, failover, budget", collapsed=True):
            yield Label("failover to")
            options = [(NOBODY, NOBODY), *((name, name) for name in self._hosts)]
            yield Select(options, allow_blank=False, id="failover", compact=True)
            yield Label("budget")
            yield Input(placeholder="none, or money as 20", id="budget", compact=True, max_length=20)
            yield Label("backup policy")
            yield Input(placeholder="keep_last=5 second=/mnt/nas", id="policy", compact=True, max_length=1000)

    @on(Select.Changed)
    @on(Input.Changed)
    def _edited(self, event: Message) -> None:
        event.stop()
        self.post_message(self.Changed())

    @property
    def _failover(self) -> str | None:
        value = str(self.query_one("#failover", Select).value)
        return None if value == NOBODY else value

    def _budget(self) -> float | None:
        text = self.query_one("#budget", Input).value.strip().removeprefix("$")
        try:
            return float(text) if text else None
        except ValueError:
            raise UsageError("budget: a number, as 20 or 7.50.") from None

    def _words(self) -> list[str]:
        try:
            return shlex.split(self.query_one("#policy", Input).value)
        except ValueError as error:
            raise UsageError(f"backup policy: {error}.") from None

    def policy(self, home: Home, host: str) -> BackupPolicy | None:
        """What was asked for; None where nothing was, so that `backup.toml` alone decides.

        Raises
        ------
        UsageError: a field makes no sense.
        """
        failover, budget, words = self._failover, self._budget(), self._words()
        if failover is None and budget is None and not words:
            return None
        return asked_policy(home, host, failover, budget, words)

    def command_words(self) -> list[str]:
        """The same for `wavedeck run`.

        Raises
        ------
        UsageError: a field makes no sense.
        """
        failover, budget = self._failover, self._budget()
        said = ["--failover", failover] if failover is not None else []
        said += ["--budget", f"{budget:g}"] if budget is not None else []
        return said + [part for word in self._words() for part in ("--backup", word)]
