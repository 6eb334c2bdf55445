"""What the deck does to whole batches: it asks, works in a worker, and says how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.batch_view import BatchView
from ..engine.hosts import LOCAL
from ..engine.names import tail
from ..engine.rundir import RunDir
from .screens.confirm import Confirm

if TYPE_CHECKING:
    from textual.app import App

    from .deck import Deck


class BatchCommands:
    """Stop and delete."""

    def __init__(self, app: App[None], deck: Deck) -> None:
        self._app = app
        self._deck = deck

    def stop(self, batch: BatchView) -> None:
        """Ask, then take out what waits and stop what runs."""

        def answered(yes: bool | None) -> None:
            if yes:
                name = f"stopping batch {tail(batch.id)}"
                self._app.run_worker(self._stop(batch), name=name, exit_on_error=False)

        text = f"{batch.words}. What waits never begins; what runs is asked to save a checkpoint and end."
        self._app.push_screen(Confirm(f"Stop the batch {tail(batch.id)}?", text, "Stop"), answered)

    async def _stop(self, batch: BatchView) -> None:
        from ..remote.queue.stopping import stop_all

        stopped = await self._deck.fleet.do(LOCAL, lambda host: stop_all(host, _runs(batch)))
        self._say(f"batch {tail(batch.id)}: {stopped.words}")

    def delete(self, batch: BatchView) -> None:
        """Ask, then delete every run of it."""

        def answered(yes: bool | None) -> None:
            if yes:
                name = f"deleting batch {tail(batch.id)}"
                self._app.run_worker(self._delete(batch), name=name, exit_on_error=False)

        text = f"All {batch.total} of its runs are removed, with their checkpoints. This cannot be undone."
        question = Confirm(f"Delete the batch {tail(batch.id)} for good?", text, "Delete", danger=True)
        self._app.push_screen(question, answered)

    async def _delete(self, batch: BatchView) -> None:
        from ..remote.queue.stopping import remove_all

        home = self._deck.home
        count = await self._deck.fleet.do(LOCAL, lambda host: remove_all(home, host, _runs(batch)))
        self._say(f"deleted batch {tail(batch.id)}: {count} runs")

    def _say(self, text: str) -> None:
        self._app.notify(text, markup=False)
        self._deck.look_again()


def _runs(batch: BatchView) -> list[RunDir]:
    return [RunDir(view.dir) for view in batch.members]
