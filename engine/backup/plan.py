"""What to fetch, in which order, and what retention lets go: pure functions over lines and copies.

Retention is monotone: what is kept among many checkpoints is kept among any part of them that it belongs to. So nothing
is fetched that would be deleted at once, whatever of the rest arrives before or after it, and nothing is let go before
what replaces it is verified: `plan_removals` looks only at what is here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from ..checkpoints import CheckpointLine, ranked
from ..manifest import Headline
from .copies import HERE, Copies
from .policy import BackupPolicy

MANY_TRIES = 3
"""A checkpoint that arrived with other bytes this often waits until the others are here."""
RESUMABLE = ("full", "foreign")
"""Kinds from which a training can go on; the others are weights alone."""
_DIGITS = re.compile(r"[0-9]+")
_SHARD = re.compile(r"[0-9]+-of-[0-9]+")


def series_of(line: CheckpointLine) -> str:
    """What a checkpoint is one generation of: its kind, or a foreign file's path without its numbers.

    `epoch=3.ckpt` and `epoch=4.ckpt` are two generations, as are two contents of `latest.pt`; `optim.pt` is beside
    them, and so is each of the shards `model-00001-of-00003.safetensors`.
    """
    if line.path is None:
        return f"\0{line.kind}"
    shards = _SHARD.search(line.path)
    told = "" if shards is None else shards[0]  # which of how many: digits that are no generation
    return _DIGITS.sub("#", line.path) + told


def current(lines: Sequence[CheckpointLine]) -> list[CheckpointLine]:
    """The lines whose file can still be at its origin: of a foreign path that was overwritten only the newest."""
    newest = {line.path: line for line in lines if line.path is not None}
    return [line for line in lines if line.path is None or newest[line.path] is line]


def kept(
    lines: Sequence[CheckpointLine], policy: BackupPolicy, headline: Headline | None
) -> tuple[list[CheckpointLine], list[CheckpointLine], list[CheckpointLine]]:
    """What retention keeps of `lines` (in order of writing): the newest of each series, the best, and the rest, each
    checkpoint once."""
    generations: dict[str, int] = {}
    units: dict[str, object] = {}
    first: list[CheckpointLine] = []
    later: list[CheckpointLine] = []
    for line in reversed(lines):
        series, unit = series_of(line), (line.name if line.path is None else line.step)
        if series not in units or units[series] != unit:
            generations[series] = generations.get(series, 0) + 1
            units[series] = unit
        if generations[series] == 1:
            first.append(line)
        elif generations[series] <= policy.keep_last:
            later.append(line)
    top = ranked(lines, headline)[: max(1, policy.keep_best)] if headline is not None else []
    taken = {id(line) for line in first}
    best_ = [line for line in top if id(line) not in taken]
    taken.update(id(line) for line in best_)
    rest = [line for line in _once([*later, *_milestones(lines, policy.every_steps)]) if id(line) not in taken]
    return first, best_, rest


def _milestones(lines: Iterable[CheckpointLine], every: int) -> list[CheckpointLine]:
    """The first checkpoints at or after each multiple of `every` steps, per series; newest first."""
    if every <= 0:
        return []
    chosen: dict[tuple[str, int], CheckpointLine] = {}
    for line in lines:
        if line.step >= every:
            key = (series_of(line), line.step // every)
            if key not in chosen or line.step <= chosen[key].step:  # of one step twice the later: it was rolled back to
                chosen[key] = line
    return sorted(chosen.values(), key=lambda line: -line.step)


def _once(lines: Iterable[CheckpointLine]) -> list[CheckpointLine]:
    return list({id(line): line for line in lines}.values())


def wanted(
    lines: Sequence[CheckpointLine],
    there: Collection[str],
    copies: Copies,
    policy: BackupPolicy,
    headline: Headline | None,
    place: str = HERE,
) -> list[CheckpointLine]:
    """What retention wants at a place and is not verified there, whether or not the policy is enabled; in order."""
    newest = {id(line) for line in current(lines)}
    held = {id(line) for line in lines if copies.holds(line, place) is not None}
    source = {
        id(line)
        for line in lines
        if line.name in there and (place != HERE or id(line) in newest) and not copies.declined(line, place)
    }
    known = held | source
    groups = kept([line for line in lines if id(line) in known], policy, headline)
    missing = [line for group in groups for line in group if id(line) not in held]
    return sorted(missing, key=lambda line: copies.tries(line, place) >= MANY_TRIES)


def plan_pulls(
    lines: Sequence[CheckpointLine],
    there: Collection[str],
    copies: Copies,
    policy: BackupPolicy,
    headline: Headline | None,
    place: str = HERE,
) -> list[CheckpointLine]:
    """What to bring to a place, in this order: the newest, the best, then what else retention wants, newest first.

    What arrived damaged several times comes last. Empty for a policy that is not enabled.

    Parameters
    ----------
    lines: all lines of the run's manifest, in order of writing.
    there: names that can be fetched: those at the origin, or, for the second place, those verified here.
    """
    return wanted(lines, there, copies, policy, headline, place) if policy.enabled else []


def plan_removals(
    lines: Sequence[CheckpointLine],
    copies: Copies,
    policy: BackupPolicy,
    headline: Headline | None,
    *,
    mirrored: bool,
    place: str = HERE,
) -> list[CheckpointLine]:
    """What retention lets go at a place, oldest first.

    Only what the backup itself brought there and verified; never the newest verified of any kind, never the best
    verified; on this machine only from a copy (`mirrored`), since the files of a run of this machine are its trainer's.
    """
    if not policy.enabled or (place == HERE and not mirrored):
        return []
    held = [line for line in lines if copies.holds(line, place) is not None]
    keep = {line.name for group in kept(held, policy, headline) for line in group}
    return [line for line in _once(held) if line.name not in keep]


def newest_held(
    lines: Sequence[CheckpointLine], copies: Copies, places: Collection[str] = (HERE,)
) -> CheckpointLine | None:
    """The newest checkpoint that a training can go on from and that is verified at one of the places; None if none is.

    Of a foreign trainer's files all of one step count as one checkpoint.
    """
    return newest_of(lines, {id(line) for line in lines if any(copies.holds(line, place) for place in places)})


def newest_of(lines: Sequence[CheckpointLine], held: Collection[int]) -> CheckpointLine | None:
    """The newest of `lines` to go on from, given the identities of those that are held.

    A foreign step of which a file is not held is passed over: a model without its optimizer is no place to go on from.
    """
    last = {(line.path, line.step): line for line in lines if line.path is not None}
    torn = {line.step for line in last.values() if id(line) not in held}
    for line in reversed(lines):
        if line.kind in RESUMABLE and id(line) in held and (line.path is None or line.step not in torn):
            return line
    return None
