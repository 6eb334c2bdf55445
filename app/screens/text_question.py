"""One line of text is wanted: a new name, a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static


class TextQuestion(ModalScreen[str | None]):
    """Dismisses with the text, or None. `check` says what is wrong with it, or None; `hint` what may be written."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="text.cancel", tooltip="Leave everything as it is"),
    ]
    DEFAULT_CSS = """
    TextQuestion { align: center middle; background: $background 60%; }
    TextQuestion > Vertical { width: 64; max-width: 96%; height: auto; max-height: 96%; padding: 1 2;
        background: $panel; border: round $primary; }
    TextQuestion Static { width: 1fr; height: auto; }
    TextQuestion #hint { color: $text-muted; }
    TextQuestion Input { margin-top: 1; }
    TextQuestion #wrong { color: $error; min-height: 1; }
    TextQuestion Horizontal { height: auto; align-horizontal: right; }
    TextQuestion Button { margin-left: 2; }
    """

    def __init__(
        self,
        question: str,
        yes: str,
        *,
        value: str = "",
        check: Callable[[str], str | None],
        hint: str = "",
        most: int = 64,
    ) -> None:
        super().__init__()
        self._hint = hint
        self._most = most
        self._question = question
        self._yes = yes
        self._value = value
        self._check = check

    def compose(self) -> ComposeResult:
        """Question, field, what is wrong, answers."""
        with Vertical():
            yield Static(Text(self._question, style="bold"), id="question")
            if self._hint:
                yield Static(Text(self._hint), id="hint")
            yield Input(self._value, id="answer", max_length=self._most)
            yield Static("", id="wrong", markup=False)
            with Horizontal():
                yield Button("Cancel (esc)", id="no")
                yield Button(f"{self._yes} (enter)", id="yes", variant="primary")

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        wrong = self._check(event.value.strip()) if event.value.strip() else None
        self.query_one("#wrong", Static).update(f"✗ {wrong}" if wrong else "")

    @on(Input.Submitted)
    @on(Button.Pressed, "#yes")
    def _given(self) -> None:
        text = self.query_one(Input).value.strip()
        wrong = self._check(text)
        if wrong is None:
            self.dismiss(text)
        else:
            self.query_one("#wrong", Static).update(f"✗ {wrong}")

    @on(Button.Pressed, "#no")
    def _refused(self) -> None:
        self.dismiss(None)
