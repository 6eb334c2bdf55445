"""Typed configs for recipes, composed with Hydra's grammar.

A recipe's config is a tree of plain dataclasses whose fields are made with `knob`, so that it reads as its own
documentation. `compose` lays preset, group choices and `key=value` overrides over the defaults; every value passes one
gate (type, choices, bounds), whichever of them it came from.

Hydra's override parser reads the command line, because its users know its grammar, and OmegaConf resolves references
between fields (`seed=${training.steps}`). The schema itself is checked here rather than by OmegaConf's structured
configs: those refuse `Literal`, know no bounds, and answer a typo in several lines about their own internals. Both
libraries are imported only once a config is really composed.
"""

from .compose import Composed, check_field, compose, from_resolved, to_resolved
from .fields import FieldInfo, describe, knob
from .grammar import parse_value, write_override
from .signing import signature

__all__ = [
    "Composed",
    "FieldInfo",
    "check_field",
    "compose",
    "describe",
    "from_resolved",
    "knob",
    "parse_value",
    "signature",
    "to_resolved",
    "write_override",
]
