"""The keys that act on a run, shared by every screen that shows one."""

from __future__ import annotations

from typing import cast

from textual.binding import Binding, BindingType
from textual.dom import DOMNode

from ...engine import format as fmt
from ...engine.run_view import RunView
from ...engine.state import RunState
from ..deck import deck_of
from ..move_commands import can_move

RUN_BINDINGS: list[BindingType] = [
    Binding("s", "stop_run", "Stop", id="run.stop", tooltip="Ask the run to save and end"),
    Binding("r", "resume_run", "Resume", id="run.resume", tooltip="Go on from the newest whole checkpoint"),
    Binding("a", "attach_run", "Attach", id="run.attach", tooltip="The run's own terminal; ctrl+b d comes back"),
    Binding("M,E", "move_run", "Move", id="run.move", tooltip="Go on with it on another machine", key_display="E"),
    Binding("greater_than_sign", "other_run('moved_to')", "Goes on as", id="run.child", tooltip="The run in its place"),
    Binding("less_than_sign", "other_run('parent')", "Came from", id="run.parent", tooltip="The run it goes on from"),
    Binding("L", "listen_run", "Listen", show=False, id="run.listen-here", tooltip="Hear the run's samples"),
    Binding("d", "delete_run", "Delete", id="run.delete", tooltip="Delete the run's directory"),
]
"""Every screen with `RunKeys` lists these itself: Textual collects bindings from widgets only, not from mixins."""


class RunKeys:
    """Mixin for screens with a `selected` run: stop, resume, move, attach, delete. What cannot act now is hidden."""

    @property
    def selected(self) -> RunView | None:
        """The run the keys act on."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the selected run."""
        if action not in ("stop_run", "resume_run", "attach_run", "delete_run", "move_run", "other_run"):
            return True
        view = self.selected
        if view is None:
            return False
        if action == "other_run":
            return other_of(view, str(parameters[0])) is not None
        active = view.state.active
        readable = view.state is not RunState.UNREADABLE
        allowed = {
            "stop_run": active or (view.state is RunState.QUEUED and not view.is_copy),
            "attach_run": active,
            "resume_run": not active
            and readable
            and view.state not in (RunState.QUEUED, RunState.FINISHED)
            and view.moved_to is None
            and view.fenced is None,
            "move_run": can_move(view),
            "delete_run": not active,
        }
        return allowed[action]

    def action_stop_run(self) -> None:
        """Ask, then stop."""
        if self.selected is not None:
            deck_of(self).commands.stop(self.selected)

    def action_resume_run(self) -> None:
        """Resume."""
        if self.selected is not None:
            deck_of(self).commands.resume(self.selected)

    def action_move_run(self) -> None:
        """Ask where to, then move."""
        if self.selected is not None:
            deck_of(self).commands.move(self.selected)

    def action_other_run(self, which: str) -> None:
        """The run in this one's place, or the one that it goes on from."""
        deck = deck_of(self)
        other = other_of(self.selected, which) if self.selected is not None else None
        if other is None:
            return
        if any(view.id == other for view in deck.views):
            deck.open_run(other)
        else:
            text = f"{fmt.plain(other, 120)} is not here: it was deleted, or its host has not been heard yet"
            cast(DOMNode, self).app.notify(text, severity="warning", markup=False)

    def action_attach_run(self) -> None:
        """Leave the deck for the run's tmux session; detaching comes back."""
        if self.selected is not None:
            deck_of(self).commands.attach(self.selected)

    def action_hosts_of_run(self) -> None:
        """The machines, with the cursor on the one this run lives on."""
        from .hosts import HostsScreen

        view = self.selected
        cast(DOMNode, self).app.push_screen(HostsScreen(view.host if view is not None and view.is_copy else None))

    def action_listen_run(self) -> None:
        """Hear the samples."""
        if self.selected is not None:
            deck_of(self).open_listen(self.selected.id)

    def action_delete_run(self) -> None:
        """Ask, then delete."""
        if self.selected is not None:
            deck_of(self).commands.delete(self.selected)


def other_of(view: RunView, which: str) -> str | None:
    """The run that goes on in its place (`moved_to`), or the one it comes from (`parent`)."""
    return (view.moved_to or view.fenced) if which == "moved_to" else view.parent


def keys_of(view: RunView) -> tuple[object, ...]:
    """What decides which keys make sense for a run."""
    return (view.id, view.state, view.moved_to, view.fenced, view.parent)
