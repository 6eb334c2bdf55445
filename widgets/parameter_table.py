"""`ParameterTable`: a parameter vector, target against predicted, the largest error first."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.text import Text

from ..engine import format as fmt
from ..engine.samples.items import Parameter
from .class_bars import bar_cells
from .live_table import Column, LiveTable, Row
from .palette import BOLD, Palette

BAR_CELLS = 12
EMPTY = "no parameters in this item"


class ParameterTable(LiveTable):
    """Rows of name, target, predicted, error and a bar of the error against the largest one."""

    OPENS = False
    COLUMNS = (
        Column("PARAMETER", 0, least=10),
        Column("TARGET", 11, rank=2, right=True),
        Column("PREDICTED", 11, rank=1, right=True),
        Column("ERROR", 11, right=True),
        Column("", BAR_CELLS, rank=3),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, empty=EMPTY, id=id)
        self._parameters: Mapping[str, Parameter] = {}

    def show_parameters(self, parameters: Mapping[str, Parameter], words: str = EMPTY) -> None:
        """Replace the vector; `words` are said where it is empty (loading, failed)."""
        self._parameters, self.empty = parameters, fmt.plain(words)
        self._rebuild()
        self.refresh()

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        super().notify_style_update()
        if self._parameters:
            self._rebuild()

    def _rebuild(self) -> None:
        palette = Palette.of(self.app)
        largest = max((rank for rank in map(_rank, self._parameters.values()) if math.isfinite(rank)), default=0.0)
        ordered = sorted(self._parameters.items(), key=lambda pair: -_rank(pair[1]))
        self.show_rows([_row(name, parameter, largest, palette) for name, parameter in ordered])


def _rank(parameter: Parameter) -> float:
    """The error for sorting: NaN is the worst there is, a missing side is not an error."""
    error = parameter.error
    if error is None:
        return -1.0
    return math.inf if math.isnan(error) else error


def _row(name: str, parameter: Parameter, largest: float, palette: Palette) -> Row:
    error, clean = parameter.error, fmt.plain(name, 60)
    if error is None:
        words, bar = Text("one side", palette.muted), ""
    elif not math.isfinite(error):
        words, bar = Text(f"! {fmt.number(error)}", palette.bad + BOLD), ""
    else:
        part = error / largest if largest > 0 else 0.0
        words, bar = Text(fmt.number(error), palette.text), bar_cells(part, BAR_CELLS)
    cells = (clean, fmt.number(parameter.target), fmt.number(parameter.predicted), words, Text(bar, palette.warn))
    return Row(name, cells, clean)
