"""The keys that act on a run, shared by every screen that shows one."""

from __future__ import annotations

from typing import cast

from textual.binding import Binding, BindingType
from textual.dom import DOMNode

from ...engine.run_view import RunView
from ...engine.state import RunState
from ..deck import deck_of

RUN_BINDINGS: list[BindingType] = [
    Binding("s", "stop_run", "Stop", id="run.stop", tooltip="Ask the run to save and end"),
    Binding("r", "resume_run", "Resume", id="run.resume", tooltip="Go on from the newest whole checkpoint"),
    Binding("a", "attach_run", "Attach", id="run.attach", tooltip="The run's own terminal; ctrl+b d comes back"),
    Binding("L", "listen_run", "Listen", show=False, id="run.listen-here", tooltip="Hear the run's samples"),
    Binding("d", "delete_run", "Delete", id="run.delete", tooltip="Delete the run's directory"),
]
"""Every screen with `RunKeys` lists these itself: Textual collects bindings from widgets only, not from mixins."""


class RunKeys:
    """Mixin for screens with a `selected` run: stop, resume, attach, delete. A key that cannot act now is hidden."""

    @property
    def selected(self) -> RunView | None:
        """The run the keys act on."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the selected run."""
        if action not in ("stop_run", "resume_run", "attach_run", "delete_run"):
            return True
        view = self.selected
        if view is None:
            return False
        active = view.state.active
        readable = view.state is not RunState.UNREADABLE
        allowed = {
            "stop_run": active,
            "attach_run": active,
            "resume_run": not active and readable and view.state not in (RunState.QUEUED, RunState.FINISHED),
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
