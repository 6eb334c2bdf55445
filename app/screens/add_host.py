"""Add a machine: its name here, and the ssh line as the provider shows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from ...engine.errors import UsageError
from ...remote.hosts_file import valid_name
from ...remote.ssh.words import parse_words

HELP = (
    "Paste the line you would type in a shell; options such as -p, -i, -J and -l are understood, and so is an alias of "
    "your ~/.ssh/config. Looking at a host installs nothing there."
)


class AddHost(ModalScreen[tuple[str, str] | None]):
    """Dismisses with (name, ssh line), or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="add-host.cancel", tooltip="Add nothing"),
    ]
    DEFAULT_CSS = """
    AddHost { align: center middle; background: $background 60%; }
    AddHost > Vertical { width: 76; max-width: 96%; height: auto; max-height: 96%; padding: 1 2; background: $panel;
        border: round $primary; border-title-color: $accent; overflow-y: auto; }
    AddHost Static { width: 1fr; height: auto; }
    AddHost #help { color: $text-muted; }
    AddHost Label { color: $text-muted; margin-top: 1; }
    AddHost #wrong { color: $error; min-height: 1; }
    AddHost Horizontal { height: auto; align-horizontal: right; }
    AddHost Button { margin-left: 2; }
    AddHost Input { height: 1; padding: 0 1; background: $surface; }
    AddHost Input:focus { background: $primary 30%; }
    """

    def __init__(self, taken: Collection[str]) -> None:
        super().__init__()
        self._taken = frozenset(taken)

    def compose(self) -> ComposeResult:
        """Two fields."""
        with Vertical() as box:
            box.border_title = "add a host"
            yield Static(HELP, id="help", markup=False)
            yield Label("ssh line")
            yield Input(placeholder="ssh -p 10648 root@203.0.113.20", id="line", max_length=2000, compact=True)
            yield Label("name")
            yield Input(placeholder=self._next_name(), id="name", max_length=48, compact=True)
            yield Static("", id="wrong", markup=False)
            with Horizontal():
                yield Button("Cancel (esc)", id="no")
                yield Button("Add (enter)", id="yes", variant="primary")

    def on_mount(self) -> None:
        """Paste at once."""
        self.query_one("#line", Input).focus()

    def _next_name(self) -> str:
        """The first of gpu1, gpu2, … that is free."""
        return next(name for number in range(1, 10_000) if (name := f"gpu{number}") not in self._taken)

    @on(Input.Changed)
    def _typed(self) -> None:
        self.query_one("#wrong", Static).update("")

    @on(Input.Submitted, "#line")
    def _line_done(self) -> None:
        self.query_one("#name", Input).focus()

    @on(Input.Submitted, "#name")
    @on(Button.Pressed, "#yes")
    def _given(self) -> None:
        line = self.query_one("#line", Input).value.strip()
        name = self.query_one("#name", Input).value.strip() or self._next_name()
        wrong = self._wrong(name, line)
        if wrong is None:
            self.dismiss((name, line))
        else:
            self.query_one("#wrong", Static).update(f"✗ {wrong}")

    def _wrong(self, name: str, line: str) -> str | None:
        """What is wrong, as a sentence; what was typed stays in the fields."""
        if not line:
            return "paste the ssh line first, such as: ssh -p 10648 root@203.0.113.20"
        if name in self._taken:
            return f"there is a host {name} already: choose another name"
        try:
            parse_words(line)
            valid_name(name)
        except UsageError as error:
            return str(error)
        return None

    @on(Button.Pressed, "#no")
    def _refused(self) -> None:
        self.dismiss(None)
