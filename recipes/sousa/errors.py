"""The recipe's own error, in a module without imports of the recipe, so that all its modules can raise it."""

from __future__ import annotations

from ...engine.errors import WavedeckError


class DataError(WavedeckError):
    """The data set is missing, incomplete or inconsistent; the sentence says which file and what to do."""
