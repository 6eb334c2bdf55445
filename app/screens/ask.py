"""A connection needs to know something: is this the host's key, what is the passphrase, which code does it want."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from ...engine import format as fmt
from ...remote.ssh.questions import Question, QuestionKind

COMPARE = (
    "Compare it with what the provider shows for this machine, or run "
    "`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on its own console."
)
KEPT = "It stays in memory as long as the deck is open, and nowhere else."


class Ask(ModalScreen[str | None]):
    """Dismisses with the answer, or None for "leave it". For a key the answer is `yes`, and no has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave it", id="ask.leave", tooltip="Do not connect for now"),
        Binding("n", "dismiss(None)", "Leave it", id="ask.no", tooltip="Do not take this key"),
        Binding("y", "accept", "It is the right key", id="ask.yes", tooltip="Trust this key from now on"),
    ]
    DEFAULT_CSS = """
    Ask { align: center middle; background: $background 60%; }
    Ask > VerticalScroll { width: 72; max-width: 96%; height: auto; max-height: 96%; padding: 1 2; background: $panel;
        border: round $warning; border-title-color: $accent; overflow-y: auto; }
    Ask Static { width: 1fr; height: auto; }
    Ask #fingerprint { margin: 1 0; padding: 0 1; background: $surface; text-style: bold; color: $accent; }
    Ask .detail { color: $text-muted; }
    Ask Input { margin-top: 1; }
    Ask Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Ask Button { margin-left: 2; }
    """

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question
        self._key = question.kind is QuestionKind.HOST_KEY

    def compose(self) -> ComposeResult:
        """Who asks, what, and the ways to answer."""
        question = self._question
        with VerticalScroll(can_focus=False) as box:
            box.border_title = Text(fmt.plain(question.host, 40))
            yield Static(Text(fmt.plain(question.title, 200), style="bold"), id="question")
            if question.text.strip():
                yield Static(_lines(question.text), classes="detail")
            if self._key:
                yield Static(Text(_fingerprint(question)), id="fingerprint")
                yield Static(Text(COMPARE), classes="detail")
            else:
                yield Input(password=not question.echo, id="answer", max_length=4096)
                if question.secret:
                    yield Static(Text(KEPT), classes="detail")
            with Horizontal():
                yield Button("Leave it (n)" if self._key else "Leave it (esc)", id="no")
                words = "It is the right key (y)" if self._key else "Answer (enter)"
                yield Button(words, id="yes", variant="warning" if self._key else "primary")

    def on_mount(self) -> None:
        """A key is never accepted by a stray enter; a password can be typed at once."""
        self.query_one("#no" if self._key else "#answer").focus(scroll_visible=not self._key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a key can be accepted by a letter."""
        return self._key or action != "accept"

    def action_accept(self) -> None:
        """Accept the key; in a field `y` is a letter like any other and never gets here."""
        self.dismiss("yes")

    @on(Input.Submitted)
    @on(Button.Pressed, "#yes")
    def _answered(self) -> None:
        self.dismiss("yes" if self._key else self.query_one(Input).value)

    @on(Button.Pressed, "#no")
    def _left(self) -> None:
        self.dismiss(None)


def _lines(text: str) -> Text:
    """The host's words, line by line: an instruction may have several."""
    return Text("\n".join(fmt.plain(line, 800) for line in text.splitlines()[:8]))


def _fingerprint(question: Question) -> str:
    return f"{fmt.plain(question.key_type, 20)} {fmt.plain(question.fingerprint, 100)}".strip()
