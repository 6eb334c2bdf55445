"""Which runs are compared, for both front doors: words of the command line, a batch, what was marked on the deck.

And where the comparison may be written to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.batch_view import BatchView, batches, resolve_batch
from ..engine.errors import UsageError, suggestion
from ..engine.format import plain
from ..engine.names import resolve
from ..engine.run_view import RunView

MOST_RUNS = 200
"""Runs whose curves are read for one comparison."""


def choose_runs(
    views: Sequence[RunView], words: Sequence[str], batch: str | Sequence[str] | None = None
) -> list[RunView]:
    """The runs that the words mean, each once, in their order: runs, or batches, which stand for all of theirs.

    Parameters
    ----------
    views: all runs, oldest first.
    batch: one or several batches more, or `last` for the newest.

    Raises
    ------
    UsageError: a word is neither; there is nothing to compare, or far too much.
    """
    known = batches(views)
    by_id = {view.id: view for view in views}
    chosen: dict[str, RunView] = {}
    for word in words:
        named = None if word in by_id or word == "last" else resolve_batch(word, known)
        members = known[named].members if named is not None else [by_id[resolve(word, list(by_id))]]
        chosen |= {view.id: view for view in members}
    for name in [batch] if isinstance(batch, str) else batch or ():
        chosen |= {view.id: view for view in named_batch(name, known).members}
    if not chosen:
        raise UsageError("name the runs to compare, or a batch: `wavedeck compare RUN RUN…` or `--batch last`.")
    if len(chosen) > MOST_RUNS:
        raise UsageError(f"{len(chosen):,} runs are more than the {MOST_RUNS} that are compared at once: name fewer.")
    return list(chosen.values())


def folder_problem(path: Path) -> str | None:
    """Why a file cannot be written there, None where nothing is known against it: folders are never made."""
    folder = path.expanduser().absolute().parent
    return None if folder.is_dir() else f"there is no folder {plain(str(folder), 200)}"


def named_batch(word: str, known: Mapping[str, BatchView]) -> BatchView:
    """The batch that a word means: its id, the beginning of only one, its two-word tail, or `last`.

    Raises
    ------
    UsageError: none or several fit.
    """
    if not known:
        raise UsageError("there are no batches yet: `wavedeck run RECIPE -m key=a,b` makes one.")
    found = list(known)[-1] if word == "last" else resolve_batch(word, known)
    if found is None:
        some = ", ".join(plain(name, 60) for name in list(known)[-4:])
        raise UsageError(f"there is no batch {plain(word, 60)!r}.{suggestion(word, known) or f' There are {some}.'}")
    return known[found]
