"""What the deck does to hosts and their tmux sessions: it asks where something may be lost, works in a worker, and says
how it went. The fleet does it; this is only the manner."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..engine import format as fmt
from ..engine.hosts import HostView, LinkState, TmuxSession
from ..engine.names import tail
from ..remote.tmux import NAME
from .screens.add_host import AddHost
from .screens.confirm import Confirm
from .screens.text_question import TextQuestion

if TYPE_CHECKING:
    from textual.app import App

    from .deck import Deck


class HostCommands:
    """Add, remove, retry, trust; attach, kill, rename and make sessions."""

    def __init__(self, app: App[None], deck: Deck) -> None:
        self._app = app
        self._deck = deck

    # --- hosts

    def add(self, select: Callable[[str], None]) -> None:
        """Ask for name and ssh line, then connect; `select` puts the cursor on it as soon as it is there."""

        def answered(given: tuple[str, str] | None) -> None:
            if given is not None:
                name, line = given
                self._work(f"adding {fmt.plain(name, 48)}", lambda: self._deck.fleet.add(name, line), f"added {name}")
                select(name)

        self._app.push_screen(AddHost([view.name for view in self._deck.hosts]), answered)

    def remove(self, view: HostView, active: int) -> None:
        """Ask, then take it off the list."""

        def answered(yes: bool | None) -> None:
            if yes:
                name = view.name
                self._work(f"removing {name}", lambda: self._deck.fleet.remove(name), f"removed {name}")

        runs = f"Its {active} active {'run goes' if active == 1 else 'runs go'} on there, unwatched. " if active else ""
        detail = f"{runs}The machine itself is left alone, and what was mirrored stays here."
        self._app.push_screen(Confirm(f"Remove {view.name} from the list?", detail, "Remove"), answered)

    def retry(self, view: HostView) -> None:
        """Connect now."""
        self._work(f"connecting to {view.name}", lambda: self._deck.fleet.retry(view.name))

    def trust(self, view: HostView) -> None:
        """Look which key it shows now; the one question, with both fingerprints, comes from there."""
        if view.link is LinkState.KEY_CHANGED:
            self._work(f"asking {view.name} for its key", lambda: self._deck.fleet.trust(view.name))
        else:
            self.retry(view)

    # --- sessions

    def attach(self, view: HostView, session: TmuxSession) -> None:
        """Suspend the deck into a session; detaching comes back."""
        self._app.run_worker(
            self._attach(view, session), name=f"attaching to {said(session)}", group="attach", exit_on_error=False
        )

    async def _attach(self, view: HostView, session: TmuxSession) -> None:
        argv = await self._deck.fleet.attach_argv(view.name, session)
        self._deck.pause()
        try:
            with self._app.suspend():
                print(f"attached to {said(session)} on {view.name}: ctrl+b d comes back to the deck")
                status = subprocess.run(argv, check=False).returncode
        finally:
            self._deck.go_on()
            self._app.refresh(layout=True)
        if status:
            text = f"{said(session)} on {view.name} ended, or could not be reached (exit status {status})"
            self._app.notify(text, severity="warning", markup=False)
        self._deck.look_again()

    def kill(self, view: HostView, session: TmuxSession) -> None:
        """Ask, then end a session."""

        def answered(yes: bool | None) -> None:
            if yes:
                done = f"ended {said(session)} on {view.name}"
                self._work(f"ending {said(session)}", lambda: self._deck.fleet.sessions_kill(view.name, session), done)

        if session.run_id:
            run = fmt.plain(tail(session.run_id), 40)
            detail = f"The terminal of {run} ends. To end the training with a checkpoint, stop the run instead."
        else:
            windows = f"{session.windows} windows" if (session.windows or 1) != 1 else "1 window"
            watched = f", {session.attached} looking at it" if session.attached else ""
            whose = "one of Wavedeck's" if session.ours else "not Wavedeck's but its user's own"
            detail = f"It is {whose}: {windows}{watched}. Whatever runs in it ends."
        question = Confirm(f"Kill {said(session)} on {view.name}?", detail, "Kill", danger=True)
        self._app.push_screen(question, answered)

    def rename(self, view: HostView, session: TmuxSession) -> None:
        """Ask for the new name."""
        if session.run_id:
            text = f"{said(session)} belongs to a run and keeps its name: the run is found by it"
            self._app.notify(text, severity="warning", markup=False)
            return

        def answered(new: str | None) -> None:
            if new is not None and new != session.name:
                done = f"renamed {said(session)} to {new}"
                self._work("renaming", lambda: self._deck.fleet.sessions_rename(view.name, session, new), done)

        value = session.name if session_name_wrong(session.name) is None else ""
        question = f"New name of {said(session)} on {view.name}"
        self._app.push_screen(TextQuestion(question, "Rename", value=value, check=session_name_wrong), answered)

    def new(self, view: HostView) -> None:
        """Ask for the name of a new session."""

        def answered(new: str | None) -> None:
            if new is not None:
                done = f"made {new} on {view.name}: enter attaches"
                self._work(f"making {new}", lambda: self._deck.fleet.sessions_new(view.name, new), done)

        question = TextQuestion(f"Name of a new tmux session on {view.name}", "Create", check=session_name_wrong)
        self._app.push_screen(question, answered)

    def _work(self, name: str, do: Callable[[], Awaitable[None]], done: str = "") -> None:
        async def whole() -> None:
            await do()
            if done:
                self._app.notify(done, markup=False)

        self._app.run_worker(whole(), name=name, exit_on_error=False)


def said(session: TmuxSession) -> str:
    """A session's name, safe to show."""
    return fmt.plain(session.name, 60)


def session_name_wrong(name: str) -> str | None:
    """Why tmux could not take this name as it is, or None. Hosts check again; this only says it while typing."""
    if not name:
        return "a session needs a name"
    if NAME.fullmatch(name) is None:
        return "letters, digits, - and _ only, a letter or digit first"
    if name.startswith("wd-"):
        return "names that begin with wd- belong to runs"
    return None
