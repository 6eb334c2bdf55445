"""The two lines above everything that belongs to one run."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ..engine.hosts import HostView, LinkState
from ..engine.run_view import RunView
from .palette import Palette
from .run_facts import headline, status_line


class RunHeader(Widget):
    """State, progress and best in one line; what needs saying in the next.

    Reactives
    ---------
    view: the run, or None while nothing is selected.
    links: how each host is reached; see `know`.
    """

    DEFAULT_CSS = "RunHeader { height: 2; padding: 0 1; background: $surface; }"

    view: reactive[RunView | None] = reactive(None)
    links: reactive[dict[str, LinkState]] = reactive(dict)

    def know(self, hosts: Iterable[HostView]) -> None:
        """How the hosts are reached now: a run that is out of reach says why."""
        self.links = {host.name: host.link for host in hosts}

    def render(self) -> Text:
        """Both lines, cut to the width."""
        palette, width = Palette.of(self.app), max(1, self.content_size.width)
        if self.view is None:
            return Text("no run selected", style=palette.muted)
        lines = [headline(self.view, palette, width), status_line(self.view, palette, self.links.get(self.view.host))]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)
