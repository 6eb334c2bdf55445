"""Whether compared runs were judged on the same test clips; numbers of different ones cannot be ranked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..evaluation import Evaluation
from ..format import count, number, plain
from .runs import ComparedRun


def judged_alike(runs: Sequence[ComparedRun]) -> bool:
    """Whether nothing tells that two of the runs were judged on different clips.

    The file names no clips, so this goes by what it counts: clips, players, clips of each class and of each part of the
    test, and ceilings. What an older file does not hold is no difference.
    """
    judged = [traits_of(run.judged.evaluation) for run in runs if run.judged.evaluation is not None]
    names = {name for one in judged for name in one}
    return all(len({one[name] for one in judged if name in one}) == 1 for name in names)


def traits_of(evaluation: Evaluation) -> dict[str, Hashable]:
    """What is the same for all evaluations on the same clips."""
    traits: dict[str, Hashable] = {
        "split": evaluation.split,
        "clips": evaluation.clips,
        "players": evaluation.players,
        "classes": frozenset((score.name, score.clips) for score in evaluation.classes),
        "rows": tuple(zip(evaluation.order, map(sum, evaluation.confusion), strict=False)),
    }
    for name, parts in evaluation.breakdowns.items():
        traits[f"parts {name}"] = tuple((part.name, part.clips) for part in parts)
    for name, ceiling in evaluation.ceilings.items():
        traits[f"ceiling {name}"] = round(ceiling.value, 6)
    return {name: value for name, value in traits.items() if value not in (None, (), frozenset())}


def clips_words(runs: Sequence[ComparedRun]) -> list[str]:
    """Sentences below a table: the ceiling that all share, or what each run was judged on where that differs."""
    judged = [(run, run.judged.evaluation) for run in runs]
    told = [(run, found) for run, found in judged if found is not None]
    if not told:
        return []
    if not judged_alike(runs):
        lines = ["judged on different clips: their test metrics cannot be compared, and have no ★."]
        return lines + [f"  {run.label}: {_judged_on(run, found)}." for run, found in told]
    shared = {name: value for run, _ in told for name, value in run.judged.ceilings.items()}
    return [f"{name} can reach {number(value)} at most: the ceiling." for name, value in shared.items() if value < 1]


def _judged_on(run: ComparedRun, found: Evaluation) -> str:
    words = [plain(found.split, 40)]
    if found.clips is not None:
        words.append(f"{count(found.clips)} clips")
    if found.players is not None:
        words.append(f"{count(found.players)} player{'s' * (found.players != 1)}")
    if classes := len(found.classes) or len(found.order):
        words.append(f"{classes} classes")
    words += [f"ceiling of {plain(name, 60)} {number(value)}" for name, value in run.judged.ceilings.items()]
    return ", ".join(words)
