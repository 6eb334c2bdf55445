"""Moving a run to another host from the deck: which host, what would be lost, then the move itself, narrated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..engine import format as fmt
from ..engine.hosts import LOCAL
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.rundir import RunDir
from ..engine.state import RunState
from .copy_commands import Tell
from .screens.choose import Choose, host_choices
from .screens.confirm import Confirm

if TYPE_CHECKING:
    from textual.app import App

    from ..remote.provision.there import Progress
    from .deck import Deck


def can_move(view: RunView) -> bool:
    """Whether a run may go on elsewhere: it has ended before its time, or its host does not answer."""
    if view.moved_to is not None or view.fenced is not None or view.manifest is None:
        return False
    if view.state in (RunState.QUEUED, RunState.FINISHED, RunState.UNREADABLE):
        return False
    return not view.state.active or view.state is RunState.UNREACHABLE


class MoveCommands:
    """For any screen that shows a run."""

    def __init__(self, app: App[None], deck: Deck) -> None:
        self._app = app
        self._deck = deck

    def move(self, view: RunView) -> None:
        """Ask which host."""
        choices = host_choices(self._deck.hosts, without=view.host)
        if not choices:
            text = "there is no other machine: h opens the hosts, a there adds one"
            self._app.notify(text, severity="warning", markup=False)
            return

        def chosen(target: str | None) -> None:
            if target is not None:
                name = f"looking at {tail(view.id)}"
                self._app.run_worker(self._ask(view, target), name=name, exit_on_error=False)

        question = f"Move {tail(view.id)} to which machine?"
        detail = "It goes on there as a new run, from the newest verified checkpoint; this one stays as it is."
        self._app.push_screen(Choose(question, choices, detail), chosen)

    async def _ask(self, view: RunView, target: str) -> None:
        """What would be lost, before anything is done."""
        from ..remote.failover.choose import held_step

        held = await asyncio.to_thread(held_step, self._deck.home, RunDir(view.dir))
        answers = view.host == LOCAL or any(host.name == view.host and host.link.up for host in self._deck.hosts)
        anew = held is None and not answers

        children: list[str] = []

        def answered(yes: bool | None) -> None:
            if yes:
                self._deck.copies.begin(
                    f"move/{view.id}",
                    f"moving {tail(view.id)} to {target}",
                    lambda tell: self._move(view, target, anew, children, tell),
                    lambda: self._open(view, children[0]),
                )

        question = f"Go on with {tail(view.id)} on {'this machine' if target == LOCAL else target}?"
        detail = loss_words(view, held, answers)
        yes = "Begin anew" if anew else "Move"
        self._app.push_screen(Confirm(question, detail, yes, danger=anew), answered)

    async def _move(self, view: RunView, target: str, anew: bool, children: list[str], tell: Tell) -> str:
        def report(progress: Progress) -> None:
            tell(progress.phase, progress.text, progress.done, progress.total)

        result = await self._deck.fleet.move(RunDir(view.dir), view.host, target, report, from_scratch=anew)
        for notice in result.notices:
            self._app.notify(notice, markup=False)
        if result.launch is not None and result.launch.notice:
            self._app.notify(result.launch.notice, severity="warning", markup=False)
        children.append(result.child.id)
        return result.sentence

    def _open(self, view: RunView, child: str) -> None:
        """The child's screen, unless its user has gone elsewhere meanwhile."""
        from .screens.run import RunScreen
        from .screens.runs import RunsScreen

        screen = self._app.screen
        if isinstance(screen, RunsScreen) or (isinstance(screen, RunScreen) and screen.run_id == view.id):
            self._deck.open_run(child)


def loss_words(view: RunView, held: int | None, answers: bool) -> str:
    """What a move costs, as far as it is known before it."""
    step = view.step
    if held is None and not answers:
        lost = f"All {fmt.count(step)} steps are trained again" if step else "It begins at step 0"
        return f"No verified checkpoint of it is here, and {view.host} does not answer. {lost}."
    first = f"{view.host} answers: its newest checkpoint is fetched first. " if answers and view.is_copy else ""
    if held is None:
        return f"{first}No verified checkpoint is here yet."
    parts = [f"{first}The newest that is here now is step {fmt.count(held)}"]
    if step is not None and step > held:
        parts.append(f", so {fmt.count(step - held)} steps would be trained again")
    elif step is not None:
        parts.append(": nothing would be lost")
    text = "".join(parts) + "."
    if not answers:
        text += f" {view.host} does not answer: if it still trains there, it is stopped as soon as it comes back."
    return text
