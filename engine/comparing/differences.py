"""Configurations beside each other: which names differ, and what all have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..format import plain
from ..manifest import Manifest

MISSING = object()
MOST_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Differences:
    """`names`: what differs, the most telling first. `common`: what is the same in all runs.

    A setting that some of the runs do not have (another recipe) differs; `partial` names those that no two runs
    have in different values.
    """

    names: tuple[str, ...] = ()
    common: Mapping[str, Any] = field(default_factory=dict)
    partial: frozenset[str] = frozenset()


def settings_of(manifest: Manifest | None, host: str) -> dict[str, Any]:
    """The configuration flat, by dotted names; before it what else makes a run another experiment."""
    if manifest is None:
        return {}
    settings: dict[str, Any] = {"recipe": manifest.recipe} if manifest.recipe else {}
    if not manifest.recipe and manifest.command:
        settings["command"] = plain(" ".join(manifest.command), 200)
    settings["host"] = host
    if manifest.git is not None:
        settings["code"] = manifest.git.commit[:12] + (" + changes" if manifest.git.dirty else "")
    return settings | flatten(manifest.config)


def flatten(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """`{"model.name": …}` of nested sections; an empty section is left out."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        dotted = plain(f"{prefix}{name}", 120)
        if isinstance(value, Mapping) and depth < MOST_DEPTH:
            found |= flatten(value, f"{dotted}.", depth + 1)
        else:
            found[dotted] = value
    return found


def differences(settings: Sequence[Mapping[str, Any]]) -> Differences:
    """What differs between runs; of one run nothing does."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    differing, partial, common = [], set(), {}
    for name in names:
        values = [one.get(name, MISSING) for one in settings]
        present = {_identity(value) for value in values if value is not MISSING}
        if len(present) == 1 and MISSING not in values:
            common[name] = values[0]
            continue
        differing.append(name)
        if len(present) == 1:
            partial.add(name)
    ranked = sorted(differing, key=lambda name: (name in partial, not _is_choice(name), name in ("host", "code")))
    return Differences(tuple(ranked), common, frozenset(partial))


def _is_choice(name: str) -> bool:
    """Names that stand for a whole group of settings: which recipe, which model, which strategy."""
    return name == "recipe" or name.endswith(".name")


def following(settings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> frozenset[str]:
    """Those of `names` that are settled by the choices: each combination of choices has one value of them.

    A learning rate that comes with a strategy follows; one that was tried in several values with it does not.
    """
    choices = [name for name in names if _is_choice(name)]
    if not choices:
        return frozenset()
    found = set()
    for name in names:
        values: dict[str, set[str]] = {}
        for one in settings:
            chosen = _identity([one.get(choice) for choice in choices])
            values.setdefault(chosen, set()).add(_identity(one[name]) if name in one else "")
        if not _is_choice(name) and all(len(held) == 1 for held in values.values()):
            found.add(name)
    return frozenset(found)


def _identity(value: Any) -> str:
    """Equal for equal settings; 1 and 1.0 are one."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)


def value_words(value: Any, limit: int = 40) -> str:
    """A setting in few characters, safe for a terminal."""
    if isinstance(value, str):
        return plain(value, limit) or "''"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and all(isinstance(entry, str | int | float) for entry in value):
        return plain(",".join(value_words(entry) for entry in value) or "[]", limit)
    return plain(json.dumps(value, default=str), limit)


def words_of(names: Sequence[str], settings: Mapping[str, Any], limit: int = 60) -> str:
    """A run by what sets it apart: `hts_at lora`; empty where no choice does."""
    telling = [name for name in names if _is_choice(name) and isinstance(settings.get(name), str)]
    return plain(" ".join(value_words(settings[name], 24) for name in telling[:3]), limit)
