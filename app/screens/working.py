"""Something takes a while: what is being done now, and what was done before it. Leaving the page leaves it going."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from ...engine import format as fmt
from ...widgets.palette import Palette
from ...widgets.runs_table import bar
from ..messages import WorkProgress

MOST_LINES = 12


class Working(ModalScreen[None]):
    """Shows the `WorkProgress` of one key; dismissed by whoever began it, or by escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Go on behind", id="working.leave", tooltip="It goes on without this page"),
    ]
    DEFAULT_CSS = """
    Working { align: center middle; background: $background 60%; }
    Working > Vertical { width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $panel;
        border: round $primary; }
    Working Static { width: 1fr; height: auto; }
    Working #lines { margin-top: 1; }
    Working #leave { color: $text-muted; margin-top: 1; }
    """

    def __init__(self, key: str, title: str) -> None:
        super().__init__()
        self.key = key
        self._title = title
        self._said: dict[str, WorkProgress] = {}
        self._finished = False
        self._left = False

    def compose(self) -> ComposeResult:
        """Title, lines, what escape does."""
        with Vertical():
            yield Static(Text(self._title, style="bold"), id="title")
            yield Static("", id="lines", markup=False)
            yield Static(Text("esc: it goes on behind, and says when it is done"), id="leave")

    def show(self, progress: WorkProgress) -> None:
        """One more word; the newest of each phase is kept."""
        self._said.pop(progress.phase, None)
        self._said[progress.phase] = progress
        if self.is_mounted:
            self._draw()

    def finish(self) -> None:
        """It is done; a question that is in front is answered first."""
        self._finished = True
        self._leave()

    def on_screen_resume(self) -> None:
        """Back in front, or there at last."""
        self._leave()

    def _leave(self) -> None:
        """Once, and only from the front: what is below is not ours to close."""
        if self._finished and not self._left and self.app.screen is self:
            self._left = True
            self.dismiss(None)

    def action_leave(self) -> None:
        """Its user has seen enough."""
        self._finished = True
        self._leave()

    def on_mount(self) -> None:
        """What was said before the page was there."""
        self._draw()

    def _draw(self) -> None:
        palette = Palette.of(self.app)
        said = list(self._said.values())[-MOST_LINES:]
        lines = [Text().append("✓ ", style=palette.good).append(fmt.plain(one.text, 200)) for one in said[:-1]]
        if said:
            lines += _now(said[-1], palette)
        self.query_one("#lines", Static).update(Text("\n").join(lines) if lines else Text("…"))


def _now(progress: WorkProgress, palette: Palette) -> list[Text]:
    line = Text().append("⋯ ", style=palette.accent).append(fmt.plain(progress.text, 200))
    if progress.done is None or not progress.total:
        return [line]
    return [line, Text("  ").append_text(bar(progress.done / progress.total, 30, palette))]
