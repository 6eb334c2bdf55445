"""The two lines above everything that belongs to one run."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ..engine.run_view import RunView
from .palette import Palette
from .run_facts import headline, status_line


class RunHeader(Widget):
    """State, progress and best in one line; what needs saying in the next.

    Reactives
    ---------
    view: the run, or None while nothing is selected.
    """

    DEFAULT_CSS = "RunHeader { height: 2; padding: 0 1; background: $surface; }"

    view: reactive[RunView | None] = reactive(None)

    def render(self) -> Text:
        """Both lines, cut to the width."""
        palette, width = Palette.of(self.app), max(1, self.content_size.width)
        if self.view is None:
            return Text("no run selected", style=palette.muted)
        lines = [headline(self.view, palette, width), status_line(self.view, palette)]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)
