"""The lines above everything that belongs to one run: two, and a third for what its trainer says of itself."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ..engine.hosts import HostView, LinkState
from ..engine.run_view import RunView
from .palette import Palette
from .run_facts import facts_line, headline, status_line

TALL = 30
"""Rows of a terminal that can spare a third line; in a smaller one the facts begin the second."""


class RunHeader(Widget):
    """State, progress and best in one line; what needs saying in the next.

    Reactives
    ---------
    view: the run, or None while nothing is selected.
    links: how each host is reached; see `know`.

    Parameters
    ----------
    tall: it may take a third line. Not where the run changes under the cursor: everything below would jump.
    """

    DEFAULT_CSS = """
    RunHeader { height: 2; padding: 0 1; background: $surface; }
    RunHeader.-facts { height: 3; }
    """

    view: reactive[RunView | None] = reactive(None)
    links: reactive[dict[str, LinkState]] = reactive(dict)

    def __init__(self, *, tall: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tall = tall

    def know(self, hosts: Iterable[HostView]) -> None:
        """How the hosts are reached now: a run that is out of reach says why."""
        self.links = {host.name: host.link for host in hosts}

    def watch_view(self, view: RunView | None) -> None:
        """A third line comes with the first fact, where there is room."""
        self.set_class(self._tall and view is not None and bool(view.facts) and self.app.size.height >= TALL, "-facts")

    def on_resize(self) -> None:
        """There may be room for it now, or none any more."""
        self.watch_view(self.view)

    def render(self) -> Text:
        """The lines, cut to the width."""
        palette, width = Palette.of(self.app), max(1, self.content_size.width)
        if self.view is None:
            return Text("no run selected", style=palette.muted)
        facts, own_line = facts_line(self.view, palette), self.has_class("-facts")
        link = self.links.get(self.view.host)
        lines = [
            headline(self.view, palette, width),
            status_line(self.view, palette, link, None if own_line else facts),
            *([facts] if own_line and facts is not None else []),
        ]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)
