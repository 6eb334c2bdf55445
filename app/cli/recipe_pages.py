"""Recipes printed: the list, and one recipe with its stages, presets, groups and every config field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ...engine.config import FieldInfo, describe, write_override
from ...engine.recipe import Recipe
from .common import out


def face_json(recipe: Recipe) -> dict[str, Any]:
    """The stable keys of `recipes --json`."""
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "stages": [{"name": stage.name, "summary": stage.summary} for stage in recipe.stages],
        "headline": {"metric": recipe.headline.metric, "direction": recipe.headline.direction},
        "columns": list(recipe.columns),
        "presets": {name: list(overrides) for name, overrides in recipe.presets.items()},
        "default_preset": recipe.default_preset,
        "experiments": {name: list(overrides) for name, overrides in recipe.experiments.items()},
        "groups": {group: list(options) for group, options in recipe.groups.items()},
        "fields": [_field_json(info) for info in describe(recipe.config)],
    }


def _field_json(info: FieldInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": info.type,
        "default": info.default,
        "unit": info.unit,
        "bounds": info.bounds or None,
        "choices": list(info.choices) if info.choices else None,
        "help": info.help,
    }


def print_list(recipes: Sequence[Recipe]) -> None:
    """One line each."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("RECIPE", "STAGES", "PRESETS", "WHAT IT TRAINS"):
        table.add_column(title)
    for recipe in recipes:
        stages = " → ".join(stage.name for stage in recipe.stages)
        table.add_row(Text(recipe.name, style="bold"), stages, " ".join(recipe.presets), recipe.summary)
    out().print(table)


def print_face(recipe: Recipe) -> None:
    """The whole page of one recipe."""
    console = out()
    console.print(Text(f"{recipe.name}: ", style="bold") + Text(recipe.summary))
    console.print(Text(f"judged by {recipe.headline.metric} ({recipe.headline.direction})\n", style="dim"))
    stages = Table(box=None, pad_edge=False, show_header=False)
    for stage in recipe.stages:
        stages.add_row(Text(f"{recipe.name}.{stage.name}", style="bold"), stage.summary)
    console.print(stages)
    console.print()
    for name, overrides in recipe.presets.items():
        console.print(Text(f"preset={name}", style="bold") + Text(f"  {' '.join(overrides)}", style="dim"))
    for group, options in recipe.groups.items():
        console.print(Text(f"{group}=", style="bold") + Text(" | ".join(options)))
    for name, overrides in recipe.experiments.items():
        console.print(Text(f"experiment={name}", style="bold") + Text(f"  {' '.join(overrides)}", style="dim"))
    console.print()
    console.print(_fields(describe(recipe.config)))


def _fields(infos: Sequence[FieldInfo]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("FIELD", no_wrap=True)
    table.add_column("DEFAULT")
    table.add_column("UNIT")
    table.add_column("ALLOWED")
    table.add_column("WHAT IT DOES", overflow="fold")
    for info in infos:
        allowed = " | ".join(str(choice) for choice in info.choices) if info.choices else info.bounds or info.type
        default = "" if info.required else write_override("", info.default)[1:]
        table.add_row(Text(info.name), Text(default), info.unit or "", Text(allowed), Text(info.help))
    return table
