"""The checkpoints of a run: step, metrics, size, which is best and newest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from ..engine import format as fmt
from ..engine.checkpoints import CheckpointLine
from ..engine.events import as_float
from .live_table import Column, LiveTable, Row
from .palette import Palette


class CheckpointTable(LiveTable):
    """Newest first, from the checkpoint manifest alone."""

    OPENS: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("CHECKPOINT", 0, least=16),
        Column("STEP", 9, right=True),
        Column("EPOCH", 6, rank=4, right=True),
        Column("METRICS", 30, rank=3),
        Column("SIZE", 9, rank=2, right=True),
        Column("SHA256", 12, rank=5),
        Column("WRITTEN", 14, rank=1, right=True),
        Column("", 14, rank=0),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty="no checkpoint yet")

    def show(self, lines: Sequence[CheckpointLine]) -> None:
        """Replace the lines; they come oldest first."""
        palette = Palette.of(self.app)
        best = next((line.name for line in reversed(lines) if line.best), None)
        newest = lines[-1].name if lines else None
        rows = []
        for place, line in reversed(list(enumerate(lines))):
            marks = Text()
            if line.name == best:
                marks.append("★ best ", style=palette.good)
            if line.name == newest:
                marks.append("newest", style=palette.accent)
            metrics = "  ".join(f"{name} {fmt.number(as_float(value))}" for name, value in line.metrics.items())
            rows.append(
                Row(
                    (place, line.name),
                    (
                        Text(fmt.plain(line.name, 60)),
                        fmt.count(line.step),
                        fmt.number(line.epoch, 3),
                        Text(fmt.plain(metrics, 120)),
                        fmt.size(line.bytes),
                        line.sha256[:12],
                        fmt.clock(line.t)[5:],
                        marks,
                    ),
                )
            )
        self.show_rows(rows)
