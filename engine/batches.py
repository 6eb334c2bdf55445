"""Batches: several trainings of one recipe, planned together and run one after another.

Everything is checked before anything is written: one combination that cannot be composed refuses the whole batch.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .batch_view import PREFIX, batch_ids
from .config.sweep import Combination, Line, expand, read_line
from .errors import UsageError
from .names import new_run_id
from .planning import Code, Plan, Wish, check_recipe, plan_recipe
from .recipe import Recipe
from .rundir import Home

ASK_ABOVE = 100
"""A batch of more trainings than this is not planned without a question."""


@dataclass(frozen=True, slots=True)
class Member:
    """One training of a batch that passed every check."""

    combination: Combination
    wish: Wish

    @property
    def label(self) -> str:
        """What tells it from the others: `hts_at ia3`."""
        return self.combination.label or (self.wish.name or self.wish.recipe.name)


@dataclass(frozen=True, slots=True)
class BatchWish:
    """A batch that passed every check but was not given an id or a time yet.

    `label` is what it is called: its name, its experiment or its recipe.
    """

    label: str
    members: tuple[Member, ...]
    equivalent: tuple[str, ...]

    @property
    def command_line(self) -> str:
        """The command that queues the same, as one shell line."""
        return shlex.join(self.equivalent)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch that could be queued: nothing is written."""

    id: str
    plans: tuple[Plan, ...]


def is_batch(recipe: Recipe, overrides: Sequence[str], preset: str | None = None) -> bool:
    """Whether an experiment is named that stands for several trainings.

    Raises
    ------
    UsageError: there is no such experiment, or a line is no override.
    """
    line = read_line(recipe, overrides, preset)
    return line.experiment is not None and line.several


def check_batch(
    recipe: Recipe,
    overrides: Sequence[str],
    *,
    stage: str | None = None,
    preset: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    gpus: tuple[int, ...] | None = None,
) -> BatchWish:
    """Check every combination of the values that `overrides` name.

    Parameters
    ----------
    name: what to call the batch; its runs are called by their differences.
    gpus: as for `check_recipe`.

    Raises
    ------
    UsageError: unknown experiment, stage, preset or field, or a value that is not allowed in some combination, which
        the sentence names.
    """
    line = read_line(recipe, overrides, preset)
    label = name or line.experiment or recipe.name
    members = []
    for combination in expand(recipe, line.overrides):
        called = combination.label or label
        try:
            wish = check_recipe(
                recipe, combination.overrides, stage=stage, preset=preset, name=called, tags=tags, gpus=gpus
            )
        except UsageError as error:
            if not combination.differences:
                raise
            raise UsageError(f"{' '.join(combination.differences)}: {error} Nothing was queued.") from None
        members.append(Member(combination, wish))
    return BatchWish(label, tuple(members), _equivalent(members[0].wish, line, name))


def _equivalent(wish: Wish, line: Line, name: str | None) -> tuple[str, ...]:
    """The command again, as it was typed: with its lists, and an experiment written out."""
    target = f"{wish.recipe.name}.{wish.stage}" if wish.stage else wish.recipe.name
    words = list(wish.equivalent)
    options = words[3 + len(wish.composed.overrides) :]
    at = options.index("--name")
    named = ["--name", name] if name else []
    kept = [text for text in line.overrides if not text.startswith("preset=")]
    swept = [text for text in line.overrides if text.startswith("preset=")]
    if swept:
        options = options[2:] if options[:1] == ["--preset"] else options
        at = options.index("--name")
    return ("wavedeck", "run", target, "-m", *kept, *swept, *options[:at], *named, *options[at + 2 :])


def plan_batch(home: Home, wish: BatchWish, *, taken: Collection[str] = (), now: float | None = None) -> BatchPlan:
    """Give a checked batch its id, and each of its runs. Asks git, so it belongs in a thread of the deck.

    Parameters
    ----------
    taken: ids of the runs that are there already; of batches it knows itself.
    """
    now = time.time() if now is None else now
    known = [*taken, *batch_ids(home)]
    batch = PREFIX + new_run_id(wish.label, now, known)
    known.append(batch)
    code, plans = Code.here(), []
    for place, member in enumerate(wish.members):  # a millisecond apart, so that lists keep their order
        plan = plan_recipe(home, member.wish, taken=known, now=now + place / 1000, batch=batch, code=code)
        known.append(plan.run_id)
        plans.append(plan)
    return BatchPlan(batch, tuple(plans))
