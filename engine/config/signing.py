"""The signature of a config: equal signatures are the same experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SIGNATURE_LENGTH = 12
"""Hex digits: 48 bits, so that a million configs collide with a chance of one in five hundred."""


def canonical_json(resolved: Mapping[str, Any]) -> bytes:
    """One spelling of a resolved config: sorted keys, no blanks, strict JSON."""
    return json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()


def signature(resolved: Mapping[str, Any]) -> str:
    """Short SHA-256 of a resolved config (or a part of one: that of its `data` section names a data set)."""
    return hashlib.sha256(canonical_json(resolved)).hexdigest()[:SIGNATURE_LENGTH]
