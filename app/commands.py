"""What the deck does to runs: it asks where something may be lost, works in a worker, and says how it went."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ..engine import format as fmt
from ..engine.errors import WavedeckError
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.rundir import RunDir
from ..engine.state import RunState
from ..remote import operations
from .deck_fleet import own_command
from .move_commands import MoveCommands
from .screens.confirm import Confirm

if TYPE_CHECKING:
    from textual.app import App

    from .deck import Deck


class RunCommands:
    """Stop, resume, move, attach and delete, for any screen."""

    def __init__(self, app: App[None], deck: Deck) -> None:
        self._app = app
        self._deck = deck
        self._moves = MoveCommands(app, deck)

    def stop(self, view: RunView) -> None:
        """Ask, then request the stop; the supervisor does the rest, with or without a deck."""

        def answered(yes: bool | None) -> None:
            if yes:
                name = f"stopping {tail(view.id)}"
                self._app.run_worker(self._stop(view), name=name, exit_on_error=False)

        if view.state is RunState.QUEUED:
            text = "It waits in the queue: it is taken out and never begins."
            self._app.push_screen(Confirm(f"Stop {tail(view.id)}?", text, "Stop"), answered)
            return
        step = f" It is at step {fmt.count(view.step)}." if view.step is not None else ""
        question = Confirm(
            f"Stop {tail(view.id)}?",
            f"It is asked to save a checkpoint and end; what does not end in time is killed.{step} r resumes it later.",
            "Stop",
        )
        self._app.push_screen(question, answered)

    async def _stop(self, view: RunView) -> None:
        run = RunDir(view.dir)
        await self._deck.fleet.do(view.host, lambda host: operations.request_stop(host, run))
        waited = view.state is RunState.QUEUED
        self._say(f"{tail(view.id)} is out of the queue" if waited else f"asked {tail(view.id)} to save and stop")

    def resume(self, view: RunView) -> None:
        """Ask, since a key that was pressed by mistake would begin a training; enter is a yes."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._app.run_worker(
                    self._resume(view),
                    name=f"resuming {tail(view.id)}",
                    group=f"resume-{view.id}",
                    exclusive=True,
                    exit_on_error=False,
                )

        where = f" on {view.host}" if view.is_copy else ""
        question = Confirm(f"Resume {tail(view.id)}{where}?", resume_words(view), "Resume", harmless=True)
        self._app.push_screen(question, answered)

    def move(self, view: RunView) -> None:
        """Go on with it on another host."""
        self._moves.move(view)

    async def _resume(self, view: RunView) -> None:
        home, run = self._deck.home, RunDir(view.dir)
        result = await self._deck.fleet.do(view.host, lambda host: operations.resume(home, host, run))
        self._say(f"resumed {tail(view.id)}: attempt {result.attempt}")

    def attach(self, view: RunView) -> None:
        """Suspend the deck into the run's tmux session; detaching comes back."""
        try:
            run = RunDir(view.dir)
            if view.is_copy:
                operations.session_of(run)
                argv = [*own_command(), "attach", run.id]
            else:
                argv = operations.attach_argv(run)
        except WavedeckError as error:
            self._say(str(error), severity="error")
            return
        self._deck.pause()
        with self._app.suspend():
            print(f"attached to {tail(view.id)}: ctrl+b d comes back to the deck, ctrl+c interrupts the training")
            status = subprocess.run(argv, check=False).returncode
        self._deck.go_on()
        self._app.refresh(layout=True)
        if status:
            text = "the run's terminal is gone; tab 3 of its screen shows what it prints, and s still stops it"
            self._say(text, severity="warning")
        self._deck.look_again()

    def delete(self, view: RunView) -> None:
        """Ask, then delete."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._app.run_worker(self._delete(view), name=f"deleting {tail(view.id)}", exit_on_error=False)

        kept = f"{len(view.checkpoints)} checkpoints, " if view.checkpoints else ""
        there = f"on {view.host}, the code that was pushed for it and all it wrote there, and the copy here"
        place = there if view.is_copy else f"in {view.dir}"
        question = Confirm(
            f"Delete {tail(view.id)} for good?",
            f"{kept}metrics and console {place} are removed. This cannot be undone.",
            "Delete",
            danger=True,
        )
        self._app.push_screen(question, answered)

    async def _delete(self, view: RunView) -> None:
        home, run = self._deck.home, RunDir(view.dir)
        await self._deck.fleet.do(view.host, lambda host: operations.remove(home, host, run))
        self._say(f"deleted {tail(view.id)}")

    def _say(self, text: str, severity: str = "information") -> None:
        self._app.notify(text, severity=severity, markup=False)  # type: ignore[arg-type]
        self._deck.look_again()


def resume_words(view: RunView) -> str:
    """What a resume does."""
    attempt = f"Attempt {(view.attempt or 0) + 1}"
    newest = view.checkpoints[-1] if view.checkpoints else None
    if newest is None:
        return f"{attempt} begins anew: there is no checkpoint to go on from."
    lost = (view.step or 0) - newest.step
    again = f"; {fmt.count(lost)} steps after it are trained again" if lost > 0 else ""
    return f"{attempt} goes on from the checkpoint at step {fmt.count(newest.step)}{again}."
