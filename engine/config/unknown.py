"""The sentence for a field that does not exist, with the names that were probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import nearest
from .fields import fields_of, sections_of

if TYPE_CHECKING:
    from ..recipe import Recipe


def unknown_field(recipe: Recipe, name: str) -> str:
    """`training has no field 'lrr'. Did you mean training.lr?`"""
    section, leaf = _known_section(recipe, name)
    meant = _meant(recipe, name, section, leaf)
    if meant:
        text = meant[0] if len(meant) == 1 else f"{', '.join(meant[:-1])} or {meant[-1]}"
        hint = f"Did you mean {text}?"
    else:
        hint = f"`wavedeck recipes {recipe.name}` lists them."
    return f"{section or recipe.name} has no field {leaf!r}. {hint}"


def _known_section(recipe: Recipe, name: str) -> tuple[str, str]:
    """The longest section that exists on the way to `name`, and what is left."""
    sections = sections_of(recipe.config)
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        section = ".".join(parts[:cut])
        if section in sections:
            return section, ".".join(parts[cut:])
    return "", name


def _meant(recipe: Recipe, name: str, section: str, leaf: str) -> list[str]:
    """Up to three names: the same last word elsewhere, then those that look alike in the section, then anywhere."""
    known = [*fields_of(recipe.config), *recipe.groups, "preset"]
    last = leaf.rsplit(".", 1)[-1]
    meant = [field for field in known if "." in field and field.rsplit(".", 1)[-1] == last]
    inside = {field[len(section) + 1 :] if section else field: field for field in known if field.startswith(section)}
    meant += [inside[word] for word in nearest(leaf, inside)]
    if not meant:
        ends = {field.rsplit(".", 1)[-1]: field for field in known}
        meant = nearest(name, known) or [ends[word] for word in nearest(last, ends)]
    return list(dict.fromkeys(meant))[:3]
