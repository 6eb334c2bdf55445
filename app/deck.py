"""What screens may ask of the app that holds them. A protocol, so that the app imports the screens and not they it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar, cast

from textual.dom import DOMNode

from ..engine.hosts import HostView, TmuxSession
from ..engine.planning import Wish
from ..engine.run_view import RunView
from ..engine.rundir import Home, RunDir
from ..engine.series_view import SeriesView
from ..remote.host import Host

if TYPE_CHECKING:
    from ..engine.backup.policy import BackupPolicy
    from ..engine.backup.safety import HostSafety
    from ..remote.failover.move import MoveResult
    from ..remote.fleet import Fleet as RemoteFleet
    from ..remote.operations import LaunchResult
    from ..remote.provision.there import Report
    from .commands import RunCommands
    from .copy_commands import CopyCommands
    from .listen.listing import Wanted


T = TypeVar("T")


class Fleet(Protocol):
    """All other machines, as the deck's screens see them. Every method may raise a WavedeckError; none blocks."""

    async def do(self, name: str, work: Callable[[Host], Awaitable[T]]) -> T:
        """Do something on a host (`local` too) and wait for it."""
        ...

    async def retry(self, name: str) -> None:
        """Connect now instead of at the next turn; asks the questions that are open."""

    async def add(self, name: str, ssh_line: str) -> None:
        """Put a host on the list and connect to it."""

    async def remove(self, name: str) -> None:
        """Take a host off the list; what was mirrored stays."""

    async def trust(self, name: str) -> None:
        """Ask about the key that it shows now, once, and take it in place of the old one; then connect."""

    async def sessions_kill(self, name: str, session: TmuxSession) -> None:
        """End a tmux session."""

    async def sessions_rename(self, name: str, session: TmuxSession, new: str) -> None:
        """Rename a tmux session."""

    async def sessions_new(self, name: str, new: str) -> None:
        """Make a tmux session."""

    def sample_opener(self, run: RunDir) -> Callable[[Path], BinaryIO | Path] | None:
        """How to open sample files of a run: by ranges where it lives on another host; None for one of this machine."""
        ...

    async def attach_argv(self, name: str, session: TmuxSession) -> list[str]:
        """A command of this machine that takes over the terminal."""

    async def with_fleet(self, work: Callable[[RemoteFleet], Awaitable[T]]) -> T:
        """Do something with several hosts at once, in the loop of their links."""
        ...

    async def safety(self, names: Sequence[str], views: Sequence[RunView]) -> list[HostSafety]:
        """What would be lost with each of these hosts."""
        ...

    async def move(
        self, run: RunDir, source: str, target: str, report: Report, *, from_scratch: bool = False
    ) -> MoveResult:
        """Go on with a run on another host."""
        ...

    async def launch(self, name: str, wish: Wish, policy: BackupPolicy | None = None) -> LaunchResult:
        """Start a training on another host."""
        ...


class Deck(Protocol):
    """The app, as its screens see it."""

    home: Home
    host: Host
    commands: RunCommands
    copies: CopyCommands
    views: tuple[RunView, ...]
    hosts: tuple[HostView, ...]

    @property
    def fleet(self) -> Fleet:
        """All other machines."""
        ...

    def backup_held(self) -> AbstractAsyncContextManager[None]:
        """The right to bring files here: the deck's own backup rests meanwhile. Raises UsageError."""
        ...

    def host_history(self, name: str) -> Mapping[str, SeriesView]:
        """The newest two hours of a host's readings, empty while there are none."""

    def open_run(self, run_id: str) -> None:
        """Show one run."""

    def open_listen(
        self, run_id: str, set_name: str | None = None, item: str | None = None, wanted: Wanted | None = None
    ) -> None:
        """Hear the samples of a run; `wanted` says which of them are listed."""

    def open_compare(self, run_ids: Sequence[str] = (), batch: str | None = None) -> None:
        """Show runs beside each other: these, and all of a batch."""

    def pause(self) -> None:
        """Stop reading while the deck is suspended."""

    def go_on(self) -> None:
        """Read again."""

    def look_again(self) -> None:
        """Something was just done: read the runs now."""

    def action_launch(self) -> None:
        """Open the launch form."""

    def action_alerts(self) -> None:
        """Open what was told."""

    def action_safety(self) -> None:
        """Open what would be lost with each machine."""

    def run_action(self, action: str, default_namespace: DOMNode | None = None) -> Awaitable[bool]:
        """Perform a named action, as a key would."""


def deck_of(node: Any) -> Deck:
    """The deck that a screen or provider belongs to."""
    return cast(Deck, node.app)
