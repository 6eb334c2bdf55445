"""One question before something is lost, or before something begins."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Confirm(ModalScreen[bool]):
    """Asks; dismisses with True for yes. `y` and `n` answer, escape is no.

    No has the focus, unless `harmless`: a question that is only there because a key is easily pressed by mistake.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes", tooltip="Do it"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no", tooltip="Leave everything as it is"),
    ]
    DEFAULT_CSS = """
    Confirm { align: center middle; background: $background 60%; }
    Confirm > VerticalScroll { width: 64; max-width: 96%; height: auto; max-height: 96%; padding: 1 2;
        background: $panel; border: round $warning; }
    Confirm Static { width: 1fr; height: auto; }
    Confirm #detail { color: $text-muted; margin-top: 1; }
    Confirm Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Confirm Button { margin-left: 2; }
    """

    def __init__(self, question: str, detail: str, yes: str, *, danger: bool = False, harmless: bool = False) -> None:
        super().__init__()
        self._question = question
        self._detail = detail
        self._yes = yes
        self._danger = danger
        self._harmless = harmless

    def compose(self) -> ComposeResult:
        """Question, what follows from a yes, and the two answers."""
        variant = "error" if self._danger else "primary" if self._harmless else "warning"
        with VerticalScroll(can_focus=False):
            yield Static(Text(self._question, style="bold"), id="question")
            yield Static(Text(self._detail), id="detail")
            with Horizontal():
                yield Button("No (n)", id="no")
                yield Button(f"{self._yes} (y)", id="yes", variant=variant)  # type: ignore[arg-type]

    def on_mount(self) -> None:
        """The harmless answer has the focus."""
        self.query_one("#yes" if self._harmless else "#no", Button).focus(scroll_visible=False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A click answers."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """A key answers."""
        self.dismiss(yes)
