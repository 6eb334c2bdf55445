"""A batch at one moment, made of the views of its runs: what a heading line, a table of results and `--json` show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import UsageError, suggestion
from .events import json_number
from .manifest import Headline
from .names import RUN_ID, tail
from .run_view import RunView
from .rundir import Home
from .state import RunState

PREFIX = "batch-"
"""What the id of a batch begins with; a run's begins with its date."""
_SHOWN = (
    RunState.RUNNING, RunState.STARTING, RunState.STALLED, RunState.QUEUED, RunState.FINISHED, RunState.STOPPED,
    RunState.FAILED, RunState.KILLED, RunState.VANISHED, RunState.UNREACHABLE, RunState.UNREADABLE,
)  # fmt: skip
"""The order in which states are counted in a line."""


@dataclass(frozen=True, slots=True)
class BatchView:
    """Everything a heading shows of a batch. `members` are in the order in which they run."""

    id: str
    members: tuple[RunView, ...]

    @property
    def name(self) -> str:
        """What it was called when it was planned, as far as its id tells."""
        return self.id.removeprefix(PREFIX).split("-", 2)[-1].rsplit("-", 2)[0]

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.members)

    @property
    def counts(self) -> dict[RunState, int]:
        """How many runs are in which state."""
        found = Counter(view.state for view in self.members)
        return {state: found[state] for state in _SHOWN if found[state]}

    @property
    def ended(self) -> int:
        """How many runs will not go on by themselves."""
        return sum(is_over(view) for view in self.members)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs or waits."""
        return self.ended == self.total

    @property
    def all_finished(self) -> bool:
        """Whether every run came to its end by itself and well."""
        return all(view.state is RunState.FINISHED for view in self.members)

    @property
    def words(self) -> str:
        """`1 running · 8 queued · 3 finished`."""
        return " · ".join(f"{count} {state}" for state, count in self.counts.items())

    @property
    def headline(self) -> Headline | None:
        """The metric that its runs are judged by."""
        return next((view.manifest.headline for view in self.members if view.manifest and view.manifest.headline), None)

    @property
    def current(self) -> RunView | None:
        """The run whose turn it is."""
        return next((view for view in self.members if view.state.active), None)

    @property
    def best(self) -> RunView | None:
        """The run that is the best so far."""
        ranked = self.ranked
        return ranked[0] if ranked and headline_value(ranked[0], self.headline) is not None else None

    @property
    def ranked(self) -> tuple[RunView, ...]:
        """The runs, the best first; those without a result keep their order at the end."""
        sign = -1.0 if self.headline is not None and self.headline.direction == "max" else 1.0

        def key(view: RunView) -> float:
            value = headline_value(view, self.headline)
            return math.inf if value is None else sign * value

        return tuple(sorted(self.members, key=key))

    @property
    def created(self) -> float | None:
        """When it was planned."""
        return self.members[0].created if self.members else None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `show BATCH --json` and `wait BATCH --json`; `runs` as `ps --json` has them."""
        best = self.best
        value = headline_value(best, self.headline) if best is not None else None
        return {
            "batch": self.id,
            "name": self.name,
            "total": self.total,
            "ended": self.ended,
            "counts": {str(state): count for state, count in self.counts.items()},
            "metric": self.headline.metric if self.headline else None,
            "best": None if best is None else {"id": best.id, "name": best.name, "value": json_number(value)},
            "runs": [view.to_json() for view in self.members],
        }


def is_over(view: RunView) -> bool:
    """Whether a run will not go on by itself."""
    return not view.state.active and view.state is not RunState.QUEUED


def headline_value(view: RunView, headline: Headline | None) -> float | None:
    """The best that a run reached in the metric that its batch is judged by."""
    if view.best is None or (headline is not None and view.best[0] != headline.metric):
        return None
    return None if math.isnan(view.best[1]) else view.best[1]


def is_batch_id(text: str) -> bool:
    """Whether this can be the id of a batch; a manifest may come from anywhere and say anything."""
    return text.startswith(PREFIX) and RUN_ID.fullmatch(text.removeprefix(PREFIX)) is not None


def batch_of(view: RunView) -> str | None:
    """The batch a run was planned with; None for a run of its own, and where its manifest names what is no id.

    A copy of a run of another host counts too: one that was planned here and moved there still is of its batch.
    """
    batch = view.manifest.batch if view.manifest is not None else None
    return batch if batch is not None and is_batch_id(batch) else None


class _Named(msgspec.Struct):
    batch: str | None = None


def batch_ids(home: Home) -> list[str]:
    """The batches of the runs that are here, in no order; cheaper than their views."""
    found: dict[str, None] = {}
    decoder = msgspec.json.Decoder(_Named)
    for path in home.runs.glob("[0-9]*/manifest.json"):
        try:
            batch = decoder.decode(path.read_bytes()).batch
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if batch is not None and is_batch_id(batch):
            found[batch] = None
    return list(found)


def batches(views: Iterable[RunView]) -> dict[str, BatchView]:
    """All batches among runs that are listed oldest first."""
    found: dict[str, list[RunView]] = {}
    for view in views:
        batch = batch_of(view)
        if batch is not None:
            found.setdefault(batch, []).append(view)
    return {batch: BatchView(batch, tuple(members)) for batch, members in found.items()}


def grouped(views: Sequence[RunView]) -> list[RunView | BatchView]:
    """Runs and batches in the order of the views; a batch stands where its first run does."""
    known = batches(views)
    rows: list[RunView | BatchView] = []
    told: set[str] = set()
    for view in views:
        batch = batch_of(view)
        if batch is None:
            rows.append(view)
        elif batch not in told:
            told.add(batch)
            rows.append(known[batch])
    return rows


def resolve_batch(word: str, batches: Iterable[str]) -> str | None:
    """The id of the batch that `word` means: an id, a unique prefix of one, or its two-word tail. None for none.

    Raises
    ------
    UsageError: it begins like a batch, and no batch or several do; or several end in these two words.
    """
    known = list(dict.fromkeys(batches))
    if word in known:
        return word
    if not word.startswith(PREFIX):
        found = [batch for batch in known if tail(batch) == word]
        if not found:
            return None
    else:
        found = [batch for batch in known if batch.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{word!r} fits {len(found)} batches ({', '.join(found[-4:])}): give more of the name.")
    raise UsageError(f"there is no batch {word!r}.{suggestion(word, known) or ' `wavedeck ps` lists them.'}")
