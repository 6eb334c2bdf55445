"""What a babysitter does about budgets: it stops the runs whose policy says so, and tells what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..engine.alerts.evidence import Budget, Evidence, StopNews
from ..engine.run_view import RunView
from .babysit_doing import Note, sentence_of
from .babysit_parts import Halted

STOP_AGAIN_S = 60.0

Due = tuple[str, int | None, float]
"""A run, its attempt and the limit that was reached: who resumes a run, or raises its budget, begins anew."""


class Spending:
    """Stops runs whose budget is used up, where their policy says so, and tells what came of it.

    Parameters
    ----------
    turn: called when there is something to tell.
    """

    def __init__(
        self,
        stop: Callable[[RunView], Awaitable[Halted | None]] | None,
        note: Note,
        turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop = stop
        self._note = note
        self._turn = turn
        self._stopping: dict[Due, asyncio.Task[None]] = {}
        self._news: list[StopNews] = []

    def look(self, evidence: Evidence) -> None:
        """Begin the stops that are due."""
        for budget in evidence.budgets if self._stop is not None else ():
            view = evidence.run(budget.run)
            if view is None or not budget.stops or not view.state.active:
                continue
            due = (view.id, view.attempt, budget.limit)
            spent = view.cost if budget.spent is None else budget.spent
            if due in self._stopping or spent is None or spent < budget.limit:
                continue
            if not any(run == view.id and not task.done() for (run, _, _), task in self._stopping.items()):
                work = self._stopped(view, budget, due)
                self._stopping[due] = asyncio.get_running_loop().create_task(work)

    def news(self) -> list[StopNews]:
        """What came of stops since this was asked last."""
        news, self._news = self._news, []
        return news

    async def _stopped(self, view: RunView, budget: Budget, due: Due) -> None:
        assert self._stop is not None
        try:
            halted = await self._stop(view)
        except Exception as error:
            sentence = sentence_of("the stop at the budget", error)
            self._note(f"budget of {view.id}", sentence)
            lines = f"{view.name} could not be stopped at its budget\n{sentence}\nIt is tried again."
            self._tell(budget, due, Halted(False, lines))
            await asyncio.sleep(STOP_AGAIN_S)
            self._stopping.pop(due, None)  # it is begun again at the next look
        else:
            self._note(f"budget of {view.id}", None)
            if halted is not None:
                self._tell(budget, due, halted)

    def _tell(self, budget: Budget, due: Due, halted: Halted) -> None:
        self._news.append(StopNews(budget.run, due[1], budget.limit, halted.safe, halted.text))
        self._turn()

    def cancel(self) -> None:
        """Leave what is under way."""
        for task in self._stopping.values():
            task.cancel()
