"""The tmux sessions of one host: Wavedeck's, and its user's own."""

from __future__ import annotations

import time
from typing import ClassVar, cast

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from ..engine import format as fmt
from ..engine.hosts import HostView, TmuxSession
from ..engine.names import tail
from .host_words import coarse, is_stale
from .live_table import Column, LiveTable, Row
from .palette import Palette


class SessionTable(LiveTable):
    """Enter attaches; keys kill, rename and make sessions. It only says what is wanted.

    Messages
    --------
    Wanted: `verb` is kill, rename or new; `session` is the one under the cursor (None for new).
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Attach", id="sessions.attach", tooltip="Into this session; ctrl+b d comes back"),
        Binding("k", "want('kill')", "Kill", id="sessions.kill", tooltip="End this session and all that runs in it"),
        Binding("R", "want('rename')", "Rename", id="sessions.rename", tooltip="Give this session another name"),
        Binding("n", "want('new')", "New session", id="sessions.new", tooltip="A new session on this host"),
        Binding("up", "cursor(-1)", "Up", show=False, id="sessions.up", tooltip="One row up"),
    ]
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("SESSION", 0, least=16),
        Column("WHOSE", 16, rank=1),
        Column("RUN", 20, rank=3),
        Column("WINDOWS", 7, rank=5, right=True),
        Column("LOOKED AT", 12, rank=2),
        Column("ACTIVE", 9, rank=4, right=True),
        Column("AGE", 6, rank=6, right=True),
    )

    class Wanted(Message):
        """A key asks for something to be done."""

        def __init__(self, table: SessionTable, verb: str, session: TmuxSession | None) -> None:
            super().__init__()
            self.table = table
            self.verb = verb
            self.session = session

        @property
        def control(self) -> SessionTable:
            """The table."""
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id)
        self._sessions: dict[tuple[bool, str], TmuxSession] = {}

    @property
    def session(self) -> TmuxSession | None:
        """The one under the cursor."""
        return self._sessions.get(cast("tuple[bool, str]", self.key))

    def show(self, view: HostView | None) -> None:
        """The selected host as it is now; Wavedeck's own first."""
        palette, now = Palette.of(self.app), time.time()
        sessions = sorted(view.sessions if view else (), key=lambda s: (not s.ours, s.name))
        self._sessions = {_key(session): session for session in sessions}
        self.empty = _why_none(view)
        stale = view is not None and is_stale(view)
        self.show_rows([_row(session, palette, now, stale) for session in self._sessions.values()])
        self.refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What needs a session is offered only where there is one."""
        if action == "choose" or (action == "want" and parameters != ("new",)):
            return self.row_count > 0
        return super().check_action(action, parameters)

    def action_want(self, verb: str) -> None:
        """Say what is wanted."""
        if verb == "new" or self.session is not None:
            self.post_message(self.Wanted(self, verb, None if verb == "new" else self.session))


def _why_none(view: HostView | None) -> str:
    if view is not None and view.facts is not None and view.facts.programs.get("tmux", "") is None:
        return "tmux is not installed there: runs work, but cannot be attached to"
    if view is not None and not view.link.up and not view.is_local:
        return "nothing known: the host is not here"
    return "no tmux session: n makes one"


def _key(session: TmuxSession) -> tuple[bool, str]:
    """tmux's own name for it where that is known: a rename keeps the cursor on its row."""
    return session.ours, session.id or session.name


def _row(session: TmuxSession, palette: Palette, now: float, stale: bool) -> Row:
    quiet = palette.muted if stale else palette.text
    run = session.run_id
    watchers = session.attached or 0
    return Row(
        _key(session),
        (
            Text(fmt.plain(session.name, 80), style=Style(bold=True)),
            Text("Wavedeck" if session.ours else "the user's own", style=palette.accent if session.ours else quiet),
            Text(fmt.plain(tail(run), 40) if run else "", style=palette.accent),
            Text(fmt.count(session.windows), style=quiet),
            Text("by nobody" if not watchers else f"by {watchers}", style=palette.good if watchers else palette.muted),
            Text("" if session.activity is None else f"{coarse(now - session.activity)} ago", style=quiet),
            Text("" if session.created is None else coarse(now - session.created), style=quiet),
        ),
    )
