"""What runs cost: price per hour times the time their attempts ran, over a lineage, against a budget.

Idle hours of a rented machine are not in here: they belong to no run. A run whose price nobody said costs None, not 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..format import money, percent

if TYPE_CHECKING:
    from ..run_view import RunView

NEAR = 0.8
"""The share of a budget from which on it is said to be near."""


def ran_s(started: float | None, ended: float | None, now: float, earlier_s: float = 0.0) -> float | None:
    """Seconds that the attempts of a run ran.

    Parameters
    ----------
    started, ended: of the newest attempt; `ended` is None while it runs.
    now: by the clock that the others are of: a host's may differ by hours.
    earlier_s: the attempts before, where that is known.
    """
    if started is None:
        return earlier_s or None
    return earlier_s + max(0.0, (now if ended is None else ended) - started)


def cost(price_per_hour: float | None, seconds: float | None) -> float | None:
    """Money for a time; None when the price or the time is not known."""
    return None if price_per_hour is None or seconds is None else price_per_hour * seconds / 3600


def lineage_of(views: Iterable[RunView], run: RunView) -> list[RunView]:
    """The runs that are one training, moved from host to host; at least `run` itself."""
    root = run.lineage or run.id
    found = [view for view in views if (view.lineage or view.id) == root]
    return found if any(view.id == run.id for view in found) else [*found, run]


def lineage_cost(views: Iterable[RunView], run: RunView) -> float | None:
    """What a training cost over all hosts it ran on; None when no price is known."""
    costs = [view.cost for view in lineage_of(views, run) if view.cost is not None]
    return sum(costs) if costs else None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a cost stands against a budget. `share` is 1.0 when exactly all of it is spent."""

    spent: float
    budget: float

    @property
    def share(self) -> float:
        """Spent of the budget, from 0."""
        return self.spent / self.budget

    @property
    def over(self) -> bool:
        """Whether it is used up."""
        return self.spent >= self.budget

    @property
    def near(self) -> bool:
        """Whether four fifths of it are spent, and not yet all."""
        return not self.over and self.share >= NEAR

    @property
    def left(self) -> float:
        """What may still be spent, from 0."""
        return max(0.0, self.budget - self.spent)

    def hours_left(self, price_per_hour: float | None) -> float | None:
        """How long it lasts at a price; None for a machine that costs nothing."""
        return self.left / price_per_hour if price_per_hour else None

    @property
    def words(self) -> str:
        """`$4.10 of $5.00 (82%)`, and `over its budget` when it is."""
        text = f"{money(self.spent)} of {money(self.budget)} ({percent(self.share)})"
        return f"{text}, over its budget" if self.over else text


def budget_state(spent: float | None, budget: float | None) -> BudgetState | None:
    """How a cost stands against a budget; None without a budget, or where the price is not known."""
    return None if spent is None or budget is None or budget <= 0 else BudgetState(spent, budget)
