"""Several runs beside each other: what was set differently, what came out, at the same place of their trainings.

`Comparison` is the frozen picture that the verb, the screen and the report show. Everything here is pure functions over
run views, series and `evaluation.json`; nothing imports torch.
"""

from .comparison import Comparison, compare, read_comparison
from .differences import Differences
from .place import Place, parse_place
from .runs import ComparedRun, Judged, Measured
from .table import Column, column_for, columns_of, sorted_runs

__all__ = [
    "Column",
    "ComparedRun",
    "Comparison",
    "Differences",
    "Judged",
    "Measured",
    "Place",
    "column_for",
    "columns_of",
    "compare",
    "parse_place",
    "read_comparison",
    "sorted_runs",
]
