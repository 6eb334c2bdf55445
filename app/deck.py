"""What screens may ask of the app that holds them. A protocol, so that the app imports the screens and not they it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, cast

from textual.dom import DOMNode

from ..engine.run_view import RunView
from ..engine.rundir import Home
from ..remote.host import Host

if TYPE_CHECKING:
    from .commands import RunCommands


class Deck(Protocol):
    """The app, as its screens see it."""

    home: Home
    host: Host
    commands: RunCommands
    views: tuple[RunView, ...]

    def open_run(self, run_id: str) -> None:
        """Show one run."""

    def pause(self) -> None:
        """Stop reading while the deck is suspended."""

    def go_on(self) -> None:
        """Read again."""

    def look_again(self) -> None:
        """Something was just done: read the runs now."""

    def action_launch(self) -> None:
        """Open the launch form."""

    def run_action(self, action: str, default_namespace: DOMNode | None = None) -> Awaitable[bool]:
        """Perform a named action, as a key would."""


def deck_of(node: Any) -> Deck:
    """The deck that a screen or provider belongs to."""
    return cast(Deck, node.app)
